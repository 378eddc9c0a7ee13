"""What a Master leaves behind for those who look later: read as `spyglass list` would,
after and during lives of a real one.
"""

import os
import signal
import time

import pytest
from waiting import wait_until

from spyglass.master import counters
from spyglass.ops.status import master_report

from .fake_systemd import ROOT
from .processes import no_descriptors, workers
from .visitor import Visitor, visit

APP = """
import os, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise LookupError
    if path == "/die":
        os._exit(3)
    start_response("503 Later" if path == "/later" else "200 OK", [])
    return [b"hello"]
"""


@pytest.fixture
def state(tmp_path):
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


@pytest.fixture
def counted(systemd, tmp_path, state):
    """counted(**settings): an app of our own, of which is counted; `.source` is its
    file.
    """
    (tmp_path / "app").mkdir()

    def new(source=APP, **settings):
        (tmp_path / "app" / "app.py").write_text(source)
        life = systemd(
            "app:app",
            directory=tmp_path / "app",
            environ={"STATE_DIRECTORY": str(state)},
            workers=2,
            **settings,
        )
        life.source = tmp_path / "app" / "app.py"
        return life

    return new


def test_what_is_counted_survives_the_sleep(counted, state):
    life = counted(idle_timeout=0.3)
    began = time.time()
    for number in (1, 2):
        for path in ("/", "/raise", "/later"):
            visit(life.address, path)
        life.until_asleep(number)
        record = counters.read(state)
        assert record.awake == 0
        assert (record.wakes, record.requests, record.errors, record.why) == (
            number,
            3 * number,
            2 * number,
            "idle",
        )
    assert (record.crashes, record.failures, record.reloads, record.workers) == (
        0,
        0,
        0,
        record.workers,
    )
    assert began - 0.1 <= record.since < record.woke <= record.left <= record.written <= time.time()
    # From when it was started, which only a process itself has to look for, to the
    # hundredth of a second.
    took = life.run.told_at("READY") - life.run.started
    assert 0 < record.load_ms <= record.wake_ms <= took * 1000 + 100
    assert os.stat(state / counters.NAME).st_mode & 0o777 == 0o600
    assert os.listdir(state) == [counters.NAME]


def test_a_master_without_descriptors_forgets_nothing(counted, state):
    """It has none for its own code, nor to read what was counted before it; to begin
    again from nothing would be to forget that.
    """
    life = counted(idle_timeout=60)
    for number in (1, 2):
        visit(life.address)
        with no_descriptors(life.run.pid):
            began = time.monotonic()
            life.until(
                lambda began=began: time.monotonic() > began + 1.5, "time stands still"
            )  # it wants to write by then
        life.signal(signal.SIGTERM)
        life.until_asleep(number)
        record = counters.read(state)
        assert (record.wakes, record.requests, record.why) == (number, number, "stopped by SIGTERM")
    assert "Traceback" not in life.log, life.log


def test_while_it_is_awake_it_can_be_seen(counted, state):
    life = counted(idle_timeout=60)
    with Visitor(life.address) as visitor:
        visitor.ask(keep=True)
        life.until((state / counters.NAME).exists, "nothing is written", 20)
        record = counters.read(state)
        assert (record.awake, record.wakes, record.requests, record.why, record.left) == (
            1,
            1,
            1,
            "",
            0,
        )
        assert sorted(worker.pid for worker in record.workers) == workers(life.run.pid)
        assert sorted(worker.served for worker in record.workers) == [0, 1]


def test_why_it_stopped(counted, state):
    life = counted(idle_timeout=60)
    visit(life.address)
    life.signal(signal.SIGTERM)
    life.until_asleep(1)
    record = counters.read(state)
    assert (record.wakes, record.requests, record.why) == (1, 1, "stopped by SIGTERM")


def test_why_it_failed(counted, state):
    life = counted("import blgo\n", idle_timeout=0.5)
    assert visit(life.address).status == 503
    life.until_asleep(1)
    record = counters.read(state)
    assert (record.wakes, record.requests, record.wake_ms) == (1, 0, 0)
    assert record.failures >= 1
    assert record.why == "failing: ModuleNotFoundError: No module named 'blgo'"


