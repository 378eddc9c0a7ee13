"""The request target, and the host (RFC 9112 3.2, RFC 9110 7.2, RFC 3986 3.2.2)."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.errors import RequestError
from spyglass.http11.request import Request
from spyglass.http11.request_line import parse_target, valid_host

from .cases.host import INVALID, VALID
from .reading import refused, single


def parse(target, method="GET"):
    request = Request(method, target, (1, 1), {})
    authority = parse_target(request)
    return request.path, request.query, authority


@pytest.mark.parametrize(
    ("target", "path", "query", "authority"),
    [
        ("/", "/", "", None),
        ("/a/b?c?d", "/a/b", "c?d", None),
        ("/?", "/", "", None),
        ("//a/b", "//a/b", "", None),  # a path, whatever a browser would make of it
        ("/a:b@c", "/a:b@c", "", None),
        ("/http://b/", "/http://b/", "", None),
        ('/|{}"<>\\^`', '/|{}"<>\\^`', "", None),
        ("http://b/c?d", "/c", "d", "b"),
        ("HTTPS://b:81/", "/", "", "b:81"),
        ("http://b", "/", "", "b"),
        ("http://b?q/r", "/", "q/r", "b"),
        ("http://[::1]:80/x", "/x", "", "[::1]:80"),
    ],
)
def test_good_targets(target, path, query, authority):
    assert parse(target) == (path, query, authority)


@pytest.mark.parametrize(
    "target",
    [
        *(
            "",
            "a",
            "?q",
            "*",
            "b:443",
            "http:",
            "http:/b/",
            "http:///c",
            "http://",
            "http://:80/",
            "http://u@b/",
            "http://u:p@b/",
        ),
        *(
            "http://b:x/",
            "http://[::1/",
            "ftp://b/",
            "ws://b/",
            "/a#b",
            "http://b#c",
            "/a b",
            "/\t",
            "/\x7f",
            "/\xe9",
            "/\0",
            "://b/",
        ),
    ],
)
def test_bad_targets(target):
    with pytest.raises(RequestError) as caught:
        parse(target)
    assert caught.value.status == 400


def test_the_asterisk_is_for_options():
    """It is about the server as a whole, for which PEP 3333 has no path; an app can
    look at REQUEST_URI.
    """
    assert parse("*", "OPTIONS") == ("/", "", None)
    assert refused(b"GET * HTTP/1.1\r\nHost: a\r\n\r\n") == 400


def test_an_authority_in_the_target_stands_above_host():
    """RFC 9112 3.2.2"""
    assert single(b"GET http://b:81/c HTTP/1.1\r\nHost: a\r\n\r\n")[5]["HTTP_HOST"] == "b:81"
    assert refused(b"GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n") == 400
    assert refused(b"GET http://b/ HTTP/1.1\r\n\r\n") == 400


@pytest.mark.parametrize("host", ["", *VALID])
def test_valid_hosts(host):
    assert valid_host(host)


@pytest.mark.parametrize("host", INVALID)
def test_invalid_hosts(host):
    assert not valid_host(host)


@given(st.text(st.characters(max_codepoint=255), max_size=12))
def test_a_valid_host_names_no_two_hosts(host):
    if valid_host(host):
        assert not set(host) & set(' \t/?#@\\"<>|^`{}\0')
        assert host.startswith("[") or host.count(":") <= 1


@given(st.ip_addresses(v=6), st.integers(0, 65535))
def test_every_ipv6_address_is_a_host(address, port):
    assert valid_host(f"[{address}]:{port}")
    assert valid_host(f"[{ipaddress.IPv6Address(address).exploded.upper()}]")
    assert not valid_host(str(address))
