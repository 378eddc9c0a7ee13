"""What the running generation was started with, so that root's commands can tell which
of the saved settings are in force.

The record is a memory file (memfd_create(2)) among the Master's descriptors, which root
reads as /proc/PID/fd/N. A file in the state directory would be the app's to forge, and
would outlive the Master. This one is sealed, exists as long as what it describes, and
costs no disk a write. What the kernel shows of the Master anyway (its environment, its
credentials) is not repeated here.

When it is written: settings_recorder.py.
"""

from __future__ import annotations

import errno
import fcntl
import os

from spyglass import __version__
from spyglass.runtime import untrusted_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from spyglass.config.settings import Config

NAME = "spyglass-settings"
LARGEST = 512 << 10  # bytes
_HEAD, _END = "spyglass settings 1", "end"
_LARGEST_UNIT = 64 << 10  # bytes
# In linux/memfd.h since Linux 6.3: with the sysctl vm.memfd_noexec = 2 a memory file
# without it is refused. Older kernels do not know it (EINVAL).
_NOEXEC_SEAL = 8
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_UNIT_DIRECTORIES = (
    *("/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient"),
    *("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"),
    *("/usr/lib/systemd/system", "/lib/systemd/system"),
)


class Record:
    """The contents. `settings` are the server's settings by name, `units` the texts of
    the service's unit file and drop-ins by path, without comments. `version` and
    `package` (a path) are of the Spyglass that runs.
    """

    def __init__(self) -> None:
        self.version = self.package = ""
        self.settings: dict[str, object] = {}
        self.units: dict[str, str] = {}

    def text(self) -> str:
        """The file's contents."""
        lines = [_HEAD, f"version {self.version}", f"package {self.package!r}"]
        lines += [f"setting {name} {value!r}" for name, value in self.settings.items()]
        for path, text in self.units.items():
            lines += [f"unit {path!r}", *(f"\t{line}" for line in text.split("\n"))]
        return "\n".join([*lines, _END, ""])


def parse(text: str) -> Record:
    """Return the record in `text`. Raises ValueError if it is incomplete, or in an
    unknown format; facts of a later version are skipped.
    """
    lines = text.split("\n")
    if lines[0] != _HEAD or lines[-2:] != [_END, ""]:
        raise ValueError("incomplete, or in an unknown format")
    record, unit = Record(), ""
    for line in lines[1:-2]:
        word, _, rest = line.partition(" ")
        if line.startswith("\t"):
            record.units[unit] += f"{line[1:]}\n"
        elif word == "version":
            record.version = rest
        elif word == "package":
            record.package = str(_literal(rest))
        elif word == "setting":
            name, _, value = rest.partition(" ")
            record.settings[name] = _literal(value)
        elif word == "unit":
            unit = str(_literal(rest))
            record.units[unit] = ""
    record.units = {path: text.removesuffix("\n") for path, text in record.units.items()}
    return record


def _literal(text: str) -> object:
    import ast  # for the reader only: the Master would keep it

    try:
        return ast.literal_eval(text)
    except (SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise ValueError(f"not a value: {text[:60]!r}") from error


def directives(text: str) -> str:
    """Return the text of a unit file without comments and empty lines."""
    lines = [line.rstrip() for line in text.split("\n")]
    return "\n".join(line for line in lines if line and line.lstrip()[:1] not in ("#", ";"))


def unit_of(cgroups: str) -> str:
    """Return the service that the process belongs to whose /proc/PID/cgroup contains
    `cgroups`, "" if it is none's (cgroups(7)).
    """
    for line in cgroups.split("\n"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers in ("", "name=systemd"):
            for part in reversed(path.split("/")):
                if part.endswith(".service"):
                    return part
    return ""


def unit_paths(unit: str, directories: tuple[str, ...] = _UNIT_DIRECTORIES) -> Iterator[str]:
    """Yield the paths of the unit file and the drop-ins of a service; several may be
    the same file (systemd.unit(5)).
    """
    prefix, at, _ = unit.partition("@")
    names = [unit, f"{prefix}@.service"] if at else [unit]
    for directory in directories:
        yield from (f"{directory}/{name}" for name in names)
        for name in (*names, "service"):
            try:
                found = sorted(os.listdir(f"{directory}/{name}.d"))
            except OSError:
                continue
            yield from (f"{directory}/{name}.d/{each}" for each in found if each.endswith(".conf"))


def read_units(unit: str) -> dict[str, str]:
    """Return the texts of the unit's files that this process can read, by path."""
    found = {}
    for path in unit_paths(unit) if unit else ():
        try:
            data = untrusted_files.read(path, _LARGEST_UNIT, links=True)
        except untrusted_files.NotRegularError:
            found[path] = ""  # a link to /dev/null, which masks a drop-in elsewhere
            continue
        except OSError:
            continue
        found[path] = directives(data.decode(errors="surrogateescape"))
    return found


def write(config: Config, units: Mapping[str, str]) -> int:
    """Return the descriptor of a record of this configuration and these texts of unit
    files (by path). Raise OSError.
    """
    return _memory_file(_record(config, units).text())


def _record(config: Config, units: Mapping[str, str]) -> Record:
    from spyglass.config.settings import SERVER_SETTINGS

    record = Record()
    record.version = __version__
    record.package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    record.settings = {each.name: config.values[each.name] for each in SERVER_SETTINGS}
    record.units = dict(units)
    return record


def _memory_file(text: str) -> int:
    """Return the descriptor of a sealed memory file that contains `text`."""
    fd = new_memory_file(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        data = text.encode("utf-8", "surrogateescape")
        while data:
            data = data[os.write(fd, data) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def new_memory_file(name: str, flags: int) -> int:
    """Return the descriptor of a memory file that cannot be executed. Raise OSError."""
    try:
        return os.memfd_create(name, flags | _NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, flags)
