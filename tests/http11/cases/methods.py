"""What the method decides: which requests reach the app, and that HEAD is GET without a body (RFC 9110 9.3)."""

from .case import BAD, CHUNKED, FAILED, Case, get, ok, play, post, refused, sized, start, tolerated

KNOWN = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")
REGISTERED = (
    *("ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "COPY", "LABEL", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR"),
    *("MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "ORDERPATCH", "PROPFIND", "PROPPATCH", "QUERY", "REBIND", "REPORT", "SEARCH"),
    *("UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE", "UPDATEREDIRECTREF", "VERSION-CONTROL"),
    *("M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "PURGE"),  # not registered, but known to many servers
)
HELLO = play(start("200 OK", ("X-A", "y")), body=["hello"], kind="list", valid=False)
LONG = play(start("200 OK", ("Content-Length", "11")), body=["hello ", "world"])


def head(target: str, *fields: str) -> bytes:
    return get(target, *fields, method="HEAD")


CASES = [
    *(Case(f"{method} reaches the app", "RFC 9110 9.3", get(method=method), ok(b"", REQUEST_METHOD=method)) for method in KNOWN),
    *(
        Case(f"{method} with a body reaches the app", "RFC 9110 9.3", post(method=method), ok(b"hello"))
        for method in ("POST", "PUT", "PATCH")
    ),
    *(Case(f"{method} reaches the app", "RFC 9110 16.1.1", post(method=method), ok(b"hello", REQUEST_METHOD=method)) for method in REGISTERED),
    Case("TRACE with a body", "RFC 9110 9.3.8", post(method="TRACE"), tolerated(400, 405)),
    Case("HEAD", "RFC 9110 9.3.2", head("/"), ok(body=b"", fields={"content-type": "application/json"})),
    Case("HEAD says the length that GET has", "RFC 9110 8.6", head(HELLO), ok(body=b"", fields={**sized(5), "x-a": "y"})),
    Case("GET of the same", "RFC 9110 8.6", get(HELLO), ok(body=b"hello", fields={**sized(5), "x-a": "y"})),
    Case("HEAD with the app's length", "RFC 9110 8.6", head(LONG), ok(body=b"", fields=sized(11))),
    Case(
        "HEAD of a body of unknown length",
        "RFC 9110 9.3.2",
        head(play(start(), body=["a", "b"], kind="generator")),
        ok(body=b"", fields={"content-length": None}),
    ),
    Case("HEAD of a written body", "PEP 3333", head(play(start(), ["write", "hello"])), ok(body=b"")),
    # For HEAD many apps leave the body out; that says nothing about the length which GET would have.
    Case(
        "HEAD without a body from the app", "RFC 9110 8.6", head(play(start(), valid=False)), ok(body=b"", fields={"content-length": None})
    ),
    Case(
        "HEAD with a length but no body from the app",
        "RFC 9110 8.6",
        head(play(start("200 OK", ("Content-Length", "5")))),
        ok(body=b"", fields=sized(5)),
    ),
    Case(
        "HEAD with 404",
        "RFC 9110 9.3.2",
        head(play(start("404 Not Found"), body=["gone"], valid=False)),
        ok(status=404, body=b"", fields=sized(4)),
    ),
    Case("HEAD of a failing app", "RFC 9110 9.3.2", head(play(["raise", "ValueError"])), FAILED),
    Case("HEAD refused", "RFC 9110 9.3.2", get(method="HEAD", host=None), BAD),
    Case("HEAD of HTTP/2.0", "RFC 9110 9.3.2", get(method="HEAD", version="HTTP/2.0"), refused(505)),
    Case("HEAD with two Hosts", "RFC 9110 9.3.2", head("/", "Host: b"), BAD),
    Case("HEAD closing", "RFC 9112 9.6", head("/", "Connection: close"), ok(body=b"").closing),
    Case("HEAD, then GET", "RFC 9110 9.3.2", head(HELLO) + get(HELLO), ok(head=True, body=b"") + ok(head=False, body=b"hello")),
    Case(
        "HEAD of many chunks, then GET",
        "RFC 9110 9.3.2",
        head(LONG) + get(LONG),
        ok(head=True, fields=sized(11)) + ok(head=False, body=b"hello world"),
    ),
    Case("the app sees HEAD as HEAD", "PEP 3333", head("/") + get("/", "X: y"), ok(head=True) + ok(head=False, REQUEST_METHOD="GET")),
    Case(
        "OPTIONS is the app's",
        "RFC 9110 9.3.7",
        get(play(start("204 No Content", ("Allow", "GET"), ctype=None)), method="OPTIONS"),
        ok(status=204, fields={"allow": "GET"}),
    ),
    Case(
        "TRACE is the app's",
        "RFC 9110 9.3.8",
        get(play(start("405 Nope", ("Allow", "GET")), body=["no"]), method="TRACE"),
        ok(status=405, body=b"no", fields=CHUNKED),
    ),
]
