"""Which addresses are available, and what holds the others. Real sockets: the kernel
decides.
"""

import os
import socket

import pytest

from spyglass.config.unit_settings import address
from spyglass.ops.addresses import address_conflicts
from spyglass.ops.files import user_access


@pytest.mark.parametrize(
    ("one", "other", "conflicts"),
    [
        (8001, 8001, True),
        (8001, 8002, False),
        (8001, "127.0.0.1:8001", True),
        (8001, "[::1]:8001", True),
        ("127.0.0.1:8001", "[::1]:8001", False),
        ("127.0.0.1:8001", "127.0.0.2:8001", False),
        ("0.0.0.0:8001", "127.0.0.1:8001", True),
        ("0.0.0.0:8001", "[::1]:8001", False),
        ("[::]:8001", "127.0.0.1:8001", True),
        ("/run/a.sock", "/run/a.sock", True),
        ("/run/a.sock", "/run/b.sock", False),
        ("/run/a.sock", 8001, False),
    ],
)
def test_conflicting_addresses(one, other, conflicts):
    assert (
        address_conflicts.conflicts(address(one), address(other))
        is address_conflicts.conflicts(address(other), address(one))
        is conflicts
    )


def test_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with open(f"/proc/{os.getpid()}/comm", encoding="utf-8") as stream:
            name = stream.read().strip()
        for text in (f"127.0.0.1:{port}", f"0.0.0.0:{port}", port):
            assert address_conflicts.why_unavailable(address(text)).startswith(
                f"in use by {name} (pid {os.getpid()}"
            )
        assert not address_conflicts.not_held_by_systemd([address(port)], os.getpid())
        assert address_conflicts.not_held_by_systemd(
            [address(port)], os.getppid()
        )  # held by another process
    assert address_conflicts.why_unavailable(address(port)) == ""
    assert address_conflicts.not_held_by_systemd([address(port)], os.getpid())


def test_unix_socket_whose_file_was_deleted(tmp_path):
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        assert not address_conflicts.not_held_by_systemd([address(path)], os.getpid())
        os.unlink(path)
        assert address_conflicts.not_held_by_systemd([address(path)], os.getpid())


def test_port_in_time_wait_is_available():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
    assert address_conflicts.why_unavailable(address(f"127.0.0.1:{port}")) == ""


def test_address_of_another_machine():
    """Its drop-in says FreeBind=yes: the address may come late at a boot, or be on
    another machine for now.
    """
    for text in ("192.0.2.1:8001", "[2001:db8::1]:8001"):
        assert address_conflicts.why_unavailable(address(text)) == ""
        assert address_conflicts.is_unassigned(address(text))


@pytest.mark.parametrize(
    "text", ["127.0.0.1:8001", "127.1.2.3:8001", "0.0.0.0:8001", "[::]:8001", 8001, "/run/x.sock"]
)
def test_addresses_of_every_machine(text):
    assert not address_conflicts.is_unassigned(address(text))


def test_paths(tmp_path):
    def why(name):
        return address_conflicts.why_unavailable(address(str(tmp_path / name)))

    (tmp_path / "file").touch()
    assert why("new.sock") == why("not/there/yet.sock") == ""
    assert why("file") == "a file that is not a socket exists there: move it away"
    assert why("file/a.sock") == f"{tmp_path}/file is not a directory"
    assert why("x" * 100) == "the path is longer than 107 bytes, the limit for a unix socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "a.sock"))
        assert why("a.sock") == ""  # looks stale; systemd replaces it
        server.listen()
        assert why("a.sock").startswith("in use by ")
        assert not address_conflicts.not_held_by_systemd(
            [address(str(tmp_path / "a.sock"))], os.getpid()
        )
    assert address_conflicts.not_held_by_systemd([address(str(tmp_path / "a.sock"))], os.getpid())


def test_addresses_of_a_socket_unit():
    shown = {
        "Listen": "[::]:8001 (Stream)\n/run/a.sock (Stream)\n@b (Stream)\n127.0.0.1:5 (Datagram)"
    }
    assert address_conflicts.addresses_of(shown) == [address("[::]:8001"), address("/run/a.sock")]
    assert (
        address_conflicts.addresses_of({}) == address_conflicts.addresses_of({"Listen": ""}) == []
    )


# What a user can get at


def test_account_of_a_user_name():
    root = user_access.account("root")
    assert (root.uid, root.gid, root.named, user_access.account("0")) == (0, 0, "root", root)
    assert user_access.account("").uid >= 61184
    with pytest.raises(KeyError):
        user_access.account("no-such-user")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.usefixtures("_anyone_may_enter")
def test_inaccessible_paths(tmp_path):
    closed, shut = tmp_path / "closed", tmp_path / "open" / "shut"
    for path, mode in ((closed / "a", 0o644), (shut, 0o600), (tmp_path / "open" / "b", 0o644)):
        path.parent.mkdir(exist_ok=True)
        path.touch(mode)
    closed.chmod(0o700)
    (tmp_path / "link").symlink_to(closed / "a")
    paths = [
        str(path)
        for path in (
            closed / "a",
            shut,
            tmp_path / "open" / "b",
            tmp_path / "link",
            tmp_path / "none",
        )
    ]
    user = user_access.account("")
    assert user_access.inaccessible(user, [(path, os.R_OK) for path in paths]) == {
        paths[0]: str(closed),
        paths[1]: paths[1],
        paths[3]: str(closed),
        paths[4]: paths[4],
    }
    assert user_access.inaccessible(user, [(paths[2], os.W_OK)]) == {paths[2]: paths[2]}
    assert (
        user_access.inaccessible(
            user_access.account("root"), [(path, os.R_OK) for path in paths[:4]]
        )
        == {}
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_app_user_cannot_stop_the_access_check():
    """kill(-1, SIGSTOP) by an app with that user would block `apply` for ever, and with
    it all other apps.
    """
    user = user_access.account("")
    missing = f"/nonexistent-{os.getpid()}"  # other programs make /nonexistent

    def wanted():  # is asked for in the process that looks
        looking = os.getpid()
        pid = os.fork()
        if not pid:
            try:
                os.setresuid(user.uid, user.uid, user.uid)
                os.kill(looking, 0)
                os._exit(0)
            except PermissionError:
                os._exit(7)
            finally:
                os._exit(1)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7:
            yield missing, os.R_OK

    assert user_access.inaccessible(user, wanted()) == {missing: missing}
