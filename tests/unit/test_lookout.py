"""Where the lookout listens: addresses as people write them, and what they are told
when one cannot be had.
"""

import os
import socket

import pytest

from spyglass.errors import ListenerError, UsageError
from spyglass.ops.commands.lookout import bind
from spyglass.runtime.addresses import address_text


@pytest.mark.parametrize(
    ("address", "family", "host"),
    [
        ("127.0.0.1:0", socket.AF_INET, "127.0.0.1"),
        ("localhost:0", None, None),
        ("[::1]:0", socket.AF_INET6, "::1"),
        (":0", None, None),
        ("0.0.0.0:00", socket.AF_INET, "0.0.0.0"),
    ],
)
def test_bound_and_listening(address, family, host):
    if family == socket.AF_INET6 and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with bind(address) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert family in (None, sock.family)
        assert host in (None, sock.getsockname()[0])


def test_a_port_alone_is_every_address_of_both_families():
    with bind(":0") as sock, socket.create_connection(("127.0.0.1", sock.getsockname()[1])):
        sock.accept()[0].close()
        if socket.has_dualstack_ipv6():
            with socket.create_connection(("::1", sock.getsockname()[1])):
                sock.accept()[0].close()


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":",
        "80",
        "localhost",
        "localhost:",
        "localhost:http",
        ":-1",
        ":+1",
        ":65536",
        ": 80",
        ":8_0",
        "::1:80",
        "::80",
        "1::",
        ":٨٠",
        "unix",
    ],
)
def test_what_is_no_address(address):
    with pytest.raises(UsageError) as caught:
        bind(address).close()
    assert (
        str(caught.value) == f"--bind {address}: expected host:port, [v6]:port, :port or unix:/path"
    )


def refusal(address):
    with pytest.raises(ListenerError) as caught:
        bind(address).close()
    assert caught.value.exit_status == 78
    return str(caught.value)


def test_an_address_that_is_taken():
    with bind("127.0.0.1:0") as sock:
        address = address_text(sock)
        assert refusal(address) == (
            f"cannot listen on {address}: another program uses this port; "
            "stop it, or choose another port with --bind HOST:PORT (with make: BIND=HOST:PORT make run)"
        )


def test_an_address_that_is_not_ours():
    assert refusal("192.0.2.1:0").startswith("cannot listen on 192.0.2.1:0: ")
    assert "\n" not in refusal("nowhere.invalid:0")


@pytest.mark.parametrize("address", ["unix:", f"{'a' * 70}.invalid:80", "a..b:80"])
def test_what_looks_like_an_address_and_cannot_be_one(address):
    """bind(2) would take the empty path for "any abstract name"; the idna codec answers
    with an error of its own.
    """
    with pytest.raises(UsageError) as caught:
        bind(address).close()
    assert str(caught.value).startswith(f"--bind {address}: ")


def test_a_unix_socket_is_made_and_a_stale_one_replaced(tmp_path):
    address = f"unix:{tmp_path}/http.sock"
    bind(address).close()  # as a lookout that was killed leaves it
    assert os.path.exists(tmp_path / "http.sock")
    with bind(address) as sock, socket.socket(socket.AF_UNIX) as client:
        assert address_text(sock) == address
        client.connect(str(tmp_path / "http.sock"))


def test_nothing_of_others_is_replaced(tmp_path):
    address = f"unix:{tmp_path}/http.sock"
    with bind(address):
        assert refusal(address) == f"cannot listen on {address}: another program listens there"
        assert os.path.exists(tmp_path / "http.sock")
    (tmp_path / "file").write_text("precious")
    assert refusal(f"unix:{tmp_path}/file").startswith(f"cannot listen on unix:{tmp_path}/file: ")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_unix_path_that_cannot_be(tmp_path):
    assert refusal(f"unix:{tmp_path}/missing/http.sock").endswith("No such file or directory")
    assert "too long" in refusal(f"unix:/{'a' * 200}")
