"""Whether an address is free, and which process holds it: real sockets of this
process.
"""

import os
import socket
import tempfile

import pytest

from spyglass.ops.addresses import address_owners, unix_sockets


def state(*addresses, **more):
    return {
        "Listen": "\n".join(f"{address} (Stream)" for address in addresses),
        "BindIPv6Only": "both",
        "FreeBind": "no",
        **more,
    }


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_only_stream_addresses_count():
    assert address_owners.addresses(
        {"Listen": "/run/x.sock (Stream)\n[::]:80 (Stream)\n/run/y (Datagram)"}
    ) == ["/run/x.sock", "[::]:80"]
    assert address_owners.addresses({}) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::]"])
def test_port_in_use_names_the_program(port, host):
    assert address_owners.conflicts(state(f"{host}:{port}"))[0].startswith(
        f"{host}:{port}: in use by "
    )
    assert f"(pid {os.getpid()}" in address_owners.conflicts(state(f"{host}:{port}"))[0]


FAILED = {"ActiveState": "failed", "Result": "resources"}


def test_why_a_socket_has_failed(port, tmp_path, monkeypatch):
    said = address_owners.why_failed(state(f"127.0.0.1:{port}", f"{tmp_path}/free", **FAILED))
    assert said.startswith(f"127.0.0.1:{port}: in use by ")
    assert f"(pid {os.getpid()}" in said
    assert address_owners.why_failed(state(f"[::1]:{port}", **FAILED)) == ""
    limited = FAILED | {"Result": "trigger-limit-hit"}
    assert address_owners.why_failed(state(f"127.0.0.1:{port}", **limited)) == ""
    assert address_owners.why_failed(state(f"127.0.0.1:{port}", ActiveState="inactive")) == ""


@pytest.mark.parametrize(
    ("inodes", "said"),
    [
        ({"1"}, "[::]:80: in use by another program (as root, its name is shown)"),
        (set(), ""),
    ],
)
def test_ordinary_user_learns_of_ports_that_it_may_not_bind(monkeypatch, inodes, said):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(address_owners, "tcp_inodes", lambda port: inodes)
    monkeypatch.setattr(address_owners, "sockets_of", lambda pid: set())
    assert address_owners.why_failed(state("[::]:80", **FAILED)) == said


def test_free_port(port):
    assert address_owners.conflicts(state(f"[::1]:{port}")) == []
    assert address_owners.conflicts(state(f"[::]:{port}", BindIPv6Only="ipv6-only")) == []


def test_address_of_another_machine():
    assert (
        "no interface of this machine has this address"
        in address_owners.conflicts(state("192.0.2.1:80"))[0]
    )
    assert address_owners.conflicts(state("192.0.2.1:80", "[2001:db8::1]:80", FreeBind="yes")) == []


def test_port_of_an_unassigned_address_can_be_in_use():
    with socket.create_server(("0.0.0.0", 0)) as server:
        address = f"192.0.2.1:{server.getsockname()[1]}"
        assert address_owners.conflicts(state(address, FreeBind="yes"))[0].startswith(
            f"{address}: in use by "
        )


def test_paths(tmp_path):
    path = tmp_path / "x.sock"
    assert address_owners.conflicts(state(str(path))) == []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert address_owners.conflicts(state(str(path))) == [], "nothing listens there"
        listener.listen()
        assert f"(pid {os.getpid()}" in address_owners.conflicts(state(str(path)))[0]
    assert address_owners.conflicts(state(str(path))) == [], "systemd removes a stale socket"
    path.unlink()
    path.touch()
    assert "not a socket" in address_owners.conflicts(state(str(path)))[0]


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "x.sock"))
        made.listen()
        yield tmp_path / "x.sock"


def test_socket_with_its_file_listens(listener, tmp_path):
    (tmp_path / "link").symlink_to("x.sock")
    (tmp_path / "loop").symlink_to("loop")
    assert address_owners.not_listening(state(str(listener))) == []
    assert not address_owners.is_missing(str(tmp_path / "link"))
    assert address_owners.is_missing(str(tmp_path / "loop"))
    assert address_owners.is_missing(str(listener / "x"))


