"""`spyglass off`: turn apps off until `spyglass on`, whatever happens in between.

The socket is stopped and masked (systemctl(1)): neither a boot, nor `spyglass apply`,
nor `systemctl start` makes it listen again. The service finishes its requests first.
Files and data stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spyglass.ops.command_declaration import APPS, Command
from spyglass.ops.guards import locks
from spyglass.ops.guards.privileges import require_root
from spyglass.ops.guards.termination_signals import exit_on_termination_signals
from spyglass.ops.status import known_apps
from spyglass.ops.systemd import systemctl
from spyglass.ops.systemd.systemctl import RefusedError, app_units, service_of, socket_of

if TYPE_CHECKING:
    import argparse

COMMAND = Command(
    "off",
    "turn apps off: they finish their requests and stop listening until 'spyglass on', whatever "
    "boots and 'spyglass apply' come in between",
    operands=(APPS,),
    changes=True,
    group="Set up",
    brief="turn apps off until 'spyglass on'",
    more="exit status: 0 they are off; 1 a step failed; 4 there is no such app; 69 there is no systemd",
)


def run(options: argparse.Namespace) -> int:
    names = known_apps.resolve(options.names)
    require_root("turn apps off", "off", *names)
    with locks.held("units", "changing units"), exit_on_termination_signals():
        lines = _turn_off(names)
    for line in lines:
        print(line)
    return 0


def _turn_off(names: list[str]) -> list[str]:
    """Turn these apps off; return what was done (lines). Raise RefusedError when none
    was.
    """
    shown = systemctl.show(app_units(names), ["ActiveState", "UnitFileState"])
    listening = [name for name in names if shown[socket_of(name)]["ActiveState"] == "active"]
    # Not "masked-runtime": that ends with the next boot.
    masked = [name for name in names if shown[socket_of(name)]["UnitFileState"] == "masked"]
    running = [
        name
        for name in names
        if name in listening or shown[service_of(name)]["ActiveState"] not in ("inactive", "failed")
    ]
    if running:
        # Stopped before it is masked: systemd would forget the file of a unix socket.
        systemctl.ask("stop", *app_units(running))
    if masking := [socket_of(name) for name in names if name not in masked]:
        try:
            systemctl.ask("mask", *masking)
        except BaseException as error:
            systemctl.run("unmask", *masking)
            if listening:
                systemctl.run("start", *map(socket_of, listening))
            if isinstance(error, RefusedError):
                raise RefusedError(f"{error}; all apps listen as before") from None
            raise
    return [
        f"{name}: was off already"
        if name in masked and name not in running
        else f"{name}: off, clients are refused; to turn it on: spyglass on {name}"
        for name in names
    ]
