"""The channel between a Master and its zygote: what is said on it, and how.

The channel is a pair of sockets of type SOCK_SEQPACKET (unix(7)). A packet is sent
whole or not at all, so one packet is one message. The Master orders SPAWN, and passes
LISTENERS on. The zygote reports all else, and so does each worker until it serves. The
end of the channel tells the zygote to exit once its last worker has.

A message is its kind and its facts: numbers, then texts, then for some kinds a list of
texts, as UTF-8 with a NUL between two of them. The app runs where the far end of the
channel is, so it can write there, too. That is why nothing is accepted that makes more
of bytes than numbers and texts: marshal and pickle would run or crash what they read.
"""

from __future__ import annotations

import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.errors import LoadError
    from spyglass.runtime.fast_imports import socket

# From the Master to the zygote.
SPAWN = "spawn"  # slot
# Once, to the first zygote, which was forked before this was known: which listener a
# client waits on (from 1; 0: on none), and the names of all, in order.
LISTENERS = "listeners"
# From the zygote to the Master.
FAILED = "failed"  # summary, details, files: the app could not be loaded
SPAWNED = "spawned"  # slot, pid; sent by the zygote and by the worker itself
DIED = "died"  # slot, pid, wait status
CANNOT = "cannot"  # slot, why: the fork failed
# From a worker that cannot begin to work: slot, 1 if it was loading the app itself,
# summary, details, files.
UNFIT = "unfit"
# From a rehearsal (ops/commands/check.py).
LOADED = "loaded"  # milliseconds, bytes, 1 if it is an ASGI app
FOUND = "found"  # 1 if it is grave, 1 if the app handles it; what, why, locked file
LIFESPAN = "lifespan"  # milliseconds of its startup, 1 if there is one
READY = "ready"  # milliseconds, 1 if there was a post_fork()
IMPORTS = "imports"  # what they cost, a line

# How many numbers and how many texts each kind has; the rest is the list.
_SHAPES = {
    SPAWN: (1, 0),
    LISTENERS: (1, 0),
    FAILED: (0, 2),
    SPAWNED: (2, 0),
    UNFIT: (2, 2),
    DIED: (3, 0),
    CANNOT: (1, 1),
    LOADED: (3, 0),
    FOUND: (2, 3),
    LIFESPAN: (2, 0),
    READY: (2, 0),
    IMPORTS: (0, 1),
}
_WITH_LIST = (FAILED, UNFIT, LISTENERS)
_DIGITS = 18  # of the largest number: it fits a C long

LARGEST = 128 << 10  # bytes of a message


def send(channel: socket.socket, *message: Any) -> bool:
    """Send one message; return False if the other end has gone."""
    fields: list[str] = []
    for fact in message:
        fields += (
            fact if isinstance(fact, list) else [str(int(fact)) if isinstance(fact, int) else fact]
        )
    text = "\0".join([field.replace("\0", " ") for field in fields])
    try:
        channel.send(text.encode("utf-8", "surrogatepass"))
    except OSError:
        return False
    return True


def send_failure(channel: socket.socket, error: LoadError, *about: Any) -> None:
    """Send the message that begins with `about` (its kind, and numbers) and explains
    `error`.
    """
    send(channel, *about, error.summary, error.details, error.files)


def receive(channel: socket.socket) -> tuple[Any, ...] | None:
    """Return the next message, None at the end of the channel.

    Raise BlockingIOError if a non-blocking channel has none, ValueError for a packet
    that send() cannot have made.
    """
    try:
        packet = channel.recv(LARGEST)
    except ConnectionResetError:
        # The other end closed with messages of ours unread. The kernel says so first,
        # and only once; what the other end had sent is still in the queue.
        packet = channel.recv(LARGEST)
    if packet:
        return parse(packet)
    # SOCK_SEQPACKET has empty packets, and recv() returns b"" for them and for the end.
    poll = select.poll()
    poll.register(channel, select.POLLRDHUP)
    if poll.poll(0):
        return None
    raise ValueError("an empty message")


def parse(packet: bytes) -> tuple[Any, ...]:
    """Return the message in `packet`. Raise ValueError if it is none."""
    kind, *fields = packet.decode("utf-8", "surrogatepass").split("\0")
    if kind not in _SHAPES:
        raise ValueError("unknown kind of message")
    numbers, texts = _SHAPES[kind]
    due, rest = fields[: numbers + texts], fields[numbers + texts :]
    if len(due) < numbers + texts or (rest and kind not in _WITH_LIST):
        raise ValueError(f"wrong number of facts in a message of kind {kind!r}")
    if not all(
        field.isascii() and field.isdigit() and len(field) <= _DIGITS for field in due[:numbers]
    ):
        raise ValueError(f"not a number in a message of kind {kind!r}")
    return (
        kind,
        *map(int, due[:numbers]),
        *due[numbers:],
        *([rest] if kind in _WITH_LIST else []),
    )
