"""What the Master does when it is told to: drain and leave, at once, more workers,
fewer, again from the start, explain itself.
"""

import os
import re
import signal
import time

import pytest

from .processes import children, workers
from .visitor import Crowd, Visitor, visit

STOPS = [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT]


@pytest.mark.parametrize("everybody", [False, True], ids=["the Master", "the whole group"])
@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_told_to_stop_it_finishes_what_it_has_accepted(systemd, number, everybody):
    life = systemd(idle_timeout=60, workers=2)
    with life.visitor_under_way("/sleep/1", keep=True) as busy:
        (life.signal_all if everybody else life.signal)(number)
        life.until(lambda: life.run.told("STOPPING"), "it does not stop")
        answer = busy.answer()
        assert answer.text == "slept"
        assert answer.closing, "nobody told the client that this was its last answer"
    life.until(lambda: life.run.ended, "it has not left", 5)
    assert life.run.status == 0
    assert life.run.left_behind == []


def test_a_stream_under_way_is_finished(systemd):
    life = systemd(idle_timeout=60)
    with life.visitor_under_way("/stream/0.6") as reader:
        life.signal_all(signal.SIGTERM)
        assert reader.answer().text.split() == [str(number) for number in range(10)]
    life.until_asleep(1)
    assert life.run.status == 0


def test_kept_alive_clients_are_told_to_close(systemd):
    life = systemd(idle_timeout=60, keepalive_timeout=20)
    with Visitor(life.address) as quick, Visitor(life.address) as idle:
        for client in (quick, idle):
            assert not client.ask(keep=True).closing
        life.signal(signal.SIGTERM)
        life.until(lambda: life.run.told("STOPPING"), "it does not stop")
        while not (answer := quick.ask(keep=True)).closing:
            assert answer.status == 200
        # Neither a reset nor an answer to a question that was not asked.
        assert idle.until_closed() == b""
        life.until(lambda: life.run.ended, "idle clients hold it up", 5)
    assert life.run.status == 0


def test_client_that_comes_while_it_stops_wakes_the_next(systemd):
    life = systemd(idle_timeout=60)
    with life.visitor_under_way("/sleep/0.5") as busy:
        life.signal(signal.SIGTERM)
        life.until(lambda: life.run.told("STOPPING"), "it does not stop")
        assert visit(life.address).status == 200
        assert busy.answer().text == "slept"
    assert len(life.runs) == 2


def test_a_second_int_ends_it_at_once(systemd):
    life = systemd(idle_timeout=60)
    with life.visitor_under_way("/hang"):
        life.signal(signal.SIGINT)
        life.until(lambda: life.run.told("STOPPING"), "it does not stop")
        assert life.run.ended is None
        again = time.monotonic()
        life.signal(signal.SIGINT)
        life.until(lambda: life.run.ended, "it has not left", 5)
        assert life.run.ended - again < 2
    assert life.run.status == 0
    assert life.run.left_behind == []


def test_what_has_not_ended_after_graceful_timeout_is_cut(systemd):
    life = systemd(idle_timeout=60, graceful_timeout=0.5)
    with life.visitor_under_way("/hang"):
        told = time.monotonic()
        life.signal(signal.SIGTERM)
        life.until(lambda: life.run.ended, "it has not left", 8)
        assert 0.5 <= life.run.ended - told < 6
    assert life.run.status == 0
    assert life.run.left_behind == []


@pytest.mark.parametrize("everybody", [False, True], ids=["the Master", "the whole group"])
def test_told_to_stop_while_the_app_loads_it_leaves_at_once_and_the_visitor_waits_for_the_next(
    systemd, tmp_path, everybody
):
    app = tmp_path / "app.py"
    app.write_text("import pathlib, time\npathlib.Path('hangs').touch()\ntime.sleep(3600)\n")
    life = systemd("app", directory=tmp_path, idle_timeout=60)
    with Visitor(life.address) as early:
        early.send()
        life.until((tmp_path / "hangs").exists, "not loading")
        app.write_text(
            "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'mended']\n"
        )
        (life.signal_all if everybody else life.signal)(signal.SIGTERM)
        assert early.answer().text == "mended"
    assert [run.status for run in life.runs] == [0, None]
    assert "error" not in life.log


def test_stopping_the_whole_group_under_load_loses_nothing(systemd):
    life = systemd(idle_timeout=60, workers=2)
    with Crowd(life.address, "/sleep/0.02", count=6) as crowd:
        for stops in range(1, 6):
            life.until(
                lambda stops=stops: len(life.runs) == stops and life.run.told("READY"), "not ready"
            )
            count = len(crowd.answers)
            life.until(lambda count=count: len(crowd.answers) > count + 20, "nobody is served")
            life.signal_all(signal.SIGTERM)
            life.until(lambda stops=stops: life.runs[stops - 1].ended, "it has not left")
        life.until(lambda: len(life.runs) == 6, "nobody woke it again")
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    assert [run.status for run in life.runs[:5]] == [0] * 5
    assert max(answer.seconds for answer in crowd.answers) < 5


