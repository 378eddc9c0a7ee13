"""`spyglass check NAME` as root: would systemd serve the app, in its sandbox?

Three steps, and the app's own service is neither started nor stopped. First what
`apply` would reject, what systemd says of the units and whether the addresses are free.
Then the check of spyglass/ops/commands/check.py, run inside the sandbox. If systemd
could not even start it, why. The units are those that `apply` would make, whether or
not it has run.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from spyglass.config import setting_notes
from spyglass.config.setting_errors import hint
from spyglass.config.settings import Config, file_for, load
from spyglass.errors import EX_CONFIG, ConfigError, StartError
from spyglass.ops import (
    address_owners,
    apply_plan,
    apps,
    atomic_files,
    effective_settings,
    sandboxed_check,
    service_copy,
    start_failures,
    systemctl,
    unit_directives,
)
from spyglass.ops.untrusted_text import filtered
from spyglass.zygote.sandbox_hints import sandboxed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from spyglass.ops.apps import App

_NAMED = 10  # apps to name in one line
_BY_A_USER = "To check other code, run as its user: runuser -u USER -- spyglass check APP"
_PROPERTIES = (
    "LoadState", "LoadError", "FragmentPath", "DropInPaths", "NeedDaemonReload", "User",
    "DynamicUser", "Environment", "EnvironmentFiles",
)  # fmt: skip


def is_app(word: str) -> bool:
    """Return True if `word` names an app of this machine: /etc/spyglass/WORD.toml
    exists.
    """
    try:
        return os.path.exists(file_for(word))
    except ConfigError:
        return False


def is_root() -> bool:
    """Return True if root runs this outside of a unit of ours. Inside one, as root or
    not, it is the check itself.
    """
    return os.geteuid() == 0 and not sandboxed()


def print_remarks(config: Config) -> None:
    """Print what may not be meant in the settings file, unless this is the check in the
    sandbox: the process that started it has printed that.
    """
    if config.file is not None and not sandboxed():
        text = atomic_files.read_untrusted_or_empty(config.file)
        for line in (
            *setting_notes.misplaced(config, text),
            *setting_notes.open_ports(config, text),
        ):
            print(f"warning: {line}", flush=True)


def refusal(name: str, word: str) -> str:
    """Return why root cannot check the app `name` in its sandbox (one line), or "".

    `name` is "" if the command line's `word` is not an app's name. Outside of a sandbox
    root checks nothing: importing an app runs its code, and the working directory may
    belong to any user.
    """
    if not name:
        known = apps.names()
        there = (
            f"there are {shown_names(known)}"
            if known
            else "there is none; create one with 'spyglass new'"
        )
        what = (
            f"{word!r} is not the name of an app{hint(word, dict.fromkeys(known))}"
            if word
            else "which app?"
        )
        return f"check: {what}; root checks an app only in its unit's sandbox, by its NAME: {there}. {_BY_A_USER}"
    if not os.path.exists(file_for(name)):
        return f"check: there is no {file_for(name)}{hint(name, dict.fromkeys(apps.names()))}"
    if not os.path.isdir("/run/systemd/system"):  # sd_booted(3)
        return f"check: root checks an app only in its unit's sandbox, and systemd is not running here. {_BY_A_USER}"
    return ""


def shown_names(names: Sequence[str]) -> str:
    """Return at most _NAMED of these names in a line, with how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def user_name() -> str:
    """Return the name of the user who runs this."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"


@filtered()
def run(name: str, options: Mapping[str, str]) -> int:
    """Check the app `name`, whose file exists, and print the result.

    `options` ({setting: text}) take precedence over all other settings. Return the exit
    status: 0, EX_CONFIG, or that of the check in the sandbox.
    """
    try:
        return _check(name, options)
    except StartError as error:
        for line in error.lines:
            print(f"spyglass: {line}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130


def _check(name: str, options: Mapping[str, str]) -> int:
    """Run the three steps for the app `name`. Raise StartError."""
    words = [f"--{setting.replace('_', '-')}={value}" for setting, value in options.items()]
    service, unit = systemctl.service_of(name), systemctl.socket_of(name)
    states = systemctl.show([service, unit], [*_PROPERTIES, *address_owners.PROPERTIES])
    for each in (service, unit):
        _refuse_unloaded(each, states[each])
    app = apps.read(name)
    if app.faults and not app.is_unreadable:
        # Another user could write this file, or no unit can be made of it: do not try.
        raise ConfigError(app.faults[0], also=app.faults[1:])
    steps, faults = apply_plan.plan([name])
    if not steps:
        faults = []  # the file itself is wrong: the check in the sandbox reports it
    for line in faults:
        print(f"spyglass: {line}", file=sys.stderr, flush=True)
    for note in steps[0].app.remarks if steps else ():
        print(f"warning: {note}", flush=True)
    pending = {} if faults or not steps else steps[0].changes
    if pending:
        print(
            f"units: as 'spyglass apply {name}' would make them; {file_for(name)} is not applied yet",
            flush=True,
        )
    status = (
        _pending_addresses(unit, steps[0].app)
        if unit_directives.path_of(unit) in pending
        else _addresses(unit, states[unit], name)
    )
    texts = service_copy.texts(states[service], unit_directives.path_of(service), pending)
    user = (
        steps[0].app.config.user or f"spyglass-{name}"
        if unit_directives.path_of(service) in pending
        else states[service]["User"] or "root"
    )
    print(f"sandbox: {service}, as {user}{_drop_in_note(list(texts))}", flush=True)
    ended = sandboxed_check.run_in_sandbox(
        name, texts.values(), words, _start_timeout(name, states[service], options)
    )
    for line in _explain(service, list(texts.values()), ended):
        print(f"spyglass: {line}", file=sys.stderr)
    if ended.status is None or ended.status >= 200 or faults:
        return EX_CONFIG
    return ended.status or status


def _start_timeout(name: str, state: Mapping[str, str], options: Mapping[str, str]) -> float:
    """Return the app's start_timeout (seconds), or the default if its settings are
    wrong: then it exits at once.
    """
    environ, _ = effective_settings.environment(state, [])
    try:
        timeout: float = load(file_for(name), environ, options).start_timeout
    except ConfigError:
        return Config().start_timeout
    return timeout


def _drop_in_note(paths: Sequence[str]) -> str:
    """Return ", with ..." for the drop-ins among `paths`, or ""."""
    return f", with {', '.join(paths[1:])}" if paths[1:] else ""


def _refuse_unloaded(unit: str, state: Mapping[str, str]) -> None:
    """Raise StartError if a unit is not loaded; warn if it has changed on disk."""
    service_copy.refuse_unloaded(unit, state)
    if state["NeedDaemonReload"] == "yes":
        print(
            f"warning: {unit} has changed on disk and systemd has not read it: systemctl daemon-reload",
            flush=True,
        )


def _pending_addresses(unit: str, app: App) -> int:
    """Report the addresses that the socket will have once the settings are applied.
    Return 0.
    """
    print(
        f"addresses: {', '.join(map(str, app.addresses))}, free; {unit} does not listen there yet",
        flush=True,
    )
    return 0


def _addresses(unit: str, state: Mapping[str, str], name: str) -> int:
    """Report whether the socket listens or could. Return 0, or EX_CONFIG if an address
    is in use.
    """
    where = ", ".join(address_owners.addresses(state)) or "none"
    if state["ActiveState"] == "active":
        print(f"addresses: {where}; {unit} listens", flush=True)
        return 0
    taken = address_owners.conflicts(state)
    for line in taken:
        print(f"spyglass: address {line}", file=sys.stderr, flush=True)
    if not taken:
        how = "has failed" if state["ActiveState"] == "failed" else "does not listen yet"
        print(f"addresses: {where}, free; {unit} {how}: spyglass apply {name}", flush=True)
    return EX_CONFIG if taken else 0


def _explain(
    service: str, texts: Sequence[str], ended: sandboxed_check.CheckResult
) -> Iterator[str]:
    """Yield what to print about a check that ended without a message of its own."""
    if ended.result == "oom-kill":
        yield "the check ran out of memory: memory_max, or this machine, is too small for the app"
    elif ended.status is None:
        yield f"the check could not be started or did not finish: {ended.result}"
    elif ended.status < 200:
        return
    else:
        step = start_failures.step(ended.status)
        yield f"{service} {step}; clients would wait while systemd retries once a second"
    yield from start_failures.missing_files(texts)
    for line in ended.messages:
        yield f"systemd: {line}"
