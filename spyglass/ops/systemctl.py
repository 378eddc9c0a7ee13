"""The one place that asks systemd, by systemctl(1), and tells it what to do.

Everything that administrators' commands want to know of units goes through here, so
that there is one answer to "what if there is no systemd", and one that a test can put
in its place.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from spyglass.errors import EX_UNAVAILABLE, StartError
from spyglass.ops.untrusted_text import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import IO

SYSTEMCTL = "systemctl"


class NoSystemdError(StartError):
    """There is no systemd to ask."""

    exit_status = EX_UNAVAILABLE


class RefusedError(StartError):
    """systemd was asked to do something and could not; the text has its words."""

    exit_status = 1


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl with `words` to its end, whatever comes of it. Raises
    NoSystemdError where it is missing.
    """
    try:
        return _run([SYSTEMCTL, "--no-pager", "--no-ask-password", *words])
    except FileNotFoundError:
        raise NoSystemdError(
            "there is no systemctl here: what this command does needs systemd"
        ) from None


def _run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, check=False, capture_output=True)  # noqa: S603, of our own words
    # Not text=True, which makes line ends of "\r".
    said = [stream.decode(errors="replace") for stream in (done.stdout, done.stderr)]
    return subprocess.CompletedProcess(argv, done.returncode, *said)


def start_in_background(unit: str, output: IO[str]) -> subprocess.Popen[bytes]:
    """Run `systemctl start` for `unit` and return the process without waiting for it.

    What it prints goes to the file `output`. It has a session of its own: Ctrl-C in
    the terminal must reach the caller alone, which then stops the unit. systemctl
    would exit and leave the unit running.
    """
    argv = [SYSTEMCTL, "--no-ask-password", "--quiet", "start", unit]
    return subprocess.Popen(  # noqa: S603, of our own words
        argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
    )


def ask(*words: str) -> str:
    """What systemctl says. Raises RefusedError when it fails, NoSystemdError when there
    is no systemd.
    """
    done = run(*words)
    if done.returncode == 0:
        return done.stdout
    said = " ".join(done.stderr.split()) or f"status {done.returncode}"
    if "not been booted with systemd" in said or "Failed to connect to bus" in said:
        raise NoSystemdError("systemd does not run here, or cannot be asked: " + said)
    raise RefusedError(f"systemctl {' '.join(words)}: {said}")


def show(units: Iterable[str], properties: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Properties (all of them, if none are named) of `units` as systemd has them, by
    the name that was asked for.

    A unit of which there is no file has LoadState=not-found. Units, not patterns: of
    those only the loaded ones would be found. `Id` is the name that was asked for,
    whatever the answer says, so that nothing that an answer claims gets into a command.
    """
    names = list(units)
    if not names:
        return {}
    wanted = [f"--property={','.join(properties)}"] if properties else []
    blocks = ask("show", "--all", *wanted, "--", *names).strip("\n").split("\n\n")
    if len(blocks) != len(names):
        # Some value has an empty line in it. One unit at a time, it can only be wrong
        # about itself.
        blocks = [ask("show", "--all", *wanted, "--", name) for name in names]
    return {
        name: _properties(block, name, frozenset(properties))
        for name, block in zip(names, blocks, strict=True)
    }


def _properties(block: str, unit: str, wanted: frozenset[str]) -> dict[str, str]:
    """What is in a block, a line each; a value with line breaks goes on in lines that
    begin with the name of no property in `wanted`.
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
    """The names of all units that match and that systemd has in its memory or finds
    enabled, sorted: "spyglass@*.socket".
    """
    loaded = ask("list-units", "--all", "--plain", "--no-legend", "--full", "--", pattern)
    files = ask("list-unit-files", "--no-legend", "--full", "--", pattern)
    names = {line.split()[0] for line in (*lines_of(loaded), *lines_of(files)) if line.strip()}
    return sorted(name for name in names if "@." not in name)


def verify(units: Iterable[str]) -> list[str]:
    """What systemd would complain of if it read these units as their files are now, in
    lines; not only about these (systemd-analyze(1)).
    """
    argv = ["systemd-analyze", "verify", "--man=no", "--", *units]
    return lines_of(_run(argv).stderr)


def socket_of(name: str) -> str:
    return f"spyglass@{name}.socket"


def service_of(name: str) -> str:
    return f"spyglass@{name}.service"


def units_of(names: Iterable[str]) -> list[str]:
    """Return the socket and the service of each of these apps, in this order."""
    return [unit for name in names for unit in (socket_of(name), service_of(name))]
