"""What a machine does to a service that is awake: it stops it, it has no memory, no
processes, no disk left; and what an app does that leaves things behind. The socket
listens throughout, and nobody has to come and help.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from instance import TELL, Instance, life, worker
from limits import limited
from load import Load
from machine import Machine
from process.processes import children, workers
from process.visitor import Crowd, Lost, Visitor, visit
from waiting import wait_until

# Beside what TELL does: /pool and /fork make processes, /wild matches an expression for
# years, /eat takes all the memory there is, /daemon leaves a process behind, /deaf one
# that ignores SIGTERM.
ROGUE = f"""{TELL}
import multiprocessing
import re
import subprocess

tell = app

def behind(command):
    subprocess.run(["/bin/sh", "-c", f"({{command}}) &"], stdin=subprocess.DEVNULL, check=True)

def app(environ, start_response):
    environ["wsgi.input"].read()
    what = environ["PATH_INFO"][1:]
    if what == "pool":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(abs, [-1, 2, -3]) == [1, 2, 3]
    if what == "fork":
        os.fork()
    if what == "wild":
        re.match("(a+)+$", "a" * 40 + "b")
    if what == "eat":
        full = []
        while True:
            full.append(b"x" * (4 << 20))
    if what == "daemon":
        behind("sleep 3600")
    if what == "deaf":
        behind("trap '' TERM; while :; do sleep 0.2; done")
    return tell(environ, start_response)
"""

# A Master that goes round in circles, when the file says its pid: only from outside can
# it be made to. It has to be started without -S, as by default it runs no `site`.
CIRCLES = """
import os, sys
if "spyglass" in map(os.path.basename, sys.orig_argv[1:3]):  # behind options of the interpreter's
    from spyglass.master.main import Master
    turn = Master.turn
    def circle(self):
        try:
            with open("/srv/circles/now") as stream:
                mine = stream.read() == str(os.getpid())
        except OSError:
            mine = False
        while mine:
            pass
        turn(self)
    Master.turn = circle
"""


class Accidents:
    """`make(name, service="", **settings)` gives an instance that listens, with
    `service` added to its [Service].
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._made: list[tuple[Instance, list[str]]] = []
        self._ports = itertools.count(8400)

    def make(
        self, name: str, service: str = "", source: str = ROGUE, **settings: object
    ) -> Instance:
        instance = Instance(
            self.machine,
            name,
            source,
            port=next(self._ports),
            settings={"idle_timeout": 60, "workers": 2} | settings,
        )
        if service:
            self.machine.write(
                f"/etc/systemd/system/{instance.service}.d/test.conf", f"[Service]\n{service}\n"
            )
        instance.start()
        self._made.append((instance, instance.unbroken()))
        return instance

    def unbroken(self) -> None:
        for instance, listening in self._made:
            assert instance.unbroken() == listening, instance.name


def pid_of(instance: Instance, number: str) -> int:
    """The process that the machine knows as `number`, as we know it."""
    [found] = [
        each.host_pid
        for each in instance.machine.processes(instance.service.removesuffix(".service"))
        if str(each.pid) == number
    ]
    return found


def master(instance: Instance) -> int:
    return pid_of(instance, instance.state()["MainPID"])


def until_workers(instance: Instance, count: int) -> list[int]:
    assert visit(instance.unix).status == 200
    main = master(instance)
    wait_until(lambda: len(workers(main)) == count, 20, f"{instance.name} has {count} workers")
    return workers(main)


def log(instance: Instance) -> str:
    return "\n".join(instance.machine.journal(instance.service))


# The watchdog


def a_master_that_stands_still(accidents: Accidents) -> None:
    is_replaced(
        accidents.make("still", "WatchdogSec=2", keepalive_timeout=20),
        lambda instance: os.kill(master(instance), signal.SIGSTOP),
    )


def a_master_that_goes_round_in_circles(accidents: Accidents) -> None:
    accidents.machine.write("/srv/circles/sitecustomize.py", CIRCLES)
    instance = accidents.make(
        "circles",
        "WatchdogSec=2\nEnvironment=PYTHONPATH=/srv/circles\nTimeoutAbortSec=3\n"
        "ExecStart=\nExecStart=/usr/bin/python3 -s /usr/bin/spyglass serve --name %i",
        keepalive_timeout=20,
    )
    is_replaced(
        instance,
        lambda instance: accidents.machine.write("/srv/circles/now", instance.state()["MainPID"]),
    )


def is_replaced(instance: Instance, accident: Callable[[Instance], None]) -> None:
    """Visitors see a delay, and no more than that."""
    with Load(instance) as load:
        load.flows()
        accident(instance)
        wait_until(lambda: instance.state()["NRestarts"] == "1", 20, "it is started again")
        load.flows()
    assert load.lost == []
    assert {answer.status for answer in load.answers} == {200}
    assert len(load.lives()) == 2
    assert "Watchdog timeout" in log(instance)


