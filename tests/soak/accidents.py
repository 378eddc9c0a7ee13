"""What goes wrong at random moments: requests that harm their worker, kill -9,
processes that stand still, and nothing left to be had.

Parts of the table in disturbances.py, which says what they are given and what they owe.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ledger import CROSSED, LOSS, REPLACED, STOPPED
from scene import Scene
from sites import WATCHDOG
from wire import Failure


def harm(scene: Scene, how: str) -> frozenset[int]:
    """Makes a request that its worker does not survive; the pid of that worker, as the
    machine counts.
    """
    name = f"{how}-{time.monotonic_ns()}"
    try:
        answer = scene.site.visit("harm", name, patience=30, how=how)
    except Failure as failure:
        if failure.kind not in LOSS:
            raise
    else:
        raise AssertionError(
            f"a request that should have ended its worker was answered with {answer.status}"
        )
    return frozenset({scene.site.seen()[name]})


def harmful(how: str) -> Callable[[Scene], None]:
    def disturbance(scene: Scene) -> None:
        with scene.site.busy(), scene.permits(LOSS | CROSSED, pids=frozenset()) as permit:
            permit.pids = harm(scene, how)

    return disturbance


def hang(scene: Scene) -> None:
    """A call that never ends, in a worker of several threads: only calls that take
    longer than the others' grace go with it.
    """
    least = 0.0 if scene.site.threads == 1 or scene.site.asgi else 4.5
    with (
        scene.company(),
        scene.leaving(STOPPED),
        scene.permits(LOSS, pids=frozenset(), least=least) as permit,
    ):
        permit.pids = harm(scene, "hang")


def compute(scene: Scene) -> None:
    """A call that never ends and lets nobody else have the interpreter: all that its
    worker holds waits, and goes with it.
    """
    with scene.company(), scene.leaving(STOPPED), scene.permits(LOSS, pids=frozenset()) as permit:
        permit.pids = harm(scene, "compute")


def wait_in_vain(scene: Scene) -> None:
    """A call that waits for ever: it is cancelled, and nobody else notices."""
    answer = scene.site.visit("harm", how="wait")
    assert answer.status == 503, f"a call that was cancelled is answered with {answer.status}"


def disobey(scene: Scene) -> None:
    """A call that does not end when it is cancelled: it costs its worker."""
    with (
        scene.company(),
        scene.leaving(STOPPED),
        scene.permits(LOSS, pids=frozenset()) as permit,
    ):
        permit.pids = harm(scene, "disobey")


def end_lifespan(scene: Scene) -> None:
    """What a worker's app lives on ends with an error: another takes its place."""
    with scene.leaving(STOPPED):
        scene.site.visit("harm", how="end")


def grow(scene: Scene) -> None:
    """Memory that an app never gives back."""
    with scene.leaving(REPLACED):
        for _ in range(4):
            scene.site.visit("harm", how="grow", size=scene.dice.randrange(4 << 20, 12 << 20))


def ask_to_leave(scene: Scene) -> None:
    """SIGTERM to a worker, by whoever: it drains, and another takes its place."""
    with scene.leaving(STOPPED):
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
    with scene.leaving(REPLACED):
        victim = scene.one("zygote")
        if victim:
            with scene.told_to_come_again():
                scene.site.kill(victim)


def kill_master(scene: Scene) -> None:
    with scene.leaving(STOPPED):
        victim = scene.one("master")
        if victim:
            with scene.loses_what_the_master_has(victim):
                scene.site.kill(victim)


def kill_everybody(scene: Scene) -> None:
    with scene.site.busy(), scene.loses(scene.site.roles()):
        scene.systemctl("kill", "--signal=KILL", check=False)


def reload_and_kill(scene: Scene) -> None:
    """The zygote of the generation that is loading, or the other one, or both."""
    with scene.leaving(REPLACED):
        scene.hup()
        scene.wait(0, 0.3)
        with scene.told_to_come_again():
            for victim in scene.dice.sample(
                zygotes := scene.site.of_role("zygote"), scene.dice.randint(0, len(zygotes))
            ):
                scene.site.kill(victim)


def freeze(*roles: str) -> Callable[[Scene], None]:
    """SIGSTOP for a while, then SIGCONT: who is served by it waits, and nobody is taken
    for hung.
    """

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
    """SIGSTOP to a worker, and no SIGCONT: who waits for it does so for
    request_timeout; then the Master ends it.

    One for whom nobody waits may stand there for longer. Visitors who are forgotten
    would tell (report.PATIENT).
    """
    with scene.company(), scene.leaving(STOPPED):
        victim = scene.one("worker")
        if victim:
            with scene.loses([victim]), suppress(AssertionError):
                scene.site.kill(victim, signal.SIGSTOP)
                scene.until_gone(
                    victim, "the stopped worker", 12 + scene.site.settings["request_timeout"]
                )


def hang_master(scene: Scene) -> None:
    """SIGSTOP to the Master, and no SIGCONT: systemd notices, and starts another;
    visitors see a delay.
    """
    site = scene.site
    with scene.company(), scene.leaving(STOPPED):
        victim = scene.one("master")
        # On a busy machine it may have slept since: the watchdog is for one that is awake.
        if victim and site.instance.state()["ActiveState"] == "active":
            site.kill(victim, signal.SIGSTOP)
            try:
                scene.machine.wait_until(
                    lambda: victim not in site.roles() or site.over.is_set(),
                    WATCHDOG * 2 + 20,
                    "the watchdog has ended it",
                )
            finally:
                site.kill(victim, signal.SIGCONT)


def work_in_the_background(scene: Scene) -> None:
    """A thread of the app's works while nobody comes, and longer than idle_timeout: it
    comes to its end.
    """
    site = scene.site
    name = f"stay-{time.monotonic_ns()}"
    site.visit("harm", name, how="stay", seconds=site.idle + 2)
    scene.machine.wait_until(
        lambda: f"{name}-done" in site.seen() or site.over.is_set(),
        site.idle + 10,
        "the work is done",
    )


# Exhaustion


@contextmanager
def limited(pid: int, what: int, limit: int) -> Iterator[None]:
    """prlimit(2): so much and no more, for the block. The soft limit alone: the hard
    one cannot be raised again in a container.
    """
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


def no_descriptors_for_the_master(scene: Scene) -> None:
    """It has none with which to begin another generation: because somebody asks for
    one, or because a zygote has died.
    """
    with scene.company(), scene.leaving(REPLACED):
        master, zygote = scene.one("master"), scene.one("zygote")
        if master and zygote:
            with limited(master, resource.RLIMIT_NOFILE, 3):
                if scene.dice.random() < 0.5:
                    scene.hup()
                else:
                    scene.site.kill(zygote)
                scene.wait(0.5, 2)


def no_processes(scene: Scene) -> None:
    """A worker is killed, and the zygote cannot fork another one for a while."""
    with scene.company(), scene.leaving(STOPPED):
        zygote, victim = scene.one("zygote"), scene.one("worker")
        if zygote and victim:
            with scene.loses([victim]), limited(zygote, resource.RLIMIT_NPROC, 1):
                scene.site.kill(victim)
                scene.wait(0.5, 4)
