"""What is done to the apps while visitors come. DISTURBANCES is the table of them; to add one is to add a function and a row.

A function for one app is given a Scene. What it permits it says there, before it does it: failures that no permit covers make the run
fail, and so does any exception that leaves the function. When it returns, the app has its usual processes again within a while (it need
not wait for that). Those for the whole machine are in machinewide.py.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ledger import CROSSED, LOSS
from scene import Scene
from sites import WATCHDOG, Site
from wire import Failure

UNAVAILABLE = frozenset({"status 503"})
# The Master answers for a broken app, and reads no more of a request than its head: garbage may look unfinished to it.
BROKEN = UNAVAILABLE | {"status 408"}

# What an administrator does


def reload(scene: Scene) -> None:
    with scene.leaving():
        scene.systemctl("reload", check=False)  # it may be asleep


def reload_often(scene: Scene) -> None:
    """While the one before is still under way."""
    with scene.leaving():
        for _ in range(scene.dice.randrange(2, 6)):
            scene.hup()
            scene.wait(0, 0.4)


def restart(scene: Scene) -> None:
    with scene.leaving():
        scene.systemctl("restart")


def stop(scene: Scene) -> None:
    with scene.leaving():
        scene.systemctl("stop")


def stop_and_start(scene: Scene) -> None:
    with scene.leaving():
        scene.systemctl("--no-block", "stop")
        scene.wait(0, 1)
        scene.systemctl("start")


def reload_and_restart(scene: Scene) -> None:
    with scene.leaving():
        scene.hup()
        scene.wait(0, 0.3)
        scene.systemctl("restart")


def more_workers_and_fewer(scene: Scene) -> None:
    with scene.leaving():
        for name in ("TTIN", "TTOU"):
            scene.systemctl("kill", "--kill-who=main", f"--signal={name}", check=False)
            scene.wait(0.5, 2)


def tracebacks(scene: Scene) -> None:
    scene.systemctl("kill", "--kill-who=main", "--signal=USR2", check=False)


def deploy(scene: Scene) -> None:
    """New code, and a reload: what comes afterwards is answered by the new code."""
    site = scene.site
    with scene.company(), scene.leaving():
        site.deploy()
        scene.reload()
        scene.machine.wait_until(lambda: (answer := site.serves()) and answer.version == site.version, 20, "the new version answers")
        site.settled(scene.name)
        answer = site.visit()
        assert answer.version == site.version, f"version {answer.version} answers, after {site.version} has taken over"


def another_number_of_workers(scene: Scene) -> None:
    site = scene.site
    before = site.workers
    with scene.company(), scene.leaving():
        for workers in (before + 1, before):
            site.configure(workers=workers)
            scene.reload()
            site.settled(scene.name)


# What goes wrong with an app

SYNTAX, MODULE, EXIT = "def app(:\n", "import blgo\n", "import sys\nsys.exit('enough')\n"
CRASH, HANG = "import ctypes\nctypes.string_at(0)\n", "import time\ntime.sleep(3600)\n"
DIES = "import os\nos.register_at_fork(after_in_child=lambda: os._exit(3))\n"


def broken_reload(scene: Scene) -> None:
    """Broken code is reloaded: who has served goes on to, and nobody notices. Then it is mended, and reloaded."""
    with scene.company(), scene.leaving():
        scene.site.mended()  # awake, before anything is broken
        try:
            scene.site.deploy(scene.dice.choice([SYNTAX, MODULE, EXIT, CRASH, HANG, DIES]))
            scene.reload(fails=True)
            scene.wait(1, 5)
        finally:
            scene.site.deploy()
        scene.reload()
        scene.site.settled(scene.name)


def broken_settings_reload(scene: Scene) -> None:
    site = scene.site
    with scene.company(), scene.leaving():
        site.mended()
        try:
            scene.machine.write(site.instance.configuration, scene.dice.choice(["wrokers = 2\n", "workers = = 2\n"]))
            scene.reload(fails=True)
            scene.wait(0.5, 3)
        finally:
            site.configure()
        scene.reload()
        site.settled(scene.name)


def broken_deploy(scene: Scene) -> None:
    """Broken code is started: everybody is told to come again, until it is mended; nothing else is done."""
    site = scene.site
    how = scene.dice.choice([SYNTAX, MODULE, EXIT, CRASH, HANG, DIES])
    with site.busy(), scene.permits(BROKEN, after=1), scene.leaving():
        try:
            site.deploy(how)
            scene.systemctl("restart")
            scene.wait(2, 6)
        finally:
            site.deploy()
        site.mended()


def broken_settings(scene: Scene) -> None:
    site = scene.site
    with site.busy(), scene.permits(BROKEN, after=1), scene.leaving():
        try:
            scene.machine.write(site.instance.configuration, scene.dice.choice(["wrokers = 2\n", "workers = = 2\n", "idle_timeout = -1\n"]))
            scene.systemctl("restart")
            scene.wait(1, 5)
        finally:
            site.configure()
        site.mended()


def harm(scene: Scene, how: str) -> frozenset[int]:
    """Makes a request that its worker does not survive; the pid of that worker, as the machine counts."""
    name = f"{how}-{time.monotonic_ns()}"
    try:
        answer = scene.site.visit("harm", name, how=how)
    except Failure as failure:
        if failure.kind not in LOSS:
            raise
    else:
        raise AssertionError(f"a request that should have ended its worker was answered with {answer.status}")
    return frozenset({scene.site.seen()[name]})


def harmful(how: str) -> Callable[[Scene], None]:
    def disturbance(scene: Scene) -> None:
        with scene.site.busy(), scene.permits(LOSS | CROSSED, pids=frozenset()) as permit:
            permit.pids = harm(scene, how)

    return disturbance


def hang(scene: Scene) -> None:
    """A call that never ends, in a worker of several threads: only calls that take longer than the others' grace go with it."""
    least = 0.0 if scene.site.threads == 1 else 4.5
    with scene.company(), scene.leaving(), scene.permits(LOSS, pids=frozenset(), least=least) as permit:
        permit.pids = harm(scene, "hang")