def an_app_that_takes_its_time(accidents: Accidents) -> None:
    """As shipped it would be a minute of loading and half a minute of the watchdog."""
    instance = accidents.make(
        "slow", "WatchdogSec=1", source=f"import time\ntime.sleep(2)\n{ROGUE}"
    )
    assert visit(instance.unix).status == 200
    is_fed_for(instance, 1.5)


def an_app_that_fails(accidents: Accidents) -> None:
    instance = accidents.make("broken", "WatchdogSec=1", source="import blgo\n")
    assert visit(instance.unix).status == 503
    is_fed_for(instance, 2.5)


def is_fed_for(instance: Instance, seconds: float) -> None:
    time.sleep(seconds)
    state = instance.state()
    assert (state["ActiveState"], state["NRestarts"]) == ("active", "0"), log(instance)
    assert state["WatchdogUSec"] == "1s"


def a_frozen_unit(accidents: Accidents) -> None:
    """It goes on where it was. For longer than its limits, but not than the watchdog's:
    systemd 252 does not thaw what has timed out.
    """
    instance = accidents.make("frozen", request_timeout=2, header_timeout=2, keepalive_timeout=30)
    before = until_workers(instance, 2)
    state = instance.state()
    assert (state["WatchdogUSec"], state["WatchdogSignal"], state["TimeoutAbortUSec"]) == (
        "30s",
        "15",
        state["TimeoutStopUSec"],
    )
    with Visitor(instance.unix) as caller, Visitor(instance.unix) as kept:
        kept.ask(keep=True)
        caller.send("/stream/1.5")
        time.sleep(0.3)
        instance.machine.systemctl("freeze", instance.service)
        time.sleep(4)
        instance.machine.systemctl("thaw", instance.service)
        assert caller.answer().status == 200
        assert kept.ask().status == 200
    assert workers(master(instance)) == before
    assert instance.said("warning") == []


# Who dies, or does not come to an end


def a_dead_zygote(accidents: Accidents) -> None:
    instance = accidents.make("zygote", keepalive_timeout=20)
    with Load(instance) as load:
        load.flows()
        [zygote] = children(master(instance))
        before = workers(master(instance))
        os.kill(zygote.pid, signal.SIGKILL)
        wait_until(
            lambda: not set(before) & instance.processes(), 20, "the old generation has left"
        )
        load.flows()
    assert load.lost == []
    assert {answer.status for answer in load.answers} == {200}
    assert (len(load.lives()), instance.state()["NRestarts"]) == (1, "0")
    assert "the zygote was killed by SIGKILL" in log(instance)


def a_call_that_does_not_end(accidents: Accidents) -> None:
    """With what every thread was doing in the journal; the second of them keeps the
    interpreter's lock, so nothing in its worker runs.
    """
    instance = accidents.make("endless", request_timeout=1, threads=2)
    for target, why in (
        ("/sleep/60", "a request has been running for 1 s"),
        ("/wild", "unresponsive for 1 s"),
    ):
        with pytest.raises(Lost, match="closed without an answer|reset"):
            visit(instance.unix, target)
        assert visit(instance.unix).status == 200
        said = log(instance)
        assert why in said
        assert re.search(
            r'^  File "/srv/apps/endless/app.py", line \d+ in app$', said, re.MULTILINE
        ), said
        assert re.search(r"^Thread 0x", said, re.MULTILINE), said
    assert said.count("Fatal Python error: Aborted") == 2
    until_workers(instance, 2)


def processes_of_its_own(accidents: Accidents) -> None:
    """A pool, which is told to end; and a fork whose author has forgotten which of the
    two he is.
    """
    instance = accidents.make("forks", workers=1)
    before = until_workers(instance, 1)
    for _ in range(3):
        assert visit(instance.unix, "/pool").status == 200
    assert instance.said("warning") == []
    first = visit(instance.unix, "/fork")
    wait_until(lambda: len(instance.said("warning")) == 1, 10, "it is told")
    assert "came back from its request, and is ended" in instance.said("warning")[0]
    assert worker(first) == worker(visit(instance.unix))
    assert until_workers(instance, 1) == before
    assert len(instance.processes()) == 3


# What runs out


def no_memory(accidents: Accidents) -> None:
    """The kernel ends the one that has it all; the unit has OOMPolicy=continue."""
    instance = accidents.make("memory")
    before = until_workers(instance, 2)
    with limited(instance, "memory") as limit, Crowd(instance.unix, count=2, pause=0.02) as crowd:
        limit(128 << 20)
        with pytest.raises(Lost, match="closed without an answer|reset"):
            visit(instance.unix, "/eat")
        now = until_workers(instance, 2)
        count = len(crowd.answers)
        wait_until(lambda: len(crowd.answers) > count + 20, 10, "they are served")
    assert len(set(before) & set(now)) == 1
    assert len(crowd.lost) <= 2  # who was in its hands
    assert crowd.statuses() == {200}
    assert instance.state()["NRestarts"] == "0"
    assert re.search(r"worker \d+ was killed by SIGKILL after .* connections? open", log(instance))


