"""The settings as a message to a zygote that was forked before they were read.

All values are plain: numbers, texts, and tuples, lists and tables of these. marshal
writes and reads them in microseconds. It would crash on bytes that were made to do so,
but these are the Master's, and no code of the app has run where they are read.
"""

from __future__ import annotations

from marshal import dumps, loads

from spyglass.runtime.fast_imports import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.config.settings import Config

LARGEST = 64 << 10  # bytes of a message: the smallest part of what a channel holds by default


class SentConfig:
    """The settings of a Config, in a process that has imported nothing of what reads
    them: they are attributes here, too.
    """

    def __init__(self, values: dict[str, object], file: str | None) -> None:
        self.values = values
        self.file = file

    def __getattr__(self, name: str) -> object:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(f"there is no setting {name!r}") from None


def send(channel: socket.socket, config: Config) -> bool:
    """Send `config` as one packet, at once. Return False if that cannot be done: it is
    too large, or the other end has gone.
    """
    try:
        data = dumps((config.values, config.file))
        if len(data) > LARGEST:
            return False
        channel.send(data, socket.MSG_DONTWAIT)
    except (OSError, ValueError):
        return False
    return True


def receive(channel: socket.socket) -> Config | None:
    """Wait for the settings, and return them; None at the end of the channel."""
    try:
        data = channel.recv(LARGEST)
    except ConnectionResetError:
        return None
    if not data:
        return None
    found: Any = SentConfig(*loads(data))  # noqa: S302, of the Master's only
    return found  # type: ignore[no-any-return]
