"""Many clients of a WebSocket that echoes (RFC 6455), each message masked as a client's
must be. Standard library only.
"""

from __future__ import annotations

import os
import socket
import struct

PATIENCE = 20.0  # seconds
OPENING = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, BINARY = 0x81, 0x82  # an only frame of a message


def opened(port: int) -> socket.socket:
    """A WebSocket whose handshake has succeeded. Raises RuntimeError."""
    client = socket.create_connection(("127.0.0.1", port), PATIENCE)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(OPENING)
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = client.recv(4096)
        if not more:
            break
        answer += more
    if not answer.startswith(b"HTTP/1.1 101 "):
        client.close()
        raise RuntimeError(f"no WebSocket: {answer[:100]!r}")
    return client


def header(size: int) -> bytes:
    """What follows a frame's first byte (RFC 6455, 5.2), without the mask's bit."""
    if size < 126:
        return bytes([size])
    if size < 1 << 16:
        return struct.pack("!BH", 126, size)
    return struct.pack("!BQ", 127, size)


def message(size: int) -> bytes:
    """A text of up to 64 KiB, or else bytes, masked by another key than zero."""
    mask = os.urandom(4)
    masked = bytes(byte ^ ord("x") for byte in mask) * (size // 4 + 1)
    length = bytearray(header(size))
    length[0] |= 0x80
    return bytes([TEXT if size < 1 << 16 else BINARY]) + length + mask + masked[:size]


def echo(clients: list[socket.socket], size: int, rounds: int) -> int:
    """Have each client send a message and read its echo, `rounds` times. Return how
    many there were. Raises RuntimeError.
    """
    sent, echoed = message(size), 1 + len(header(size)) + size
    for _ in range(rounds):
        for client in clients:
            client.sendall(sent)
        for client in clients:
            left = echoed
            while left:
                more = client.recv(1 << 18)
                if not more:
                    raise RuntimeError("a WebSocket was closed")
                left -= len(more)
    return rounds * len(clients)
