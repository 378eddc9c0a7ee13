"""Bytes in, scope out, beside the environ of the same bytes: both say the same."""

import pytest
from http11.reading import limits_of

from spyglass.errors import RequestError
from spyglass.gateway.asgi.fields import check_pairs, request_pairs, status_line
from spyglass.gateway.asgi.scope import ScopeMaker
from spyglass.gateway.environ import EnvironMaker, base_environ
from spyglass.http11 import caches
from spyglass.http11.request_reader import RequestReader
from spyglass.http11.stream_body import StreamBody
from spyglass.policy import url_prefix

BASE = base_environ() | {
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "5000",
    "SERVER_NAME": "[::1]",
    "SERVER_PORT": "8000",
}
ALL = "for, proto, host, port, prefix, forwarded"


def read(data):
    reader = RequestReader(limits_of(), None, StreamBody)
    request = reader.next(data)
    return request or reader.pending


def head(line="GET / HTTP/1.1", *fields):
    return "".join(f"{each}\r\n" for each in (line, "Host: a", *fields, "")).encode("latin-1")


def scope_of(
    data, *, trusted="127.0.0.1", forwarded="for, proto", prefix="", base=BASE, state=None
):
    server = base["SERVER_NAME"].strip("[]"), int(base["SERVER_PORT"])
    maker = ScopeMaker(base, server, trusted, forwarded, url_prefix.parse(prefix))
    return maker.make(read(data), state or {})


def environ_of(data, *, trusted, forwarded):
    return EnvironMaker(BASE, trusted, forwarded).make(read(data))


def test_all_keys_of_a_plain_request():
    assert scope_of(
        head("GET /a%20b%2Fc?q=%41 HTTP/1.1", "X-A: 1", "X-A:  2\t"), state={"db": 1}
    ) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a b/c",
        "raw_path": b"/a%20b%2Fc",
        "query_string": b"q=%41",
        "root_path": "",
        "headers": [(b"host", b"a"), (b"x-a", b"1"), (b"x-a", b"2")],
        "client": ("127.0.0.1", 5000),
        "server": ("::1", 8000),
        "state": {"db": 1},
        "extensions": {"http.response.pathsend": {}},
    }


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("GET /%c3%a9 HTTP/1.1", {"path": "/\u00e9", "raw_path": b"/%c3%a9"}),
        ("GET /%ff HTTP/1.1", {"path": "/\ufffd", "raw_path": b"/%ff"}),
        ("GET http://other:81/x?y HTTP/1.1", {"path": "/x", "raw_path": b"/x", "query_string": b"y", "headers": [(b"host", b"other:81")]}),
        ("OPTIONS * HTTP/1.1", {"method": "OPTIONS", "path": "*", "raw_path": b"*"}),
        ("GET / HTTP/1.0", {"http_version": "1.0"}),
        ("PROPFIND /a//b/../c HTTP/1.1", {"method": "PROPFIND", "path": "/a//b/../c", "raw_path": b"/a//b/../c"}),
    ],
)  # fmt: skip
def test_what_differs_by_the_request_line(line, changed):
    plain = scope_of(head())
    scope = scope_of(head(line))
    assert {key: scope[key] for key in scope if scope[key] != plain[key]} == changed


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        (["Cookie: a=1", "Cookie: b=2"], [(b"cookie", b"a=1"), (b"cookie", b"b=2")]),
        (["X_Forwarded_For: evil", "X-B: \xe9"], [(b"x-b", b"\xe9")]),
        (["Content-Length: 00000000000000000000"], [(b"content-length", b"0")]),
        (["Content-Length: 000"], [(b"content-length", b"000")]),
        (["Transfer-Encoding: chunked"], [(b"transfer-encoding", b"chunked")]),
        (["X-Empty:", "A: :b"], [(b"x-empty", b""), (b"a", b":b")]),
        (["Upgrade: h2c", "Connection: Upgrade"], [(b"upgrade", b"h2c"), (b"connection", b"Upgrade")]),
    ],
)  # fmt: skip
def test_headers_are_as_they_came(fields, headers):
    assert scope_of(head("POST / HTTP/1.1", *fields))["headers"] == [(b"host", b"a"), *headers]


PROXIED = [
    ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"],
    ["X-Forwarded-For: [2001:db8::1]:4711, 192.0.2.9"],
    ["X-Forwarded-Host: example.org:8443", "X-Forwarded-Proto: https"],
    ["X-Forwarded-Port: 8443", "X-Forwarded-Ssl: on"],
    ['Forwarded: for="[2001:db8::2]:80";proto=https;host=example.net'],
    ["X-Forwarded-Prefix: /shop"],
    ["X-Forwarded-For: nonsense"],
    ["X-Forwarded-By: x", "X-A: y"],
]