@pytest.mark.parametrize(
    "how", ["deleted", "renamed", "replaced by a file", "replaced by a broken link"]
)
def test_socket_without_its_file_does_not_listen(listener, how):
    if how == "renamed":
        listener.rename(listener.with_name("y.sock"))
    else:
        listener.unlink()
    if how == "replaced by a file":
        listener.touch()
    elif how == "replaced by a broken link":
        listener.symlink_to("nowhere")
    seen = state(str(listener), "127.0.0.1:1", ActiveState="active")
    assert str(listener) in address_owners.not_listening(seen)
    assert address_owners.missing(seen) == [str(listener)]
    assert address_owners.missing(seen | {"ActiveState": "inactive"}) == []


def test_only_a_stale_socket_is_removed(listener, tmp_path):
    address_owners.remove_stale(str(listener))
    assert listener.exists()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(tmp_path / "y.sock"))
        gone.listen()
    (tmp_path / "file").touch()
    for name in ("y.sock", "file", "nothing"):
        address_owners.remove_stale(str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir() if path != listener] == ["file"]


def test_no_socket_is_removed_from_another_users_directory(tmp_path):
    """A link in place of the directory would lead root to a socket elsewhere, which has
    another name there, so that nothing seems to listen on it.
    """
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs").chmod(0o777)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "theirs" / "x.sock"))
    address_owners.remove_stale(str(tmp_path / "theirs" / "x.sock"))
    assert (tmp_path / "theirs" / "x.sock").exists()


# Names that other users bind to pass for another socket


def forged(path, inode):
    """An abstract name that makes /proc/net/unix have a line about `path`."""
    return f"\0\n0000000000000000: 00000002 00000000 00010000 0001 01 {inode} {path}"


@pytest.fixture
def bound():
    """bound(NAME): a listener there."""
    made = []

    def bind(name):
        made.append(socket.socket(socket.AF_UNIX))
        made[-1].bind(name)
        made[-1].listen()
        return os.fstat(made[-1].fileno()).st_ino

    yield bind
    for each in made:
        each.close()


@pytest.mark.parametrize(
    "name",
    ["\0a b c", "\0a\nb c\n", "\0\n\n\n", "\0x: y z\n1 2 3", "\0" + "\n0" * 50, "\0\xff\ud800\n"],
)
def test_socket_names_may_be_any_bytes(bound, tmp_path, name, monkeypatch):
    bound(os.fsencode(name) if "\ud800" not in name else b"\0\xff\xfe\n \n")
    path = str(tmp_path / "x.sock")
    for asked in (unix_sockets._query_kernel, unix_sockets._read_proc):
        monkeypatch.setattr(unix_sockets, "_listeners", asked)
        assert address_owners.unix_inodes(path) == set()
        assert address_owners.conflicts(state(path)) == []


@pytest.fixture
def near():
    """A directory with a path so short that a line about it fits into a name (108
    bytes, unix(7)).
    """
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as directory:
        yield directory


def test_forged_name_does_not_claim_a_path(bound, near):
    path = f"{near}/x"
    another = bound(f"{near}/y")
    for inode in (another, 4242):
        bound(forged(path, inode))
    assert address_owners.unix_inodes(path) == set()
    mine = bound(path)
    assert address_owners.unix_inodes(path) == {str(mine)}, "the real socket is still found"


def test_bound_name_of_another_file_does_not_count(bound, tmp_path, monkeypatch):
    """As in a mount namespace of one's own: bound to another file that has the same
    name.
    """
    monkeypatch.chdir(tmp_path)
    path = str(tmp_path / "x.sock")
    first = bound(path)
    os.rename(path, f"{path}.old")
    assert address_owners.unix_inodes(path) == set()
    second = bound(path)
    assert address_owners.unix_inodes(path) == {str(second)}
    assert first != second
    assert unix_sockets.listening_at(path, lambda: {f"socket:[{first}]"}) == {
        str(first),
        str(second),
    }, "what PID 1 has is systemd's in any case"


def test_proc_is_read_without_sock_diag(bound, tmp_path, monkeypatch):
    def refused():
        raise OSError(93, "Protocol not supported")
        yield

    monkeypatch.setattr(unix_sockets, "_query_kernel", refused)
    path = str(tmp_path / "with blanks in it.sock")
    assert address_owners.unix_inodes(path) == set()
    mine = bound(path)
    assert address_owners.unix_inodes(path) == {str(mine)}
