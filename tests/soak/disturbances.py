"""What is done to the apps while visitors come. DISTURBANCES is the table of them; to
add one is to add a function and a row.

A function for one app is given a Scene. What it permits it says there, before it does
it: failures that no permit covers make the run fail, and so does any exception that
leaves the function. When it returns, the app has its usual processes again within a
while (it need not wait for that). What is no more than an accident is in accidents.py,
and what is done to the whole machine in machinewide.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import accidents
from ledger import BROKEN, REPLACED, STOPPED
from scene import Scene
from sites import Site

# What an administrator does


def reload(scene: Scene) -> None:
    with scene.leaving(REPLACED):
        scene.systemctl("reload", check=False)  # it may be asleep


def reload_often(scene: Scene) -> None:
    """While the one before is still under way."""
    with scene.leaving(REPLACED):
        for _ in range(scene.dice.randrange(2, 6)):
            scene.hup()
            scene.wait(0, 0.4)


def restart(scene: Scene) -> None:
    with scene.leaving(STOPPED):
        scene.systemctl("restart")


def stop(scene: Scene) -> None:
    with scene.leaving(STOPPED):
        # It leaves just now, and somebody comes: then the socket's start cancels the stop.
        scene.systemctl("stop", check=False)


def stop_and_start(scene: Scene) -> None:
    with scene.leaving(STOPPED):
        scene.systemctl("--no-block", "stop")
        scene.wait(0, 1)
        scene.systemctl("start")


def reload_and_restart(scene: Scene) -> None:
    with scene.leaving(STOPPED | REPLACED):
        scene.hup()
        scene.wait(0, 0.3)
        scene.systemctl("restart")


def more_workers_and_fewer(scene: Scene) -> None:
    with scene.leaving(REPLACED):
        for name in ("TTIN", "TTOU"):
            scene.systemctl("kill", "--kill-who=main", f"--signal={name}", check=False)
            scene.wait(0.5, 2)


def tracebacks(scene: Scene) -> None:
    scene.systemctl("kill", "--kill-who=main", "--signal=USR2", check=False)


def deploy(scene: Scene) -> None:
    """New code, and a reload: what comes afterwards is answered by the new code."""
    site = scene.site
    with scene.company(), scene.leaving(REPLACED):
        site.deploy()
        scene.reload()
        site.settled(scene.name)
        answer = site.visit()
        assert answer.version == site.version, (
            f"version {answer.version} answers, after {site.version} has taken over"
        )


def another_number_of_workers(scene: Scene) -> None:
    site = scene.site
    before = site.workers
    with scene.company(), scene.leaving(REPLACED):
        for workers in (before + 1, before):
            site.configure(workers=workers)
            scene.reload()
            site.settled(scene.name)


# What goes wrong with an app

SYNTAX, MODULE, EXIT = "def app(:\n", "import blgo\n", "import sys\nsys.exit('enough')\n"
CRASH, HANG = "import ctypes\nctypes.string_at(0)\n", "import time\ntime.sleep(3600)\n"
REFUSES = "REFUSES = 'the database is not there'\n"
DIES = "import os\nos.register_at_fork(after_in_child=lambda: os._exit(3))\n"


def broken_code(scene: Scene) -> str:
    """Of all kinds, at random. Who dies as soon as it is forked does so only where the
    fork comes after the import.
    """
    return scene.dice.choice(
        [
            SYNTAX,
            MODULE,
            EXIT,
            CRASH,
            HANG,
            *([DIES] if scene.site.settings.get("preload", True) else []),
            *([REFUSES, REFUSES] if scene.site.asgi else []),
        ]
    )


def broken_reload(scene: Scene) -> None:
    """Broken code is reloaded: who has served goes on to, and nobody notices. Then it
    is mended, and reloaded.
    """
    with scene.company(), scene.leaving(REPLACED):
        try:
            scene.site.deploy(broken_code(scene))
            scene.reload(fails=True)
            scene.wait(1, 5)
        finally:
            scene.site.deploy()
        scene.reload()
        scene.site.settled(scene.name)


def broken_settings_reload(scene: Scene) -> None:
    site = scene.site
    with scene.company(), scene.leaving(REPLACED):
        try:
            scene.machine.write(
                site.instance.configuration, scene.dice.choice(["wrokers = 2\n", "workers = = 2\n"])
            )
            scene.reload(fails=True)
            scene.wait(0.5, 3)
        finally:
            site.configure()
        scene.reload()
        site.settled(scene.name)


def broken_deploy(scene: Scene) -> None:
    """Broken code is started: everybody is told to come again, until it is mended;
    nothing else is done.
    """
    site = scene.site
    how = broken_code(scene)
    with site.busy(), scene.permits(BROKEN, after=1), scene.leaving(STOPPED):
        try:
            site.deploy(how)
            scene.systemctl("restart")
            scene.wait(2, 6)
        finally:
            site.deploy()
        site.mended()
        site.broken_until = time.monotonic()


def broken_settings(scene: Scene) -> None:
    site = scene.site
    with site.busy(), scene.permits(BROKEN, after=1), scene.leaving(STOPPED):
        try:
            scene.machine.write(
                site.instance.configuration,
                scene.dice.choice(["wrokers = 2\n", "workers = = 2\n", "idle_timeout = -1\n"]),
            )
            scene.systemctl("restart")
            scene.wait(1, 5)
        finally:
            site.configure()
        site.mended()
        site.broken_until = time.monotonic()


@dataclass(frozen=True)
class Disturbance:
    """`weight`: how often, beside the others. `ends_master`: not for a steady app."""

    do: Callable[[Scene], None]
    weight: float = 1.0
    ends_master: bool = False
    only: Callable[[Site], bool] = lambda site: True

    def fits(self, site: Site) -> bool:
        return self.only(site) and not (self.ends_master and site.steady)


DISTURBANCES: dict[str, Disturbance] = {
    "reload": Disturbance(reload, 3),
    "several reloads": Disturbance(reload_often),
    "restart": Disturbance(restart, 2, ends_master=True),
    "stop": Disturbance(stop, 2, ends_master=True),
    "stop and start": Disturbance(stop_and_start, 1, ends_master=True),
    "reload and restart": Disturbance(reload_and_restart, 1, ends_master=True),
    "TTIN, TTOU": Disturbance(more_workers_and_fewer),
    "USR2": Disturbance(tracebacks, 0.5),
    "deploy": Disturbance(deploy),
    "workers + 1, - 1": Disturbance(another_number_of_workers, 0.5),
    "broken code, reload": Disturbance(broken_reload),
    "broken settings, reload": Disturbance(broken_settings_reload),
    "broken code, restart": Disturbance(broken_deploy, 2, ends_master=True),
    "broken settings, restart": Disturbance(broken_settings, 1, ends_master=True),
    "segfault": Disturbance(accidents.harmful("segfault")),
    "os._exit": Disturbance(accidents.harmful("exit")),
    "abort": Disturbance(accidents.harmful("abort"), 0.5),
    "a call that hangs": Disturbance(accidents.hang),
    "a call that computes": Disturbance(accidents.compute, 0.5),
    "a call that waits": Disturbance(accidents.wait_in_vain, 1, only=lambda site: site.asgi),
    "a call that disobeys": Disturbance(accidents.disobey, 0.5, only=lambda site: site.asgi),
    "a lifespan that ends": Disturbance(
        accidents.end_lifespan, 1, only=lambda site: site.framework == "coroutines"
    ),
    "memory grows": Disturbance(
        accidents.grow, 2, only=lambda site: bool(site.settings.get("max_memory"))
    ),
    "TERM to a worker": Disturbance(accidents.ask_to_leave),
    "kill -9 worker": Disturbance(accidents.kill_worker, 2),
    "kill -9 zygote": Disturbance(accidents.kill_zygote, 2),
    "kill -9 Master": Disturbance(accidents.kill_master, 2, ends_master=True),
    "kill -9 everybody": Disturbance(accidents.kill_everybody, 1, ends_master=True),
    "reload, kill -9 zygote": Disturbance(accidents.reload_and_kill),
    "no descriptors, worker": Disturbance(accidents.no_descriptors),
    "no descriptors, Master": Disturbance(accidents.no_descriptors_for_the_master),
    "no processes": Disturbance(accidents.no_processes, 0.5),
    "STOP worker": Disturbance(accidents.freeze("worker")),
    "STOP zygote": Disturbance(accidents.freeze("zygote"), 0.5),
    "STOP Master": Disturbance(accidents.freeze("master")),
    "STOP everybody": Disturbance(accidents.freeze("master", "zygote", "worker")),
    "STOP worker for good": Disturbance(accidents.hang_worker, 0.5),
    "STOP Master for good": Disturbance(accidents.hang_master, 1, ends_master=True),
    "work in the background": Disturbance(
        accidents.work_in_the_background, 1, only=lambda site: not site.steady
    ),
}
