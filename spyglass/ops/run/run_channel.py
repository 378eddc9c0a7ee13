"""What `spyglass run` hands to its process in the app's sandbox: the command, and the
descriptors that it reads from and writes to.

systemd makes the sandbox from a unit file, which can hold neither open descriptors nor
words of any bytes. So the unit starts `spyglass enter-app SOCKET` (enter_app.py), which
connects to a unix socket of `spyglass run` and is sent both. The command then has the
very pipe, file or terminal that the shell has opened, with no process between them.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from dataclasses import dataclass, field

_HEAD = struct.Struct("!Q")  # the length of the request, in bytes
_TIMEOUT = 10.0  # seconds for the other side, which belongs to the app's user, to read


@dataclass
class Request:
    """What to run.

    `words` are the command, or [] for the Python shell of app_shell.py. `variables` are
    added to its environment. `terminal` is the descriptor (0 to 2) that is its
    terminal, -1 if none is.
    """

    words: list[str]
    variables: dict[str, str] = field(default_factory=dict)
    terminal: int = -1


def encode(request: Request) -> bytes:
    """Return `request` as bytes. The two sides may have different locales, so its texts
    travel as the bytes that they stand for.
    """
    return json.dumps(
        {
            "words": [_text(word) for word in request.words],
            "variables": {_text(name): _text(it) for name, it in request.variables.items()},
            "terminal": request.terminal,
        }
    ).encode()


def decode(data: bytes) -> Request:
    found = json.loads(data)
    return Request(
        [_word(each) for each in found["words"]],
        {_word(name): _word(value) for name, value in found["variables"].items()},
        found["terminal"],
    )


def _text(word: str) -> str:
    return os.fsencode(word).decode("latin-1")


def _word(text: str) -> str:
    return os.fsdecode(text.encode("latin-1"))


def send(channel: socket.socket, request: Request, fds: list[int]) -> None:
    """Send `request` and copies of `fds`. Raise OSError."""
    channel.settimeout(_TIMEOUT)
    data = encode(request)
    socket.send_fds(channel, [_HEAD.pack(len(data))], fds)
    channel.sendall(data)


def receive(path: str) -> tuple[Request, list[int]]:
    """Return the request and the three descriptors that the socket at `path` sends.
    Raise OSError, or EOFError if it closes the connection instead.
    """
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(path)
        head, fds, _, _ = socket.recv_fds(channel, _HEAD.size, 3)
        if len(head) < _HEAD.size or len(fds) < 3:
            raise EOFError(f"{path}: closed without a command")
        (length,) = _HEAD.unpack(head)
        data = bytearray()
        while len(data) < length:
            piece = channel.recv(length - len(data))
            if not piece:
                raise EOFError(f"{path}: closed in the middle of a command")
            data += piece
    return decode(bytes(data)), list(fds)
