"""The PROXY header, with which HAProxy and others begin a connection that they relay
without looking at its HTTP. It says where the client connected from.

Both versions of https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt: a line of
text, or a binary block. With the setting `proxy_protocol` each connection must begin
with one, and is closed otherwise. If the header were optional, a client of a proxy that
sends none could send its own and choose its address.

    PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 CRLF
    CR LF CR LF NUL CR LF "QUIT" LF, version and command, family and transport, length
    (2), addresses, ports, TLVs
"""

from __future__ import annotations

from spyglass.errors import PrefaceError
from spyglass.runtime.addresses import ip_text, packed_ip, plain_ip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WORD = b"PROXY "
_LONGEST_LINE = 107  # with CRLF; section 2.1
_FAMILIES = {b"TCP4": 4, b"TCP6": 16}  # and the length of an address
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = len(_SIGNATURE) + 4
_LOCAL, _PROXY = 0x20, 0x21
_UNIX_LENGTH = 216
_TYPE_SSL, _CLIENT_SSL = 0x20, 0x01


class Endpoints:
    """The ends of the relayed connection. `source` and `destination` are packed
    addresses, or None for unix sockets.
    """

    __slots__ = ("destination", "destination_port", "is_tls", "source", "source_port")

    def __init__(
        self,
        source: bytes,
        destination: bytes,
        source_port: int,
        destination_port: int,
        is_tls: bool = False,
    ) -> None:
        self.source: bytes | None = plain_ip(source) if source else None
        self.destination: bytes | None = plain_ip(destination) if destination else None
        self.source_port = source_port
        self.destination_port = destination_port
        self.is_tls = is_tls

    def __str__(self) -> str:
        return f"[{ip_text(self.source)}]:{self.source_port}" if self.source else "a unix socket"

    def environ(self) -> dict[str, Any]:
        """Return the part of the environ that describes them."""
        environ: dict[str, Any] = {"wsgi.url_scheme": "https", "HTTPS": "on"} if self.is_tls else {}
        if self.source is None or self.destination is None:
            return environ | {
                "REMOTE_ADDR": "",
                "SERVER_NAME": "localhost",
                "SERVER_PORT": "443" if self.is_tls else "80",
            }
        name = ip_text(self.destination)
        return environ | {
            "REMOTE_ADDR": ip_text(self.source),
            "REMOTE_PORT": str(self.source_port),
            "SERVER_NAME": f"[{name}]" if ":" in name else name,
            "SERVER_PORT": str(self.destination_port),
        }


def read_header(data: bytes) -> tuple[int, Endpoints | None] | None:
    """Return the length of the header at the start of `data`, and its Endpoints, or
    None for those when it describes this very connection. Return None when more bytes
    are needed.

    Raises PrefaceError as soon as `data` cannot become a header any more.
    """
    if data.startswith(_WORD):
        return _line(data)
    if data.startswith(_SIGNATURE):
        return _block(data)
    if _WORD.startswith(data) or _SIGNATURE.startswith(data):
        return None
    raise PrefaceError("it does not begin with a PROXY header")


def _line(data: bytes) -> tuple[int, Endpoints | None] | None:
    end = data.find(b"\r\n", 0, _LONGEST_LINE)
    if end < 0:
        if len(data) >= _LONGEST_LINE:
            raise PrefaceError("its PROXY header does not end")
        return None
    _, family, *words = data[:end].split(b" ")
    if family == b"UNKNOWN":
        return end + 2, None  # "the receiver must ignore anything presented before the CRLF"
    length = _FAMILIES.get(family)
    if length is None or len(words) != 4:
        raise PrefaceError("its PROXY header cannot be understood")
    source, destination = (_ip(word, length) for word in words[:2])
    source_port, destination_port = (_number(word) for word in words[2:])
    return end + 2, Endpoints(source, destination, source_port, destination_port)


def _ip(word: bytes, length: int) -> bytes:
    text = word.decode("latin-1")
    packed = packed_ip(text)
    if packed is None or (length == 16) != (":" in text):
        raise PrefaceError("a bad address in its PROXY header")
    return packed


def _number(word: bytes) -> int:
    if (
        not word.isdigit()
        or len(word) > 5
        or (word.startswith(b"0") and word != b"0")
        or int(word) > 65535
    ):
        raise PrefaceError("a bad port in its PROXY header")
    return int(word)


def _block(data: bytes) -> tuple[int, Endpoints | None] | None:
    # Each byte is judged as soon as it is there: the peer may send nothing more.
    command, family = data[12:13], data[13:14]
    if command and command[0] not in (_LOCAL, _PROXY):
        raise PrefaceError("an unknown version or command in its PROXY header")
    if family and (family[0] >> 4 > 3 or family[0] & 15 > 2):
        raise PrefaceError("an unknown family in its PROXY header")
    size = _FIXED + int.from_bytes(data[14:16], "big")
    if len(data) < _FIXED or len(data) < size:
        return None
    if command[0] == _LOCAL or not family[0] >> 4 or not family[0] & 15:
        # A health check by the proxy itself, or a protocol without addresses here: the
        # connection is what it seems to be.
        return size, None
    addresses = data[_FIXED:size]
    length = (0, 4, 16, 0)[family[0] >> 4]
    tlvs = 2 * length + 4 if length else _UNIX_LENGTH
    if len(addresses) < tlvs:
        raise PrefaceError("its PROXY header is too short")
    source_port, destination_port = (
        int.from_bytes(addresses[at : at + 2], "big") for at in (2 * length, 2 * length + 2)
    )
    is_tls = _is_tls(addresses[tlvs:])
    return size, Endpoints(
        addresses[:length], addresses[length : 2 * length], source_port, destination_port, is_tls
    )


def _is_tls(tlvs: bytes) -> bool:
    """Return True when the client has spoken TLS with the proxy (PP2_TYPE_SSL, section
    2.2.6). The other extensions are skipped.
    """
    while len(tlvs) > 3:
        size = 3 + int.from_bytes(tlvs[1:3], "big")
        if tlvs[0] == _TYPE_SSL and size <= len(tlvs):
            return size > 3 and bool(tlvs[3] & _CLIENT_SSL)
        tlvs = tlvs[size:]
    return False
