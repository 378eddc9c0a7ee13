"""Connections on which a PROXY header is asked for: which peers may send one, what the
administrator is told, and which way is not slowed down.
"""

import socket
import subprocess
import sys

import pytest

from spyglass.runtime.scoreboard import OPEN
from spyglass.runtime.sd_daemon import Listener

from .stepped_worker import ONE

V1 = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"


def whoami(environ, start_response):
    body = f"{environ['REMOTE_ADDR']} {environ['SERVER_NAME']} {environ.get('HTTP_X_FORWARDED_FOR')}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.mark.parametrize(
    ("tcp", "trusted"), [(True, "127.0.0.0/8"), (True, "*"), (False, "unix"), (False, "*")]
)
def test_a_trusted_proxy_s_header_is_believed(start, tcp, trusted):
    worker = start(whoami, proxy_protocol=True, trusted_proxies=trusted)
    assert worker.answers(worker.client(V1 + ONE, tcp=tcp), 1) == [b"192.0.2.1 198.51.100.2 None"]
    assert worker.journal.lines == []


@pytest.mark.parametrize(
    ("tcp", "trusted"),
    [(True, "unix"), (True, ""), (False, "127.0.0.1"), (False, ""), (True, "127.0.0.2")],
)
@pytest.mark.parametrize("sent", [V1 + ONE, ONE, b""])
def test_an_untrusted_peer_is_closed_whatever_it_sends(start, tcp, trusted, sent):
    worker = start(whoami, proxy_protocol=True, trusted_proxies=trusted)
    assert worker.to_the_end(worker.client(sent, tcp=tcp)) == b""
    assert worker.slot[OPEN] == 0
    assert worker.journal.lines[0].endswith(
        "closed: proxy_protocol is on, and this peer is not among the trusted_proxies"
    )


def test_the_administrator_is_told_once_of_each_mistake(start):
    worker = start(whoami, proxy_protocol=True)
    for sent in (ONE, ONE, V1.replace(b"TCP4", b"TCP6"), ONE, b"PROXY TCP9\r\n"):
        assert worker.to_the_end(worker.client(sent)) == b""
    said = [
        "it does not begin with a PROXY header",
        "a bad address in its PROXY header",
        "its PROXY header cannot be understood",
    ]
    assert [line.partition("is on, and ")[2] for line in worker.journal.lines] == said


@pytest.mark.parametrize("tcp", [False, True])
def test_a_header_in_pieces(start, tcp):
    worker = start(whoami, proxy_protocol=True)
    client = worker.client(tcp=tcp)
    for at in range(len(V1 + ONE)):
        client.sendall((V1 + ONE)[at : at + 1])
        worker.turns(1)
    assert worker.answers(client, 1) == [b"192.0.2.1 198.51.100.2 None"]


@pytest.mark.parametrize("sent", [b"", V1[:9], V1, V1 + ONE[:9]])
def test_header_and_request_have_as_long_as_a_request_s_head(start, sent):
    worker = start(whoami, proxy_protocol=True, header_timeout=0.05)
    got = worker.to_the_end(worker.client(sent))
    assert got.startswith(b"HTTP/1.1 408 ") if len(sent) > len(V1) else got == b""
    worker.until(lambda: not worker.slot[OPEN])


def test_a_worker_that_drains_does_not_wait_for_a_header(start):
    worker = start(whoami, proxy_protocol=True, keepalive_timeout=0.05)
    client = worker.client(V1[:9])
    worker.until(lambda: worker.slot[OPEN])
    worker.turns()
    worker.loop.drain()
    worker.loop.run()
    assert worker.slot[OPEN] == 0
    assert worker.to_the_end(client) == b""


def test_the_address_in_the_proxy_header_must_be_trusted_for_its_forwarded_headers(start):
    worker = start(whoami, proxy_protocol=True, trusted_proxies="unix, 192.0.2.1")
    request = ONE[:-2] + b"X-Forwarded-For: 203.0.113.7\r\n\r\n"
    assert worker.answers(worker.client(V1 + request), 1) == [
        b"203.0.113.7 198.51.100.2 203.0.113.7"
    ]
    assert worker.answers(worker.client(V1.replace(b"192.0.2.1", b"192.0.2.9") + request), 1) == [
        b"192.0.2.9 198.51.100.2 None"
    ]


def test_a_proxy_header_without_proxy_protocol_is_a_bad_request(start):
    worker = start(whoami)
    assert worker.to_the_end(worker.client(V1 + ONE)).startswith(b"HTTP/1.1 400 ")


def test_without_a_proxy_its_modules_are_not_imported():
    code = """
import sys
from spyglass.config.settings import Config, load
from spyglass.http11.request import Request
from spyglass.worker.httptools_import import import_worker
from spyglass.gateway.environ import EnvironMaker
import_worker()
load(None, {"SPYGLASS_TRUSTED_PROXIES": "127.0.0.1,::1,unix"}, {})
maker = EnvironMaker({"REMOTE_ADDR": ""}, "unix", "for, proto")
maker.make(Request("GET", "/", (1, 1), {"HTTP_HOST": "a"}))
late = {"spyglass.policy.trusted_proxies", "spyglass.http11.forwarded_headers", "spyglass.http11.proxy_protocol"}
assert not late & set(sys.modules), late & set(sys.modules)
before = set(sys.modules)
assert maker.make(Request("GET", "/", (1, 1), {"HTTP_X_FORWARDED_FOR": "1.2.3.4"}))["REMOTE_ADDR"] == "1.2.3.4"
assert set(sys.modules) - before == {"spyglass.policy", "spyglass.policy.trusted_proxies", "spyglass.http11.forwarded_headers"}, set(sys.modules) - before
"""
    subprocess.run([sys.executable, "-c", code], timeout=30, check=True)


@pytest.mark.parametrize(
    ("host", "client", "name"),
    [("::1", "::1", "[::1]"), ("::", "::1", "[::1]"), ("::", "127.0.0.1", "127.0.0.1")],
)
def test_an_ipv6_server_s_name_can_stand_in_a_url(start, host, client, name):
    """RFC 3875 4.1.14; PEP 3333 puts it into the URL as it is, where the client sent no
    Host.
    """
    worker = start(whoami)
    with socket.create_server(
        (host, 0), family=socket.AF_INET6, dualstack_ipv6=host == "::"
    ) as sock:
        sock.setblocking(False)
        worker.loop.quiesce(True)
        worker.loop.acceptor.listeners[sock.fileno()] = Listener(sock, "http")
        worker.loop.quiesce(False)
        caller = socket.create_connection((client, sock.getsockname()[1]))
        worker.clients.append(caller)
        caller.sendall(ONE)
        assert worker.answers(caller, 1) == [f"{client} {name} None".encode()]
        worker.loop.quiesce(True)
        del worker.loop.acceptor.listeners[sock.fileno()]


def test_a_header_can_be_read_with_the_last_descriptor(start):
    """An import takes one: what reads the header is there before the first connection
    has taken the last.
    """
    forgotten = [
        sys.modules.pop(name)
        for name in (
            "spyglass.worker.proxy_header",
            "spyglass.http11.proxy_protocol",
            "spyglass.policy.trusted_proxies",
        )
        if name in sys.modules
    ]
    try:
        start(whoami, proxy_protocol=True)
        assert {
            "spyglass.worker.proxy_header",
            "spyglass.http11.proxy_protocol",
            "spyglass.policy.trusted_proxies",
        } <= sys.modules.keys()
    finally:
        sys.modules.update({module.__name__: module for module in forgotten})
