"""What proxies say about the client and its request: X-Forwarded-For, -Proto, -Host,
-Port, -Prefix, and Forwarded (RFC 7239).

Any client can send these headers, and apps decide by them: which address may log in,
whether a cookie needs TLS, what host a link leads to. So only what a trusted proxy has
written may count.

Each proxy appends to what it has received. So both kinds are read from the right, where
the nearest proxy wrote, and only as long as the address just read is itself a trusted
proxy's. The first one that is not is the client, and whatever stands left of it was
invented by that client. Quotes, too, are looked for from the right: one that a client
has left open must not swallow what was appended behind it.

What cannot be understood ends the reading, and is no error: the client is the last hop
that was understood. Most proxies pass on headers that they do not know, so an error
would refuse a request with `Forwarded: x` although the proxy vouches for it. And
"unknown", or an invented name that hides an address, is allowed (RFC 7239 6.2, 6.3).

Only the headers that the setting `forwarded_headers` names are looked at. A proxy sets
some of them and passes the others on as its client sent them, so they prove nothing.
Debian's nginx writes For and Proto, so only these two count by default. The others are
removed, and from an untrusted peer all of them: frameworks look for them, too, and
believe them from any peer.

If one of the X-Forwarded headers counts and is there, Forwarded is not looked at. Most
proxies write only X-Forwarded, and if the two differ, a request does not show which one
the proxy wrote.
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

_FOR, _PROTO, _HOST, _PORT, _PREFIX = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX",
)
_FARTHEST = 4096  # characters from the right: enough for any chain of proxies
_PORTS = {"http": "80", "https": "443"}
_KNOWN: dict[tuple[str | None, str | None, str | None, str | None, Trusted], Claims] = (
    FORWARDED.entries
)
_OTHERS: dict[str, frozenset[str]] = FORWARDED_UNNAMED.entries


class Claims:
    """What the headers say; "" for what they do not. `hops` (int) is how many proxies
    have told their client's address.
    """

    __slots__ = ("client", "client_port", "hops", "host", "proto", "server_port")

    def __init__(self) -> None:
        self.hops = 0
        self.client = self.client_port = ""
        self.proto = ""
        self.host = ""
        self.server_port = ""


def believe(environ: dict[str, Any], trusted_proxies: str, forwarded_headers: str) -> None:
    """Change `environ`, in which REMOTE_ADDR is still the peer, to what its headers say
    about the client, and remove the headers that do not count.

    The two settings say which peers are trusted, and which of their headers count.
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
        claims = forwarded(environ.get("HTTP_FORWARDED", ""), trust)
    else:
        said = addresses, proto, host, port, trust
        if said in _KNOWN:
            claims = _KNOWN[said]
        else:
            claims = x_forwarded(*said)
            FORWARDED.keep(said, claims, sum(len(each or "") for each in said[:4]))
    _apply(environ, claims)
    if _PREFIX in environ:
        environ["SCRIPT_NAME"] = _prefix(environ[_PREFIX], claims.hops)


def x_forwarded(
    addresses: str | None, proto: str | None, host: str | None, port: str | None, trust: Trusted
) -> Claims:
    """Return what the values of X-Forwarded-For, -Proto, -Host and -Port say; None is a
    header that is not there.
    """
    claims = Claims()
    hops = 0
    for text in reversed(_list(addresses)):
        address = _address(text)
        if address is None:
            break
        hops += 1
        packed, claims.client, claims.client_port = address
        if not trust.hop(packed):
            break
    # These may be lists, too. The element about the client's hop is as far from the
    # right as the client is.
    claims.hops = hops
    claims.proto = _scheme(_nth(_list(proto), hops))
    claims.host = _host(_nth(_list(host), hops))
    claims.server_port = _port(_nth(_list(port), hops))
    if (
        claims.server_port
        and claims.host
        and claims.server_port not in ("80", "443")
        and not _split_host(claims.host)[1]
    ):
        # The port completes a host that has none. But not 80 and 443: many proxies
        # behind another one send the port on which they listen.
        claims.host += f":{claims.server_port}"
    return claims


def _others(forwarded_headers: str) -> frozenset[str]:
    """Return the keys of the headers that this setting does not name."""
    if forwarded_headers in _OTHERS:
        return _OTHERS[forwarded_headers]
    others = PROXY_FIELDS - {
        FORWARDED_NAMES[name] for name in forwarded_headers.split(", ") if name
    }
    FORWARDED_UNNAMED.keep(forwarded_headers, others, len(forwarded_headers))
    return others


