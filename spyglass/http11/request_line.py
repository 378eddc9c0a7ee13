"""The request target and the authority it is asked of (RFC 9112 3.2, RFC 9110 4.2 and
7.2, RFC 3986 3.2).
"""

from __future__ import annotations

from spyglass.errors import RequestError
from spyglass.http11.caches import HOSTS
from spyglass.http11.chunked import is_token
from spyglass.http11.request_head import check_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.http11.request import Request

# The registered ones (RFC 9110 16.1.1), less CONNECT (we are no proxy) and PRI (it is
# HTTP/2's), and those that UPnP and caches use.
METHODS = frozenset(
    b"GET HEAD POST PUT DELETE OPTIONS PATCH TRACE QUERY COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND UNBIND "
    b"ACL REPORT MKACTIVITY CHECKOUT MERGE BASELINE-CONTROL CHECKIN LABEL MKWORKSPACE UNCHECKOUT UPDATE VERSION-CONTROL ORDERPATCH "
    b"MKREDIRECTREF UPDATEREDIRECTREF MKCALENDAR LINK UNLINK M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE".split()
)
# Bytes; RFC 9112 3 wants 501 for a longer one than any that is known, and the longest
# of those has 17
_LONGEST_METHOD = 32
_HTTP = b"HTTP/"
# reg-name = *( unreserved / pct-encoded / sub-delims )
_REG_NAME = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=%"
_HOSTS: dict[str, bool] = HOSTS.entries
_NOT_REG_NAME = str.maketrans("", "", _REG_NAME)


def split_request_line(line: bytes) -> list[bytes]:
    """method SP request-target SP HTTP-version, RFC 9112 3; one space each, and none of
    the leniencies it permits.
    """
    parts = line.split(b" ")
    if len(parts) == 3 and parts[0] in METHODS and parts[2] in (b"HTTP/1.1", b"HTTP/1.0"):
        return parts
    check_start(line)
    check_controls(line, 0)
    if len(parts) != 3:
        raise RequestError(400, "bad request line")
    _check_version(parts[2])
    if parts[0] not in METHODS:
        raise RequestError(501, "unknown method")
    return parts


def check_start(line: bytes) -> None:
    """Raise RequestError if no request line begins with `line`: TLS, SSH, a line of
    another protocol.
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
        raise RequestError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")


def parse_target(request: Request) -> str | None:
    """Set `path` and `query` of the request from its target; returns the authority of
    an absolute-form target, else None.

    Raises RequestError 400 for anything that is not origin-form, absolute-form of http
    or https, or `*` with OPTIONS.
    """
    target = request.target
    # RFC 3986 has fewer, but browsers send `|`, `{`, `"` and their like in queries as
    # they are, and no reader takes them for anything else. What parts readers: spaces,
    # controls, bytes above 127, and `#`, behind which some see a fragment.
    if not (target.isascii() and target.isprintable()) or "#" in target or " " in target:
        raise RequestError(400, "bad character in the request target")
    authority = None
    if target[:1] != "/":
        if target == "*" and request.method == "OPTIONS":
            # It is asked of the server as a whole; PEP 3333 has no path for that,
            # REQUEST_URI tells who wants to know.
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
    # RFC 9110 4.2.1 and 4.2.4: no empty host, no userinfo; it would not be a valid host
    # either.
    if not authority or authority.startswith(":") or not valid_host(authority):
        raise RequestError(400, "bad authority in the request target")
    return authority, path if path.startswith("/") else "/" + path


def valid_host(host: str) -> bool:
    """True for `uri-host [ ":" port ]` (RFC 9110 7.2); an empty host is one, for
    targets that have no authority.
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
    if literal[:1] in (
        "v",
        "V",
    ):  # IPvFuture = "v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )
        version, dot, rest = literal[1:].partition(".")
        return (
            bool(dot and rest and _is_hex(version))
            and not rest.replace(":", "").translate(_NOT_REG_NAME)
            and "%" not in rest
        )
    import ipaddress  # only who is asked by an IPv6 literal pays for it

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
