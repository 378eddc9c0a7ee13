"""All of it stands still for longer than any of its limits (SIGSTOP, `systemctl
freeze`, a virtual machine): when it goes on, nobody is late.

For the connections of a worker see test_frozen.py; here it is what the Master measures,
of the others and for itself.
"""

import os
import signal
import time
from contextlib import contextmanager

import pytest

from .fake_systemd import APPS, ROOT
from .processes import look_at, members, workers
from .visitor import Crowd, Visitor, visit

pytestmark = pytest.mark.quiet

LIMIT = 4.0  # seconds that may be used; with STILL it would be more:
USED = 1.5  # in steps, some of them before and some after
STILL = 3.0


@contextmanager
def all_stopped(*lives):
    pids = [process.pid for life in lives for process in members(life.run.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    lives[0].until(lambda: all(look_at(pid).state == "T" for pid in pids), "they are not stopped")
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
def test_process_that_had_no_time_is_not_late(systemd, tmp_path):
    """A call, an import, a drain, and a client in the middle of a head; all at the same
    time, for it is time that it takes.
    """
    steps = f"for _ in range(15):\n    time.sleep({USED / 15})\n"
    (tmp_path / "slow.py").write_text(
        f"import time, pathlib\npathlib.Path('begun').touch()\n{steps}import plain\napp = plain.app\n"
    )
    call = systemd(idle_timeout=1, workers=1, request_timeout=LIMIT)
    load = systemd(
        "slow:app",
        directory=tmp_path,
        idle_timeout=60,
        start_timeout=LIMIT,
        environ={"PYTHONPATH": f"{ROOT}:{APPS}"},
    )
    stop = systemd(idle_timeout=60, workers=1, threads=4, graceful_timeout=LIMIT)
    with Visitor(load.address) as waiting:
        waiting.send()
        load.until((tmp_path / "begun").exists, "it is not being loaded")
        with (
            call.visitor_under_way(f"/steps/{USED}") as caller,
            Visitor(call.address) as slow,
            stop.visitor_under_way(f"/steps/{USED}") as last,
        ):
            slow.sock.sendall(b"GET / HTTP/1.1\r\n")
            time.sleep(USED / 5)
            stop.signal(signal.SIGTERM)
            stop.until(lambda: stop.run.told("STOPPING"), "it does not stop")
            with all_stopped(call, load, stop):
                time.sleep(STILL)
            assert caller.answer().text == "slept"
            slow.sock.sendall(b"Host: test\r\n\r\n")
            assert slow.answer().status == 200
            assert waiting.answer().status == 200
            assert last.answer().text == "slept"
    assert "killed" not in call.log + load.log + stop.log
    assert "failing" not in load.log
    for life in (call, stop):
        life.until_asleep(1)
        assert life.run.status == 0
        assert len(life.runs) == 1


def test_a_worker_alone(systemd):
    """Others serve meanwhile; what it has in hand goes on where it was."""
    life = systemd(idle_timeout=60, workers=2, request_timeout=2)
    with (
        life.visitor_under_way("/steps/0.3") as caller,
        Crowd(life.address, "/pid", count=2, pause=0.01) as crowd,
    ):
        life.until(
            lambda: len(workers(life.run.pid)) == 2 and len(crowd.answers) > 20, "nobody is served"
        )
        others = {int(answer.text) for answer in crowd.answers[-10:]}
        before = workers(life.run.pid)
        [victim] = [pid for pid in before if pid not in others] or before[:1]
        os.kill(victim, signal.SIGSTOP)
        time.sleep(1)
        os.kill(victim, signal.SIGCONT)
        assert caller.answer().text == "slept"
    assert crowd.lost == []
    assert workers(life.run.pid) == before


def test_the_master_alone(systemd):
    """Nobody misses it; what happened meanwhile it sees afterwards."""
    life = systemd(idle_timeout=60, workers=2, request_timeout=2)
    assert visit(life.address).status == 200
    life.until(lambda: len(workers(life.run.pid)) == 2, "there are not two workers")
    with Crowd(life.address, count=2, pause=0.01) as crowd:
        life.signal(signal.SIGSTOP)
        victim = workers(life.run.pid)[0]
        os.kill(victim, signal.SIGTERM)
        life.until(lambda: look_at(victim) is None, "it does not leave")
        time.sleep(2)
        life.signal(signal.SIGCONT)
        life.until(lambda: len(workers(life.run.pid)) == 2, "it was not replaced")
    assert crowd.lost == []
    assert "killed" not in life.log