def forwarded(value: str, trust: Trusted) -> Claims:
    """Return what the value of Forwarded says."""
    claims = Claims()
    for element in _elements(value):
        if not element.strip(" \t"):
            continue  # RFC 9110 5.6.1: empty elements of a list do not count
        pairs = _pairs(element)
        if pairs is None:
            break
        claims.proto = _scheme(pairs.get("proto", "")) or claims.proto
        claims.host = _host(pairs.get("host", "")) or claims.host
        address = _address(pairs.get("for", ""))
        if address is None:
            break
        claims.hops += 1
        packed, claims.client, claims.client_port = address
        if not trust.hop(packed):
            break
    return claims


def _apply(environ: dict[str, Any], claims: Claims) -> None:
    if claims.client:
        environ["REMOTE_ADDR"] = claims.client
        environ["REMOTE_PORT"] = claims.client_port
        if not claims.client_port:
            del environ["REMOTE_PORT"]  # the proxy's, wrong for the client's address
    if claims.proto:
        environ["wsgi.url_scheme"] = claims.proto
        environ.pop("HTTPS", None)
        if claims.proto == "https":
            environ["HTTPS"] = "on"  # PEP 3333, "environ Variables", as Apache has it
    if claims.host:
        environ["HTTP_HOST"] = claims.host
        environ["SERVER_NAME"] = _split_host(claims.host)[0]
    if claims.proto or claims.host or claims.server_port:
        # So far it is the port to which the proxy connects.
        port = claims.server_port or _split_host(environ.get("HTTP_HOST", ""))[1]
        environ["SERVER_PORT"] = port or _PORTS[environ["wsgi.url_scheme"]]


def _list(text: str | None) -> list[str]:
    if not text:
        return []
    if len(text) > _FARTHEST:
        text = text[-_FARTHEST:].partition(",")[2]
    stripped = [each.strip(" \t") for each in text.split(",")]
    return [each for each in stripped if each]


def _nth(values: list[str], number: int) -> str:
    """Return the element that is `number` from the right, or the first."""
    return values[-max(1, min(number, len(values)))] if values else ""


def _scheme(text: str) -> str:
    text = text.lower()
    return text if text in _PORTS else ""


def _host(text: str) -> str:
    return text if text and not text.startswith(":") and valid_host(text) else ""


def _prefix(text: str, hops: int) -> str:
    """Return the path that the proxies have removed, as SCRIPT_NAME has it: each
    appends its part. The last `hops` parts count, at least one. Nonsense is "".
    """
    # Inside: few proxies remove a path, and the others must not wake more slowly.
    from spyglass.policy import url_prefix

    try:
        return "".join([url_prefix.parse(part) for part in _list(text)[-max(1, hops) :]])
    except ValueError:
        return ""


def _port(text: str) -> str:
    return (
        text
        if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535
        else ""
    )


def _split_host(host: str) -> tuple[str, str]:
    """Return name and port of a valid host. The brackets of an IPv6 address belong to
    its name (RFC 3875 4.1.14).
    """
    name, bracket, port = host.rpartition("]")
    if bracket:
        return name + bracket, port[1:]
    name, _, port = host.partition(":")
    return name, port


def _address(text: str) -> tuple[bytes, str, str] | None:
    """Return an address packed (addresses.packed_ip()) and as text, and its port or "".

    RFC 7239 6: IPv4, or IPv6 in brackets, with or without a port; or IPv6 without both,
    as in X-Forwarded-For.
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
    """Yield the elements of a list, the last one first, split at the commas that are
    not quoted.
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
        yield text[:end]  # with a quote that was never opened: refused by _pairs()


def _opening(text: str, closing: int) -> int:
    """Return where the quoted-string begins that ends at `closing`, or -1."""
    at = closing
    while (at := text.rfind('"', 0, at)) >= 0:
        if not (at - len(text[:at].rstrip("\\"))) % 2:
            return at
    return -1


def _pairs(element: str) -> dict[str, str] | None:
    """Return the parameters of one element, with names in small letters; None when it
    is not one.

    A little more lenient than the grammar, where proxies deviate from it and cannot be
    misunderstood: blanks behind a semicolon, and [, ] and : without quotes.
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
    """Return the quoted-string (RFC 9110 5.6.4) at the start of `text`, and what
    follows, from a semicolon on; ("", "") when there is none.
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
