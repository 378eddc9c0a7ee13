"""Whether an address is free, and who has it: real sockets of this process's own."""

import os
import socket

import pytest

from spyglass.admin import listening


def state(*addresses, **more):
    return {"Listen": "\n".join(f"{address} (Stream)" for address in addresses), "BindIPv6Only": "both", "FreeBind": "no", **more}


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_addresses_are_those_of_streams():
    assert listening.addresses({"Listen": "/run/x.sock (Stream)\n[::]:80 (Stream)\n/run/y (Datagram)"}) == ["/run/x.sock", "[::]:80"]
    assert listening.addresses({}) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::]"])
def test_a_port_that_is_taken_and_by_whom(port, host):
    assert listening.taken(state(f"{host}:{port}"))[0].startswith(f"{host}:{port}: taken by ")
    assert f"(pid {os.getpid()}" in listening.taken(state(f"{host}:{port}"))[0]


def test_a_port_that_is_not(port):
    assert listening.taken(state(f"[::1]:{port}")) == []
    assert listening.taken(state(f"[::]:{port}", BindIPv6Only="ipv6-only")) == []


def test_an_address_of_another_machine():
    assert "no such address" in listening.taken(state("192.0.2.1:80"))[0]
    assert listening.taken(state("192.0.2.1:80", "[2001:db8::1]:80", FreeBind="yes")) == []


def test_the_port_of_an_address_that_is_not_there_can_be_taken():
    with socket.create_server(("0.0.0.0", 0)) as server:
        address = f"192.0.2.1:{server.getsockname()[1]}"
        assert listening.taken(state(address, FreeBind="yes"))[0].startswith(f"{address}: taken by ")


def test_paths(tmp_path):
    path = tmp_path / "x.sock"
    assert listening.taken(state(str(path))) == []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert listening.taken(state(str(path))) == [], "nobody listens there"
        listener.listen()
        assert f"(pid {os.getpid()}" in listening.taken(state(str(path)))[0]
    assert listening.taken(state(str(path))) == [], "what somebody has left behind systemd removes"
    path.unlink()
    path.touch()
    assert "no socket" in listening.taken(state(str(path)))[0]


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "x.sock"))
        made.listen()
        yield tmp_path / "x.sock"


def test_a_socket_whose_file_is_there(listener, tmp_path):
    (tmp_path / "link").symlink_to("x.sock")
    (tmp_path / "loop").symlink_to("loop")
    assert listening.deaf(state(str(listener))) == []
    assert not listening.is_missing(str(tmp_path / "link"))
    assert listening.is_missing(str(tmp_path / "loop"))
    assert listening.is_missing(str(listener / "x"))


@pytest.mark.parametrize("how", ["deleted", "renamed", "replaced by a file", "replaced by a broken link"])
def test_a_socket_whose_file_is_gone(listener, how):
    if how == "renamed":
        listener.rename(listener.with_name("y.sock"))
    else:
        listener.unlink()
    if how == "replaced by a file":
        listener.touch()
    elif how == "replaced by a broken link":
        listener.symlink_to("nowhere")
    seen = state(str(listener), "127.0.0.1:1", ActiveState="active")
    assert str(listener) in listening.deaf(seen)
    assert listening.missing(seen) == [str(listener)]
    assert listening.missing(seen | {"ActiveState": "inactive"}) == []


def test_only_a_socket_that_nothing_listens_on_is_removed(listener, tmp_path):
    listening.remove_stale(str(listener))
    assert listener.exists()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(tmp_path / "y.sock"))
        gone.listen()
    (tmp_path / "file").touch()
    for name in ("y.sock", "file", "nothing"):
        listening.remove_stale(str(tmp_path / name))
    assert [path.name for path in tmp_path.iterdir() if path != listener] == ["file"]
