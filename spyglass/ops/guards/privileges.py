"""Refuse a command of root's that another user types, with what to type instead."""

from __future__ import annotations

import os
import shlex

from spyglass.errors import ConfigError


def require_root(what: str, *words: str, also: str = "") -> None:
    """Raise ConfigError unless root runs this: only root may `what` ("rename apps").

    `words` are the command's own, to be repeated with sudo; `also` ends the message.
    """
    if os.geteuid() != 0:
        raise ConfigError(f"only root may {what}: sudo {shlex.join(['spyglass', *words])}{also}")
