"""Transfer-Encoding in requests: exactly `chunked`, in HTTP/1.1, without Content-Length (RFC 9112 6.1 and 6.3).

Every row here that is refused has been a way past some proxy: one side takes the field for chunked, the other does not.
"""

from .case import BAD, Case, chunked, chunks, get, ok, post, refused

BODY = chunks(b"hello")
SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"


def coding(*fields: str, body: bytes = BODY, version: str = "HTTP/1.1") -> bytes:
    return get("/", *fields, method="POST", version=version) + body


def value(text: str) -> bytes:
    return coding(f"Transfer-Encoding:{text}")


CASES = [
    Case("chunked", "RFC 9112 6.1", value(" chunked"), ok(b"hello", HTTP_TRANSFER_ENCODING=None)),
    Case("codings are case-insensitive", "RFC 9112 7", value(" Chunked"), ok(b"hello")),
    Case("chunked in upper case", "RFC 9112 7", value(" CHUNKED"), ok(b"hello")),
    Case("the name in another case", "RFC 9110 5.1", coding("transfer-ENCODING: chunked"), ok(b"hello")),
    Case("no whitespace", "RFC 9112 5.1", value("chunked"), ok(b"hello")),
    Case("whitespace around", "RFC 9112 5.1", value(" \t chunked \t"), ok(b"hello")),
    Case("trailing space", "RFC 9112 5.1", value(" chunked "), ok(b"hello")),
    Case("trailing tab", "RFC 9112 5.1", value(" chunked\t"), ok(b"hello")),
    Case("leading tab", "RFC 9112 5.1", value("\tchunked"), ok(b"hello")),
    # With Content-Length
    Case("and a length", "RFC 9112 6.3", coding("Content-Length: 5", "Transfer-Encoding: chunked"), BAD),
    Case("and a length behind it", "RFC 9112 6.3", coding("Transfer-Encoding: chunked", "Content-Length: 5"), BAD),
    Case("and the right length", "RFC 9112 6.3", coding("Transfer-Encoding: chunked", f"Content-Length: {len(BODY)}"), BAD),
    Case("and length zero", "RFC 9112 6.3", coding("Transfer-Encoding: chunked", "Content-Length: 0"), BAD),
    Case("and a bad length", "RFC 9112 6.3", coding("Transfer-Encoding: chunked", "Content-Length: x"), BAD),
    Case("and an empty length", "RFC 9112 6.3", coding("Transfer-Encoding: chunked", "Content-Length:"), BAD),
    Case("CL.TE", "RFC 9112 6.3", coding(f"Content-Length: {len(SMUGGLED)}", "Transfer-Encoding: chunked", body=SMUGGLED), BAD),
    Case("TE.CL", "RFC 9112 6.3", coding("Transfer-Encoding: chunked", "Content-Length: 4", body=b"2b\r\n" + SMUGGLED), BAD),
    Case("CL.TE with GET", "RFC 9112 6.3", get("/", "Content-Length: 5", "Transfer-Encoding: chunked") + BODY, BAD),
    Case("unknown coding and a length", "RFC 9112 6.3", coding("Transfer-Encoding: x", "Content-Length: 5"), refused(400, 501)),
    Case("identity and a length", "RFC 9112 6.3", post(b"hello", "Transfer-Encoding: identity"), refused(400, 501)),
    Case("empty coding and a length", "RFC 9112 6.3", post(b"hello", "Transfer-Encoding:"), refused(400, 501)),
    # Not exactly chunked
    *(
        Case(f"coding {text!r}", "RFC 9112 6.1", value(" " + text), refused(501))
        for text in (
            "br",
            "xchunked",
            "chunkedx",
            "chunked-x",
            "x",
            "gzip, chunked",
            "identity, chunked",
            "gzip,chunked",
            "GZIP, Chunked",
            "x, chunked",
            "gzip, x",
        )
    ),
    # RFC 9112 6.3: known, but then nobody knows where the body ends, which must be 400.
    *(
        Case(f"chunked not last in {text!r}", "RFC 9112 6.3", value(" " + text), BAD)
        for text in ("gzip", "x-gzip", "deflate", "compress", "x-compress", "identity", "GZip", "Identity", "gzip, deflate", "x, gzip")
    ),
    *(
        Case(f"malformed coding {text!r}", "RFC 9112 6.3", value(" " + text), refused(400, 501))
        for text in (
            *(
                "chunked;a=b",
                "chunked;",
                '"chunked"',
                "'chunked'",
                "(chunked)",
                "chunked chunked",
                "chunked\tx",
                "x chunked",
                "c hunked",
                ";chunked",
            ),
            *(
                "chunked, ",
                ",chunked",
                ", chunked",
                "chunked,",
                ",",
                ", ,",
                "chunk",
                "chun\xebed",
                "chunked\xa0",
                "\xa0chunked",
                "chunked=1",
                "@",
                "0",
            ),
        )
    ),
    *(
        Case(f"chunked not last in {text!r}", "RFC 9112 6.3", value(" " + text), BAD)
        for text in (
            "chunked, gzip",
            "chunked,identity",
            "chunked, chunked",
            "Chunked, CHUNKED",
            "gzip, chunked, deflate",
            "chunked, gzip, chunked",
        )
    ),
    Case("empty coding", "RFC 9112 6.1", value(""), refused(400, 501)),
    Case("coding of whitespace", "RFC 9112 6.1", value(" \t"), refused(400, 501)),
    Case("vertical tab before chunked", "RFC 9110 5.5", value("\x0bchunked"), BAD),
    Case("form feed behind chunked", "RFC 9110 5.5", value(" chunked\x0c"), BAD),
    Case("NUL behind chunked", "RFC 9110 5.5", value(" chunked\0"), BAD),
    Case("bare CR behind chunked", "RFC 9110 5.5", value(" chunked\r"), BAD),
    Case("bare LF before chunked", "RFC 9112 2.2", value("\n chunked"), BAD),
    Case("folded", "RFC 9112 5.2", value("\r\n chunked"), BAD),
    Case("folded behind another field", "RFC 9112 5.2", coding("X: y\r\n Transfer-Encoding: chunked"), BAD),
    # Two fields
    Case("chunked twice", "RFC 9112 6.1", coding("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), BAD),
    Case("chunked, then identity", "RFC 9112 6.3", coding("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), BAD),
    Case("identity, then chunked", "RFC 9112 6.1", coding("Transfer-Encoding: identity", "Transfer-Encoding: chunked"), refused(501)),
    Case("gzip, then chunked", "RFC 9112 6.1", coding("Transfer-Encoding: gzip", "Transfer-Encoding: chunked"), refused(501)),
    Case("chunked, then x, with other cases", "RFC 9112 6.3", coding("Transfer-Encoding: chunked", "transfer-encoding: x"), BAD),
    Case("chunked, then empty", "RFC 9112 6.3", coding("Transfer-Encoding: chunked", "Transfer-Encoding:"), refused(400, 501)),
    # The name in disguise
    Case("space before the colon", "RFC 9112 5.1", coding("Transfer-Encoding : chunked"), BAD),
    Case("tab before the colon", "RFC 9112 5.1", coding("Transfer-Encoding\t: chunked"), BAD),
    Case("space before the name", "RFC 9112 5.2", coding(" Transfer-Encoding: chunked"), BAD),
    Case("NUL in the name", "RFC 9110 5.6.2", coding("Transfer-\0Encoding: chunked"), BAD),
    Case("bare CR before the name", "RFC 9112 2.2", coding("X: y\rTransfer-Encoding: chunked"), BAD),
    Case("bare LF before the name", "RFC 9112 2.2", coding("X: y\nTransfer-Encoding: chunked"), BAD),
    Case("no colon", "RFC 9112 5", coding("Transfer-Encoding chunked"), BAD),
    Case("underscore and a length", "ARCHITECTURE 9.3", post(b"hello", "Transfer_Encoding: chunked"), ok(b"hello")),
    Case("another name and a length", "RFC 9112 6.1", post(b"hello", "X-Transfer-Encoding: chunked"), ok(b"hello")),
    Case("Content-Encoding is no framing", "RFC 9110 8.4", post(b"hello", "Content-Encoding: chunked"), ok(b"hello")),
    Case("TE is no framing", "RFC 9110 10.1.4", post(b"hello", "TE: chunked"), ok(b"hello")),
    Case("named in Connection", "RFC 9110 7.6.1", chunked(BODY, "Connection: Transfer-Encoding"), ok(b"hello")),
    Case("Content-Length named in Connection", "RFC 9110 7.6.1", post(b"hello", "Connection: Content-Length"), ok(b"hello")),
    Case("Host named in Connection", "RFC 9110 7.6.1", get("/", "Connection: Host"), ok(b"", HTTP_HOST="a")),
    Case("TE: trailers", "RFC 9110 10.1.4", get("/", "TE: trailers", "Connection: TE"), ok(b"")),
    # Versions and methods
    Case("HTTP/1.0", "RFC 9112 6.1", coding("Transfer-Encoding: chunked", version="HTTP/1.0"), BAD),
    Case("HTTP/1.0 and a length", "RFC 9112 6.1", coding("Transfer-Encoding: chunked", "Content-Length: 5", version="HTTP/1.0"), BAD),
    Case(
        "HTTP/1.0 and keep-alive", "RFC 9112 6.1", coding("Transfer-Encoding: chunked", "Connection: keep-alive", version="HTTP/1.0"), BAD
    ),
    Case("HTTP/1.0 and an unknown coding", "RFC 9112 6.1", coding("Transfer-Encoding: x", version="HTTP/1.0"), refused(400, 501)),
    Case("GET", "RFC 9112 6.3", chunked(BODY, method="GET"), ok(b"hello")),
    Case("HEAD", "RFC 9112 6.3", chunked(BODY, method="HEAD"), ok()),
    Case("OPTIONS *", "RFC 9112 6.3", chunked(BODY, method="OPTIONS", target="*"), ok(b"hello")),
    Case("PUT", "RFC 9112 6.3", chunked(BODY, method="PUT"), ok(b"hello")),
    Case("DELETE", "RFC 9112 6.3", chunked(BODY, method="DELETE"), ok(b"hello")),
]
