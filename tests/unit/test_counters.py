"""What survives the sleep of an app: the file, whatever has become of it, and what a
Master adds to it.
"""

import errno
import os
import time
from types import SimpleNamespace

import pytest

from spyglass.master import counters
from spyglass.master.counters import NAME, CounterNotes, Counters, Record, parse, read, write
from spyglass.master.worker_records import Worker
from spyglass.runtime import scoreboard
from spyglass.runtime.scoreboard import ERRORS, INTERFACE, OPEN, SERVED, Scoreboard
from spyglass.worker.meter import Meter

from .fake_log import FakeLog

FULL = """\
spyglass 1
awake 0
wakes 3
requests 40
errors 2
failures 1
crashes 1
reloads 5
recent_requests 20
recent_errors 1
since 1700000000.000
woke 1700000100.500
wake_ms 81.250
load_ms 30.000
written 1700000200.000
left 1700000200.000
worker 123 40 2 1
by 127.0.0.1:8000
why failing: a b
end
"""


def facts(record):
    return {name: value for name, value in vars(record).items() if name != "workers"}


def test_what_is_written_is_read():
    record = parse(FULL)
    assert (record.wakes, record.requests, record.wake_ms, record.why) == (
        3,
        40,
        81.25,
        "failing: a b",
    )
    assert [(each.pid, each.served, each.errors, each.open) for each in record.workers] == [
        (123, 40, 2, 1)
    ]
    assert record.text() == FULL


@pytest.mark.parametrize(("line", "interface"), [("asgi", "asgi"), ("wsgi", "wsgi"), ("x\x1b", "")])
def test_the_interface_is_one_of_two(line, interface):
    record = parse(FULL.replace("end\n", f"interface {line}\nend\n"))
    assert record.interface == interface
    assert parse(record.text()).interface == interface


def test_facts_of_a_later_version_are_passed_over():
    assert facts(parse(FULL.replace("end\n", "mood good\nend\n"))) == facts(parse(FULL))


@pytest.mark.parametrize(
    "text",
    [
        "", "\n", "end\n", "spyglass 1", "spyglass 1\nwakes 3\n", FULL[:-1], FULL[:-4], FULL[40:], "\0" * 200, FULL.replace("spyglass 1", "spyglass 2"),
        FULL.replace("wakes 3", "wakes -3"), FULL.replace("wakes 3", "wakes"), FULL.replace("wakes 3", "wakes ٣"), FULL.replace("wakes 3", "wakes 1e3"),
        FULL.replace("wakes 3", "wakes " + "9" * 5000), FULL.replace("81.250", "nan"), FULL.replace("81.250", "inf"), FULL.replace("81.250", "-1"),
        FULL.replace("worker 123 40 2 1", "worker 123 40"), FULL.replace("worker 123 40 2 1", "worker a b c d"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_told_from_a_whole_one(text):
    with pytest.raises(ValueError, match=r".*"):
        parse(text)


def test_a_reason_is_one_line_and_does_nothing_to_a_terminal():
    record = Record()
    record.why = "failing: \x1b[31m\nend\n" + "x" * 1000
    [why] = [line for line in record.text().split("\n") if line.startswith("why ")]
    assert why.startswith(r"why failing: \x1b[31m end xxx")
    assert len(why) < 210
    assert parse(FULL.replace("a b", "a\x1bb\x9b\u202e")).why == r"failing: a\x1bb\x9b\u202e"


def a_link(path):
    os.symlink("/etc/passwd", path)


def a_pipe(path):
    os.mkfifo(path)


def a_directory(path):
    os.mkdir(path)
    os.mkdir(f"{path}/full")


def nonsense(path):
    with open(path, "wb") as stream:
        stream.write(b"\xff\xfe" * 1000)


FOREIGN = [a_link, a_pipe, a_directory, nonsense]


@pytest.mark.parametrize("put", FOREIGN)
def test_a_foreign_file_is_not_read(put, tmp_path):
    put(str(tmp_path / NAME))
    with pytest.raises((ValueError, OSError)):
        read(str(tmp_path))


@pytest.mark.parametrize("put", [a_link, a_pipe, nonsense])
def test_what_lies_in_the_way_is_not_written_through(put, tmp_path):
    put(str(tmp_path / f"{NAME}.new"))
    before = os.stat("/etc/passwd").st_mtime_ns
    write(str(tmp_path), FULL)
    assert read(str(tmp_path)).text() == FULL
    assert os.listdir(tmp_path) == [NAME]
    assert os.stat("/etc/passwd").st_mtime_ns == before


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    write(str(tmp_path), FULL)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]))
    with pytest.raises(OSError, match="No space left on device"):
        write(str(tmp_path), FULL.replace("wakes 3", "wakes 4"))
    monkeypatch.undo()
    assert read(str(tmp_path)).wakes == 3
    assert os.listdir(tmp_path) == [NAME]