@pytest.mark.parametrize("fields", PROXIED, ids=lambda fields: fields[0])
@pytest.mark.parametrize("forwarded", ["for, proto", ALL, ""])
@pytest.mark.parametrize("trusted", ["127.0.0.1", "10.0.0.1", "*"])
def test_proxies_are_believed_as_by_the_environ(fields, forwarded, trusted):
    data = head("GET /x%20y HTTP/1.1", *fields)
    scope = scope_of(data, trusted=trusted, forwarded=forwarded)
    environ = environ_of(data, trusted=trusted, forwarded=forwarded)
    assert scope["scheme"] == environ["wsgi.url_scheme"]
    assert scope["client"] == (environ["REMOTE_ADDR"], int(environ.get("REMOTE_PORT", 0)))
    assert scope["server"] == (environ["SERVER_NAME"].strip("[]"), int(environ["SERVER_PORT"]))
    assert scope["root_path"] == environ["SCRIPT_NAME"]
    assert scope["path"] == environ["SCRIPT_NAME"] + environ["PATH_INFO"]
    assert scope["raw_path"] == environ["SCRIPT_NAME"].encode() + b"/x%20y"
    seen = {
        f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode()
        for name, value in scope["headers"]
    }
    assert seen == {key: value for key, value in environ.items() if key.startswith("HTTP_")}


def test_a_removed_prefix_is_put_back_as_it_was():
    data = head("GET /x HTTP/1.1", "X-Forwarded-Prefix: /caf%C3%A9")
    scope = scope_of(data, forwarded="prefix")
    assert (scope["root_path"], scope["path"]) == ("/caf\u00e9", "/caf\u00e9/x")
    assert scope["raw_path"] == b"/caf%C3%A9/x"


def test_below_a_path():
    scope = scope_of(head("GET /blog/a%20b HTTP/1.1"), prefix="/blog")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == (
        "/blog",
        "/blog/a b",
        b"/blog/a%20b",
    )
    with pytest.raises(RequestError, match="below /blog/") as refused:
        scope_of(head("GET /blogs HTTP/1.1"), prefix="/blog")
    assert refused.value.status == 404


def test_a_client_without_an_address():
    base = BASE | {"REMOTE_ADDR": "", "SERVER_NAME": "localhost", "SERVER_PORT": "80"}
    del base["REMOTE_PORT"]
    assert scope_of(head(), base=base)["client"] is None
    data = head("GET / HTTP/1.1", "X-Forwarded-For: 192.0.2.1")
    assert scope_of(data, base=base, trusted="unix")["client"] == ("192.0.2.1", 0)


def test_a_websocket_s_scope():
    maker = ScopeMaker(BASE | {"wsgi.url_scheme": "https"}, ("a", 1))
    scope = maker.make_websocket(read(head()), {})
    assert (scope["type"], scope["scheme"], scope["extensions"]) == (
        "websocket",
        "wss",
        {"websocket.http.response": {}},
    )
    assert "method" not in scope
    assert scope["asgi"]["spec_version"] == "2.5"


def test_each_call_may_change_all_of_its_scope():
    maker = ScopeMaker(BASE, ("a", 1))
    request, state = read(head()), {"a": 1}
    first = maker.make(request, state)
    for each in ("headers", "state", "extensions", "asgi"):
        first[each].clear()
    first.clear()
    again = maker.make(request, state)
    assert again["headers"] == [(b"host", b"a")]
    assert again["state"] == {"a": 1}
    assert again["asgi"]["version"] == "3.0"
    assert again["extensions"]


def test_pairs_of_a_kept_connection_follow_its_lines():
    """The reader reads the next headers by what differs, and so do the pairs."""
    reader = RequestReader(limits_of(), None, StreamBody)
    for number in range(5):
        fields = f"X-Id: {10**number}", "Accept: *", f"X-Id-2:  {number} "
        request = reader.next(head(f"GET /{number} HTTP/1.1", *fields))
        assert request_pairs(request.section) == [
            (b"host", b"a"),
            (b"x-id", b"%d" % 10**number),
            (b"accept", b"*"),
            (b"x-id-2", b"%d" % number),
        ]
    caches.switch(False)
    try:
        request = reader.next(head("GET / HTTP/1.1", "Accept: *"))
        assert request_pairs(request.section) == [(b"host", b"a"), (b"accept", b"*")]
    finally:
        caches.switch(True)


# What the app sends


@pytest.mark.parametrize(
    "headers", [[(b"A", b"1")], ((b"A", b"1"),), [[b"A", b"1"]], iter([(b"A", b"1")])]
)
def test_pairs_of_any_kind(headers):
    assert check_pairs(headers).text == "A: 1\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        *([("a", "b")], [(b"a", "b")], [("a", b"b")], [(b"a",)], [(b"a", b"b", b"c")], [b"ab"], ["ab"]),
        *([7], None, 7, [(b"a b", b"")], [(b"a", b"b\r\nx: y")], [(b"a", b"\0")], [(b"", b"")]),
        *([(b"content-length", b"x")], [(b"content-length", b"1"), (b"Content-Length", b"1")]),
    ],
)  # fmt: skip
def test_headers_that_cannot_be_sent(headers):
    with pytest.raises((TypeError, ValueError)):
        check_pairs(headers)


def test_headers_that_only_the_server_can_set():
    checked = check_pairs(
        [(b"connection", b"keep-alive"), (b"Transfer-Encoding", b"chunked"), (b"a", b"1")]
    )
    assert (checked.text, checked.closing) == ("a: 1\r\n", False)
    assert check_pairs([(b"connection", b"Close")]).closing


def test_statuses():
    assert status_line(200) == "200 OK"
    assert status_line(299) == "299"
    for status, error in (
        (100, ValueError),
        (1000, ValueError),
        ("200", TypeError),
        (None, TypeError),
    ):
        with pytest.raises(error):
            status_line(status)
