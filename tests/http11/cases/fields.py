"""Field lines: `field-name ":" OWS field-value OWS` (RFC 9112 5, RFC 9110 5.1 to 5.6), and how they reach the environ."""

from .case import BAD, Case, get, ok

CASES = [
    Case("a field", "RFC 9112 5", get("/", "X-Name: value"), ok(HTTP_X_NAME="value")),
    Case("names are case-insensitive", "RFC 9110 5.1", get("/", "x-NaMe: value"), ok(HTTP_X_NAME="value")),
    Case("no whitespace", "RFC 9112 5.1", get("/", "X:y"), ok(HTTP_X="y")),
    Case("whitespace around the value", "RFC 9112 5.1", get("/", "X: \t y\t \t"), ok(HTTP_X="y")),
    Case("trailing space", "RFC 9112 5.1", get("/", "X: y "), ok(HTTP_X="y")),
    Case("trailing tab", "RFC 9112 5.1", get("/", "X: y\t"), ok(HTTP_X="y")),
    Case("leading tab", "RFC 9112 5.1", get("/", "X:\ty"), ok(HTTP_X="y")),
    Case("whitespace inside the value", "RFC 9110 5.5", get("/", "X: a  b\tc"), ok(HTTP_X="a  b\tc")),
    Case("empty value", "RFC 9110 5.5", get("/", "X:"), ok(HTTP_X="")),
    Case("value of whitespace", "RFC 9110 5.5", get("/", "X: \t "), ok(HTTP_X="")),
    Case("empty value before another field", "RFC 9110 5.5", get("/", "X:", "Y: z"), ok(HTTP_X="", HTTP_Y="z")),
    Case("colons in the value", "RFC 9110 5.5", get("/", "X: a:b::"), ok(HTTP_X="a:b::")),
    Case("value that looks like a field", "RFC 9110 5.5", get("/", "X: Host: b"), ok(HTTP_X="Host: b", HTTP_HOST="a")),
    Case(
        "every visible character",
        "RFC 9110 5.5",
        get("/", "X: " + "".join(map(chr, range(33, 127)))),
        ok(HTTP_X="".join(map(chr, range(33, 127)))),
    ),
    Case("obs-text is latin-1", "RFC 9110 5.5, PEP 3333", get("/", "X: \x80\xe9\xff"), ok(HTTP_X="\x80\xe9\xff")),
    Case("UTF-8 in a value", "RFC 9110 5.5, PEP 3333", get("/", "X: \xc3\xa9"), ok(HTTP_X="\xc3\xa9")),
    Case("no-break space is no whitespace", "RFC 9110 5.6.3", get("/", "X: \xa0y\xa0"), ok(HTTP_X="\xa0y\xa0")),
    Case("NEL is no whitespace", "RFC 9110 5.6.3", get("/", "X: y\x85"), ok(HTTP_X="y\x85")),
    Case("quoted string is kept", "RFC 9110 5.6.4", get("/", 'X: "a\\"b, c"'), ok(HTTP_X='"a\\"b, c"')),
    Case("comment is kept", "RFC 9110 5.6.5", get("/", "User-Agent: a (b; c)"), ok(HTTP_USER_AGENT="a (b; c)")),
    Case("token characters in a name", "RFC 9110 5.6.2", get("/", "X!#$%&'*+.^`|~9: y"), ok(b"", environ={"HTTP_X!#$%&'*+.^`|~9": "y"})),
    Case("digits in a name", "RFC 9110 5.6.2", get("/", "9X: y"), ok(b"", HTTP_9X="y")),
    Case("long value", "RFC 9110 5.4", get("/", "X: " + "y" * 8000), ok(HTTP_X="y" * 8000)),
    Case("long name", "RFC 9110 5.4", get("/", "X" * 1000 + ": y"), ok(b"")),
    Case("many fields", "RFC 9110 5.4", get("/", *(f"X-{n}: {n}" for n in range(90))), ok(HTTP_X_0="0", HTTP_X_89="89")),
    # Repetition
    Case("repeated field", "RFC 9110 5.3", get("/", "X: a", "X: b"), ok(HTTP_X="a, b")),
    Case("repeated field keeps its order", "RFC 9110 5.3", get("/", "X: b", "Y: -", "x: a", "X: c"), ok(HTTP_X="b, a, c")),
    Case("repeated field with an empty line", "RFC 9110 5.3", get("/", "X: a", "X:", "X: b"), ok(HTTP_X="a, , b")),
    Case(
        "repeated Accept",
        "RFC 9110 5.3",
        get("/", "Accept: text/html", "Accept: text/plain;q=0.5"),
        ok(HTTP_ACCEPT="text/html, text/plain;q=0.5"),
    ),
    Case("repeated Cookie", "RFC 6265 5.4", get("/", "Cookie: a=1", "Cookie: b=2"), ok(HTTP_COOKIE="a=1; b=2")),
    Case("Cookie in one line", "RFC 6265 5.4", get("/", "Cookie: a=1; b=2"), ok(HTTP_COOKIE="a=1; b=2")),
    *(
        Case(f"repeated {name}, {second}", "RFC 9110 5.3", get("/", f"{name}: {first}", f"{name}: {second}"), BAD)
        for name, first, second in (
            ("Content-Type", "a/b", "c/d"),
            ("Content-Type", "a/b", "a/b"),
            ("Content-Range", "bytes 0-1/2", "bytes 1-2/3"),
            ("Authorization", "Basic YTpi", "Bearer c"),
        )
    ),
    # Names with an underscore would look the same as dashed ones in the environ (ARCHITECTURE 9.3).
    Case("underscore in a name", "ARCHITECTURE 9.3", get("/", "X_Name: value"), ok(HTTP_X_NAME=None)),
    Case("underscore beside its dashed twin", "ARCHITECTURE 9.3", get("/", "X-Name: good", "X_Name: evil"), ok(HTTP_X_NAME="good")),
    Case("underscore before its dashed twin", "ARCHITECTURE 9.3", get("/", "X_Name: evil", "X-Name: good"), ok(HTTP_X_NAME="good")),
    Case("Content_Length", "ARCHITECTURE 9.3", get("/", "Content_Length: 5"), ok(b"", CONTENT_LENGTH=None, HTTP_CONTENT_LENGTH=None)),
    Case("Content_Type", "ARCHITECTURE 9.3", get("/", "Content_Type: a/b"), ok(b"", HTTP_CONTENT_TYPE=None)),
    Case("Transfer_Encoding", "ARCHITECTURE 9.3", get("/", "Transfer_Encoding: chunked"), ok(b"", HTTP_TRANSFER_ENCODING=None)),
    Case("X_Forwarded_For", "ARCHITECTURE 9.3", get("/", "X_Forwarded_For: 1.2.3.4"), ok(HTTP_X_FORWARDED_FOR=None)),
    Case("only an underscore", "ARCHITECTURE 9.3", get("/", "_: y"), ok(b"", HTTP__=None)),
    # Malformed
    Case("no colon", "RFC 9112 5", get("/", "X"), BAD),
    Case("no colon in the first line", "RFC 9112 5", b"GET / HTTP/1.1\r\nX\r\nHost: a\r\n\r\n", BAD),
    Case("no colon but a space", "RFC 9112 5", get("/", "X y"), BAD),
    Case("no name", "RFC 9112 5", get("/", ": y"), BAD),
    Case("field of HTTP/2", "RFC 9112 5", get("/", ":method: GET"), BAD),
    Case("no name and no value", "RFC 9112 5", get("/", ":"), BAD),
    Case("space before the colon", "RFC 9112 5.1", get("/", "X : y"), BAD),
    Case("tab before the colon", "RFC 9112 5.1", get("/", "X\t: y"), BAD),
    Case("space inside the name", "RFC 9112 5.1", get("/", "X Y: z"), BAD),
    Case("name of a space", "RFC 9112 5.1", get("/", "X: y", " : z"), BAD),
    Case("obs-fold with a space", "RFC 9112 5.2", get("/", "X: y", " z"), BAD),
    Case("obs-fold with a tab", "RFC 9112 5.2", get("/", "X: y", "\tz"), BAD),
    Case("obs-fold of an empty value", "RFC 9112 5.2", get("/", "X:", " y"), BAD),
    Case("obs-fold that looks like a field", "RFC 9112 5.2", get("/", "X: y", " Content-Length: 5"), BAD),
    Case("obs-fold of whitespace only", "RFC 9112 5.2", get("/", "X: y", " "), BAD),
    Case("obs-fold of Host", "RFC 9112 5.2", b"GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n", BAD),
    Case("bare CR in a value", "RFC 9110 5.5", get("/", "X: a\rb"), BAD),
    Case("bare CR before a field", "RFC 9110 5.5", get("/", "X: a\rContent-Length: 5"), BAD),
    Case("bare CR in a name", "RFC 9112 2.2", get("/", "X\rY: a"), BAD),
    Case("bare CR before the colon", "RFC 9112 2.2", get("/", "X\r: a"), BAD),
    Case("bare LF in a value", "RFC 9110 5.5", get("/", "X: a\nb"), BAD),
    Case("bare LF before a field", "RFC 9110 5.5", get("/", "X: a\nContent-Length: 5"), BAD),
    Case("NUL in a value", "RFC 9110 5.5", get("/", "X: a\0b"), BAD),
    Case("NUL at the end of a value", "RFC 9110 5.5", get("/", "X: a\0"), BAD),
    Case("NUL in a name", "RFC 9110 5.6.2", get("/", "X\0: a"), BAD),
    Case("NUL as a line", "RFC 9112 5", get("/", "\0"), BAD),
    *(
        Case(f"control character {code:#04x} in a value", "RFC 9110 5.5", get("/", f"X: a{chr(code)}b"), BAD)
        for code in (0x01, 0x07, 0x08, 0x0B, 0x0C, 0x1B, 0x1F, 0x7F)
    ),
    *(
        Case(f"{character!r} in a name", "RFC 9110 5.6.2", get("/", f"X{character}Y: z"), BAD)
        for character in '"(),/;<=>?@[\\]{}\x01\x0b\x7f\x80\xe9\xff'
    ),
    Case("UTF-8 in a name", "RFC 9110 5.6.2", get("/", "X\xc3\xa9: y"), BAD),
    Case("a second request line", "RFC 9112 5", get("/", "GET /b HTTP/1.1"), BAD),
    # Fields that mean something to somebody else
    Case("nonsense in Accept", "RFC 9110 12.5.1", get("/", "Accept: ;;,q=/"), ok(b"")),
    Case("Range without meaning", "RFC 9110 14.2", get("/", "Range: bytes=9-1"), ok(HTTP_RANGE="bytes=9-1")),
    Case("bad Date", "RFC 9110 6.6.1", get("/", "Date: yesterday"), ok(b"")),
    Case("Authorization reaches the app", "PEP 3333", get("/", "Authorization: Basic YTpi"), ok(HTTP_AUTHORIZATION="Basic YTpi")),
]
