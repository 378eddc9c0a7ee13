"""What is done to the whole machine while all apps are visited. WHOLE_MACHINE is the
table; a function is given a Machine's scene.

As in disturbances.py: what it permits it says before it does it, and everything else
must go unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from ledger import CROSSED, STOPPED
from scene import Whole

DEB = "/root/spyglass.deb"


def daemon_reload(whole: Whole) -> None:
    for _ in range(whole.dice.randint(1, 4)):
        whole.machine.systemctl("daemon-reload")


def daemon_reexec(whole: Whole) -> None:
    whole.machine.systemctl("daemon-reexec", timeout=120)


def journald_restart(whole: Whole) -> None:
    whole.machine.systemctl("restart", "systemd-journald")


def journald_stops_reading(whole: Whole) -> None:
    [pid] = [int(pid) for pid in whole.machine.run("pidof", "systemd-journald").stdout.split()]
    whole.machine.run("kill", "-STOP", str(pid))
    try:
        whole.wait(0.5, 4)
    finally:
        whole.machine.run("kill", "-CONT", str(pid))


def _leave_no_room(whole: Whole) -> None:
    """Less than is used by now is refused (tmpfs(5)), and it may be more than a moment
    ago.
    """

    def done() -> bool:
        used = whole.machine.run("df", "--output=used", "/tmp").stdout.split()[-1]
        return (
            whole.machine.run(
                "mount", "-o", f"remount,size={int(used) + 4}k", "/tmp", check=False
            ).returncode
            == 0
        )

    whole.machine.wait_until(done, 10, "/tmp has no more room than it needs")


def tmp_is_full(whole: Whole) -> None:
    """Bodies that need a temporary file are refused, all others go on. A unit that
    wakes just then gets no /tmp of its own: it waits.
    """
    with whole.permits({"status 507"}, after=1, big=True):
        _leave_no_room(whole)
        try:
            whole.wait(1, 5)
        finally:
            whole.machine.run("mount", "-o", "remount,size=512m", "/tmp")


def upgrade(whole: Whole) -> None:
    """The package is installed again, over itself: what is awake is restarted."""
    with ExitStack() as stack:
        for site in whole.sites:
            stack.enter_context(site.lock)
        with whole.permits(CROSSED | STOPPED, after=25):
            whole.machine.run("dpkg", "--install", DEB, timeout=120)


@dataclass(frozen=True)
class WholeDisturbance:
    """`weight`: how often, beside the others. `early`: only in the first third of a
    run, for it ends every Master.
    """

    do: Callable[[Whole], None]
    weight: float = 1.0
    early: bool = False


WHOLE_MACHINE: dict[str, WholeDisturbance] = {
    "daemon-reload": WholeDisturbance(daemon_reload, 3),
    "daemon-reexec": WholeDisturbance(daemon_reexec, 2),
    "journald restart": WholeDisturbance(journald_restart),
    "journald STOP": WholeDisturbance(journald_stops_reading),
    "/tmp is full": WholeDisturbance(tmp_is_full, 2),
    "upgrade": WholeDisturbance(upgrade, 2, early=True),
}
