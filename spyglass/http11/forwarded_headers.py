"""What proxies tell of the client and of what it asked for: X-Forwarded-For, -Proto,
-Host, -Port, and Forwarded (RFC 7239).

Each proxy appends to what it was told. So both kinds are read from the right, where the
nearest one wrote, and only as far as each address that is met is itself a trusted
proxy's: the first that is not is the client, and what stands further left is that
client's own invention. From the right also where quotes are looked for: one that a
client leaves open must not swallow what was appended to it.

What cannot be understood ends the walk there, and is no error: the client is the last
hop that was. Most proxies pass on what they do not know, so a refusal would let a
stranger's `Forwarded: x` turn away requests that the proxy vouches for; and "unknown"
and names made up to hide an address are allowed (RFC 7239 6.2, 6.3).

Only the fields that `forwarded_headers` names are looked at. A proxy sets some of them,
and passes the others on as the client sent them: a proxy's word is worth nothing where
it has not spoken. Debian's nginx writes For and Proto, so only they count by default.
The others are removed, like all of them from a peer that is not trusted: frameworks
look for them as well, and would believe anybody.

If one of the X-Forwarded fields counts and is there, Forwarded is not looked at. Most
proxies write only the former, and nobody can tell from a request which of two that
differ is the one that the proxy wrote.
"""

from __future__ import annotations

from spyglass.http11.caches import FORWARDED, FORWARDED_UNNAMED
from spyglass.http11.chunked import is_token
from spyglass.http11.request import FORWARDED_NAMES, PROXY_FIELDS
from spyglass.http11.request_line import valid_host
from spyglass.policy.trusted_proxies import trusted
from spyglass.runtime.addresses import ip_text, packed_ip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from spyglass.policy.trusted_proxies import Trusted

_FOR, _PROTO, _HOST, _PORT = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
)
_FARTHEST = 4096  # characters from the right; more hops than that is nobody away
_PORTS = {"http": "80", "https": "443"}
_KNOWN: dict[tuple[str | None, str | None, str | None, str | None, Trusted], Told] = (
    FORWARDED.entries
)
_OTHERS: dict[str, frozenset[str]] = FORWARDED_UNNAMED.entries


class Told:
    """What was told; "" for what was not."""

    __slots__ = ("client", "client_port", "host", "proto", "server_port")

    def __init__(self) -> None:
        self.client = self.client_port = ""
        self.proto = ""
        self.host = ""
        self.server_port = ""


def believe(environ: dict[str, Any], trusted_proxies: str, forwarded_headers: str) -> None:
    """Change `environ`, in which REMOTE_ADDR is still the peer, to what it tells of the
    client, and remove the fields that tell nothing.

    The two settings say which peers count, and which fields of theirs.
    """
    trust = trusted(trusted_proxies)
    is_trusted = trust.peer(environ["REMOTE_ADDR"])
    for key in _others(forwarded_headers) if is_trusted else PROXY_FIELDS:
        environ.pop(key, None)
    if not is_trusted:
        return
    addresses, proto, host, port = (
        environ.get(_FOR),
        environ.get(_PROTO),
        environ.get(_HOST),
        environ.get(_PORT),
    )
    if addresses is proto is host is port is None:
        told = forwarded(environ.get("HTTP_FORWARDED", ""), trust)
    else:
        told_by = addresses, proto, host, port, trust
        if told_by in _KNOWN:
            told = _KNOWN[told_by]
        else:
            told = x_forwarded(*told_by)
            FORWARDED.keep(told_by, told, sum(len(each or "") for each in told_by[:4]))
    _apply(environ, told)


