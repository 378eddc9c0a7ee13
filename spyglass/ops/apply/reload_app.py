"""`spyglass reload NAME`: have systemd reload an app, and report how that went.

systemd runs the reload, so that it waits for a start or a stop of the unit, and shows
it. How it ended is asked of the Master, because systemd knows only that it failed:
which error, where, and after how long.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.errors import EX_UNAVAILABLE, StartError
from spyglass.master import reload_socket
from spyglass.ops.apply import older_settings
from spyglass.ops.output.terminal import colourize, is_coloured, width_limit, wrapped
from spyglass.ops.output.untrusted_text import filtered, number
from spyglass.ops.status import app_status, master_report
from spyglass.ops.status.app_status import ASLEEP, AWAKE, FAILING, LEAVING, OFF, WAKING
from spyglass.ops.systemd import systemctl
from spyglass.ops.systemd.systemctl import NoSystemdError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from spyglass.ops.status.app_status import AppStatus

_FAILED = 1  # as of systemctl(1), which has one status for each kind of failure
_ANSWERS = 3600.0  # seconds; the Master gives up after start_timeout
_LONGEST = 64 << 10  # bytes of an answer
_WAKING = (
    "it is still waking, with the code that was there when it began; repeat this when it is awake"
)
# What systemctl says to a user whom polkit does not allow it.
_DENIED = ("Access denied", "authentication required", "Permission denied")
_RUNNING = ("active", "reloading", "activating")


class Result:
    """`status` (int) is the exit status, `said` one line, `details` lines with a
    traceback.
    """

    def __init__(self, status: int, said: str, details: Sequence[str] = ()) -> None:
        self.status = status
        self.said = said
        self.details = list(details)


@filtered()
def reload_app(text: str) -> int:
    """Reload the app that `text` names if it is awake, and print the result; return the
    exit status. Raise StartError if there is no such app, or no systemd.
    """
    try:
        name = app_status.resolve(text)
        result, warnings = _reload(name)
    except NoSystemdError as error:
        raise _NoMasterError(f"{error}; without systemd, send SIGHUP to the lookout") from None
    except KeyboardInterrupt:
        print(f"{text}: interrupted; a reload that has begun goes on", file=sys.stderr)
        return 130
    stream = sys.stderr if result.status else sys.stdout
    _print(f"{name}: {result.said}", "fault" if result.status else "", stream)
    for line in result.details:
        print(line, file=stream)  # not wrapped: a traceback is read as Python prints it
    stream.flush()
    for warning in warnings:
        _print(f"{name}: {warning}", "hint", sys.stderr)
    return result.status


def _print(text: str, kind: str, stream: TextIO) -> None:
    """Print `text` wrapped, in the colour of `kind`."""
    coloured = is_coloured(stream, os.environ)
    for line in wrapped(text, width_limit(stream, os.environ), 4):
        print(colourize(line, kind, coloured), file=stream)


class _NoMasterError(StartError):
    exit_status = EX_UNAVAILABLE


def _reload(name: str) -> tuple[Result, list[str]]:
    """Ask systemd, unless there is nothing to reload. Return the result, and warnings:
    of what a reload does not bring into force, and of what keeps clients away.
    """
    began = time.monotonic()
    [before] = app_status.query([name])
    active = before.service.get("ActiveState")
    if active not in _RUNNING or not number(before.service.get("MainPID")):
        result = resting(before)
        return result, [] if result.status else _lines(older_settings.describe(before))
    unit = app_status.units_of(name)[1]
    done = _ask_master(before) if active == "activating" else systemctl.reload(unit)
    took = time.monotonic() - began
    [after] = app_status.query([name])
    if after.reloaded is not None and after.reloaded.ended < began:
        after.reloaded = None
    if done.returncode:
        # Of its lines the first says what, the others where to look for more.
        said = done.stderr.partition("\n")[0] or f"status {done.returncode}"
        return failed(before, after, said), []
    result = succeeded(before, after, took)
    return result, [] if result.status else _lines(after.trouble, older_settings.describe(after))


def _ask_master(app: AppStatus) -> subprocess.CompletedProcess[str]:
    """Have the Master of an app that wakes load it again, and wait for the result;
    return it as systemctl would.

    To systemd, a start that is under way does for a reload as well. So the app would
    serve the code that it read before this command.
    """
    path = os.path.join(app_status.directory(app), reload_socket.NAME)
    pid = number(app.service.get("MainPID"))
    by = time.monotonic() + reload_socket.OPENS_WITHIN
    while (sock := master_report.connect(path, pid)) is None and time.monotonic() < by:
        time.sleep(0.02)
    if sock is None:
        return subprocess.CompletedProcess([], 1, "", _WAKING)
    said = b""
    with sock:
        sock.settimeout(_ANSWERS)
        try:
            while len(said) < _LONGEST and (piece := sock.recv(_LONGEST)):
                said += piece
        except OSError:
            pass  # the Master has ended, or stands still
    status, _, why = said.decode(errors="replace").partition(" ")
    failed = "" if status == "0" else why.strip() or "the Master has ended"
    return subprocess.CompletedProcess([], int(bool(failed)), "", failed)


def _lines(*texts: str) -> list[str]:
    return [text for text in texts if text]


# From what is known to what is said


def resting(app: AppStatus) -> Result:
    """There is no process that could load anything: the result for `app`."""
    if app.state == OFF:
        return Result(0, "off, nothing to reload: its next start loads the new code")
    if app.state == FAILING and app.socket.get("ActiveState") != "active":
        return Result(_FAILED, f"not reloaded: {app.trouble}; see 'spyglass doctor {app.name}'")
    before = f"(before: {app.trouble})"
    if app.service.get("SubState") == "auto-restart":
        return Result(0, f"not running, its next start loads the new code {before}")
    if app.state == FAILING and app.service.get("ActiveState") == "failed":
        return Result(0, f"not running, the next request loads the new code {before}")
    if app.state == FAILING:
        return Result(_FAILED, f"not reloaded: {app.trouble}")  # it names the command to type
    return Result(0, f"{app.state}, the next request loads the new code")


def succeeded(before: AppStatus, after: AppStatus, took: float) -> Result:
    """systemd reports success after `took` (seconds); the result for the app."""
    done = after.reloaded
    if done is not None and done.status:
        # A unit with Type=notify-reload and without ExecReload=: systemd cannot be told
        # of a failure.
        return failed(before, after, "")
    if after.state in (ASLEEP, LEAVING, OFF):
        return resting(after)
    if after.state == WAKING:  # since this command began
        return Result(0, "waking, with the new code")
    if done is None and after.state == FAILING:
        return Result(_FAILED, f"not reloaded: {after.trouble}")
    return Result(0, f"new code serves after {took if done is None else done.seconds:.2f} s")


def failed(before: AppStatus, after: AppStatus, said: str) -> Result:
    """The result for an app whose reload failed; `said` is what systemctl printed."""
    done, unit = after.reloaded, after.service.get("Id", "")
    if done is not None and done.status not in (0, EX_UNAVAILABLE):
        return _broken(after, done.why, done.details)
    lives = [app.service.get("InvocationID") for app in (before, after)]
    if lives[0] != lives[1] and after.state in (WAKING, AWAKE):
        return Result(0, "restarted meanwhile, with the new code")
    if after.service.get("ActiveState") not in _RUNNING or after.state == LEAVING:
        rest = resting(after)
        return Result(
            _FAILED, f"the reload was cancelled, because the app stopped; now {rest.said}"
        )
    # A Master of another version does not report, and nor does any to an ordinary
    # user. But its status line has the reason for everybody.
    why = after.status.partition("; reload failed: ")[2] or (
        after.trouble if after.state == FAILING else ""
    )
    if why and said.startswith("Job "):
        return _broken(after, why, "")
    if os.geteuid() and any(sign in said for sign in _DENIED):
        said = f"only root may reload an app through systemd: sudo spyglass reload {after.name}"
    elif said != _WAKING:
        said = f"{said or 'the Master has ended'} (journalctl -u {unit})"
    return Result(_FAILED, f"not reloaded: {said}")


def _broken(app: AppStatus, why: str, details: str) -> Result:
    """The result for an app whose new code, or settings, cannot be loaded."""
    answers = app.status.startswith(f"{FAILING}: ")
    serves = "the app answers 503" if answers else "the old one keeps serving"
    what = "the new code cannot be loaded"
    file = os.path.join(settings.DIRECTORY, f"{app.name}.toml")
    if why.startswith(f"{file}:"):
        what = "the new settings cannot be read"
        serves = serves if answers else "the old ones stay in force"
    return Result(_FAILED, f"{what}, {serves}: {why}", _details(app, details))


def _details(app: AppStatus, details: str) -> list[str]:
    """Return the traceback as lines, and what to do next. A fault in the settings has
    no traceback, nor has a module that does not exist.
    """
    lines = [f"  {line}".rstrip() for line in details.strip("\n").split("\n") if details]
    if not details and app.reloaded is None:  # the Master has not answered this user
        unit = app.service.get("Id", "")
        root = "" if os.geteuid() == 0 else ", or this command as root"
        return [f"(the traceback: journalctl -u {unit}{root})"]
    if app.name != app_status.DEFAULT:
        lines.append(f"(to try a fix without a reload: spyglass check {app.name})")
    return lines
