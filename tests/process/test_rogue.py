"""Apps that do to their worker what they should not: it costs that worker and what it
had in hand, and everything can still leave.

Forks are in test_forks.py, descriptors in test_descriptors.py, calls that do not end in
test_killed.py and test_watchdog.py.
"""

import errno
import os
import re
import signal
import time

import pytest

from .fake_systemd import APPS, ROOT
from .processes import children, cpu_seconds, members, workers
from .visitor import Crowd, Lost, Visitor, visit


def until_workers(life, count):
    assert visit(life.address).status == 200
    found = []

    def all_there():
        found[:] = workers(life.run.pid)
        return len(found) == count

    life.until(all_there, f"there are not {count} workers")
    return found


# Deaths


@pytest.mark.parametrize(
    ("target", "ends"),
    [
        ("/segfault", "error: worker %d was killed by SIGSEGV"),
        ("/leave/3", "error: worker %d exited with status 3"),
        ("/leave/0", "worker %d exited with status 0"),
        (f"/shoot/{signal.SIGKILL.value}", "error: worker %d was killed by SIGKILL"),
    ],
)
def test_death_is_one_line_and_costs_the_request_that_caused_it(systemd, target, ends):
    life = systemd("rogue:app", idle_timeout=60, workers=1)
    [worker] = [int(visit(life.address, "/pid").text)]
    with pytest.raises(Lost, match="closed without an answer|reset"):
        visit(life.address, target)
    assert int(visit(life.address, "/pid").text) != worker
    line = rf"master\] {ends % worker} after \d+\.\d s and 1 request; 1 connection open$"
    assert len(re.findall(line, life.log, re.M)) == 1, life.log
    assert (
        "Fatal Python error: Segmentation fault" in life.log and "in string_at" in life.log
    ) == (target == "/segfault")


def test_a_page_that_crashes_whenever_it_is_asked_for_does_not_end_those_beside_it(
    systemd, tmp_path
):
    """Three such deaths in a row used to be taken for an app that cannot live; and then
    all of it was killed.
    """
    life = systemd("rogue:app", idle_timeout=60, workers=2, threads=1)
    until_workers(life, 2)
    gate = tmp_path / "gate"
    with life.visitor_under_way(f"/gate/{gate}") as long:
        for _ in range(5):
            with pytest.raises(Lost, match="closed without an answer|reset"):
                visit(life.address, "/segfault")
        gate.touch()
        assert long.answer().text == "open"
    assert visit(life.address).text == "hello"
    # The Master hears of the last one when a visitor may have been served already.
    life.until(lambda: life.log.count("was killed by SIGSEGV") >= 5, "not all of it is told")
    assert life.log.count("was killed by SIGSEGV") == 5
    assert "failing" not in life.log


def test_processes_have_run_out_and_one_worker_lives(systemd, tmp_path):
    life = full_machine(systemd, tmp_path, workers=2)
    with Crowd(life.address, count=2, pause=0.02) as crowd:
        os.kill(workers(life.run.pid)[0], signal.SIGKILL)
        life.until_logged("error: cannot fork a worker: Resource temporarily unavailable")
        [zygote] = children(life.run.pid)
        used = cpu_seconds(life.run.pid) + cpu_seconds(zygote.pid)
        time.sleep(1.5)
        assert cpu_seconds(life.run.pid) + cpu_seconds(zygote.pid) - used < 0.15, "they spin"
        (tmp_path / "full").unlink()
        until_workers(life, 2)
    assert len(crowd.lost) <= 1  # whom the first had in its hands
    assert crowd.statuses() == {200}
    assert (
        life.log.count("cannot fork a worker") == life.log.count("workers can be forked again") == 1
    )


def test_processes_have_run_out_and_no_worker_lives(systemd, tmp_path):
    life = full_machine(systemd, tmp_path, workers=1)
    os.kill(workers(life.run.pid)[0], signal.SIGKILL)
    assert visit(life.address).status == 503
    status = "failing: cannot fork a worker: Resource temporarily unavailable"
    life.until(lambda: life.run.told("STATUS")[-1] == status, "systemd was not told")
    (tmp_path / "full").unlink()
    life.until(lambda: visit(life.address).status == 200, "it does not recover")
    assert len(life.runs) == 1


def full_machine(systemd, tmp_path, **settings):
    """Serves, on a machine that has no process to give once a worker has died; its
    zygote is told so as long as a file "full" is there.
    """
    refusal = f"OSError({errno.EAGAIN}, os.strerror({errno.EAGAIN}))"
    # The zygote's own os: an app that replaces os.fork() does that for itself.
    source = f"import os\nfrom spyglass.zygote import main as zygote\nfork = zygote.os.fork\ndef full():\n    if os.path.exists('full'):\n        raise {refusal}\n"
    source += "    return fork()\nzygote.os.fork = full\n"
    (tmp_path / "app.py").write_text(f"{source}import plain\napp = plain.app\n")
    life = systemd(
        "app:app",
        directory=tmp_path,
        idle_timeout=60,
        environ={"PYTHONPATH": f"{ROOT}:{APPS}"},
        **settings,
    )
    until_workers(life, settings["workers"])
    (tmp_path / "full").touch()
    return life


# Signals and threads


@pytest.mark.parametrize("target", ["/ignore", "/block", "/wakeup"])
def test_whatever_it_does_to_signals_all_processes_can_leave(systemd, target):
    life = systemd("rogue:app", idle_timeout=0.5, workers=1)
    assert visit(life.address, target).status == 200
    life.until_asleep(1)
    with Visitor(life.address):  # as long as it is connected nothing leaves
        assert visit(life.address, target).status == 200
        with life.visitor_under_way("/sleep/0.5") as busy:
            life.signal_all(signal.SIGTERM)
            assert busy.answer().text == "slept"
    life.until_asleep(2)
    assert [(run.status, run.left_behind) for run in life.runs] == [(0, [])] * 2


def test_and_a_call_that_takes_too_long_is_ended(systemd):
    life = systemd("rogue:app", idle_timeout=60, workers=1, threads=1, request_timeout=0.5)
    assert visit(life.address, "/block").status == 200
    with (
        life.visitor_under_way("/sleep/60") as stuck,
        pytest.raises(Lost, match="closed without an answer|reset"),
    ):
        stuck.answer()
    assert visit(life.address).status == 200
    life.until_logged("was killed by SIGKILL")


def test_alarm_that_nothing_waits_for_ends_no_process(systemd):
    life = systemd("rogue:app", idle_timeout=60, workers=2)
    before = until_workers(life, 2)
    with Crowd(life.address, count=1, pause=0.01) as crowd:
        assert visit(life.address, "/alarm").status == 200
        rings = time.monotonic() + 1  # alarm(2) counts in whole seconds
        life.until(lambda: time.monotonic() > rings + 0.5, "time stands still")
    assert crowd.lost == []
    assert sorted(until_workers(life, 2)) == sorted(before)


def test_a_thread_that_does_not_end_holds_up_the_leaving_for_as_long_as_a_stop_may_take(systemd):
    life = systemd("rogue:app", idle_timeout=0.5, graceful_timeout=0.5, workers=1)
    assert visit(life.address, "/thread").status == 200
    life.until_asleep(1)
    assert members(life.run.pid) == []
    assert life.run.status == 0
    assert "did not exit within 0.5 s (graceful_timeout)" in life.log
