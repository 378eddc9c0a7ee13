"""`spyglass check NAME` as root: would systemd serve the app, in its sandbox?

Three steps, and the app's own service is neither started nor stopped. First what
`apply` would reject, what systemd says of the units and whether the addresses are free.
Then the check of spyglass/ops/commands/check.py, run inside the sandbox. If systemd
could not even start it, why. The units are those that `apply` would make, whether or
not it has run.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from spyglass.config import setting_notes
from spyglass.config.setting_errors import hint
from spyglass.config.settings import Config, file_for, load
from spyglass.errors import EX_CONFIG, ConfigError, StartError
from spyglass.ops.addresses import address_owners
from spyglass.ops.app import apps, effective_settings
from spyglass.ops.apply import apply_plan, saved_settings
from spyglass.ops.check import check_report, sandboxed_check
from spyglass.ops.files import atomic_files
from spyglass.ops.output.untrusted_text import filtered
from spyglass.ops.systemd import systemctl
from spyglass.ops.units import service_copy, start_failures, unit_directives
from spyglass.zygote.sandbox_hints import sandboxed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from spyglass.ops.app.apps import App

_NAMED = 10  # apps to name in one line
_BY_A_USER = "To check other code, run as its user: runuser -u USER -- spyglass check APP"
_PROPERTIES = (
    "LoadState", "LoadError", "FragmentPath", "DropInPaths", "NeedDaemonReload", "User",
    "DynamicUser", "Environment", "EnvironmentFiles",
)  # fmt: skip

# Settings without which there is no sandbox to load the app in, or another one.
_OF_THE_SANDBOX = {
    *("app", "directory", "venv", "user", "group"),
    *("environment_file", "credentials", "writable"),
}


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
            check_report.print_line(f"warning: {line}")


def refusal(name: str, word: str) -> str:
    """Return why root cannot check the app `name` in its sandbox (one line), or "".

    `name` is "" if the command line's `word` is not an app's name. Outside of a sandbox
    root checks nothing: importing an app runs its code, and the working directory may
    belong to any user.
    """
    if not name:
        known = apps.names()
        there = (
            f"there {'is' if len(known) == 1 else 'are'} {shown_names(known)}"
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
    except ConfigError as error:
        check_report.print_verdict(name, error.lines)
        return error.exit_status
    except StartError as error:
        for line in error.lines:
            print(f"spyglass: {name} cannot be checked: {line}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130


def _check(name: str, options: Mapping[str, str]) -> int:
    """Run the three steps for the app `name`. Raise StartError."""
    service, unit = systemctl.service_of(name), systemctl.socket_of(name)
    states = systemctl.show([service, unit], [*_PROPERTIES, *address_owners.PROPERTIES])
    is_off = states[unit]["LoadState"] == "masked"
    warnings = sum(
        _is_outdated(each, states[each]) for each in ((service,) if is_off else (service, unit))
    )
    steps, faults = apply_plan.plan([name])
    if not steps:  # its file cannot be read, or not be trusted
        raise ConfigError(faults[0], also=faults[1:])
    (step,) = steps
    warnings += len(step.app.remarks)
    for note in step.app.remarks:
        check_report.print_line(f"warning: {note}")
    pending = {} if faults else step.changes
    if pending:
        check_report.print_line(
            f"units: as 'spyglass apply {name}' would make them; {file_for(name)} is not applied yet"
        )
    if is_off:
        where = ", ".join(map(str, step.app.addresses))
        check_report.print_line(f"addresses: {where}; {name} is off: spyglass on {name}")
    elif unit_directives.path_of(unit) in pending:
        _report_pending_addresses(unit, step.app)
    else:
        faults += _report_addresses(unit, states[unit], name, faults)
    if any(_concerns_the_sandbox(line, step.app.file) for line in faults):
        check_report.print_line("app: not loaded, because its sandbox cannot be made")
        check_report.print_verdict(name, faults)
        return EX_CONFIG
    texts = saved_settings.unit_texts(name, states[service], pending)
    user = (
        step.app.config.user or f"spyglass-{name}"
        if unit_directives.path_of(service) in pending
        else states[service]["User"] or "root"
    )
    check_report.print_line(f"sandbox: {service}, as {user}{_drop_in_note(list(texts))}")
    words = [f"--{setting.replace('_', '-')}={value}" for setting, value in options.items()]
    ended = sandboxed_check.run_in_sandbox(
        name, texts.values(), words, _start_timeout(name, states[service], options)
    )
    return _report(name, list(texts.values()), ended, faults, warnings)


def _report(
    name: str,
    texts: Sequence[str],
    ended: sandboxed_check.CheckResult,
    faults: list[str],
    warnings: int,
) -> int:
    """Print the verdict on the app `name`, and return the exit status.

    The check in the sandbox has `ended`; `faults` and `warnings` are what was found
    outside of it.
    """
    status = ended.status
    if status == 130:
        return status
    if status != 0:
        faults = [*faults, *(ended.faults or [_explanation(systemctl.service_of(name), ended)])]
    if status is None or status >= 200:
        for line in _details(texts, ended):
            check_report.print_line(line, sys.stderr)
    check_report.print_verdict(name, faults, warnings + ended.warnings)
    if not faults:
        return 0
    return status if status is not None and 0 < status < 200 else EX_CONFIG


def _concerns_the_sandbox(fault: str, file: str) -> bool:
    """Return True if `fault`, a line of apply's about the settings in `file`, is about
    what the sandbox is made of. A check in another one would report it again, in other
    words, or something that is not true of the app's own.
    """
    if fault.startswith(("address ", f"{unit_directives.DIRECTORY}/")):
        return False
    setting = re.match(rf"{re.escape(file)}(?::\d+)?: (\w+): ", fault)
    return setting is None or setting[1] in _OF_THE_SANDBOX


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


def _is_outdated(unit: str, state: Mapping[str, str]) -> bool:
    """Return True, and warn, if a unit has changed on disk. Raise StartError if it is
    not loaded.
    """
    service_copy.refuse_unloaded(unit, state)
    if state["NeedDaemonReload"] != "yes":
        return False
    check_report.print_line(
        f"warning: {unit} has changed on disk and systemd has not read it: systemctl daemon-reload"
    )
    return True


def _report_pending_addresses(unit: str, app: App) -> None:
    """Report the addresses that the socket will have once the settings are applied."""
    where = ", ".join(map(str, app.addresses))
    check_report.print_line(f"addresses: {where}, free; {unit} does not listen there yet")


def _report_addresses(
    unit: str, state: Mapping[str, str], name: str, faults: Sequence[str]
) -> list[str]:
    """Report whether the socket listens or could. Return a fault for each address that
    is in use, if it is not among `faults` already.
    """
    where = ", ".join(address_owners.addresses(state)) or "none"
    if state["ActiveState"] == "active":
        check_report.print_line(f"addresses: {where}; {unit} listens")
        return []
    taken = address_owners.conflicts(state)
    if not taken and not any(": listen: " in fault for fault in faults):
        how = "has failed" if state["ActiveState"] == "failed" else "does not listen yet"
        check_report.print_line(f"addresses: {where}, free; {unit} {how}: spyglass apply {name}")
    return [
        f"address {line}"
        for line in taken
        if not any(f": {line.partition(': ')[0]}" in fault for fault in faults)
    ]


def _explanation(service: str, ended: sandboxed_check.CheckResult) -> str:
    """Return what to say of a check that ended without a verdict of its own."""
    if ended.result == "oom-kill":
        return "the check ran out of memory: memory_max, or this machine, is too small for the app"
    if ended.status is None:
        return f"the check could not be started or did not finish: {ended.result}"
    if ended.status < 200:
        return f"the check ended with status {ended.status}, and has not said why"
    step = start_failures.step(ended.status)
    return f"{service} {step}; clients would wait while systemd retries once a second"


def _details(texts: Sequence[str], ended: sandboxed_check.CheckResult) -> Iterator[str]:
    """Yield what is known of a check that systemd could not start, or has ended."""
    yield from start_failures.missing_files(texts)
    for line in ended.messages:
        yield f"systemd: {line}"