def compute(scene: Scene) -> None:
    """A call that never ends and lets nobody else have the interpreter: all that its worker holds waits, and goes with it."""
    with scene.company(), scene.leaving(), scene.permits(LOSS, pids=frozenset()) as permit:
        permit.pids = harm(scene, "compute")


def grow(scene: Scene) -> None:
    """Memory that an app never gives back."""
    with scene.leaving():
        for _ in range(4):
            scene.site.visit("harm", how="grow", size=scene.dice.randrange(4 << 20, 12 << 20))


def ask_to_leave(scene: Scene) -> None:
    """SIGTERM to a worker, by whoever: it drains, and another takes its place."""
    with scene.leaving():
        worker = scene.one("worker")
        if worker:
            scene.site.kill(worker, signal.SIGTERM)


# Kill -9, and the like


def kill_worker(scene: Scene) -> None:
    with scene.site.busy():
        victim = scene.one("worker")
        if victim:
            with scene.loses([victim]):
                scene.site.kill(victim)


def kill_zygote(scene: Scene) -> None:
    with scene.leaving():
        victim = scene.one("zygote")
        if victim:
            scene.site.kill(victim)


def kill_master(scene: Scene) -> None:
    with scene.leaving():
        victim = scene.one("master")
        if victim:
            scene.site.kill(victim)


def kill_everybody(scene: Scene) -> None:
    with scene.site.busy(), scene.loses(scene.site.roles()):
        scene.systemctl("kill", "--signal=KILL", check=False)


def reload_and_kill(scene: Scene) -> None:
    """The zygote of the generation that is loading, or the other one, or both."""
    with scene.leaving():
        scene.hup()
        scene.wait(0, 0.3)
        for victim in scene.dice.sample(zygotes := scene.site.of_role("zygote"), scene.dice.randint(0, len(zygotes))):
            scene.site.kill(victim)


def freeze(*roles: str) -> Callable[[Scene], None]:
    """SIGSTOP for a while, then SIGCONT: who is served by it waits, and nobody is taken for hung."""

    def disturbance(scene: Scene) -> None:
        chosen = [pid for pid, role in scene.site.roles().items() if role in roles]
        if len(roles) == 1:
            chosen = chosen[:1]
        try:
            for pid in chosen:
                scene.site.kill(pid, signal.SIGSTOP)
            scene.wait(0.2, 3)
        finally:
            for pid in chosen:
                scene.site.kill(pid, signal.SIGCONT)

    return disturbance


