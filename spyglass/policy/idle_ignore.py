"""`idle_ignore`: whose requests do not put off the leaving. Pure: from the entries of
the setting and a request to yes or no.

    /health              this path, and no other
    /api/probe/*         * stands for anything, also for nothing, also for several parts
    agent:kube-probe     a User-Agent of this name, whatever its version:
                         "kube-probe", "kube-probe/1.29", "kube-probe (...)"
    agent:*UptimeRobot*  a User-Agent as a whole, where there is a * in it
    listener:metrics     every request that comes by the socket of this name
                         (FileDescriptorName=, systemd.socket(5))

A path is compared as it is meant: without its query, and with its escapes (%20) read;
capitals matter. In names of agents they do not.
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

    Pattern = tuple[str, ...]  # what has to come in this order, with anything in between

_EXPECTED = "expected a path (/health, /api/*), agent:NAME or listener:NAME"
_NOT_IN_A_PATH = frozenset(' "<>[]\\^`{|}')  # RFC 3986 appendix A has these in no path
_KINDS = ("agent", "listener")


def check_entry(entry: str) -> None:
    """Raises ValueError (what was expected, the entry) for one that could never mean
    anything, or would mean everybody.
    """
    kind, value = _split(entry)
    if kind == "" or not value or not value.isprintable():
        raise ValueError(_EXPECTED, entry)
    if not value.strip("*" if kind != "path" else "*/") and "*" in value:
        raise ValueError("expected something that not everybody asks for or is", entry)
    if kind == "path" and ("?" in value or "#" in value):
        raise ValueError("expected a path without a query, for that is not looked at", entry)
    if kind == "path" and not _NOT_IN_A_PATH.isdisjoint(value):
        raise ValueError(
            "expected a path as it stands in a request; only * stands for others", entry
        )
    if kind == "listener" and (":" in value or not value.isascii() or len(value) > 255):
        raise ValueError("expected a name as FileDescriptorName= has it", entry)


def unknown_listeners(entries: Iterable[str], names: Iterable[str]) -> list[str]:
    """The entries that name a listener which is none of `names`: mistakes, probably."""
    there = list(names)
    return [
        entry
        for entry in entries
        if _split(entry)[0] == "listener"
        and not any(Ignored([entry]).listener(name) for name in there)
    ]


class Ignored:
    """Whom the entries mean; each has passed check_entry()."""

    def __init__(self, entries: Iterable[str]) -> None:
        # By kind: what is meant literally, and what has a * in it.
        self._exact: dict[str, set[str]] = {kind: set() for kind in ("path", *_KINDS)}
        self._patterns: dict[str, list[Pattern]] = {kind: [] for kind in ("path", *_KINDS)}
        for entry in entries:
            self._add(*_split(entry))
        self._agents = bool(self._exact["agent"] or self._patterns["agent"])

    def _add(self, kind: str, value: str) -> None:
        # What PEP 3333 makes of bytes, for that is what it is compared with.
        literals = [part.encode("utf-8").decode("latin-1") for part in value.split("*")]
        if kind == "path":
            literals = [_unescaped(part) for part in literals]
        elif kind == "agent":
            literals = [part.lower() for part in literals]
        if len(literals) > 1:
            self._patterns[kind].append(tuple(literals))
            return
        self._exact[kind].add(literals[0])
        if kind == "agent":
            # A product and its version, or its comment: RFC 9110 10.1.5.
            self._patterns[kind] += [(literals[0] + "/", ""), (literals[0] + " ", "")]

    def listener(self, name: str) -> bool:
        """Whether whoever comes by a listener of this name is ignored."""
        return self._means("listener", name)

    def request(self, request: Request) -> bool:
        """Whether this request is ignored, whoever sent it."""
        if self._means("path", _unescaped(request.path)):
            return True
        agent = request.fields.get("HTTP_USER_AGENT") if self._agents else None
        return agent is not None and self._means("agent", agent.lower())

    def _means(self, kind: str, text: str) -> bool:
        return text in self._exact[kind] or any(
            _fits(pattern, text) for pattern in self._patterns[kind]
        )


def _split(entry: str) -> tuple[str, str]:
    """The kind of an entry, "" for none, and its value."""
    if entry.startswith("/"):
        return "path", entry
    kind, _, value = entry.partition(":")
    return (kind, value.strip()) if kind in _KINDS else ("", entry)


def _unescaped(path: str) -> str:
    if "%" not in path:
        return path
    from urllib.parse import unquote_to_bytes  # only who sends an escape pays for the import

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