def no_processes(accidents: Accidents) -> None:
    instance = accidents.make("processes")
    before = until_workers(instance, 2)
    with limited(instance, "pids") as limit:
        with Crowd(instance.unix, count=2, pause=0.02) as crowd:
            limit(1)
            os.kill(before[0], signal.SIGKILL)
            wait_until(
                lambda: "cannot fork a worker: Resource temporarily unavailable" in log(instance),
                10,
                "it is told",
            )
            time.sleep(1)
            limit(None)
            until_workers(instance, 2)
        assert len(crowd.lost) <= 2
        assert crowd.statuses() == {200}
        # And with nobody left, not even a process to load the app afresh.
        limit(1)
        [zygote] = children(master(instance))
        for pid in [zygote.pid, *workers(master(instance))]:
            os.kill(pid, signal.SIGKILL)
        assert visit(instance.unix).status == 503
        assert (
            instance.state()["StatusText"]
            == "failing: cannot start a process for the app: Resource temporarily unavailable"
        )
        limit(None)
        wait_until(lambda: visit(instance.unix).status == 200, 15, "it recovers")
    assert instance.state()["NRestarts"] == "0"
    assert log(instance).count("cannot fork a worker") == 1


def no_room_for_temporary_files(accidents: Accidents) -> None:
    """A large body needs some in the cache directory, here a small one that is beside
    the real one; and a small body does not.
    """
    run = accidents.machine.run
    run("sh", "-c", "mkdir -p /srv/small && mount -t tmpfs -o size=8m,mode=1777 tmpfs /srv/small")
    instance = accidents.make(
        "disk",
        "Environment=CACHE_DIRECTORY=/srv/small\nReadWritePaths=/srv/small",
        body_memory="1K",
        workers=1,
    )
    until_workers(instance, 1)
    run("sh", "-c", "head -c 8m /dev/zero >/srv/small/full", check=False)
    for size, status in ((1 << 20, 507), (100_000, 507), (500, 200)):
        assert upload(instance, size) == status
    run("rm", "/srv/small/full")
    for size, status in ((100_000, 200), (9 << 20, 507), (400_000, 200)):
        assert upload(instance, size) == status
    assert run("ls", "/srv/small").stdout.split() in ([], ["pycache"])
    # Byte code is all that is left: what takes room and has no name would be a body.
    assert (
        run("df", "--output=used", "/srv/small").stdout.split()[-1]
        == run("du", "--summarize", "-k", "/srv/small").stdout.split()[0]
    )
    assert len(re.findall("No space left on device", log(instance))) == 3


def upload(instance: Instance, size: int) -> int:
    with Visitor(instance.unix) as visitor:
        head = f"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
        try:
            visitor.sock.sendall(head.encode() + bytes(size))
        except OSError:
            pass  # it is refused before it is all there
        return visitor.answer("POST").status


# What an app leaves behind


def a_process_that_outlives_it(accidents: Accidents) -> None:
    goes_with_it(accidents.make("daemon", idle_timeout=0.5), "/daemon", 5)


def one_that_ignores_to_be_told(accidents: Accidents) -> None:
    """It is killed after TimeoutStopSec= of the unit; the next visitor waits for
    that.
    """
    goes_with_it(accidents.make("deaf", "TimeoutStopSec=3", idle_timeout=0.5), "/deaf", 10)


def goes_with_it(instance: Instance, what: str, at_most: float) -> None:
    first = visit(instance.unix, what)
    wait_until(lambda: instance.state()["ActiveState"] != "active", 20, "it leaves")
    began = time.monotonic()
    second = visit(instance.unix)
    assert time.monotonic() - began < at_most
    assert (first.status, second.status) == (200, 200)
    assert life(first) != life(second)
    wait_until(instance.asleep, 20, "it sleeps")


ACCIDENTS = [
    *(
        a_master_that_stands_still,
        a_master_that_goes_round_in_circles,
        an_app_that_takes_its_time,
        an_app_that_fails,
        a_frozen_unit,
    ),
    *(a_dead_zygote, a_call_that_does_not_end, processes_of_its_own),
    *(
        no_memory,
        no_processes,
        no_room_for_temporary_files,
        a_process_that_outlives_it,
        one_that_ignores_to_be_told,
    ),
]


@pytest.fixture(scope="module")
def at_once(machine: Machine) -> Iterator[dict[str, Future[None]]]:
    """All of them happen at the same time, each to an instance of its own: most of what
    they take is waiting.
    """
    accidents = Accidents(machine)
    with ThreadPoolExecutor(len(ACCIDENTS)) as pool:
        yield {accident.__name__: pool.submit(accident, accidents) for accident in ACCIDENTS}
    accidents.unbroken()


@pytest.mark.parametrize("accident", [accident.__name__ for accident in ACCIDENTS])
def test_it_is_dealt_with(at_once: dict[str, Future[None]], accident: str) -> None:
    at_once[accident].result()
