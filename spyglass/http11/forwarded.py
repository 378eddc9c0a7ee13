"""What proxies tell of the client and of what it asked for: X-Forwarded-For, -Proto, -Host, -Port, and Forwarded (RFC 7239).

Each proxy appends to what it was told. So both kinds are read from the right, where the nearest one wrote, and only as far as each
address that is met is itself a trusted proxy's: the first that is not is the client, and what stands further left is that client's
own invention. From the right also where quotes are looked for: one that a client leaves open must not swallow what was appended to it.

What cannot be understood ends the walk there, and is no error: the client is the last hop that was. Most proxies pass on what they do not
know, so a refusal would let a stranger's `Forwarded: x` turn away requests that the proxy vouches for; and "unknown" and names made up to
hide an address are allowed (RFC 7239 6.2, 6.3).

If one of the X-Forwarded fields is there, Forwarded is not looked at. Most proxies write only the former and pass the other on as the
client sent it, and nobody can tell from a request which of two that differ is the one that the proxy wrote.
"""

from __future__ import annotations

from spyglass.addresses import ip_text, packed_ip
from spyglass.http11.chunked import is_token
from spyglass.http11.request import PROXY_FIELDS
from spyglass.http11.target import valid_host
from spyglass.trust import trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from spyglass.trust import Trusted

_FOR, _PROTO, _HOST, _PORT = (f"HTTP_X_FORWARDED_{name}" for name in ("FOR", "PROTO", "HOST", "PORT"))
_X_FIELDS = (_FOR, _PROTO, _HOST, _PORT)
_FARTHEST = 4096  # characters from the right; more hops than that is nobody away
_PORTS = {"http": "80", "https": "443"}


class Told:
    """What was told; "" and None for what was not. `client` is packed (addresses.packed_ip())."""

    __slots__ = ("client", "client_port", "host", "proto", "server_port")

    def __init__(self) -> None:
        self.client: bytes | None = None
        self.client_port = ""
        self.proto = ""
        self.host = ""
        self.server_port = ""


def believe(environ: dict[str, Any], trusted_proxies: str) -> None:
    """Change `environ`, in which REMOTE_ADDR is still the peer, to what it tells of the client; from one who is not trusted, all such
    fields are removed instead: an app, or its framework, may believe what it finds there, and would believe anybody.
    """
    trust = trusted(trusted_proxies)
    if not trust.peer(environ["REMOTE_ADDR"]):
        for key in PROXY_FIELDS:
            environ.pop(key, None)
        return
    has_x_fields = any(key in environ for key in _X_FIELDS)
    _apply(environ, x_forwarded(environ, trust) if has_x_fields else forwarded(environ.get("HTTP_FORWARDED", ""), trust))


def x_forwarded(fields: dict[str, Any], trust: Trusted) -> Told:
    told = Told()
    hops = 0
    for text in reversed(_list(fields.get(_FOR, ""))):
        address = _address(text)
        if address is None:
            break
        hops += 1
        told.client, told.client_port = address
        if not trust.hop(told.client):
            break
    # Where these are lists as well, what is said of the client's hop stands as far from the right as the client does.
    hops = max(hops, 1)
    proto, host, port = (_nth(_list(fields.get(key, "")), hops) for key in (_PROTO, _HOST, _PORT))
    told.proto = _scheme(proto)
    told.host = _host(host)
    told.server_port = _port(port)
    if told.host and told.server_port not in ("", "80", "443") and not _split_host(told.host)[1]:
        # It completes a host without one. But 80 and 443 it never is: many proxies behind another one tell their own there.
        told.host += f":{told.server_port}"
    return told


def forwarded(value: str, trust: Trusted) -> Told:
    told = Told()
    for element in _elements(value):
        if not element.strip(" \t"):
            continue  # RFC 9110 5.6.1: empty elements of a list do not count
        pairs = _pairs(element)
        if pairs is None:
            break
        told.proto = _scheme(pairs.get("proto", "")) or told.proto
        told.host = _host(pairs.get("host", "")) or told.host
        address = _address(pairs.get("for", ""))
        if address is None:
            break
        told.client, told.client_port = address
        if not trust.hop(told.client):
            break
    return told


