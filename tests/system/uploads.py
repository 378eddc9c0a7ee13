"""An upload in two halves, of which the first has arrived: what a restart or a reload
must not take away.
"""

from __future__ import annotations

import socket

from process.visitor import Visitor

HALF = 500_000


def send_half_of_it(visitor: Visitor) -> None:
    """The head and the first half of a body; returns when a worker has taken the
    head.
    """
    visitor.sock.sendall(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n"
        % (2 * HALF)
    )
    goes_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert visitor.sock.recv(len(goes_on), socket.MSG_WAITALL) == goes_on
    visitor.sock.sendall(bytes(HALF))