def hang_worker(scene: Scene) -> None:
    """SIGSTOP to a worker, and no SIGCONT: who waits for it does so for request_timeout; then the Master ends it.

    One for whom nobody waits may stand there for longer. Visitors who are forgotten would tell (report.PATIENT).
    """
    with scene.company(), scene.leaving():
        victim = scene.one("worker")
        if victim:
            with scene.loses([victim]), suppress(AssertionError):
                scene.site.kill(victim, signal.SIGSTOP)
                scene.until_gone(victim, "the stopped worker", 12 + scene.site.settings["request_timeout"])


def hang_master(scene: Scene) -> None:
    """SIGSTOP to the Master, and no SIGCONT: systemd notices, and starts another; visitors see a delay."""
    site = scene.site
    with scene.company(), scene.leaving():
        site.mended()
        victim = scene.one("master")
        if victim:
            site.kill(victim, signal.SIGSTOP)
            try:
                scene.machine.wait_until(
                    lambda: victim not in site.roles() or site.over.is_set(), WATCHDOG * 2 + 20, "the watchdog has ended it"
                )
            finally:
                site.kill(victim, signal.SIGCONT)


def work_in_the_background(scene: Scene) -> None:
    """A thread of the app's works while nobody comes, and longer than idle_timeout: it comes to its end."""
    site = scene.site
    name = f"stay-{time.monotonic_ns()}"
    site.visit("harm", name, how="stay", seconds=site.idle + 2)
    scene.machine.wait_until(lambda: f"{name}-done" in site.seen() or site.over.is_set(), site.idle + 10, "the work is done")


# Exhaustion


@contextmanager
def limited(pid: int, what: int, limit: int) -> Iterator[None]:
    """prlimit(2): so much and no more, for the block. The soft limit alone: the hard one cannot be raised again in a container."""
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (limit, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, what, before)


def no_descriptors(scene: Scene) -> None:
    """A worker has none left, neither for visitors nor for its app."""
    victim = scene.one("worker")
    if victim:
        pids = frozenset({scene.site.machine_pid(victim)})
        with (
            suppress(FileNotFoundError, ProcessLookupError),
            scene.permits({"status 500", "status 503", "status 507"}, after=0.5, pids=pids),
        ):
            count = len(os.listdir(f"/proc/{victim}/fd"))
            with limited(victim, resource.RLIMIT_NOFILE, count + scene.dice.randrange(3)):
                scene.wait(0.5, 3)


def no_descriptors_for_a_reload(scene: Scene) -> None:
    with scene.company(), scene.leaving():
        master = scene.one("master")
        if master:
            with limited(master, resource.RLIMIT_NOFILE, 3):
                scene.hup()
                scene.wait(0.5, 2)


def no_processes(scene: Scene) -> None:
    """A worker is killed, and the zygote cannot fork another one for a while."""
    with scene.company(), scene.leaving():
        zygote, victim = scene.one("zygote"), scene.one("worker")
        if zygote and victim:
            with scene.loses([victim]), limited(zygote, resource.RLIMIT_NPROC, 1):
                scene.site.kill(victim)
                scene.wait(0.5, 4)


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
    "segfault": Disturbance(harmful("segfault")),
    "os._exit": Disturbance(harmful("exit")),
    "abort": Disturbance(harmful("abort"), 0.5),
    "a call that hangs": Disturbance(hang),
    "a call that computes": Disturbance(compute, 0.5),
    "memory grows": Disturbance(grow, 2, only=lambda site: bool(site.settings.get("max_memory"))),
    "TERM to a worker": Disturbance(ask_to_leave),
    "kill -9 worker": Disturbance(kill_worker, 2),
    "kill -9 zygote": Disturbance(kill_zygote, 2),
    "kill -9 Master": Disturbance(kill_master, 2, ends_master=True),
    "kill -9 everybody": Disturbance(kill_everybody, 1, ends_master=True),
    "reload, kill -9 zygote": Disturbance(reload_and_kill),
    "no descriptors, worker": Disturbance(no_descriptors),
    "no descriptors, Master": Disturbance(no_descriptors_for_a_reload, 0.5),
    "no processes": Disturbance(no_processes, 0.5),
    "STOP worker": Disturbance(freeze("worker")),
    "STOP zygote": Disturbance(freeze("zygote"), 0.5),
    "STOP Master": Disturbance(freeze("master")),
    "STOP everybody": Disturbance(freeze("master", "zygote", "worker")),
    "STOP worker for good": Disturbance(hang_worker, 0.5),
    "STOP Master for good": Disturbance(hang_master, 1, ends_master=True),
    "work in the background": Disturbance(work_in_the_background, 1, only=lambda site: not site.steady),
}