def _apply(environ: dict[str, Any], told: Told) -> None:
    if told.client is not None:
        environ["REMOTE_ADDR"] = ip_text(told.client)
        environ["REMOTE_PORT"] = told.client_port
        if not told.client_port:
            del environ["REMOTE_PORT"]  # that of the proxy would be a lie beside the client's address
    if told.proto:
        environ["wsgi.url_scheme"] = told.proto
        environ.pop("HTTPS", None)
        if told.proto == "https":
            environ["HTTPS"] = "on"  # PEP 3333, "environ Variables", as Apache has it
    if told.host:
        environ["HTTP_HOST"] = told.host
        environ["SERVER_NAME"] = _split_host(told.host)[0]
    if told.proto or told.host or told.server_port:
        # Ours is the one the proxy connects to.
        port = told.server_port or _split_host(environ.get("HTTP_HOST", ""))[1]
        environ["SERVER_PORT"] = port or _PORTS[environ["wsgi.url_scheme"]]


def _list(text: str) -> list[str]:
    if len(text) > _FARTHEST:
        text = text[-_FARTHEST:].partition(",")[2]
    return [each for each in map(_strip, text.split(",")) if each]


def _strip(text: str) -> str:
    return text.strip(" \t")


def _nth(values: list[str], number: int) -> str:
    """The so many-th from the right, or the first."""
    return values[-min(number, len(values))] if values else ""


def _scheme(text: str) -> str:
    text = text.lower()
    return text if text in _PORTS else ""


def _host(text: str) -> str:
    return text if text and not text.startswith(":") and valid_host(text) else ""


def _port(text: str) -> str:
    return text if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535 else ""


def _split_host(host: str) -> tuple[str, str]:
    """Name and port of a valid one; the brackets of an IPv6 address belong to its name (RFC 3875 4.1.14)."""
    name, bracket, port = host.rpartition("]")
    if bracket:
        return name + bracket, port[1:]
    name, _, port = host.partition(":")
    return name, port


def _address(text: str) -> tuple[bytes, str] | None:
    """RFC 7239 6: IPv4 or IPv6 in brackets, with or without a port; or IPv6 without either, as X-Forwarded-For has it."""
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        if not bracket or ":" not in address or (port and not port.startswith(":")):
            return None
        port = port[1:]
    elif text.count(":") > 1:
        address, port = text, ""
    else:
        address, _, port = text.partition(":")
    packed = packed_ip(address)
    return None if packed is None else (packed, _port(port))


# RFC 7239 4:
#     Forwarded         = 1#forwarded-element
#     forwarded-element = [ forwarded-pair ] *( ";" [ forwarded-pair ] )
#     forwarded-pair    = token "=" ( token / quoted-string )


def _elements(text: str) -> Iterator[str]:
    """The elements of a list, the last one first, cut at the commas that are not quoted."""
    if len(text) > _FARTHEST:
        text = text[-_FARTHEST:].partition(",")[2]
    end = at = len(text)
    while at >= 0:
        comma = text.rfind(",", 0, at)
        quote = text.rfind('"', comma + 1, at)
        if quote >= 0:
            at = _opening(text, quote)
        else:
            yield text[comma + 1 : end]
            end = at = comma
    if end >= 0:
        yield text[:end]  # a quote that was never opened; _pairs() will not have it


def _opening(text: str, closing: int) -> int:
    """Where the quoted-string begins whose end is known, or -1."""
    at = closing
    while (at := text.rfind('"', 0, at)) >= 0:
        if not (at - len(text[:at].rstrip("\\"))) % 2:
            return at
    return -1


def _pairs(element: str) -> dict[str, str] | None:
    """The parameters of one element, their names in small letters; None when it is none.

    A little laxer than the grammar, with what proxies do send and nobody can misread: blanks behind a semicolon, and [, ] and : without
    the quotes they need.
    """
    pairs: dict[str, str] = {}
    rest = element.strip("; \t")
    while rest:
        name, _, rest = rest.partition("=")
        if rest.startswith('"'):
            value, rest = _unquote(rest)
        else:
            value, _, rest = rest.partition(";")
            value = value.rstrip(" \t")
            rest = ";" + rest
            if not is_token(value.translate(_DROP_COLONS).encode("latin-1")):
                return None
        name = name.lower()
        if name in pairs or not is_token(name.encode("latin-1")) or not rest.startswith(";"):
            return None  # RFC 7239 4: no parameter may occur twice
        pairs[name] = value
        rest = rest.lstrip("; \t")
    return pairs


_DROP_COLONS = str.maketrans("", "", "[]:")


def _unquote(text: str) -> tuple[str, str]:
    """The quoted-string (RFC 9110 5.6.4) with which `text` begins, and from a semicolon on what follows; ("", "") when there is none."""
    value = ""
    at = 1
    while at < len(text) and text[at] != '"':
        at += text[at] == "\\"
        value += text[at : at + 1]
        at += 1
    if at >= len(text):
        return "", ""
    return value, text[at + 1 :].lstrip(" \t") or ";"
