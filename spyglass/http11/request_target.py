"""The request target and the authority it is asked of (RFC 9112 3.2, RFC 9110 4.2 and
7.2, RFC 3986 3.2).
"""

from __future__ import annotations

from spyglass.errors import RequestError
from spyglass.runtime.fast_imports import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.http11.request import Request

# reg-name = *( unreserved / pct-encoded / sub-delims )
_REG_NAME = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=%"
_NOT_REG_NAME = str.maketrans("", "", _REG_NAME)


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
    # No longer name is in the DNS; kept, a few made up ones would fill the memory.
    return _known_host(host) if len(host) <= 255 else _judge(host)


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


_known_host = lru_cache(maxsize=256)(_judge)


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
