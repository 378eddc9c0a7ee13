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
    assert listening.taken(state("192.0.2.1:80", FreeBind="yes")) == []


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