# In the place of an interpreter that takes long over its own end, when it has taken the
# handlers of all signals back (Py_FinalizeEx).
SLOW_TO_CLEAR_AWAY = """
import atexit, os, signal, time
@atexit.register
def clear_away():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.mkdir(f"clearing-{os.getpid()}")
    time.sleep(10)
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_worker_that_is_told_again_on_its_way_out_is_no_error(systemd, tmp_path, number):
    """systemd tells the whole group, and the Master its workers."""
    (tmp_path / "app.py").write_text(SLOW_TO_CLEAR_AWAY)
    life = systemd("app", directory=tmp_path, idle_timeout=60, workers=1)
    assert visit(life.address).text == "hello"
    [worker] = workers(life.run.pid)
    life.signal(signal.SIGTERM)
    [zygote] = children(life.run.pid)
    for pid in (worker, zygote.pid):
        life.until((tmp_path / f"clearing-{pid}").exists, "it does not leave")
        os.kill(pid, number)
    life.until_asleep(1)
    assert life.run.status == 0
    assert "error" not in life.log


def test_ttin_and_ttou_change_the_number_of_workers(systemd):
    life = systemd(idle_timeout=60, workers=2)
    life.start()
    life.until_ready()

    def becomes(count):
        life.until(lambda: len(workers(life.run.pid)) == count, f"there are not {count} workers")

    becomes(2)
    with Crowd(life.address, count=2) as crowd:
        for number, count in [
            ("TTIN", 3),
            ("TTIN", 4),
            ("TTOU", 3),
            ("TTOU", 2),
            ("TTOU", 1),
            ("TTOU", 1),
            ("TTIN", 2),
        ]:
            life.signal(signal.Signals[f"SIG{number}"])
            becomes(count)
    assert crowd.lost == []
    assert crowd.statuses() == {200}


def test_waking_master_can_be_told_of_more_workers(systemd, tmp_path):
    """Else one who asks for one more, and then for one less, might have one less than
    before.
    """
    (tmp_path / "app.py").write_text(
        "import pathlib, time\nwhile not pathlib.Path('go').exists():\n    time.sleep(0.01)\n"
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n"
    )
    life = systemd("app", directory=tmp_path, idle_timeout=60, workers=2)
    with Visitor(life.address) as early:
        early.send()
        life.until(
            lambda: life.runs and any("waking" in status for status in life.run.told("STATUS")),
            "it does not wake",
        )
        life.signal(signal.SIGTTIN)
        life.until_logged("SIGTTIN: 3 workers from now on")
        (tmp_path / "go").touch()
        assert early.answer().text == "hello"
    life.until(lambda: len(workers(life.run.pid)) == 3, "there are not three workers")
    life.signal(signal.SIGTTOU)
    life.until(lambda: len(workers(life.run.pid)) == 2, "there are not two workers")


def test_hup_loads_the_app_afresh_beside_the_old_one(systemd, tmp_path):
    app = tmp_path / "app.py"
    source = (
        "import os, time\ndef app(environ, start_response):\n    time.sleep(float(environ['QUERY_STRING'] or 0))\n"
        "    start_response('200 OK', [])\n    return [b'VERSION']\n"
    )
    app.write_text(source.replace("VERSION", "old"))
    life = systemd("app", directory=tmp_path, idle_timeout=60)
    assert visit(life.address).text == "old"
    before = workers(life.run.pid)
    with Crowd(life.address, count=2) as crowd, Visitor(life.address) as slow:
        slow.send("/?1")
        app.write_text(source.replace("VERSION", "another"))
        life.until(lambda: visit(life.address).text == "old", "not served")
        life.signal(signal.SIGHUP)
        life.until(lambda: visit(life.address).text == "another", "the old code still answers")
        assert slow.answer().text == "old"
        life.until(
            lambda: not set(before) & set(workers(life.run.pid)), "old workers are still there"
        )
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    assert len(life.runs) == 1


def test_hup_with_a_broken_app_leaves_the_old_one_serving(systemd, tmp_path):
    app = tmp_path / "app.py"
    app.write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'old']\n"
    )
    life = systemd("app", directory=tmp_path, idle_timeout=0.5)
    with Visitor(life.address):  # as long as it is connected nothing leaves
        assert visit(life.address).text == "old"
        life.until(lambda: len(workers(life.run.pid)) == 2, "there are not 2 workers")
        before = workers(life.run.pid)
        app.write_text("import blgo\n")
        life.signal(signal.SIGHUP)
        life.until_logged(
            "reload failed, the old generation keeps serving: ModuleNotFoundError: No module named 'blgo'"
        )
        assert visit(life.address).text == "old"
        assert workers(life.run.pid) == before
    life.until_asleep(1)
    assert life.run.status == 0


def test_usr2_writes_tracebacks_and_ends_no_process(systemd):
    life = systemd(idle_timeout=60)
    with life.visitor_under_way("/sleep/1") as busy:
        life.until_workers(2)
        before = workers(life.run.pid)
        life.signal(signal.SIGUSR2)
        # One of the Master, one of each worker, and what the app is doing is among
        # them.
        life.until(
            lambda: (
                len(re.findall(r"^\w+ thread 0x\w+ \(most recent call first\):$", life.log, re.M))
                == 3
            ),
            "not three tracebacks",
        )
        life.until(
            lambda: re.search(r'^  File ".*plain\.py", line \d+ in sleep$', life.log, re.M),
            "the app is not in them",
        )
        assert busy.answer().text == "slept"
    assert visit(life.address).status == 200
    assert workers(life.run.pid) == before
