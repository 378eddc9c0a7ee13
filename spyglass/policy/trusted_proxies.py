"""Whom to believe when they say for whom they speak: `trusted_proxies`.

Whoever can reach a socket can write X-Forwarded-For into a request, or a PROXY header
in front of it. Only the administrator knows which of them are proxies. Entries are
addresses, networks, `unix` (whoever may open the unix socket: the file's mode decides)
and `*` (whoever can connect: for a firewall that lets nobody but the proxy through,
whose address is not known beforehand).

`unix` and `*` tell who may speak to us. They say nothing about the addresses that are
spoken of: in a list of hops only a network that is named makes one a proxy, or
everybody could put a client of his choice in front of his own address.
"""

from __future__ import annotations

from spyglass.runtime.addresses import packed_ip
from spyglass.runtime.fast_imports import lru_cache

_EXPECTED = "expected addresses, networks (10.0.0.0/8), unix or *"


class Trusted:
    """Those of a list such as "127.0.0.1, 10.0.0.0/8, unix". Raises ValueError: what
    was expected, and what stands there instead.
    """

    def __init__(self, text: str) -> None:
        self._unix = self._anybody = False
        self._addresses: set[bytes] = set()
        self._networks: list[
            tuple[int, int, int]
        ] = []  # length of the address, bits to shift away, what must be left
        for entry in text.split(",") if text.strip() else ():
            self._add(entry.strip())

    def _add(self, entry: str) -> None:
        if entry == "unix":
            self._unix = True
        elif entry == "*":
            self._anybody = True
        elif "/" in entry:
            self._networks.append(_network(entry))
        else:
            self._addresses.add(_address(entry))

    def peer(self, address: str) -> bool:
        """True when who has connected from `address`, "" for a unix socket, is to be
        believed.
        """
        if self._anybody:
            return True
        if not address:
            return self._unix
        packed = packed_ip(address.partition("%")[0])  # a link-local address has a zone
        return packed is not None and self.hop(packed)

    def hop(self, packed: bytes) -> bool:
        """True when this address (see packed_ip()), of which somebody has told us, is a
        proxy's.
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
    # What is written as IPv6 and is IPv4 (::ffff:10.0.0.0/104) counts the bits of the
    # former.
    shift = most - (int(bits) - 96 if length == 4 and ":" in address else int(bits))
    if not 0 <= shift <= most:
        raise ValueError(_EXPECTED, entry)
    if number & ((1 << shift) - 1):
        # Is it the one address that is meant, or all of the network? Whoever believes
        # the wrong ones finds out too late.
        raise ValueError(f"expected no bits behind the network's {bits}", entry)
    return length, shift, number >> shift


trusted = lru_cache(maxsize=4)(Trusted)
"""`Trusted(text)`, the same object for the same text."""
