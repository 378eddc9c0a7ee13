"""Which line of an app's code opened a file or connection, or started a thread.

Python reports each open file and connection to an audit hook (PEP 578). A hook cannot
be removed again and slows the process down. That suits `spyglass check`, which exits
soon after, and not a wake. Threads are reported since Python 3.13 only, so
Thread.start() is wrapped instead.
"""

from __future__ import annotations

import os
import sys
import threading

from spyglass.zygote.inherited_descriptors import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_SOCKETS = ("socket.connect", "socket.bind")
_FILES = ("open", "sqlite3.connect")
_LIBRARY = os.path.dirname(os.__file__) + os.sep
_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
_LOADER = os.path.join(os.path.dirname(__file__), "app_loader.py")


class Places:
    """Records places from its construction on."""

    def __init__(self) -> None:
        self._threads: dict[int, str] = {}
        self._sockets: dict[int, str] = {}
        self._files: dict[str, str] = {}
        sys.addaudithook(self._hear)
        start = threading.Thread.start

        def noted(thread: threading.Thread) -> None:
            self._threads[id(thread)] = _place(sys._getframe(1))
            start(thread)

        threading.Thread.start = noted  # type: ignore[method-assign, assignment]

    def of(self, made: object) -> str:
        """Return what to append to the name of a Thread, or of a descriptor (int): ",
        created at shop.py:7", or "" if the place is not known.
        """
        if isinstance(made, int):
            # Numbers are reused: the number of a closed socket may now be a file's.
            path = os.path.realpath(f"/proc/self/fd/{made}")
            place = (
                self._sockets.get(made, "") if "/socket:[" in path else self._files.get(path, "")
            )
        else:
            place = self._threads.get(id(made), "")
        return place and f", created at {place}"

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _SOCKETS:
            self._sockets[arguments[0].fileno()] = _place(sys._getframe(1))
        elif (
            event in _FILES
            and isinstance(arguments[0], str)
            and (place := _place(sys._getframe(1)))
        ):
            self._files.setdefault(os.path.realpath(arguments[0]), place)


def _place(frame: FrameType | None) -> str:
    """Return the line of the app's own code that led to `frame`; a library's if there
    is none; "" if there are only frames of Python and of Spyglass.
    """
    of_a_library = ""
    while frame is not None:
        path = frame.f_code.co_filename
        if path == _LOADER:
            break  # all further out, up to the script of the command, is Spyglass's
        if "/site-packages/" in path or "/dist-packages/" in path:
            of_a_library = of_a_library or f"{shown(path)}:{frame.f_lineno}"
        elif not path.startswith(("<", _LIBRARY, _OURS)):
            return f"{shown(path)}:{frame.f_lineno}"
        frame = frame.f_back
    return of_a_library