def test_accidents_and_reloads_are_counted(counted, state):
    life = counted(idle_timeout=60)
    visit(life.address)
    with Visitor(life.address) as visitor:
        visitor.send("/die")
        assert visitor.until_closed() == b""
    life.until_logged("exited with status 3")
    assert life.reload().wait(20) == 0
    life.source.write_text("import blgo\n")
    assert life.reload().wait(20) == 78
    life.signal(signal.SIGTERM)
    life.until_asleep(1)
    record = counters.read(state)
    assert (record.crashes, record.reloads, record.failures, record.requests) == (1, 1, 1, 1)


def test_one_that_was_killed_could_not_say_so(counted, state):
    life = counted(idle_timeout=60)
    visit(life.address)
    life.until((state / counters.NAME).exists, "nothing is written", 20)
    life.signal(signal.SIGKILL)
    life.until_asleep(1)
    assert (counters.read(state).awake, counters.read(state).left) == (1, 0)
    visit(life.address)
    life.signal(signal.SIGTERM)
    life.until_asleep(2)
    assert (counters.read(state).wakes, counters.read(state).requests) == (2, 2)


def a_full_disk(_state):
    return "ulimit -f 0"


def no_directory(state):
    state.rmdir()
    return ""


def damage(state):
    (state / counters.NAME).write_text("spyglass 1\nwak")
    return ""


def a_directory_in_its_place(state):
    (state / counters.NAME / "full").mkdir(parents=True)
    return ""


@pytest.mark.parametrize(
    ("trouble", "kept"),
    [
        (a_full_disk, False),
        (no_directory, False),
        (a_directory_in_its_place, False),
        (damage, True),
    ],
)
def test_counters_that_cannot_be_kept_keep_no_client_waiting(counted, state, trouble, kept):
    life = counted(limits=trouble(state), idle_timeout=0.3)
    for number in (1, 2):
        assert visit(life.address).text == "hello"
        life.until_asleep(number)
        assert life.run.status == 0
    # Once in each life, if it is true in each. Where nothing at all can be written,
    # that is no exception.
    said = [line for line in life.log.splitlines() if "warning: counters" in line]
    assert (
        len(said)
        == {damage: 1, no_directory: 2, a_directory_in_its_place: 4, a_full_disk: 0}[trouble]
    ), said
    assert not kept or counters.read(state).wakes == 2


def test_nothing_is_looked_for_where_there_is_no_directory(systemd, tmp_path):
    life = systemd(idle_timeout=0.3, cwd=tmp_path)
    visit(life.address)
    life.until_asleep(1)
    assert not (tmp_path / counters.NAME).exists()
    assert "counters are not saved" not in life.log


SLOW = """
import os, time

rename = os.rename

def slow(old, new):
    open({mark!r}, "w").close()
    while not os.path.exists({done!r}):
        time.sleep(0.01)
    rename(old, new)

os.rename = slow
"""


def test_a_slow_disk_holds_up_the_leaving_and_no_visitor(systemd, tmp_path, state):
    mark, done = tmp_path / "mark", tmp_path / "done"
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(SLOW.format(mark=str(mark), done=str(done)))
    life = systemd(
        idle_timeout=0.3,
        environ={"STATE_DIRECTORY": str(state), "PYTHONPATH": f"{tmp_path / 'slow'}:{ROOT}"},
    )
    visit(life.address)
    life.until(mark.exists, "nothing is written")
    # The Master does nothing but write.
    assert visit(life.address).text == "hello"
    assert not (state / counters.NAME).exists()
    done.touch()
    life.until_asleep(1)
    assert counters.read(state).requests == 2


def test_master_reports_what_it_counts_now(counted, state):
    """Not what the file says, which is up to ten seconds old."""
    life = counted(idle_timeout=60)

    def report():
        [found] = master_report.ask([(str(state), life.run.pid)], within=5)
        return found

    def counts(record):
        return record.requests, record.recent_errors

    visit(life.address)
    wait_until(report, 5, "the Master reports")
    for number in range(1, 4):
        visit(life.address, "/later")
        wait_until(  # a worker counts a request when its client has the answer already
            lambda number=number: counts(report().record) == (number + 1, number),
            5,
            "all are counted",
        )
    assert report().status.startswith("awake: 2 workers")
    assert report().outcome is None
    life.source.write_text("1 +\n")
    os.kill(life.run.pid, signal.SIGHUP)
    wait_until(lambda: report().outcome, 10, "the reload has ended")
    done = report().outcome
    assert (done.status, done.why.partition(":")[0]) == (78, "SyntaxError")
    assert "1 +" in done.details
    assert 0 < done.seconds < 60
    assert done.ended <= time.monotonic()