def x_forwarded(
    addresses: str | None, proto: str | None, host: str | None, port: str | None, trust: Trusted
) -> Told:
    """What the values of X-Forwarded-For, -Proto, -Host and -Port tell; None for one
    that is not there.
    """
    told = Told()
    hops = 0
    for text in reversed(_list(addresses)):
        address = _address(text)
        if address is None:
            break
        hops += 1
        packed, told.client, told.client_port = address
        if not trust.hop(packed):
            break
    # Where these are lists as well, what is said of the client's hop stands as far from
    # the right as the client does.
    told.proto = _scheme(_nth(_list(proto), hops))
    told.host = _host(_nth(_list(host), hops))
    told.server_port = _port(_nth(_list(port), hops))
    if (
        told.server_port
        and told.host
        and told.server_port not in ("80", "443")
        and not _split_host(told.host)[1]
    ):
        # It completes a host without one. But 80 and 443 it never is: many proxies
        # behind another one tell their own there.
        told.host += f":{told.server_port}"
    return told


def _others(forwarded_headers: str) -> frozenset[str]:
    """Return the keys of the headers that this setting does not name."""
    if forwarded_headers in _OTHERS:
        return _OTHERS[forwarded_headers]
    others = PROXY_FIELDS - {
        FORWARDED_NAMES[name] for name in forwarded_headers.split(", ") if name
    }
    FORWARDED_UNNAMED.keep(forwarded_headers, others, len(forwarded_headers))
    return others


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
        packed, told.client, told.client_port = address
        if not trust.hop(packed):
            break
    return told


def _apply(environ: dict[str, Any], told: Told) -> None:
    if told.client:
        environ["REMOTE_ADDR"] = told.client
        environ["REMOTE_PORT"] = told.client_port
        if not told.client_port:
            del environ[
                "REMOTE_PORT"
            ]  # that of the proxy would be a lie beside the client's address
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


def _list(text: str | None) -> list[str]:
    if not text:
        return []
    if len(text) > _FARTHEST:
        text = text[-_FARTHEST:].partition(",")[2]
    stripped = [each.strip(" \t") for each in text.split(",")]
    return [each for each in stripped if each]


def _nth(values: list[str], number: int) -> str:
    """The so many-th from the right, or the first."""
    return values[-max(1, min(number, len(values)))] if values else ""


def _scheme(text: str) -> str:
    text = text.lower()
    return text if text in _PORTS else ""


def _host(text: str) -> str:
    return text if text and not text.startswith(":") and valid_host(text) else ""


def _port(text: str) -> str:
    return (
        text
        if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535
        else ""
    )


def _split_host(host: str) -> tuple[str, str]:
    """Name and port of a valid one; the brackets of an IPv6 address belong to its name
    (RFC 3875 4.1.14).
    """
    name, bracket, port = host.rpartition("]")
    if bracket:
        return name + bracket, port[1:]
    name, _, port = host.partition(":")
    return name, port


def _address(text: str) -> tuple[bytes, str, str] | None:
    """An address packed (addresses.packed_ip()) and as text, and a port or "".

    RFC 7239 6: IPv4 or IPv6 in brackets, with or without a port; or IPv6 without
    either, as X-Forwarded-For has it.
    """
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
    return None if packed is None else (packed, ip_text(packed), _port(port))


# RFC 7239 4:
#     Forwarded         = 1#forwarded-element
#     forwarded-element = [ forwarded-pair ] *( ";" [ forwarded-pair ] )
#     forwarded-pair    = token "=" ( token / quoted-string )


def _elements(text: str) -> Iterator[str]:
    """The elements of a list, the last one first, cut at the commas that are not
    quoted.
    """
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
    """The parameters of one element, their names in small letters; None when it is
    none.

    A little laxer than the grammar, with what proxies do send and nobody can misread:
    blanks behind a semicolon, and [, ] and : without the quotes they need.
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
    """The quoted-string (RFC 9110 5.6.4) with which `text` begins, and from a semicolon
    on what follows; ("", "") when there is none.
    """
    value = ""
    at = 1
    while at < len(text) and text[at] != '"':
        at += text[at] == "\\"
        value += text[at : at + 1]
        at += 1
    if at >= len(text):
        return "", ""
    return value, text[at + 1 :].lstrip(" \t") or ";"
