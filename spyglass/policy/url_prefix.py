"""Which text can be the path below which an app is reached, "/blog": the setting
`script_name`, and what a trusted proxy says in X-Forwarded-Prefix.

An app puts it in front of its links and redirects. "//evil.example" would send a client
to another host, and ".." out of the app's place, so the grammar of RFC 3986 3.3 is
taken at its word, and empty and dot segments are refused.

    path-absolute = "/" segment *( "/" segment )
    segment       = *( unreserved / pct-encoded / sub-delims / ":" / "@" )
"""

from __future__ import annotations

_EXPECTED = 'expected a path such as "/blog"'
_LETTERS = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@"
)
_HEX = "0123456789abcdefABCDEF"


def parse(text: str) -> str:
    """Return `text` as SCRIPT_NAME has it (PEP 3333): decoded, its bytes as latin-1, no
    slash at the end; "" for "" and "/". Raise ValueError.
    """
    path = text.removesuffix("/")
    if not path:
        return ""
    if not path.startswith("/"):
        raise ValueError(_EXPECTED, text)
    return "".join(f"/{_decoded(segment, text)}" for segment in path[1:].split("/"))


def _decoded(segment: str, text: str) -> str:
    first, *rest = segment.split("%")
    pieces = [first]
    for piece in rest:
        if len(piece) < 2 or piece[0] not in _HEX or piece[1] not in _HEX:
            raise ValueError(f"{_EXPECTED}: after % come two hexadecimal digits", text)
        byte = chr(int(piece[:2], 16))
        # An encoded slash is not a slash (RFC 3986 2.2), but decoded it would look like
        # one; browsers take a backslash for one.
        if byte in "/\\" or byte < " " or byte == "\x7f":
            raise ValueError(f"{_EXPECTED}, without %{piece[:2]}", text)
        pieces += [byte, piece[2:]]
    plain = "".join([first, *(piece[2:] for piece in rest)])
    if not _LETTERS.issuperset(plain):
        raise ValueError(f"{_EXPECTED}, other letters as in a URL (%C3%A9)", text)
    decoded = "".join(pieces)
    if decoded in ("", ".", ".."):
        raise ValueError(f"{_EXPECTED}, without // and dot segments", text)
    return decoded


def check(text: object) -> str:
    """Return a value of the setting as it is used: parse() takes it later. Raise
    ValueError.
    """
    parse(str(text))
    return str(text).removesuffix("/")


def split(path: str, prefix: str) -> str | None:
    """Return what follows `prefix` (from parse()) in the `path` of a request, not
    decoded: "" or a path. Return None if the path is not below it.

    Segments are compared as RFC 3986 6.2.2 says: /%62log is /blog, while /Blog, /blogs,
    //blog and /blog%2Fx are other paths.
    """
    at = 0
    for wanted in prefix[1:].split("/"):
        if path[at : at + 1] != "/":
            return None
        end = path.find("/", at + 1)
        segment = path[at + 1 : end if end >= 0 else len(path)]
        if segment != wanted:
            try:
                if "%" not in segment or _decoded(segment, segment) != wanted:
                    return None
            except ValueError:
                return None
        at = end if end >= 0 else len(path)
    return path[at:]
