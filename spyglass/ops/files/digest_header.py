"""Tell a file that Spyglass has written from one that was edited since.

A line of its header holds a digest of all other lines. An edited file is the
administrator's: it is never overwritten or deleted. The digest protects against
accidents, not attackers.

Pure. Units and drop-ins of earlier versions are recognized by this, so neither the line
nor the digest may change.
"""

from __future__ import annotations

import hashlib
import re

_LINE = re.compile(r"^# digest: ([0-9a-f]{16})\n", re.M)


def signed(head: str, body: str) -> str:
    """Return the text of a file: its comments, the digest's line, and the rest."""
    return f"{head}# digest: {_digest(head + body)}\n{body}"


def is_untouched(text: str) -> bool:
    """Return True if `text` is exactly what signed() has returned once."""
    found = _LINE.search(text)
    return found is not None and _digest(_LINE.sub("", text, count=1)) == found[1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