class Life:
    """A Master's: its scoreboard has the facts."""

    def __init__(self, directory):
        self.journal = FakeLog()
        self.board = Scoreboard(8)
        self.workers = []
        shared = self.shared = SimpleNamespace(
            board=self.board, woken_by="127.0.0.1:8000", master=os.getpid(), began=time.monotonic()
        )
        self.counters = Counters(
            {"STATE_DIRECTORY": f"{directory}:/elsewhere"}, shared, self.journal
        )

    def worker(self, **cells):
        number = self.board.take()
        worker = Worker(number, self.board.slot(number), 0.0)
        worker.pid = 1000 + number
        self.workers.append(worker)
        return self.works(worker, **cells)

    def works(self, worker, served=0, errors=0, open=0):
        worker.cells[SERVED], worker.cells[ERRORS], worker.cells[OPEN] = served, errors, open
        return worker

    def ends(self, worker):
        self.workers.remove(worker)
        self.board.give_back(worker.number)

    def note(self, why="", failures=0, reloads=0, loading=0.0):
        return self.counters.note(self.workers, failures, reloads, loading, why)


def test_the_dead_are_counted_once_and_their_successors_in_the_same_slot_too(tmp_path):
    life = Life(tmp_path)
    first = life.worker(served=5, errors=1)
    life.worker(served=7)
    life.ends(first)
    for _ in range(8):
        life.ends(life.worker(served=1))
    life.note()
    assert (read(str(tmp_path)).requests, read(str(tmp_path)).errors) == (5 + 7 + 8, 1)
    assert [each.served for each in read(str(tmp_path)).workers] == [7]


def test_the_interface_is_that_of_a_worker_or_of_the_life_before(tmp_path):
    life = Life(tmp_path)
    life.worker()
    life.note()
    assert read(str(tmp_path)).interface == ""
    life.worker().cells[INTERFACE] = 2
    life.worker().cells[INTERFACE] = 99  # whatever an app may write there
    life.note()
    assert read(str(tmp_path)).interface == "asgi"
    after = Life(tmp_path)
    after.note()
    assert read(str(tmp_path)).interface == "asgi"
    after.worker().cells[INTERFACE] = 1
    after.note()
    assert read(str(tmp_path)).interface == "wsgi"


def test_each_life_adds_to_those_before(tmp_path):
    for number in (1, 2, 3):
        life = Life(tmp_path)
        worker = life.worker(served=10)
        life.note()
        # Why it left the last time is known until it leaves again.
        assert (read(str(tmp_path)).awake, read(str(tmp_path)).why) == (
            1,
            "" if number == 1 else "idle",
        )
        assert bool(read(str(tmp_path)).left) == (number > 1)
        life.works(worker, served=11, errors=2)
        life.board.crashes = 1
        life.note("idle", failures=3, reloads=4)
        record = read(str(tmp_path))
        assert (record.wakes, record.requests, record.errors) == (number, 11 * number, 2 * number)
        assert (record.crashes, record.failures, record.reloads) == (number, 3 * number, 4 * number)
        assert (record.awake, record.why) == (0, "idle")
        assert (record.recent_requests, record.recent_errors) == (11, 2)
        assert abs(time.time() - record.left) < 60
    assert life.journal.lines == []


