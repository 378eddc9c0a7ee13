"""`trusted_proxies`: the peers that may say for which client they relay a request.

Any peer that can reach a socket can write X-Forwarded-For into a request, or a PROXY
header in front of it. Only the administrator knows which peers are proxies. Entries are
addresses, networks, `unix` (every process that may open the unix socket: its file mode
decides) and `*` (every peer: for a firewall that lets only the proxy through, whose
address is not known beforehand).

`unix` and `*` are about the peer of a connection. They do not apply to the addresses in
a list of hops: there, only a named address or network is a proxy. Otherwise every
client could put an address of its choice in front of its own.
"""

from __future__ import annotations

from spyglass.runtime.addresses import packed_ip
from spyglass.runtime.fast_imports import lru_cache

_EXPECTED = "expected addresses, networks (10.0.0.0/8), unix or *"


class Trusted:
    """The peers in a list such as "127.0.0.1, 10.0.0.0/8, unix".

    Raises ValueError: what was expected, and what stands there instead.
    """

    def __init__(self, text: str) -> None:
        self._unix = self._all = False
        self._addresses: set[bytes] = set()
        # Length of the address in bytes, bits to shift away, the number that must be
        # left
        self._networks: list[tuple[int, int, int]] = []
        for entry in text.split(",") if text.strip() else ():
            self._add(entry.strip())

    def _add(self, entry: str) -> None:
        if entry == "unix":
            self._unix = True
        elif entry == "*":
            self._all = True
        elif "/" in entry:
            self._networks.append(_network(entry))
        else:
            self._addresses.add(_address(entry))

    def peer(self, address: str) -> bool:
        """Return True if the peer at `address` is trusted; "" is the peer of a unix
        socket.
        """
        if self._all:
            return True
        if not address:
            return self._unix
        packed = packed_ip(address.partition("%")[0])  # a link-local address has a zone
        return packed is not None and self.hop(packed)

    def hop(self, packed: bytes) -> bool:
        """Return True if this address in a list of hops (packed_ip()) is that of a
        trusted proxy.
        """
        if packed in self._addresses or not self._networks:
            return packed in self._addresses
        number = int.from_bytes(packed, "big")
        return any(
            length == len(packed) and number >> shift == base
            for length, shift, base in self._networks
        )


def _address(text: str, entry: str = "") -> bytes:
    packed = packed_ip(text)
    if packed is None:
        raise ValueError(_EXPECTED, entry or text)
    return packed


def _network(entry: str) -> tuple[int, int, int]:
    address, _, bits = entry.partition("/")
    packed = _address(address, entry)
    number, length, most = int.from_bytes(packed, "big"), len(packed), 8 * len(packed)
    if not (bits.isascii() and bits.isdigit() and len(bits) <= 3):
        raise ValueError(_EXPECTED, entry)
    # An IPv4 network that is written as IPv6 (::ffff:10.0.0.0/104) counts IPv6 bits.
    shift = most - (int(bits) - 96 if length == 4 and ":" in address else int(bits))
    if not 0 <= shift <= most:
        raise ValueError(_EXPECTED, entry)
    if number & ((1 << shift) - 1):
        # 10.0.0.1/8: the one address, or all of the network? A wrong guess would trust
        # peers that the administrator does not.
        raise ValueError(f"expected a network, with only zeros after its first {bits} bits", entry)
    return length, shift, number >> shift


trusted = lru_cache(maxsize=4)(Trusted)
"""`Trusted(text)`, the same object for the same text, which is a setting and never
comes from a client.
"""
