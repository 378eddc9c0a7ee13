"""Compare the directives of a unit before and after: one line for each that differs.

Pure. A directive that comes from a setting is called by the setting's name, because
that is what the administrator has changed. The lines are for people, and for the
decision whether a running service must be restarted. Values of environment variables
are left out: `systemctl edit` is where some administrators put their secrets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spyglass.config.setting_types import in_units
from spyglass.ops.output.untrusted_text import lines_of
from spyglass.ops.units import unit_files
from spyglass.ops.units.unit_directives import IMPLIED, LIMITS
from spyglass.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNSET = "unset"
_LONGEST = 60  # characters of a value
_CREDENTIALS = ("LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted")  # fmt: skip
_SIZES = ("MemoryHigh", "MemoryMax")
_LISTS = ("EnvironmentFile", "ListenStream", "ReadWritePaths")
# The settings that become these directives (unit_directives.py). What else may differ
# there follows from one of them (IMPLIED), or has no setting.
_SETTINGS = {
    "ListenStream": "listen",
    "SocketGroup": "listen.group",
    "SocketMode": "listen.mode",
    "User": "user",
    "Group": "group",
    "UMask": "umask",
    "EnvironmentFile": "environment_file",
    "MemoryHigh": "memory_high",
    "MemoryMax": "memory_max",
    "CPUQuota": "cpu_quota",
    "ReadWritePaths": "writable",
    "PrivateNetwork": "network",
    "MemoryDenyWriteExecute": "allow_jit",
}
_OPPOSITES = ("PrivateNetwork", "MemoryDenyWriteExecute")
# systemd uses these itself, or has the kernel use them, at once after a daemon-reload.
AT_ONCE = frozenset(
    (
        *LIMITS,
        *("CPUWeight", "StartupCPUWeight", "CPUQuotaPeriodSec", "AllowedCPUs", "IOWeight"),
        *("MemoryMin", "MemoryLow", "MemorySwapMax", "TasksMax", "OOMPolicy"),
        *("Restart", "RestartSec", "RestartSteps", "RestartMaxDelaySec", "KillMode"),
        *("RestartPreventExitStatus", "RestartForceExitStatus", "SuccessExitStatus"),
        *("TimeoutStartSec", "TimeoutStopSec", "TimeoutSec", "TimeoutAbortSec"),
        *("ExecReload", "ExecStop", "ExecStopPost", "ExecStartPre", "ExecStartPost"),
    )
)


def directives(texts: Iterable[str], section: str) -> dict[str, list[str]]:
    """Return {directive: values} of a section in these files, in their order; an empty
    assignment resets a directive (systemd.syntax(7)).
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        for line in unit_files.parse(text):
            if line.section != section:
                continue
            if line.value:
                found.setdefault(line.key, []).append(line.value)
            else:
                found[line.key] = []
    return found


def changes(
    before: Mapping[str, list[str]],
    after: Mapping[str, list[str]],
    ours: tuple[Mapping[str, list[str]], Mapping[str, list[str]]] = ({}, {}),
) -> list[tuple[str, str]]:
    """Return (directive, line) for each difference between two sections: ("UMask",
    "UMask 0077 -> 0027").

    `ours` are the parts of both that come from settings: what differs there is called
    by the setting's name. Directives that follow from another difference are left out
    (IMPLIED).
    """
    differing = [
        key for key in dict.fromkeys([*before, *after]) if before.get(key, []) != after.get(key, [])
    ]
    implied = {each for key in differing for each in IMPLIED.get(key, ())}
    found: list[tuple[str, str]] = []
    for key in differing:
        if key in implied:
            continue
        old, new = before.get(key, []), after.get(key, [])
        if key == "Environment":
            lines = _named("environment", _variables(old), _variables(new))
        elif key in _CREDENTIALS:
            lines = _named("credential", _credentials(old), _credentials(new))
        elif key in _SETTINGS and ours[0].get(key, []) != ours[1].get(key, []):
            if key in _LISTS:  # others than the setting's would only be repeated
                old, new = ours[0].get(key, []), ours[1].get(key, [])
            lines = [f"{_SETTINGS[key]} {_as_set(key, old)} -> {_as_set(key, new)}"]
        else:
            lines = [f"{key} {_shown(key, old)} -> {_shown(key, new)}"]
        found += [(key, line) for line in lines]
    return found


def _as_set(key: str, values: list[str]) -> str:
    """Return the value that a setting has where a directive has `values`."""
    if key in _OPPOSITES:
        # Shared network and no JIT are what the template has.
        is_yes = values[-1:] == ["yes"]
        is_true = not is_yes if values else key == "PrivateNetwork"
        return str(is_true).lower()
    return _shown(key, [value.strip('"') for value in values])


def _shown(key: str, values: list[str]) -> str:
    text = ", ".join(values if key in _LISTS else values[-1:])
    if key in _SIZES and text.isdecimal():
        text = in_units(int(text))
    return one_line(text.replace("%%", "%"), _LONGEST) or UNSET


def _named(kind: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return a line for each name whose value differs, without the values."""
    return [
        f"{kind} {one_line(name, _LONGEST)} "
        + ("added" if name not in old else "removed" if name not in new else "changed")
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def _variables(values: list[str]) -> dict[str, str]:
    """Return {name: text} of Environment= assignments; of several in one line the first
    names all.
    """
    pairs = (value.strip("\"'").partition("=") for value in values)
    return {name: text for name, _, text in pairs}


def _credentials(values: list[str]) -> dict[str, str]:
    pairs = (value.partition(":") for value in values)
    return {name: source for name, _, source in pairs}


def of_drop_in(before: str, after: str, section: str) -> list[str]:
    """Return a line for each directive that differs between two texts of a drop-in
    that is made from settings.
    """
    old, new = directives([before], section), directives([after], section)
    return [line for _, line in changes(old, new, (old, new))]


def without_comments(text: str) -> list[str]:
    """Return the lines of a drop-in that systemd obeys."""
    return [line for line in lines_of(text) if line and line[0] not in "#["]