def test_the_next_one_says_of_one_that_was_killed_that_it_was(tmp_path):
    life = Life(tmp_path)
    life.note("idle")
    life = Life(tmp_path)
    life.note()
    killed = read(str(tmp_path))
    life = Life(tmp_path)
    life.note()
    record = read(str(tmp_path))
    assert (record.wakes, record.why, record.left) == (3, counters.KILLED, killed.written)


def test_how_long_it_took_is_counted_from_the_start_of_the_process(tmp_path):
    life = Life(tmp_path)
    life.note()
    assert read(str(tmp_path)).wake_ms == 0  # nobody accepts yet
    life.board.note_accepting()
    age = time.time() - read(str(tmp_path)).woke
    life.note(loading=0.25)
    record = read(str(tmp_path))
    assert (record.load_ms, record.by) == (250, "127.0.0.1:8000")
    assert abs(record.wake_ms / 1000 - age) < 0.5
    assert record.since == record.woke


def test_nothing_new_is_not_written(tmp_path):
    life = Life(tmp_path)
    life.worker(served=1)
    life.note()
    (tmp_path / NAME).unlink()
    assert life.note() == counters.EVERY
    assert os.listdir(tmp_path) == []
    life.note("idle")
    assert os.listdir(tmp_path) == [NAME]


def test_a_slow_disk_is_written_to_less_often(tmp_path, monkeypatch):
    life = Life(tmp_path)
    assert life.note() == counters.EVERY
    now = [0.0]

    def slow(_directory, _text):
        now[0] += 3.0

    monkeypatch.setattr(counters, "write", slow)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert life.note("idle") == 300
    assert life.counters.slow


@pytest.mark.parametrize("put", FOREIGN)
def test_a_master_survives_what_it_finds_and_says_so_once(put, tmp_path):
    put(str(tmp_path / NAME))
    life = Life(tmp_path)
    for served in range(3):
        life.worker(served=served)
        life.note()
    assert len([line for line in life.journal.lines if "cannot be read" in line]) == 1
    unwritable = put is a_directory  # all else is simply replaced
    assert len([line for line in life.journal.lines if "cannot be written" in line]) == unwritable
    assert unwritable or read(str(tmp_path)).requests == 3


