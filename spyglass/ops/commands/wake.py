"""`spyglass wake`: start a sleeping app before a client does.

systemd starts the service, with the sockets, as for a connection. Not by a connection:
that would be a client, which a worker accepts, logs and waits for.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from spyglass.errors import EX_UNAVAILABLE, StartError
from spyglass.ops.app import apps
from spyglass.ops.command_declaration import APPS, Command
from spyglass.ops.files import memory_file
from spyglass.ops.guards.privileges import require_root
from spyglass.ops.run import run_preparation
from spyglass.ops.status import app_status, known_apps
from spyglass.ops.systemd import systemctl

if TYPE_CHECKING:
    import argparse

    from spyglass.ops.status.app_status import AppStatus

COMMAND = Command(
    "wake",
    "wake sleeping apps without a request, and report how long that took or why it failed",
    operands=(APPS,),
    changes=True,
    more="exit status: 0 all are awake; 4 there is no such app; 69 one of them did not wake in time; "
    "78 one of them is failing or off, or its settings are wrong",
)
_MARGIN = 10.0  # seconds for systemd, beyond what the app may take


class _NotAwakeError(StartError):
    """The app is not awake; the message says why."""


def run(options: argparse.Namespace) -> int:
    names = known_apps.resolve(options.names)
    for name in names:
        run_preparation.find_app(name)
    also = "; any client wakes it, too"
    require_root("wake an app through systemd", "wake", *names, also=also)
    status = 0
    for name in names:
        try:
            print(f"{name}: {_wake(name)}", flush=True)
        except StartError as error:
            print(f"spyglass: {name}: {error.lines[0]}", file=sys.stderr, flush=True)
            status = status or error.exit_status
    return status


def _wake(name: str) -> str:
    """Wake the app and return what was done. Raise StartError if that fails."""
    app = _status(name)
    if app.state == app_status.AWAKE:
        return f"already awake ({app.status.partition(': ')[2] or 'serving'})"
    if app.state == app_status.OFF:
        raise _NotAwakeError(
            f"off: its socket does not listen, so no client could reach it: spyglass on {name}"
        )
    began = time.monotonic()
    said = _start(name)
    took = time.monotonic() - began
    app = _status(name)
    if app.state != app_status.AWAKE:
        why = app.trouble or app.status or said or "it has ended"
        raise _NotAwakeError(f"{app.state}: {why}; spyglass status {name} shows more")
    return f"awake after {took:.2f} s"


def _status(name: str) -> AppStatus:
    [app] = app_status.query([name])
    return app


def _start(name: str) -> str:
    """Have systemd start the service and wait until it is ready; return what systemctl
    says. Raise StartError if that takes longer than the settings allow.
    """
    limit = _limit(name)
    with memory_file.create() as words:
        job = systemctl.start_in_background(systemctl.service_of(name), words)
        try:
            job.wait(limit)
        except subprocess.TimeoutExpired:
            error = StartError(
                f"not awake after {limit:.0f} s, and still starting: journalctl -u {systemctl.service_of(name)}"
            )
            error.exit_status = EX_UNAVAILABLE
            raise error from None
        finally:
            job.terminate()
            job.wait()
        return " ".join(memory_file.text_of(words).split())


def _limit(name: str) -> float:
    """Return the seconds to wait: what is leaving may take graceful_timeout, and what
    wakes start_timeout.
    """
    config = apps.read(name).config
    return float(config.graceful_timeout) + float(config.start_timeout) + _MARGIN
