"""The first line of a request: method, target, version; and what a valid host is.

    request-line   = method SP request-target SP HTTP-version           (RFC 9112 3)
    request-target = origin-form / absolute-form / authority-form / asterisk-form
    origin-form    = absolute-path [ "?" query ]                        (RFC 9112 3.2.1)
    absolute-form  = absolute-URI                                       (RFC 9112 3.2.2)
    asterisk-form  = "*"                                                (RFC 9112 3.2.4)
    Host           = uri-host [ ":" port ]                              (RFC 9110 7.2)
    uri-host       = IP-literal / IPv4address / reg-name                (RFC 3986 3.2.2)

RFC 9112 3 permits a recipient to split this line at any white space, and many do. None
of that is done here: a proxy in front of us that splits at a tab, or at the last space
and not at the first, sees another target than we do. It would then apply its rules
("/admin" only from inside) to a target that is never served, and pass on one that it
has not judged.
"""

from __future__ import annotations

from spyglass.errors import RequestError
from spyglass.http11.caches import HOSTS
from spyglass.http11.chunked import is_token
from spyglass.http11.request import Request
from spyglass.http11.request_head import check_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# The registered methods (RFC 9110 16.1.1) without CONNECT (we are no proxy) and PRI
# (it belongs to HTTP/2), and the methods of UPnP and of caches. A method is known or
# refused: some apps treat an unknown one as GET, and filters in front of them do not.
_METHODS: Final = (
    "GET HEAD POST PUT DELETE OPTIONS PATCH TRACE QUERY COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND UNBIND "
    "ACL REPORT MKACTIVITY CHECKOUT MERGE BASELINE-CONTROL CHECKIN LABEL MKWORKSPACE UNCHECKOUT UPDATE VERSION-CONTROL ORDERPATCH "
    "MKREDIRECTREF UPDATEREDIRECTREF MKCALENDAR LINK UNLINK M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE"
)
METHODS: Final = frozenset(_METHODS.split())
# Bytes. RFC 9112 3 wants 501 for a method longer than any that is known; the longest of
# those has 17.
_LONGEST_METHOD: Final = 32
_HTTP: Final = b"HTTP/"
# reg-name = *( unreserved / pct-encoded / sub-delims )
_REG_NAME: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=%"
_HOSTS: Final[dict[str, bool]] = HOSTS.entries
_NOT_REG_NAME: Final = str.maketrans("", "", _REG_NAME)


def parse_request_line(line: bytes) -> Request:
    """Return a Request of a line without its CRLF, whose target is not judged yet and
    whose headers are still to come. Raises RequestError.
    """
    parts = line.decode("latin-1").split(" ")
    if len(parts) != 3 or parts[0] not in METHODS or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        check_start(line)
        check_controls(line, 0)
        if len(parts) != 3:
            raise RequestError(400, "bad request line")
        _check_version(parts[2].encode("latin-1"))
        if parts[0] not in METHODS:
            raise RequestError(501, "unknown method")
    return Request(parts[0], parts[1], (1, 0) if parts[2] == "HTTP/1.0" else (1, 1), {})


def check_start(line: bytes) -> None:
    """Raise RequestError if no request line can begin with `line`, because it is TLS,
    SSH or a line of another protocol.
    """
    method = line[: _LONGEST_METHOD + 1].partition(b" ")[0]
    if not is_token(method):
        raise RequestError(400, "bad request line")
    if len(method) > _LONGEST_METHOD:
        raise RequestError(501, f"method longer than {_LONGEST_METHOD} bytes")
    _, *parts = line.removesuffix(b"\r").split(b" ", 3)
    if len(parts) > 2 or (
        len(parts) == 2
        and not (_HTTP.startswith(parts[1]) or (parts[1].startswith(_HTTP) and len(parts[1]) <= 8))
    ):
        raise RequestError(400, "bad request line")


def _check_version(version: bytes) -> None:
    if not (
        len(version) == 8
        and version.startswith(b"HTTP/")
        and version[6:7] == b"."
        and (version[5:6] + version[7:]).isdigit()
    ):
        raise RequestError(400, "bad HTTP version")
    if version[5:6] != b"1":
        raise RequestError(505, "only HTTP/1.0 and HTTP/1.1 are supported")


def parse_target(request: Request) -> str | None:
    """Set `path` and `query` of the request from its target. Return the authority of a
    target in absolute-form, else None.

    Raises RequestError 400 for anything that is not origin-form, absolute-form of http
    or https, or `*` with OPTIONS.
    """
    target = request.target
    # RFC 3986 allows fewer characters. But browsers send `|`, `{`, `"` and the like in
    # queries as they are, and no recipient misreads them. Recipients do disagree about
    # spaces, control characters, bytes above 127, and `#`, which starts a fragment for
    # some of them.
    if not (target.isascii() and target.isprintable()) or "#" in target or " " in target:
        raise RequestError(400, "bad character in the request target")
    authority = None
    if target[:1] != "/":
        if target == "*" and request.method == "OPTIONS":
            # A question to the server as a whole (RFC 9110 9.3.7). PEP 3333 has no path
            # for it; an app can look at REQUEST_URI.
            request.path = "/"
            return None
        authority, target = _split_absolute(target)
    request.path, _, request.query = target.partition("?")
    return authority


def _split_absolute(target: str) -> tuple[str, str]:
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise RequestError(400, "the request target is neither a path nor an http URI")
    end = min(at for at in (rest.find("/"), rest.find("?"), len(rest)) if at >= 0)
    authority, path = rest[:end], rest[end:]
    # RFC 9110 4.2.1 and 4.2.4: no empty host, and no userinfo ("user@"), which is no
    # valid host either: it makes one host look like another.
    if not authority or authority.startswith(":") or not valid_host(authority):
        raise RequestError(400, "bad authority in the request target")
    return authority, path if path.startswith("/") else "/" + path


def valid_host(host: str) -> bool:
    """Return True for `uri-host [ ":" port ]`. An empty host is valid, for targets
    without an authority (RFC 9112 3.2).

    A recipient that routes by the host, and an app that makes links of it, must not
    read two hosts in one value: `a,b`, `a/b`, `a@b` and `a b` are refused.
    """
    if host in _HOSTS:
        return _HOSTS[host]
    verdict = _judge(host)
    HOSTS.keep(host, verdict, len(host))
    return verdict


def _judge(host: str) -> bool:
    if host.startswith("["):
        literal, bracket, port = host[1:].partition("]")
        if not bracket or (port and not port.startswith(":")) or not _valid_literal(literal):
            return False
        port = port[1:]
    else:
        name, _, port = host.partition(":")
        if name.translate(_NOT_REG_NAME) or not _valid_percents(name):
            return False
    return not port or (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535)


def _valid_literal(literal: str) -> bool:
    # IPvFuture = "v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )
    if literal[:1] in ("v", "V"):
        version, dot, rest = literal[1:].partition(".")
        return (
            bool(dot and rest and _is_hex(version))
            and not rest.replace(":", "").translate(_NOT_REG_NAME)
            and "%" not in rest
        )
    import ipaddress  # inside: it is slow to import, and IPv6 literals are rare

    try:
        return "%" not in literal and bool(ipaddress.IPv6Address(literal))
    except ValueError:
        return False


def _valid_percents(name: str) -> bool:
    return "%" not in name or all(
        len(part) >= 2 and _is_hex(part[:2]) for part in name.split("%")[1:]
    )


def _is_hex(text: str) -> bool:
    return bool(text) and all(letter in "0123456789abcdefABCDEF" for letter in text)