def test_without_a_descriptor_what_was_there_is_not_taken_for_lost(tmp_path, monkeypatch):
    write(str(tmp_path), FULL)

    def no_more(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(counters, "read", no_more)
    with pytest.raises(OSError, match="Too many open files"):
        Life(tmp_path)
    monkeypatch.undo()
    Life(tmp_path).note("idle")
    assert read(str(tmp_path)).wakes == 4


def test_without_a_directory_it_goes_on_and_says_so_once(tmp_path):
    life = Life(tmp_path / "nowhere")
    for served in range(3):
        life.worker(served=served)
        life.note()
    assert len(life.journal.lines) == 1
    assert "No such file or directory" in life.journal.lines[0]


def test_the_cells_of_a_slot_are_apart():
    names = (
        "STATE",
        "OPEN",
        "SERVED",
        "ACTIVITY",
        "CALL_SINCE",
        "ANSWER",
        "ORDER",
        "LIMIT",
        "HEARD",
        "IGNORED",
        "HOLDS",
        "ERRORS",
        "WEBSOCKETS",
        "INTERFACE",
        "_REASON",
    )
    assert len({getattr(scoreboard, name) for name in names}) == len(names)


def test_current_counters_need_no_write(tmp_path):
    life = Life(tmp_path)
    notes = CounterNotes(
        {"STATE_DIRECTORY": str(tmp_path)}, life.shared, life.journal, lambda: life.workers, int
    )
    worker = life.worker(served=5)
    assert notes.current().requests == 5
    life.works(worker, served=6, errors=6)
    record = notes.current()
    assert (record.requests, record.recent_errors, record.awake) == (6, 6, 1)
    assert record.written == pytest.approx(time.time(), abs=60)
    assert os.listdir(tmp_path) == []
    assert CounterNotes({}, life.shared, life.journal, list, int).current() is None


# What Prometheus asks for


def answered(worker, status="200 OK", seconds=0.02, count=1):
    meter = Meter(worker.cells)
    for _ in range(count):
        meter.answered(status, 1.0, 1.0 + seconds)
    meter.write()


def test_answers_are_added_up_over_workers_and_lives(tmp_path):
    for number in (1, 2, 3):
        life = Life(tmp_path)
        dead, living = life.worker(), life.worker()
        answered(dead, count=3)
        answered(living, "500 Oh", 7.0)
        Meter(living.cells).answered_untimed("101 Switching Protocols")
        Meter(living.cells).cut()
        Meter(living.cells).refused(431)
        life.ends(dead)
        life.board.note_restart("max_requests")
        life.counters.note(life.workers, 0, 0, 0.0, "idle", 2)
        record = read(str(tmp_path))
        assert record.codes == {
            "1xx": number,
            "2xx": 3 * number,
            "3xx": 0,
            "4xx": 0,
            "5xx": number,
            "cut": number,
        }
        assert record.refusals == {"4xx": number, "5xx": 2 * number}
        assert record.requests_took.total == 4 * number
        assert record.requests_took.seconds == pytest.approx(7.06 * number, abs=1e-4)
        assert record.restarts["max_requests"] == number
        assert record.exits["idle"] == number


def test_each_wake_that_accepts_is_in_the_histogram_once(tmp_path):
    for number in (1, 2):
        life = Life(tmp_path)
        life.note()
        assert read(str(tmp_path)).wakes_took.total == number - 1
        life.board.note_accepting()
        life.note()
        life.note()
        assert read(str(tmp_path)).wakes_took.total == number


def test_exits_are_counted_by_reason(tmp_path):
    reasons = ["idle", "stopped by SIGTERM", "failing: a: b", None, "idle", "who knows"]
    for why in reasons:
        Life(tmp_path).note(why or "")
    assert Life(tmp_path).counters.record([], 0, 0, 0.0).exits == {
        "idle": 2,
        "stopped": 1,
        "failing": 1,
        "killed": 1,
    }


def test_an_exit_that_was_put_off_is_not_counted(tmp_path):
    life = Life(tmp_path)
    life.note("idle")
    life.note()
    assert read(str(tmp_path)).exits["idle"] == 0


NEW = FULL.replace(
    "by 127",
    "codes 2xx=30 cut=1\nrestarts crash=1\nrequests_took 1.500000 0.001=29 inf=1\nby 127",
)


def test_what_is_counted_by_a_key_is_read():
    record = parse(NEW)
    assert record.text() == NEW
    assert (record.codes["2xx"], record.codes["5xx"], record.restarts["crash"]) == (30, 0, 1)
    assert (record.requests_took.counts[0], record.requests_took.counts[-1]) == (29, 1)


def test_a_histogram_of_another_version_begins_anew():
    assert parse(NEW.replace("0.001=", "0.002=")).requests_took.total == 0
    assert parse(NEW.replace("crash=1", "crash=1 boredom=7")).restarts == parse(NEW).restarts


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2xx=30", "2xx=-1"),
        ("2xx=30", "2xx"),
        ("2xx=30", "2xx=1e9"),
        ("1.500000", "nan"),
        ("0.001=29", "0.001="),
    ],
)
def test_damage_in_what_is_counted_by_a_key_is_found(old, new):
    with pytest.raises(ValueError, match=r".*"):
        parse(NEW.replace(old, new))
