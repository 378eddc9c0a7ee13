"""Proxies: whose word about a client counts, and what it changes. The servers listen on loopback and on a unix socket, both trusted by
default; `strangers` trusts neither, `chain` trusts 10.0.0.0/8 as well, `proxied` wants a PROXY header, `hasty_proxied` wants it soon.
`credulous` is told to believe every field that a proxy may set, and not only X-Forwarded-For and -Proto.
"""

import struct

from .case import BAD, CLOSED, EMPTY, EOF, SOME, Case, Step, chunked, chunks, dropped, get, ok, post

RFC = "RFC 7239"
OURS = "ARCHITECTURE 9.6"
HAPROXY = "proxy-protocol.txt"
CLIENT = "192.0.2.1"
HTTPS = {"wsgi.url_scheme": "https", "HTTPS": "on", "SERVER_PORT": "443"}
PLAIN = {"wsgi.url_scheme": "http", "HTTPS": None}


def told(*fields, **more):
    """A request that says it comes from a proxy."""
    return get("/", *fields, **more)


# A client of the proxied servers sends these in front of its first request. The one that is sent "behind" another comes too late.
V1 = f"PROXY TCP4 {CLIENT} 198.51.100.2 56324 8443\r\n".encode()
V1_SIX = b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 8443\r\n"
V1_TRUSTED = b"PROXY TCP4 127.0.0.1 198.51.100.2 56324 8443\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FOUR = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 56324, 8443)
TLS = struct.pack("!BHBI", 0x20, 5, 1, 0)


def v2(command=0x21, family=0x11, payload=FOUR):
    return SIGNATURE + struct.pack("!BBH", command, family, len(payload)) + payload


RELAYED = {"REMOTE_ADDR": CLIENT, "REMOTE_PORT": "56324", "SERVER_NAME": "198.51.100.2", "SERVER_PORT": "8443", "HTTP_HOST": "a"}
FIRST = ("whole", "bytes", "split", "before")
ONCE = ("whole",)  # who goes on sending to a connection that is closed gets a reset


def proxied(name, send, outcome, modes=FIRST, server="proxied", **more):
    return Case(name, HAPROXY, send, outcome, server=server, modes=modes, **more)


