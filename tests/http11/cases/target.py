"""The four forms of a request target (RFC 9112 3.2), its characters (RFC 3986), and what the app gets to see of it (PEP 3333)."""

from .case import BAD, Case, get, head, ok, refused, tolerated


def absolute(target: str, *fields: str) -> bytes:
    return get(target, *fields, host="other")


CASES = [
    # origin-form
    Case("path", "RFC 9112 3.2.1", get("/a/b"), ok(PATH_INFO="/a/b", QUERY_STRING="", SCRIPT_NAME="")),
    Case("path and query", "RFC 9112 3.2.1", get("/a?b=c&d"), ok(PATH_INFO="/a", QUERY_STRING="b=c&d")),
    Case("empty query", "RFC 3986 3.4", get("/a?"), ok(PATH_INFO="/a", QUERY_STRING="")),
    Case("question mark in the query", "RFC 3986 3.4", get("/a?b?c"), ok(PATH_INFO="/a", QUERY_STRING="b?c")),
    Case("slash in the query", "RFC 3986 3.4", get("/a?/b/"), ok(PATH_INFO="/a", QUERY_STRING="/b/")),
    Case("all the characters of a path", "RFC 3986 3.3", get("/-._~!$&'()*+,;=:@"), ok(PATH_INFO="/-._~!$&'()*+,;=:@")),
    Case("two slashes are no authority", "RFC 9112 3.2.1", get("//b/c"), ok(PATH_INFO="//b/c", HTTP_HOST="a")),
    Case("slashes are not merged", "RFC 3986 6.2.2", get("/a//b/"), ok(PATH_INFO="/a//b/")),
    Case("dot segments are the app's", "PEP 3333", get("/a/../b/./c"), ok(PATH_INFO="/a/../b/./c")),
    Case("URI in the path", "RFC 9112 3.2.1", get("/http://b/c"), ok(PATH_INFO="/http://b/c", HTTP_HOST="a")),
    Case("percent-encoding", "RFC 3986 2.1", get("/a%20b%2fc"), ok(PATH_INFO="/a b/c", REQUEST_URI="/a%20b%2fc")),
    Case("percent-encoding in upper and lower case", "RFC 3986 2.1", get("/%7e%7E"), ok(PATH_INFO="/~~")),
    Case("percent-encoded UTF-8 is latin-1 in the environ", "PEP 3333", get("/%C3%A9"), ok(PATH_INFO="/\xc3\xa9")),
    Case("percent-encoded bytes that are no UTF-8", "PEP 3333", get("/%ff%FE"), ok(PATH_INFO="/\xff\xfe")),
    Case("percent-encoding is decoded once", "RFC 3986 2.4", get("/%2541"), ok(PATH_INFO="/%41")),
    Case("percent-encoded question mark", "RFC 3986 2.4", get("/a%3Fb"), ok(PATH_INFO="/a?b", QUERY_STRING="")),
    Case("percent-encoded number sign", "RFC 3986 2.4", get("/a%23b"), ok(PATH_INFO="/a#b")),
    Case("percent-encoded line break", "RFC 3986 2.4", get("/a%0d%0aX:b"), tolerated(PATH_INFO="/a\r\nX:b")),
    Case("percent-encoded NUL", "RFC 3986 7.3", get("/a%00b"), tolerated(PATH_INFO="/a\0b")),
    Case("the query is not decoded", "PEP 3333", get("/?a%20b+c%zz"), tolerated(QUERY_STRING="a%20b+c%zz")),
    Case("encoded query is kept", "PEP 3333", get("/?a%20b+c%26"), ok(QUERY_STRING="a%20b+c%26")),
    Case("plus is no space in a path", "RFC 3986 3.3", get("/a+b"), ok(PATH_INFO="/a+b")),
    Case("percent sign alone", "RFC 3986 2.1", get("/a%"), tolerated(PATH_INFO="/a%")),
    Case("percent sign and one digit", "RFC 3986 2.1", get("/a%4"), tolerated(PATH_INFO="/a%4")),
    Case("percent sign and no digits", "RFC 3986 2.1", get("/%zz"), tolerated(PATH_INFO="/%zz")),
    *(
        Case(f"{character} which a URI may not have", "RFC 3986 2.2", get(f"/a{character}b?{character}"), tolerated(QUERY_STRING=character))
        for character in '"<>[]\\^`{|}'
    ),
    Case("long path", "RFC 9112 3", get("/" + "a" * 8000), ok(PATH_INFO="/" + "a" * 8000)),
    Case("fragment", "RFC 9112 3.2", get("/a#b"), BAD),
    Case("fragment behind a query", "RFC 9112 3.2", get("/a?b#c"), BAD),
    Case("only a fragment", "RFC 9112 3.2", get("#a"), BAD),
    Case("no slash", "RFC 9112 3.2.1", get("a"), BAD),
    Case("only a query", "RFC 9112 3.2.1", get("?a"), BAD),
    Case("dot", "RFC 9112 3.2.1", get("./a"), BAD),
    Case("backslash first", "RFC 9112 3.2.1", get("\\a"), BAD),
    Case("encoded slash first", "RFC 9112 3.2.1", get("%2Fa"), BAD),
    *(
        Case(f"byte {code:#04x} in the path", "RFC 3986 2", get(f"/a{chr(code)}b"), BAD)
        for code in (0x00, 0x01, 0x08, 0x09, 0x0B, 0x0C, 0x1B, 0x1F, 0x7F, 0x80, 0xA0, 0xE9, 0xFF)
    ),
    Case("raw UTF-8 in the path", "RFC 3986 2", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
    Case("overlong UTF-8 in the path", "RFC 3629 3", b"GET /\xc0\xaf HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
    Case("control character in the query", "RFC 3986 2", get("/?a\x01b"), BAD),
    Case("raw byte above 127 in the query", "RFC 3986 2", get("/?a\xe9b"), BAD),
    # absolute-form
    Case(
        "absolute-form",
        "RFC 9112 3.2.2",
        absolute("http://b:81/c/d?e"),
        ok(PATH_INFO="/c/d", QUERY_STRING="e", HTTP_HOST="b:81", REQUEST_URI="http://b:81/c/d?e"),
    ),
    Case("absolute-form replaces Host", "RFC 9112 3.2.2", absolute("http://b/"), ok(HTTP_HOST="b", PATH_INFO="/")),
    Case(
        "absolute-form replaces Host for itself alone",
        "RFC 9112 3.2.2",
        get("/1") + get("http://b/2") + get("/3") + get("http://c/4") + get("/3"),
        ok(HTTP_HOST="a") + ok(HTTP_HOST="b") + ok(HTTP_HOST="a", PATH_INFO="/3") + ok(HTTP_HOST="c") + ok(HTTP_HOST="a"),
    ),
    Case("absolute-form without path", "RFC 9110 4.2.3", absolute("http://b"), ok(HTTP_HOST="b", PATH_INFO="/")),
    Case(
        "absolute-form, a query and no path", "RFC 9110 4.2.3", absolute("http://b?c"), ok(HTTP_HOST="b", PATH_INFO="/", QUERY_STRING="c")
    ),
    Case("absolute-form of https", "RFC 9112 3.2.2", absolute("https://b/"), ok(HTTP_HOST="b", PATH_INFO="/")),
    Case("schemes are case-insensitive", "RFC 3986 3.1", absolute("HTTP://b/c"), ok(HTTP_HOST="b", PATH_INFO="/c")),
    Case("absolute-form with an IPv6 address", "RFC 3986 3.2.2", absolute("http://[::1]:81/c"), ok(HTTP_HOST="[::1]:81", PATH_INFO="/c")),
    Case("absolute-form decoded", "PEP 3333", absolute("http://b/c%20d"), ok(PATH_INFO="/c d")),
    Case("absolute-form with two slashes in the path", "RFC 3986 3.3", absolute("http://b//c"), ok(HTTP_HOST="b", PATH_INFO="//c")),
    Case("absolute-form with @ in the path", "RFC 3986 3.3", absolute("http://b/c@d"), ok(HTTP_HOST="b", PATH_INFO="/c@d")),
    Case("absolute-form with @ in the query", "RFC 3986 3.4", absolute("http://b?c@d"), ok(HTTP_HOST="b", QUERY_STRING="c@d")),
    Case("absolute-form with an empty port", "RFC 3986 3.2.3", absolute("http://b:/c"), ok(PATH_INFO="/c")),
    Case("absolute-form still needs a Host", "RFC 9112 3.2", head("GET http://b/ HTTP/1.1"), BAD),
    Case("absolute-form does not excuse a bad Host", "RFC 9112 3.2", get("http://b/", host="b c"), BAD),
    Case("absolute-form does not excuse two Hosts", "RFC 9112 3.2", get("http://b/", "Host: b", host="b"), BAD),
    Case(
        "absolute-form with POST", "RFC 9112 3.2.2", get("http://b/", "Content-Length: 2", method="POST") + b"hi", ok(b"hi", HTTP_HOST="b")
    ),
    Case("absolute-form with user", "RFC 9110 4.2.4", absolute("http://u@b/"), BAD),
    Case("absolute-form with user and password", "RFC 9110 4.2.4", absolute("http://u:p@b/"), BAD),
    Case("absolute-form with empty user", "RFC 9110 4.2.4", absolute("http://@b/"), BAD),
    Case("absolute-form with an encoded user", "RFC 9110 4.2.4", absolute("http://u%40b@c/"), BAD),
    Case("absolute-form without host", "RFC 9110 4.2.1", absolute("http:///c"), BAD),
    Case("absolute-form of a port and no host", "RFC 9110 4.2.1", absolute("http://:80/c"), BAD),
    Case("absolute-form of nothing", "RFC 9110 4.2.1", absolute("http://"), BAD),
    Case("absolute-form with a bad port", "RFC 3986 3.2.3", absolute("http://b:x/"), BAD),
    Case("absolute-form with two ports", "RFC 3986 3.2.3", absolute("http://b:1:2/"), BAD),
    Case("absolute-form with an open bracket", "RFC 3986 3.2.2", absolute("http://[::1/"), BAD),
    Case("absolute-form with a backslash in the host", "RFC 3986 3.2.2", absolute("http://b\\c/"), BAD),
    Case("absolute-form with a fragment", "RFC 9112 3.2.2", absolute("http://b/c#d"), BAD),
    Case("absolute-form with one slash", "RFC 9112 3.2.2", absolute("http:/b/"), BAD),
    Case("absolute-form with no slash", "RFC 9112 3.2.2", absolute("http:b"), BAD),
    Case("absolute-form with backslashes", "RFC 9112 3.2.2", absolute("http:\\\\b\\"), BAD),
    Case("no scheme", "RFC 9112 3.2.2", absolute("://b/"), BAD),
    Case("space before the scheme", "RFC 9112 3.2.2", absolute(" http://b/"), BAD),
    Case("scheme ftp", "RFC 9112 3.2.2", absolute("ftp://b/"), BAD),
    Case("scheme file", "RFC 9112 3.2.2", absolute("file:///etc/passwd"), BAD),
    Case("scheme ws", "RFC 9112 3.2.2", absolute("ws://b/"), BAD),
    Case("scheme httpx", "RFC 9112 3.2.2", absolute("httpx://b/"), BAD),
    Case("a URN", "RFC 9112 3.2.2", absolute("urn:b:c"), BAD),
    # asterisk-form
    Case("OPTIONS *", "RFC 9112 3.2.4", get("*", method="OPTIONS"), ok(b"", REQUEST_METHOD="OPTIONS", REQUEST_URI="*")),
    Case("OPTIONS * without Host", "RFC 9112 3.2", get("*", method="OPTIONS", host=None), BAD),
    Case("OPTIONS * with an empty Host", "RFC 9112 3.2.4", get("*", method="OPTIONS", host=""), ok(b"")),
    Case("OPTIONS /*", "RFC 9112 3.2.1", get("/*", method="OPTIONS"), ok(PATH_INFO="/*")),
    Case("OPTIONS absolute-form without path", "RFC 9112 3.2.4", get("http://b", method="OPTIONS"), ok(HTTP_HOST="b")),
    *(Case(f"{method} *", "RFC 9112 3.2.4", get("*", method=method), BAD) for method in ("GET", "HEAD", "POST", "DELETE", "TRACE")),
    Case("OPTIONS **", "RFC 9112 3.2.4", get("**", method="OPTIONS"), BAD),
    Case("OPTIONS *?a", "RFC 9112 3.2.4", get("*?a", method="OPTIONS"), BAD),
    # authority-form
    Case("CONNECT", "RFC 9110 9.3.6", get("a:80", method="CONNECT", host="a:80"), refused(501)),
    Case("CONNECT with a path", "RFC 9112 3.2.3", get("/", method="CONNECT"), refused(400, 501)),
    Case("CONNECT with a body", "RFC 9110 9.3.6", get("a:80", "Content-Length: 2", method="CONNECT") + b"hi", refused(501)),
    Case("GET with an authority", "RFC 9112 3.2.3", get("a:80"), BAD),
    Case("POST with an authority", "RFC 9112 3.2.3", get("a", method="POST"), BAD),
]
