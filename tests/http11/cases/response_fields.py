"""The fields of a response: the app's as they are, the server's own once each, and none that would break the framing.

PEP 3333 lets a server refuse what an app must not send; letting a CR or LF through would let the app's client write responses.
"""

import re

from .case import ANY, CUT, FAILED, IMF_FIXDATE, Case, get, ok, play, start

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def fields(*pairs: tuple[object, object], valid: bool = True, **more: object) -> bytes:
    return get(play(start("200 OK", *pairs, **more), body=["hello"], valid=valid))


def broken(*pairs: tuple[object, object]) -> bytes:
    return fields(*pairs, valid=False)


HOP_BY_HOP = (
    ("connection", "keep-alive"),
    ("CONNECTION", "x"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Authenticate", "Basic"),
    ("Proxy-Authorization", "Basic eA=="),
    ("TE", "trailers"),
    ("Trailers", "X-A"),
    ("Transfer-Encoding", "chunked"),
    ("transfer-encoding", "identity"),
    ("Upgrade", "websocket"),
)

CASES = [
    Case("a field", "PEP 3333", fields(("X-A", "y")), ok(body=b"hello", fields={"x-a": "y"})),
    Case("empty value", "RFC 9110 5.5", fields(("X-A", "")), ok(body=b"hello", fields={"x-a": ""})),
    Case("the same field twice", "RFC 9110 5.3", fields(("X-A", "1"), ("X-A", "2")), ok(fields={"x-a": ["1", "2"]})),
    Case(
        "cookies stay apart", "RFC 6265 3", fields(("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")), ok(fields={"set-cookie": ["a=1", "b=2"]})
    ),
    Case("latin-1 in a value", "PEP 3333", fields(("X-A", "\xe9\xff")), ok(fields={"x-a": "\xe9\xff"})),
    Case("UTF-8 carried in latin-1", "PEP 3333", fields(("X-A", "\xc3\xa9")), ok(fields={"x-a": "\xc3\xa9"})),
    Case("spaces inside a value", "RFC 9110 5.5", fields(("X-A", "a  b")), ok(fields={"x-a": "a  b"})),
    Case("long value", "RFC 9110 5.5", fields(("X-A", "y" * 5000)), ok(fields={"x-a": "y" * 5000})),
    Case("a hundred fields", "PEP 3333", fields(*((f"X-{n}", "y") for n in range(100))), ok(fields={"x-0": "y", "x-99": "y"})),
    Case("token characters in a name", "RFC 9110 5.6.2", broken(("X!#$%&'*+.^_`|~9", "y")), ok(fields={"x!#$%&'*+.^_`|~9": "y"})),
    Case(
        "Content-Type is the app's", "PEP 3333", get(play(start(ctype="a/b; c=d"), body=["hello"])), ok(fields={"content-type": "a/b; c=d"})
    ),
    Case(
        "no Content-Type of its own making",
        "RFC 9110 8.3",
        get(play(start(ctype=None), body=["hello"], valid=False)),
        ok(body=b"hello", fields={"content-type": None}),
    ),
    Case("Location", "RFC 9110 10.2.2", get(play(start("302 Found", ("Location", "/b")))), ok(status=302, fields={"location": "/b"})),
    Case(
        "WWW-Authenticate",
        "RFC 9110 11.6.1",
        get(play(start("401 No", ("WWW-Authenticate", 'Basic realm="a"')))),
        ok(status=401, fields={"www-authenticate": 'Basic realm="a"'}),
    ),
    # Date and Server
    Case("Date", "RFC 9110 6.6.1", get(), ok(fields={"date": IMF_FIXDATE})),
    Case("Date is now", "RFC 9110 6.6.1", get(), ok()),
    Case("Date with 404", "RFC 9110 6.6.1", get(play(start("404 No"))), ok(status=404, fields={"date": IMF_FIXDATE})),
    Case("Date with 204", "RFC 9110 6.6.1", get(play(start("204 No", ctype=None))), ok(status=204, fields={"date": IMF_FIXDATE})),
    Case("Date with 304", "RFC 9110 6.6.1", get(play(start("304 No", ctype=None))), ok(status=304, fields={"date": IMF_FIXDATE})),
    Case("the app's own Date", "RFC 9110 6.6.1", fields(("Date", DATE)), ok(fields={"date": [DATE]})),
    Case("the app's own date", "RFC 9110 6.6.1", fields(("date", DATE)), ok(fields={"date": [DATE]})),
    Case("the app's own Server", "RFC 9110 10.2.4", fields(("Server", "mine")), ok(fields={"server": ["mine"]})),
    Case(
        "Server has no control characters",
        "RFC 9110 10.2.4",
        get("/", method="GET"),
        ok(fields={"server": re.compile(r"[!-~]+( [ -~]+)?")}, then=ANY),
    ),
    # Status line
    Case("reason", "RFC 9112 4", get(play(start("200 Very well"), body=["x"])), ok(reason="Very well")),
    Case("unknown status", "RFC 9110 15", get(play(start("299 Odd"), body=["x"])), ok(status=299, reason="Odd")),
    Case("latin-1 in the reason", "RFC 9112 4", get(play(start("200 Tr\xe8s bien"), body=["x"])), ok(reason="Tr\xe8s bien")),
    Case("empty reason", "RFC 9112 4", get(play(start("200 "), body=["x"], valid=False)), ok(status=(200, 500), then=ANY)),
    Case("no reason and no space", "RFC 9112 4", get(play(start("200"), body=["x"], valid=False)), ok(status=(200, 500), then=ANY)),
    *(
        Case(f"status {status!r}", "PEP 3333", get(play(start(status), body=["x"], valid=False)), FAILED)
        for status in (
            *(
                "",
                "x",
                "OK",
                "20 OK",
                "2000 OK",
                "099 Low",
                "99 Low",
                "1000 High",
                "-200 OK",
                "2x0 OK",
                " 200 OK",
                "200OK",
                "HTTP/1.1 200 OK",
                "\xb200 OK",
            ),
            *(
                "200 OK\r\nX: y",
                "200 OK\r\n",
                "200 OK\n",
                "200 \rOK",
                "200 O\0K",
                "200 O\x01K",
                "200\tOK",
                "200 \u20ac",
                200,
                None,
                {"bytes": "200 OK"},
            ),
        )
    ),
    # What would let somebody else write the response
    *(
        Case(f"value {value!r}", "PEP 3333", broken(("X-A", value)), FAILED)
        for value in (
            "a\r\nX-B: c",
            "a\nX-B: c",
            "a\rX-B: c",
            "a\r\n\r\nbody",
            "a\r\n b",
            "a\n",
            "\r",
            "\na",
            "a\0b",
            "a\x01b",
            "a\x0bb",
            "a\x1b",
            "a\x7f",
        )
    ),
    *(
        Case(f"name {name!r}", "PEP 3333", broken((name, "y")), FAILED)
        for name in (
            "X\r\nY",
            "X\n",
            "\rX",
            "X:",
            "X: y\r\nZ",
            "X Y",
            " X",
            "X ",
            "",
            "X\0",
            "X\xe9",
            "X\u20ac",
            "X(",
            "X[",
            'X"',
            "X/Y",
            "X\t",
            "X,Y",
            "X\x7f",
        )
    ),
    Case("value beyond latin-1", "PEP 3333", broken(("X-A", "\u20ac")), FAILED),
    Case("value of bytes", "PEP 3333", broken(("X-A", {"bytes": "y"})), FAILED),
    Case("value of a number", "PEP 3333", broken(("X-A", 5)), FAILED),
    Case("value None", "PEP 3333", broken(("X-A", None)), FAILED),
    Case("name of bytes", "PEP 3333", broken(({"bytes": "X-A"}, "y")), FAILED),
    Case("name None", "PEP 3333", broken((None, "y")), FAILED),
    Case("three in a pair", "PEP 3333", get(play(["start", "200 OK", [["X-A", "y", "z"]], {}], valid=False)), FAILED),
    Case("one in a pair", "PEP 3333", get(play(["start", "200 OK", [["X-A"]], {}], valid=False)), FAILED),
    Case("no pair", "PEP 3333", get(play(["start", "200 OK", ["X"], {}], valid=False)), FAILED),
    Case("tab in a value", "PEP 3333", broken(("X-A", "a\tb")), ok(status=(200, 500), then=ANY)),
    Case("value with spaces around", "RFC 9110 5.5", broken(("X-A", " y ")), ok(status=(200, 500), then=ANY)),
    # Fields that are the server's to send (PEP 3333, Other HTTP Features)
    *(
        Case(f"hop-by-hop {name}: {value}", "PEP 3333", broken((name, value), ("X-A", "y")), ok(body=b"hello", fields={name.lower(): None, "x-a": "y"}))
        for name, value in HOP_BY_HOP
    ),
    *(
        Case(f"the app's wish that the connection ends, {value!r}", "RFC 9112 9.6", broken(("Connection", value)), ok(body=b"hello").closing)
        for value in ("close", "CLOSE", "keep-alive, close")
    ),
    Case(
        "events, as most tutorials have them",
        "PEP 3333",
        get(play(start("200 OK", ("Connection", "keep-alive"), ctype="text/event-stream"), body=["data: 1\n\n", "data: 2\n\n"], kind="generator", valid=False)),
        ok(body=b"data: 1\n\ndata: 2\n\n", fields={"connection": None, "transfer-encoding": "chunked"}),
    ),
    # Content-Length of the app
    *(
        Case(f"length {value!r} from the app", "RFC 9110 8.6", broken(("Content-Length", value)), FAILED)
        for value in ("", "x", "-5", "+5", "5.0", "0x5", "5, 5", "5 5", "\xb2", "5_0", "1e1", "\u0665")
    ),
    Case("two lengths from the app", "RFC 9110 8.6", broken(("Content-Length", "5"), ("Content-Length", "6")), FAILED),
    Case("the same length twice from the app", "RFC 9110 8.6", broken(("Content-Length", "5"), ("content-length", "5")), FAILED),
    Case("length of 30 digits from the app", "RFC 9110 8.6", broken(("Content-Length", "9" * 30)), ok(status=(200, 500), then=CUT)),
    # start_response's own arguments
    Case("fields in a tuple", "PEP 3333", get(play(start(container="tuple"), body=["x"], valid=False)), ok(status=(200, 500), then=ANY)),
    Case(
        "fields from an iterator", "PEP 3333", get(play(start(container="iter"), body=["x"], valid=False)), ok(status=(200, 500), then=ANY)
    ),
    Case("pairs that are lists", "PEP 3333", get(play(start(pairs="list"), body=["x"], valid=False)), ok(status=(200, 500), then=ANY)),
]
