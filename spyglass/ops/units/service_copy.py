"""Copy an app's service to a unit of another name that runs another command.

Only systemd can make an app's sandbox: its user, directories, environment, credentials
and limits. So `spyglass check` and `spyglass run` copy the service's unit file, with
all drop-ins, to another name. The copy is in /run while its command runs. It omits what
would affect the app itself: the socket, commands before and after, restarts, the
watchdog. systemd-run would be shorter, but it does not read unit files: each line would
have to become a property, and some directives have none.

The service may be awake meanwhile. Both units then have the same dynamic user and the
same directories, which systemd keeps as long as either needs them (systemd.exec(5),
DynamicUser=).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from spyglass.errors import StartError
from spyglass.ops.systemd import systemctl
from spyglass.ops.units import unit_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

UNITS = "/run/systemd/system"

# Appended to the copied [Service] section; the last assignment takes precedence. The
# command exits by itself, and systemctl start waits for it.
_OVERRIDES = """\
Type=oneshot
ExitType=main
Restart=no
RemainAfterExit=no
SuccessExitStatus=
WatchdogSec=0
NotifyAccess=none
# The service may be awake and use the same directory.
RuntimeDirectoryPreserve=yes
StandardInput=null
"""
# Not ExecPaths=, which is a part of the sandbox.
_DROPPED = re.compile(
    r"(Exec(Start|Stop|Reload|Condition).*|Sockets|RuntimeMaxSec|RestartForceExitStatus|FileDescriptorStore.*"
    r"|OpenFile|PIDFile|BusName)"
)
_KEPT_IN_UNIT_SECTION = ("JoinsNamespaceOf",)  # part of the sandbox, but in another section


class SandboxError(StartError):
    """The sandbox cannot be made; the message says why."""


def unit_text(
    name: str,
    texts: Iterable[str],
    command: str,
    words: Sequence[str] = (),
    *,
    unit: Sequence[str],
    service: str,
    dropped: re.Pattern[str] | None = None,
) -> str:
    """Return the text of a unit that is the service of the app `name` but for its
    command.

    `texts` are the service's unit file and drop-ins in order. In its command line
    `command` (str) replaces the word "serve", and `words` are appended. `unit` are
    lines for the [Unit] section; `service` are lines that take precedence in the
    [Service] section. Directives that match `dropped` are omitted. Raise SandboxError
    if the service does not run `spyglass serve`.
    """
    lines, others, start = list(unit), [], ""
    for text in texts:
        for line in unit_files.parse(text):
            if line.section == "Unit" and line.key in _KEPT_IN_UNIT_SECTION:
                lines.append(f"{line.key}={line.raw_value}")
            elif line.section == "Service" and line.key == "ExecStart":
                start = line.raw_value
            elif (
                line.section == "Service"
                and not _DROPPED.fullmatch(line.key)
                and not (dropped and dropped.fullmatch(line.key))
            ):
                others.append(f"{line.key}={_resolve_specifiers(line.raw_value, name)}")
    run, found = re.subn(r"(?<=\s)serve(?=\s|$)", lambda _: command, start, count=1)
    if not found:
        raise SandboxError(f"{systemctl.service_of(name)} does not run Spyglass: ExecStart={start}")
    # "-" would have systemd treat a failure as a success (systemd.service(5)).
    run = " ".join([_resolve_specifiers(run.lstrip("-"), name), *map(quoted, words)])
    own = f"ExecStart={run}\n{_OVERRIDES}{service}"
    return "\n".join(["[Unit]", *lines, "", "[Service]", *others, own])


def refuse_unloaded(unit: str, state: Mapping[str, str]) -> None:
    """Raise StartError if systemd has not loaded `unit`, which has this LoadState and
    LoadError.
    """
    if state["LoadState"] == "loaded":
        return
    why = {
        "not-found": "there is no such unit: install the package, or run 'spyglass units install'",
        "masked": f"it is masked: {systemctl.unmask_command(unit)}",
    }
    raise StartError(
        f"{unit}: {why.get(state['LoadState'], state['LoadError'] or state['LoadState'])}"
    )


def write(unit: str, text: str) -> None:
    """Write the files of `unit`.

    `text` is a drop-in, not the unit file itself, because drop-ins for all services of
    the machine (/etc/systemd/system/service.d/) would take precedence over the latter:
    Restart=on-failure there would run a command again.
    """
    path = path_of(unit)
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    # surrogateescape: as atomic_files.read() has read the unit files.
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)
    with open(os.path.join(UNITS, unit), "w", encoding="ascii") as stream:
        stream.write("# Temporary, of `spyglass check` or `spyglass run`\n[Unit]\n")


def path_of(unit: str) -> str:
    """Return the path of the drop-in that holds all of `unit`."""
    return os.path.join(UNITS, f"{unit}.d", "zzzz-spyglass.conf")


def remove(unit: str) -> None:
    """Stop `unit` and remove its files."""
    systemctl.run("stop", unit)
    for path in (path_of(unit), os.path.join(UNITS, unit)):
        if os.path.exists(path):
            os.unlink(path)
    if os.path.isdir(os.path.dirname(path_of(unit))):
        os.rmdir(os.path.dirname(path_of(unit)))
    # A failed unit stays in systemd's memory; the next one would inherit it.
    systemctl.run("reset-failed", unit)


def _resolve_specifiers(value: str, name: str) -> str:
    """Replace the specifiers in `value` that contain the unit's name, which differs in
    the copy (systemd.unit(5)).
    """
    theirs = {"%n": systemctl.service_of(name), "%N": f"spyglass@{name}"} | dict.fromkeys(
        ("%p", "%P", "%j", "%J"), "spyglass"
    )
    return re.sub("%.", lambda found: theirs.get(found[0], found[0]), value)


def quoted(word: str) -> str:
    """Return `word` quoted for ExecStart=.

    systemd first undoes quotes and escapes, then specifiers, and variables when it runs
    the command (systemd.service(5)).
    """
    safe = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%$-_=./:,@+*"
    escaped = "".join(chr(byte) if byte in safe else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return '"' + escaped.replace("%", "%%").replace("$", "$$") + '"'