CASES = [
    # By a proxy that is trusted
    Case("X-Forwarded-For", OURS, told(f"X-Forwarded-For: {CLIENT}"), ok(REMOTE_ADDR=CLIENT, REMOTE_PORT=None, HTTP_X_FORWARDED_FOR=CLIENT)),
    Case("X-Forwarded-For, the client's own on the left", OURS, told(f"X-Forwarded-For: ::1, {CLIENT}"), ok(REMOTE_ADDR=CLIENT)),
    Case("X-Forwarded-For in two lines", OURS, told("X-Forwarded-For: 6.6.6.6", f"X-Forwarded-For: {CLIENT}"), ok(REMOTE_ADDR=CLIENT)),
    Case("X-Forwarded-For in two lines, the last a trusted hop", OURS, told(f"X-Forwarded-For: {CLIENT}", "X-Forwarded-For: ::1"), ok(REMOTE_ADDR=CLIENT)),
    Case("X-Forwarded-For with a port", OURS, told(f"X-Forwarded-For: {CLIENT}:77"), ok(REMOTE_ADDR=CLIENT, REMOTE_PORT="77")),
    Case("X-Forwarded-For of IPv6", OURS, told("X-Forwarded-For: 2001:DB8::1"), ok(REMOTE_ADDR="2001:db8::1")),
    Case("X-Forwarded-For that is nonsense", OURS, told("X-Forwarded-For: 1.2.3.4.5, <script>"), ok(REMOTE_ADDR=EMPTY), modes=("bytes", "split")),
    Case("X-Forwarded-For that is nonsense, over TCP", OURS, told("X-Forwarded-For: <script>"), ok(REMOTE_ADDR="127.0.0.1", REMOTE_PORT=SOME), modes=("whole", "behind", "before")),
    Case("X-Forwarded-Proto", OURS, told("X-Forwarded-Proto: https"), ok(environ=HTTPS | {"HTTP_HOST": "a"})),
    Case("X-Forwarded-Proto that is none", OURS, told("X-Forwarded-Proto: gopher"), ok(environ=PLAIN)),
    Case("X-Forwarded-Host", OURS, told("X-Forwarded-Host: b.example:81"), ok(HTTP_HOST="b.example:81", SERVER_NAME="b.example", SERVER_PORT="81"), server="credulous"),
    Case("X-Forwarded-Host that is none", OURS, told("X-Forwarded-Host: b/c"), ok(HTTP_HOST="a"), server="credulous"),
    Case("X-Forwarded-Host beside an absolute target", OURS, get("http://c/", "X-Forwarded-Host: b"), ok(HTTP_HOST="b"), server="credulous"),
    Case("X-Forwarded-Host in HTTP/1.0", OURS, get("/", "X-Forwarded-Host: b", host=None, version="HTTP/1.0"), ok(HTTP_HOST="b", then=EOF), server="credulous"),
    Case("X-Forwarded-Host heals no bad Host", OURS, get("/", "X-Forwarded-Host: b", host="a b"), BAD),
    Case("X-Forwarded-Port", OURS, told("X-Forwarded-Port: 8443", "X-Forwarded-Proto: https"), ok(environ=HTTPS | {"SERVER_PORT": "8443"}), server="credulous"),
    Case(
        "all of them",
        OURS,
        told(f"X-Forwarded-For: {CLIENT}", "X-Forwarded-Proto: https", "X-Forwarded-Host: b", "X-Forwarded-Port: 8443"),
        ok(REMOTE_ADDR=CLIENT, environ=HTTPS | {"HTTP_HOST": "b:8443", "SERVER_NAME": "b", "SERVER_PORT": "8443"}),
        server="credulous",
    ),
    # A proxy that sets For and Proto, as Debian's nginx does, passes on what a client has written in the others.
    Case(
        "what the client claims through a proxy that does not know it",
        OURS,
        told(f"X-Forwarded-For: {CLIENT}", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil", "X-Forwarded-Port: 1", "Forwarded: for=6.6.6.6;host=evil"),
        ok(REMOTE_ADDR=CLIENT, HTTP_HOST="a", environ=HTTPS | dict.fromkeys(("HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT", "HTTP_FORWARDED"))),
    ),
    *(
        Case(f"{name} of a client, through a proxy", OURS, told(f"{name}: {value}"), ok(HTTP_HOST="a", environ=PLAIN | {key: None}))
        for name, value, key in ((name, value, "HTTP_" + name.upper().replace("-", "_")) for name, value in (
            ("X-Forwarded-Host", "evil"), ("X-Forwarded-Port", "443"), ("X-Forwarded-Prefix", "/evil"), ("X-Forwarded-Ssl", "on"),
            ("X-Forwarded-Scheme", "https"), ("X-Forwarded-Server", "evil"), ("Forwarded", "for=6.6.6.6;host=evil;proto=https")))
    ),
    Case("with a body", OURS, post(b"hello", f"X-Forwarded-For: {CLIENT}"), ok(b"hello", REMOTE_ADDR=CLIENT)),
    Case("with a chunked body", OURS, chunked(chunks(b"hello"), f"X-Forwarded-For: {CLIENT}"), ok(b"hello", REMOTE_ADDR=CLIENT)),
    Case("Forwarded", RFC, told(f"Forwarded: for={CLIENT};proto=https;host=b"), ok(REMOTE_ADDR=CLIENT, environ=HTTPS | {"HTTP_HOST": "b"}), server="credulous"),
    Case("Forwarded, quoted", RFC, told('Forwarded: for="[2001:db8::1]:77"'), ok(REMOTE_ADDR="2001:db8::1", REMOTE_PORT="77"), server="credulous"),
    Case("Forwarded, the client's own on the left", RFC, told(f'Forwarded: for="::1;host=evil, for={CLIENT}'), ok(REMOTE_ADDR=CLIENT, HTTP_HOST="a"), server="credulous"),
    Case("Forwarded that hides", RFC, told("Forwarded: for=_hidden;proto=https"), ok(environ=HTTPS), server="credulous"),
    Case("Forwarded that is nonsense", RFC, told('Forwarded: """'), ok(HTTP_HOST="a", environ=PLAIN), server="credulous"),
    Case("Forwarded beside X-Forwarded-For", OURS, told("Forwarded: for=6.6.6.6;host=evil", f"X-Forwarded-For: {CLIENT}"), ok(REMOTE_ADDR=CLIENT, HTTP_HOST="a"), server="credulous"),
    Case("one that drops the dash", OURS, told("X_Forwarded_For: 6.6.6.6", f"X-Forwarded-For: {CLIENT}"), ok(REMOTE_ADDR=CLIENT)),
    Case("a chain of which only a part is trusted", OURS, told(f"X-Forwarded-For: {CLIENT}, 10.0.0.1"), ok(REMOTE_ADDR="10.0.0.1")),
    Case("a chain that is trusted", OURS, told(f"X-Forwarded-For: 6.6.6.6, {CLIENT}, 10.0.0.1"), ok(REMOTE_ADDR=CLIENT), server="chain"),
    Case(
        "each request of a connection has its own client",
        OURS,
        told(f"X-Forwarded-For: {CLIENT}", "X-Forwarded-Proto: https") + told("X-Forwarded-For: 192.0.2.2") + get(),
        ok(REMOTE_ADDR=CLIENT, environ=HTTPS) + ok(REMOTE_ADDR="192.0.2.2", environ=PLAIN) + ok(environ=PLAIN, HTTP_X_FORWARDED_FOR=None),
    ),
    # By anybody else
    Case(
        "who is not trusted changes nothing",
        OURS,
        told(f"X-Forwarded-For: {CLIENT}", "X-Forwarded-Proto: https", "X-Forwarded-Host: b", "X-Forwarded-Port: 1", f"Forwarded: for={CLIENT}"),
        ok(REMOTE_ADDR="127.0.0.1", REMOTE_PORT=SOME, HTTP_HOST="a", SERVER_NAME="127.0.0.1", environ=PLAIN),
        server="strangers",
        modes=("whole", "behind", "before"),
    ),
    Case(
        "who is not trusted changes nothing over the unix socket",
        OURS,
        told(f"X-Forwarded-For: {CLIENT}", "X-Forwarded-Proto: https", "X-Forwarded-Host: b", "X-Forwarded-Port: 1", f"Forwarded: for={CLIENT}"),
        ok(REMOTE_ADDR=EMPTY, REMOTE_PORT=None, HTTP_HOST="a", SERVER_NAME="localhost", SERVER_PORT="80", environ=PLAIN),
        server="strangers",
        modes=("bytes", "split"),
    ),
    *(
        Case(f"an app does not see {name} of who is not trusted", OURS, told(f"{name}: 1"), ok(environ={key: None}), server="strangers")
        for name, key in ((name, "HTTP_" + name.upper().replace("-", "_")) for name in (
            "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Ssl"))
    ),
    # PROXY protocol
    proxied("version 1", V1 + get(), ok(environ=RELAYED | PLAIN)),
    proxied("version 1 of IPv6", V1_SIX + get(), ok(REMOTE_ADDR="2001:db8::1", SERVER_NAME="[2001:db8::2]", SERVER_PORT="8443")),
    proxied("version 1, unknown", b"PROXY UNKNOWN\r\n" + get(), ok(REMOTE_ADDR="127.0.0.1", SERVER_NAME="127.0.0.1"), ("whole", "before")),
    proxied("version 1, unknown, over the unix socket", b"PROXY UNKNOWN\r\n" + get(), ok(REMOTE_ADDR=EMPTY, REMOTE_PORT=None), ("bytes", "split")),
    proxied("version 2", v2() + get(), ok(environ=RELAYED | PLAIN)),
    proxied("version 2, a health check", v2(command=0x20) + get(), ok(REMOTE_ADDR="127.0.0.1"), ("whole", "before")),
    proxied("version 2, unspecified", v2(family=0, payload=b"") + get(), ok(SERVER_NAME=SOME)),
    proxied("version 2 of unix sockets", v2(family=0x31, payload=bytes(216)) + get(), ok(REMOTE_ADDR=EMPTY, SERVER_NAME="localhost")),
    proxied("version 2 with extensions", v2(payload=FOUR + b"\x04" + struct.pack("!H", 300) + bytes(300)) + get(), ok(environ=RELAYED)),
    proxied("version 2 of a client with TLS", v2(payload=FOUR + TLS) + get(), ok(environ=RELAYED | {"wsgi.url_scheme": "https", "HTTPS": "on"})),
    proxied("header and request apart", (V1, get()), ok(environ=RELAYED)),
    proxied("a body behind it", V1 + post(), ok(b"hello", environ=RELAYED)),
    proxied("100 Continue behind it", (V1 + post(b"", "Expect: 100-continue").replace(b"Length: 0", b"Length: 2"), Step.CONTINUE, b"hi"), ok(b"hi", environ=RELAYED), ONCE),
    proxied("several requests behind it", V1 + get("/1") + get("/2"), ok(environ=RELAYED) + ok(PATH_INFO="/2", environ=RELAYED)),
    proxied("a second request later", (V1 + get("/1"), Step.ANSWER, get("/2")), ok(environ=RELAYED) + ok(PATH_INFO="/2", environ=RELAYED)),
    proxied("a second header is no request", V1 + V1 + get(), BAD, ONCE),
    proxied("a header before the second request is no request", V1 + get() + V1 + get(), ok(environ=RELAYED) + BAD, ONCE),
    proxied("what the client claims is not believed", V1 + told("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"), ok(environ=RELAYED | PLAIN, HTTP_X_FORWARDED_FOR=None)),
    proxied("what a proxy before the proxy says is believed", V1_TRUSTED + told("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"), ok(REMOTE_ADDR="6.6.6.6", REMOTE_PORT=None, environ=HTTPS)),
    proxied("a bad request behind it", V1 + get(host="a b"), BAD, ("whole", "before")),
    proxied("no header", get(), CLOSED, ONCE, logged="proxy_protocol is on, and it does not begin with a PROXY header"),
    proxied("no header and a body", post(b"x" * 100), CLOSED, ONCE),
    proxied("empty lines instead", b"\r\n\r\n\r\n", CLOSED, ONCE),
    proxied("a bad address", b"PROXY TCP4 a b 1 2\r\n" + get(), CLOSED, ONCE, logged="a bad address in its PROXY header"),
    proxied("a line that does not end", b"PROXY TCP4 " + b"1" * 500, CLOSED, ONCE),
    proxied("an unknown version", v2(command=0x31) + get(), CLOSED, ONCE),
    proxied("an unknown family", v2(family=0x41) + get(), CLOSED, ONCE),
    proxied("addresses that are missing", v2(payload=FOUR[:8]) + get(), CLOSED, ONCE),
    proxied("the client leaves in the middle of it", (V1[:20], Step.END), CLOSED, ONCE),
    proxied("the client leaves behind it", (V1, Step.END), CLOSED, ("whole", "bytes")),
    proxied("the client leaves in the middle of the request behind it", (V1 + get()[:10], Step.END), dropped(400), ("whole", "bytes")),
    # Where nobody asked for it
    Case("a header where there is to be none", OURS, V1 + get(), BAD, modes=ONCE),
    Case("a header of version 2 where there is to be none", OURS, v2() + get(), BAD, modes=ONCE),
]

# Among those of timeouts.py, which need a quiet machine.
HASTY = [
    proxied("no PROXY header comes", b"", CLOSED, ONCE, server="hasty_proxied"),
    proxied("the PROXY header does not come in time", V1[:20], CLOSED, ONCE, server="hasty_proxied"),
    proxied("nothing comes behind a PROXY header", V1, CLOSED, ONCE, server="hasty_proxied"),
    proxied("time enough for a PROXY header", V1 + get(), ok(environ=RELAYED, then=EOF), ONCE, server="hasty_proxied"),
]
