"""The units of a Spyglass that pip installed: their texts, and which are installed.

The Debian package brings its units. pip installs files below a virtual environment
only, so `spyglass units install` writes them to /etc/systemd/system, from the same
templates. They differ from the package's in the path of the command, and in a header
with a digest of the whole: an edited file is recognized, and never overwritten or
deleted.

Nothing is changed here, so `doctor` and `apply` can ask, too.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

import spyglass
from spyglass.config.unit_settings import unfit
from spyglass.errors import ConfigError
from spyglass.ops.files import atomic_files, digest_header

if TYPE_CHECKING:
    from collections.abc import Mapping

DIRECTORY = "/etc/systemd/system"
# Where packages put units. A file in DIRECTORY takes precedence over all of these.
PACKAGES = ("/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
NAMES = ("spyglass.socket", "spyglass.service", "spyglass@.socket", "spyglass@.service")
WEB_SERVER_GROUP = "www-data"
PACKAGED_PYTHON = "/usr/bin/python3"

_PACKAGED_COMMAND = "/usr/bin/spyglass"
_MADE = "# Made by `spyglass units install`"
_VERSION = re.compile(rf"{_MADE} of Spyglass (\S+):")
_COMMAND = re.compile(r"^ExecStart=(.*) serve\b", re.M)
_GROUP = re.compile(r"^SocketGroup=(.*)$", re.M)


@dataclass(frozen=True)
class UnitFile:
    """One of the files in DIRECTORY: its `path`, and its `text`, "" if it is
    missing.
    """

    path: str
    text: str

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def is_ours(self) -> bool:
        """True if `spyglass units install` made it; it may have been edited since."""
        return self.text.startswith(_MADE)

    @property
    def is_untouched(self) -> bool:
        """True if it is as some version of `spyglass units install` wrote it."""
        return self.is_ours and digest_header.is_untouched(self.text)

    @property
    def version(self) -> str:
        """The version of the Spyglass that wrote it, "" if it does not say."""
        found = _VERSION.match(self.text)
        return found[1] if found else ""

    @property
    def command(self) -> str:
        """The path of the Spyglass that it runs, "" if it runs none."""
        found = _COMMAND.search(self.text)
        try:
            words = shlex.split(found[1]) if found else []
        except ValueError:
            words = []
        return words[-1].replace("%%", "%") if words else ""

    @property
    def socket_group(self) -> str:
        """The group that may connect to unix sockets, "" if it names none."""
        found = _GROUP.search(self.text)
        return found[1] if found else ""


def installed() -> dict[str, UnitFile]:
    """Return the four files in DIRECTORY by the unit's name. Raise OSError.

    What is no regular file of its own (a link to /dev/null: the unit is masked) counts
    as a file of the administrator's.
    """
    return {name: _read(os.path.join(DIRECTORY, name)) for name in NAMES}


def _read(path: str) -> UnitFile:
    if os.path.islink(path):
        return UnitFile(path, f"# a link to {os.readlink(path)}\n")
    return UnitFile(path, atomic_files.read(path))


def packaged() -> list[str]:
    """Return the paths of units that a package has installed."""
    paths = (os.path.join(directory, name) for directory in PACKAGES for name in NAMES)
    # /lib is a link to /usr/lib.
    return list(dict.fromkeys(os.path.realpath(path) for path in paths if os.path.exists(path)))


def wanted(command: list[str], socket_group: str) -> dict[str, str]:
    """Return {path: text} of the units that run `command` (words) and let
    `socket_group` connect to their unix sockets. Raise ConfigError.
    """
    for word in (*command, socket_group):
        if why := unfit(word):
            raise ConfigError(f"{word!r}: {why}")
    line = " ".join(f'"{word}"' if " " in word else word for word in command).replace("%", "%%")
    return {
        os.path.join(DIRECTORY, name): _text(name, template, line, socket_group)
        for name, template in templates().items()
    }


def _text(name: str, template: str, command: str, socket_group: str) -> str:
    """Return the text of a unit: the package's, with another command and a header."""
    body = re.sub(
        rf"^(Exec(?:Start|Reload)=){re.escape(_PACKAGED_COMMAND)}\b",
        lambda found: found[1] + command,
        template,
        flags=re.M,
    )
    body = _GROUP.sub(lambda found: f"SocketGroup={socket_group}", body)
    head = (
        f"{_MADE} of Spyglass {spyglass.__version__}: the next one replaces this file.\n"
        f"# Changes belong in a drop-in: systemctl edit {name}\n"
    )
    return digest_header.signed(head, body)


def templates() -> dict[str, str]:
    """Return the package's units, {name: text}. Raise ConfigError if there are none.

    A wheel has them in the program's directory. A checkout has the only copy in
    packaging/systemd.
    """
    program = os.path.dirname(os.path.abspath(spyglass.__file__))
    for directory in (
        os.path.join(program, "units"),
        os.path.join(os.path.dirname(program), "packaging", "systemd"),
    ):
        texts = {name: atomic_files.read(os.path.join(directory, name)) for name in NAMES}
        if all(texts.values()):
            return texts
    raise ConfigError(
        f"{program}/units: this installation has no units: install Spyglass again with pip"
    )


def of_fragment(unit: Mapping[str, str]) -> UnitFile | None:
    """Return our file that systemd has read for a unit with these properties
    (FragmentPath), None if it is another.
    """
    path = unit.get("FragmentPath", "")
    if os.path.dirname(path) != DIRECTORY:
        return None
    file = UnitFile(path, atomic_files.read_untrusted_or_empty(path))
    return file if file.is_ours else None


def server_python() -> str:
    """Return the path of the Python that runs apps without a Spyglass of their own.

    That of the units in DIRECTORY if they are ours, else the package's.
    """
    file = UnitFile("", atomic_files.read_untrusted_or_empty(os.path.join(DIRECTORY, NAMES[3])))
    if not (file.is_ours and file.command):
        return PACKAGED_PYTHON
    return os.path.join(os.path.dirname(file.command), "python3")
