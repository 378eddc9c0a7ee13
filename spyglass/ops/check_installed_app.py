"""`spyglass check NAME`, as root: would the app be served, by systemd, as the user and
in the sandbox that its units say?

First what `spyglass apply` would refuse, what systemd has to say of the units and
whether their addresses are free, then the rehearsal of spyglass/ops/commands/check.py
inside of the sandbox, and where systemd cannot even begin it, why. The units are taken
as they will be when they follow the app's file, whether or not they do already. The
app's own service is neither woken nor stopped nor asked.
"""

from __future__ import annotations

import glob
import os
import sys
from typing import TYPE_CHECKING

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
    systemctl,
    unit_directives,
    unit_files,
)
from spyglass.ops.untrusted_text import filtered
from spyglass.zygote.sandbox_hints import sandboxed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from spyglass.ops.apps import App

_NAMED = 10  # apps in one line
_BY_A_USER = "To try other code, be its user: runuser -u USER -- spyglass check APP"
_PROPERTIES = (
    *(
        "LoadState",
        "LoadError",
        "FragmentPath",
        "DropInPaths",
        "NeedDaemonReload",
        "User",
        "DynamicUser",
    ),
    *("Environment", "EnvironmentFiles"),
)

# Statuses of a command that systemd could not begin (systemd.exec(5), "Process Exit
# Codes"), and what to look at.
_SYSTEMD_STATUSES = {
    200: "cannot enter WorkingDirectory=",
    203: "cannot run its program",
    205: "cannot set its limits",
    213: "cannot set its priority",
    214: "cannot set its priority",
    216: "cannot become its group",
    217: "cannot become its user",
    219: "cannot be put into its control group",
    226: "cannot be given its view of the disk: a path that a drop-in names does not exist, most likely",
    228: "cannot be given its filter of system calls",
    233: "cannot be given its directory in /run",
    238: "cannot be given its state directory",
    239: "cannot be given its cache directory",
    240: "cannot be given its directory for logs",
    243: "cannot be given its credentials",
}
_PATHS = (
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "ExecPaths",
    "NoExecPaths",
    "BindPaths",
    "BindReadOnlyPaths",
)


def is_app(word: str) -> bool:
    """Whether `word` names an app of this machine: there is an
    /etc/spyglass/NAME.toml.
    """
    try:
        return os.path.exists(file_for(word))
    except ConfigError:
        return False


def is_root() -> bool:
    """Whether root asks. Inside of a unit of ours, which may run its app as root,
    that is the check itself.
    """
    return os.geteuid() == 0 and not sandboxed()


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
            else "there is none; 'spyglass new' makes one"
        )
        what = (
            f"{word!r} is not the name of an app{hint(word, dict.fromkeys(known))}"
            if word
            else "which app?"
        )
        return f"check: {what}; root checks an app in the sandbox of its unit only, by its NAME: {there}. {_BY_A_USER}"
    if not os.path.exists(file_for(name)):
        return f"check: there is no {file_for(name)}{hint(name, dict.fromkeys(apps.names()))}"
    if not os.path.isdir("/run/systemd/system"):  # sd_booted(3)
        return f"check: root checks an app in the sandbox of its unit only, and systemd does not run here. {_BY_A_USER}"
    return ""


def shown_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"


