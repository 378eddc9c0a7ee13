"""Run systemctl(1) and systemd-analyze(1). No other module does.

So there is one answer to "what if there is no systemd", and one place where a test puts
a fake. Answers contain text of apps (StatusText) and of administrators: they are parsed
without trust, see output/untrusted_text.py.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

from spyglass.errors import EX_UNAVAILABLE, StartError
from spyglass.ops.output.untrusted_text import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import IO

SYSTEMCTL = "systemctl"
RUNTIME_UNITS = "/run/systemd/system"  # what lasts until the next boot (systemd.unit(5))


class NoSystemdError(StartError):
    """There is no systemd, or it cannot be reached."""

    exit_status = EX_UNAVAILABLE


class RefusedError(StartError):
    """systemctl failed; the message quotes what it printed."""

    exit_status = 1


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl with `words` and return the completed process, whatever its status.
    Raise NoSystemdError if there is no systemctl.
    """
    return _run([SYSTEMCTL, "--no-pager", "--no-ask-password", *words])


def _run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(argv, check=False, capture_output=True)  # noqa: S603, no shell
    except FileNotFoundError:
        raise NoSystemdError(f"{argv[0]} not found: this command needs systemd") from None
    # Not text=True, which turns "\r" into line ends.
    said = [stream.decode(errors="replace") for stream in (done.stdout, done.stderr)]
    return subprocess.CompletedProcess(argv, done.returncode, *said)


def reload(unit: str) -> subprocess.CompletedProcess[str]:
    """Reload `unit` if it is active, and return the completed process. Polkit may ask
    an ordinary user for a password. Raise NoSystemdError if there is no systemctl.
    """
    return _run([SYSTEMCTL, "--no-pager", "try-reload-or-restart", "--", unit])


def start_in_background(unit: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Run `systemctl start` for `unit` and return the process without waiting for it.

    What it prints goes to the file `output`. It has a session of its own: Ctrl-C in
    the terminal must reach the caller alone, which then stops the unit. systemctl
    would exit and leave the unit running.
    """
    argv = [SYSTEMCTL, "--no-ask-password", "--quiet", "start", unit]
    return subprocess.Popen(  # noqa: S603, no shell
        argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
    )


def hold_back(service: str, until_unlocked: str) -> None:
    """Keep systemd from starting `service` until the lock of a file is free, which the
    caller holds (guards/locks.py). Raise RefusedError.

    A job waits for the jobs of units that are ordered before its own (systemd.unit(5),
    Before=). So connections stay in the socket's queue. If the caller is killed, the
    kernel unlocks the file and the service starts.
    """
    unit = f"spyglass-hold-{service.partition('@')[2]}"
    if run("is-active", unit).stdout.strip() == "activating":
        return  # of a command that was killed; it waits for the same lock
    properties = ["Type=oneshot", f"Before={service}", "TimeoutStartSec=infinity"]
    argv = ["systemd-run", "--quiet", "--no-block", "--collect", "--no-ask-password"]
    argv += [f"--unit={unit}", *(f"--property={each}" for each in properties)]
    done = _run([*argv, "--", "flock", until_unlocked, "true"])
    if done.returncode:
        raise RefusedError(f"systemd-run: {' '.join(done.stderr.split())}")


def ask(*words: str) -> str:
    """Run systemctl and return its output. Raise RefusedError if it fails,
    NoSystemdError if there is no systemd.
    """
    done = run(*words)
    if done.returncode == 0:
        return done.stdout
    said = " ".join(done.stderr.split()) or f"status {done.returncode}"
    if "not been booted with systemd" in said or "Failed to connect to bus" in said:
        raise NoSystemdError("systemd is not running or cannot be reached: " + said)
    raise RefusedError(f"systemctl {' '.join(words)}: {said}")


def unmask_command(unit: str) -> str:
    """Return the command that unmasks `unit`. `systemctl mask --runtime` has its own,
    and its link is in /run.
    """
    runtime = os.path.lexists(os.path.join(RUNTIME_UNITS, unit))
    return shlex.join(["systemctl", "unmask", *(["--runtime"] if runtime else []), unit])


def show(units: Iterable[str], properties: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Return {unit: {property: value}} for `units`; all properties if none are named.

    A unit without a file has LoadState=not-found. Pass names, not patterns: a pattern
    matches loaded units only. `Id` is always the name passed in, whatever the answer
    claims, so that no text from an answer ends up in a command. Raise RefusedError,
    NoSystemdError.
    """
    names = list(units)
    if not names:
        return {}
    wanted = [f"--property={','.join(properties)}"] if properties else []
    blocks = ask("show", "--all", *wanted, "--", *names).strip("\n").split("\n\n")
    if len(blocks) != len(names):
        # A value with an empty line in it looks like the end of a unit. Asked one at a
        # time, a unit can only falsify its own properties.
        blocks = [ask("show", "--all", *wanted, "--", name) for name in names]
    return {
        name: _properties(block, name, frozenset(properties))
        for name, block in zip(names, blocks, strict=True)
    }


def _properties(block: str, unit: str, wanted: frozenset[str]) -> dict[str, str]:
    """Parse one unit's block of `systemctl show`.

    A value with line breaks continues on the next lines: a line starts a new property
    only if its name is in `wanted`.
    """
    found: dict[str, str] = {}
    name = ""
    for line in block.split("\n"):
        before, equals, value = line.partition("=")
        if equals and (
            before in wanted or (not wanted and before.isalnum() and before[:1].isupper())
        ):
            name = before
            found[name] = value if name not in found else f"{found[name]}\n{value}"
        elif name and line:
            found[name] += f"\n{line}"
    return found | {"Id": unit} if "Id" in found else found


def units(pattern: str) -> list[str]:
    """Return the names of the units that match `pattern` ("spyglass@*.socket") and are
    loaded or have a unit file, sorted, without templates.
    """
    loaded = ask("list-units", "--all", "--plain", "--no-legend", "--full", "--", pattern)
    words = ("list-unit-files", "--no-legend", "--full", "--", pattern)
    done = run(*words)
    # Later versions of systemctl exit with 1 if no file matches, and print nothing.
    files = ask(*words) if done.stderr else done.stdout
    names = {line.split()[0] for line in (*lines_of(loaded), *lines_of(files)) if line.strip()}
    return sorted(name for name in names if "@." not in name)


def verify(units: Iterable[str]) -> list[str]:
    """Return the complaints of systemd-analyze about these units as their files are
    now.

    A line may concern another unit, which these depend on (systemd-analyze(1)).
    """
    argv = ["systemd-analyze", "verify", "--man=no", "--", *units]
    return lines_of(_run(argv).stderr)


def socket_of(name: str) -> str:
    """Return the name of the app's socket unit."""
    return f"spyglass@{name}.socket"


def service_of(name: str) -> str:
    """Return the name of the app's service unit."""
    return f"spyglass@{name}.service"


def app_units(names: Iterable[str]) -> list[str]:
    """Return the socket and the service of each of these apps, in this order."""
    return [unit for name in names for unit in (socket_of(name), service_of(name))]
