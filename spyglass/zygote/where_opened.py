"""Where in its code an app has made what it has made.

Python tells who listens of each connection and each file that is opened (PEP 578), and
nobody can stop listening again: good for `spyglass check`, which leaves soon after, and
too dear for a wake. Of threads it tells since Python 3.13 only, so those are asked.
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
    """Listens from when it is made."""

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
        """What comes after the name of a Thread, or of a descriptor (int): ", made at
        shop.py:7", or "" where that is not known.
        """
        if isinstance(made, int):
            # Numbers are used again: what has the number of a socket that was closed
            # need not be one.
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
    """The line of the app's own code that led there; of a library's where there is
    none; "" where only Python's and ours are.
    """
    of_a_library = ""
    while frame is not None:
        path = frame.f_code.co_filename
        if path == _LOADER:
            break  # what is further out, the script among it that has started all this, is ours
        if "/site-packages/" in path or "/dist-packages/" in path:
            of_a_library = of_a_library or f"{shown(path)}:{frame.f_lineno}"
        elif not path.startswith(("<", _LIBRARY, _OURS)):
            return f"{shown(path)}:{frame.f_lineno}"
        frame = frame.f_back
    return of_a_library
