"""`idle_ignore`: requests that do not count as activity for idle_timeout. Pure: a
function of the entries of the setting and a request.

    /health              this path only
    /api/probe/*         * stands for any text, also none, also with slashes
    agent:kube-probe     User-Agent with this name, in any version:
                         "kube-probe", "kube-probe/1.29", "kube-probe (...)"
    agent:*UptimeRobot*  with a *: the whole User-Agent
    listener:metrics     every request on the socket of this name
                         (FileDescriptorName=, systemd.socket(5))
    websocket:/live/*    WebSockets at this path, for as long as they are open

A path is compared without its query, and with its escapes (%20) decoded; its case
matters. The case of a User-Agent does not.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class Request(Protocol):
        """What is looked at in a request, see http11/request.py."""

        path: str
        fields: dict[str, str]

    Pattern = tuple[str, ...]  # texts in this order, with any text in between

_EXPECTED = "expected a path (/health, /api/*), agent:NAME, listener:NAME or websocket:PATH"
_NOT_IN_A_PATH = frozenset(' "<>[]\\^`{|}')  # RFC 3986 appendix A has these in no path
_KINDS = ("agent", "listener", "websocket")
_PATHS = ("path", "websocket")  # whose value is a path


def check_entry(entry: str) -> None:
    """Raise ValueError (what was expected, the entry) for an entry that could never
    match, or would match all requests.
    """
    kind, value = _split(entry)
    if kind == "" or not value or not value.isprintable():
        raise ValueError(_EXPECTED, entry)
    if kind == "websocket" and not value.startswith("/"):
        raise ValueError("expected a path behind websocket:", entry)
    # All WebSockets may be meant: they are few requests, and last.
    anything = {"path": "*/", "websocket": ""}.get(kind, "*")
    if not value.strip(anything) and "*" in value:
        raise ValueError("expected an entry that does not match every request", entry)
    if kind in _PATHS and ("?" in value or "#" in value):
        raise ValueError("expected a path without a query: queries are not compared", entry)
    if kind in _PATHS and not _NOT_IN_A_PATH.isdisjoint(value):
        raise ValueError("expected a path as in a request; the only wildcard is *", entry)
    if kind == "listener" and (":" in value or not value.isascii() or len(value) > 255):
        raise ValueError("expected a name that FileDescriptorName= could have", entry)


def unknown_listeners(entries: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the entries for listeners that are not among `names`, which are probably
    mistakes.
    """
    there = list(names)
    return [
        entry
        for entry in entries
        if _split(entry)[0] == "listener"
        and not any(Ignored([entry]).listener(name) for name in there)
    ]


class Ignored:
    """Decides whether a request matches one of `entries`, which have passed
    check_entry().
    """

    def __init__(self, entries: Iterable[str]) -> None:
        # By kind: the literal entries, and those with a *
        self._exact: dict[str, set[str]] = {kind: set() for kind in ("path", *_KINDS)}
        self._patterns: dict[str, list[Pattern]] = {kind: [] for kind in ("path", *_KINDS)}
        for entry in entries:
            self._add(*_split(entry))
        self._agents = bool(self._exact["agent"] or self._patterns["agent"])
        self._websockets = bool(self._exact["websocket"] or self._patterns["websocket"])

    def _add(self, kind: str, value: str) -> None:
        # As PEP 3333 has bytes in a str, because a request has them so
        literals = [part.encode("utf-8").decode("latin-1") for part in value.split("*")]
        if kind in _PATHS:
            literals = [_unescaped(part) for part in literals]
        elif kind == "agent":
            literals = [part.lower() for part in literals]
        if len(literals) > 1:
            self._patterns[kind].append(tuple(literals))
            return
        self._exact[kind].add(literals[0])
        if kind == "agent":
            # Followed by a version or a comment (RFC 9110 10.1.5)
            self._patterns[kind] += [(literals[0] + "/", ""), (literals[0] + " ", "")]

    def listener(self, name: str) -> bool:
        """Return True if all requests on the listener of this name are ignored."""
        return self._means("listener", name)

    def request(self, request: Request) -> bool:
        """Return True if the path or the User-Agent of this request is ignored, or the
        WebSocket that it asks for.
        """
        path = _unescaped(request.path)
        if self._means("path", path):
            return True
        if (
            self._websockets
            and "websocket" in request.fields.get("HTTP_UPGRADE", "").lower()
            and self._means("websocket", path)
        ):
            return True
        agent = request.fields.get("HTTP_USER_AGENT") if self._agents else None
        return agent is not None and self._means("agent", agent.lower())

    def _means(self, kind: str, text: str) -> bool:
        return text in self._exact[kind] or any(
            _fits(pattern, text) for pattern in self._patterns[kind]
        )


def _split(entry: str) -> tuple[str, str]:
    """Return the kind of an entry, "" if it has none, and its value."""
    if entry.startswith("/"):
        return "path", entry
    kind, _, value = entry.partition(":")
    return (kind, value.strip()) if kind in _KINDS else ("", entry)


def _unescaped(path: str) -> str:
    if "%" not in path:
        return path
    # Inside: urllib.parse is large, and few paths have an escape.
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(path.encode("latin-1")).decode("latin-1")


def _fits(pattern: Pattern, text: str) -> bool:
    first, *others, last = pattern
    end = len(text) - len(last)
    if end < len(first) or not text.startswith(first) or not text.endswith(last):
        return False
    at = len(first)
    for part in others:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