@filtered()
def run(name: str, options: Mapping[str, str]) -> int:
    """Check the app `name` (str, of an existing file), with `options` (setting to text)
    as the strongest; prints what comes of it.

    Returns the exit status: 0, EX_CONFIG, or what the rehearsal ended with.
    """
    try:
        return _check(name, options)
    except StartError as error:
        for line in (str(error), *getattr(error, "also", ())):
            print(f"spyglass: {line}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130


def _check(name: str, options: Mapping[str, str]) -> int:
    words = [f"--{setting.replace('_', '-')}={value}" for setting, value in options.items()]
    service, unit = systemctl.service_of(name), systemctl.socket_of(name)
    states = systemctl.show([service, unit], [*_PROPERTIES, *address_owners.PROPERTIES])
    for each in (service, unit):
        _refuse_unloaded(each, states[each])
    app = apps.read(name)
    if app.faults and not app.is_unreadable:
        # Another user could put anything there, or no unit can be made of it: that is
        # not tried.
        raise ConfigError(app.faults[0], also=app.faults[1:])
    steps, faults = apply_plan.plan([name])
    if not steps:
        faults = []  # the file itself is wrong: the rehearsal will say so
    for line in faults:
        print(f"spyglass: {line}", file=sys.stderr, flush=True)
    for note in steps[0].app.notes if steps else ():
        print(f"warning: {note}", flush=True)
    pending = {} if faults or not steps else steps[0].changes
    if pending:
        print(
            f"units: as 'spyglass apply {name}' would make them; they do not follow {file_for(name)} yet",
            flush=True,
        )
    status = (
        _pending_addresses(unit, steps[0].app)
        if unit_directives.path_of(unit) in pending
        else _addresses(unit, states[unit], name)
    )
    texts = _texts(states[service], unit_directives.path_of(service), pending)
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
    """Seconds that the rehearsal gives the app, which reads the same; of settings that
    are wrong it says so at once.
    """
    environ, _ = effective_settings.environment(state, [])
    try:
        timeout: float = load(file_for(name), environ, options).start_timeout
    except ConfigError:
        return Config().start_timeout
    return timeout


def _texts(state: Mapping[str, str], ours: str, pending: Mapping[str, str]) -> dict[str, str]:
    """The service's file and its drop-ins, in the order in which they count; `ours` is
    the path of the one that `spyglass apply` makes.
    """
    unit, *drop_ins = [state["FragmentPath"], *state["DropInPaths"].split()]
    if ours in pending:
        drop_ins = sorted({*drop_ins, ours}, key=os.path.basename)
    texts = {
        path: pending[path] if path in pending else atomic_files.read(path)
        for path in (unit, *drop_ins)
    }
    return {path: text for path, text in texts.items() if text}


def _drop_in_note(paths: Sequence[str]) -> str:
    return f", with {', '.join(paths[1:])}" if paths[1:] else ""


def _refuse_unloaded(unit: str, state: Mapping[str, str]) -> None:
    if state["LoadState"] == "loaded":
        if state["NeedDaemonReload"] == "yes":
            print(
                f"warning: {unit} has been changed and systemd does not know yet: systemctl daemon-reload",
                flush=True,
            )
        return
    why = {
        "not-found": "there is no such unit: is the package installed?",
        "masked": "it is masked: systemctl unmask",
    }
    raise StartError(
        f"{unit}: {why.get(state['LoadState'], state['LoadError'] or state['LoadState'])}"
    )


def _pending_addresses(unit: str, app: App) -> int:
    print(
        f"addresses: {', '.join(map(str, app.addresses))}, free; {unit} does not listen there yet",
        flush=True,
    )
    return 0


def _addresses(unit: str, state: Mapping[str, str], name: str) -> int:
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
    """What to say of an end that the rehearsal itself has said nothing about."""
    if ended.result == "oom-kill":
        yield "the check was ended for want of memory: memory_max is too small for this app, or the machine is"
    elif ended.status is None:
        yield f"the check could not be started, or did not come to its end: {ended.result}"
    elif ended.status < 200:
        return
    else:
        step = _SYSTEMD_STATUSES.get(ended.status, f"cannot be started, status {ended.status}")
        yield f"{service} {step}; visitors would wait, while systemd tries once a second"
    yield from _missing(texts)
    for line in ended.messages:
        yield f"systemd: {line}"


def _missing(texts: Sequence[str]) -> Iterator[str]:
    """Files that the unit names and that are not there."""
    for text in texts:
        for line in unit_files.parse(text):
            key, value = line.key, line.raw_value
            if line.section != "Service" or "%" in value:
                continue
            if key in ("LoadCredential", "LoadCredentialEncrypted"):
                name, _, path = value.partition(":")
                if path.startswith("/") and not os.path.exists(path):
                    yield f"credential {name}: there is no {path}"
            elif key == "EnvironmentFile" and value.startswith("/") and not glob.glob(value):
                yield f"environment_file: there is no {value}"
            elif key in _PATHS:
                for path in value.split():
                    where = path.strip('"').lstrip("+").partition(":")[0]
                    if where.startswith("/") and not os.path.exists(where):
                        yield f"{key}: there is no {where}"
