"""The headers of the last request on a connection, and the next ones read by what is
different about them.

A client that sends a second request mostly sends the same headers, and of those that
change, the values: an id, a cookie, a trace. So the lines of the last section are
looked for in the next one, and only a line that is another is cut and decoded. llhttp
judges all of the new section, whatever is different in it.

What is not plainly like the last section is not judged here. It is None, and the usual
way decides (request_head.py).
"""

from __future__ import annotations

from spyglass.http11.caches import LAST_SECTION
from spyglass.http11.chunked import CONTROLS
from spyglass.http11.control_headers import CONTROL_KEYS
from spyglass.http11.request import Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# llhttp must not be the only judge of where a line ends. A tab is for the usual way.
_NOT_PLAIN: Final = CONTROLS + b"\t"


_WAIT: Final = 7  # sections


class LastSection(Section):
    """The lines between a request line and the end of its head: `text` (bytes) with the
    empty line, and what was read there: `fields` and `keep_alive` (bool) as in Request.
    `version` is that of the request line, on which the meaning depends.

    `means_the_same` (bool): none of the headers that need a check of their own differs
    from the section before. `wait` (int): so many sections are not compared line by
    line, as the last comparison was for nothing: a proxy may send the requests of many
    clients on one connection. Once kept, a section does not change.
    """

    __slots__ = (
        *("_keys", "_lines", "fields", "keep_alive", "means_the_same", "version"),
        "wait",
    )

    def __init__(
        self, text: bytes, version: tuple[int, int], fields: dict[str, str], keep_alive: bool
    ) -> None:
        super().__init__(text)
        self.version = version
        self.fields = fields
        self.keep_alive = keep_alive
        self.means_the_same = False
        self.wait = 0
        self._lines: list[bytes] | None = None  # cut when they are first needed
        self._keys: list[str] = []

    def follow(self, data: bytes) -> LastSection | None:
        """Return the section at the start of `data`, if it is this one but for the
        values of some lines; else None. llhttp has not judged what is different.
        """
        if data[: len(self.text)] == self.text:
            return self
        if self.wait or len(data) > 2 * LAST_SECTION.longest:
            return None  # each other line copies what follows it: the square of this
        known = self._lines
        if known is None:
            known = self._split()
        lines, fields = known, self.fields
        pairs = self.pairs
        means_the_same = True
        at = 0
        for number, line in enumerate(known):
            end = at + len(line)
            if data[at:end] != line:
                # "Name: ". A key is as long as its name, but for what is before it.
                key = self._keys[number]
                start = at + len(key) + (2 if key[:5] != "HTTP_" else -3)
                name = line[: start - at]
                if data[at:start] != name or name[-2:] != b": ":
                    return None
                # Most ids are as long as the last one.
                value = data[start : end - 2]
                if data[end - 2 : end] != b"\r\n" or end < start + 2:
                    value, _, _ = data[start:].partition(b"\r\n")
                    end = start + len(value) + 2
                if len(value.translate(None, _NOT_PLAIN)) != len(value):
                    return None
                if fields is self.fields:
                    lines, fields = lines.copy(), fields.copy()
                    pairs = None if pairs is None else pairs.copy()
                fields[key] = value.decode("latin-1").strip(" ")
                if pairs is not None:
                    pairs[number] = pairs[number][0], value.strip(b" ")
                lines[number] = data[at:end]
                if key in CONTROL_KEYS:
                    means_the_same = False
            at = end
        if not at or data[at : at + 2] != b"\r\n":
            return None
        following = LastSection(data[: at + 2], self.version, fields, self.keep_alive)
        following.means_the_same = means_the_same
        following._lines = lines
        following._keys = self._keys
        following.pairs = pairs
        return following

    def precede(self, other: LastSection) -> None:
        """Tell `other`, which did not follow this one, how long to wait."""
        other.wait = self.wait - 1 if self.wait else _WAIT

    def _split(self) -> list[bytes]:
        lines = self.text[:-2].splitlines(True)
        # Where a line was dropped, or two were joined, lines and keys do not match. A
        # value with a tab is not what llhttp has judged (request_head.py).
        if len(lines) != len(self.fields) or b"\t" in self.text:
            lines = []
        self._lines, self._keys = lines, list(self.fields)
        return lines
