"""The wall clock is stepped, by an hour and back by years: nothing that is decided by a
clock is decided by that one.
"""

import email.utils
import itertools
import pathlib
import time

import pytest

from .fake_systemd import ROOT
from .processes import cpu_seconds, workers
from .visitor import Crowd, Visitor, visit

pytestmark = pytest.mark.quiet

HERE = pathlib.Path(__file__).resolve().parent
STEPS = [3600, -10 * 365 * 86400]


class Clock:
    def __init__(self, path):
        self.path = path
        self.environ = {"PYTHONPATH": f"{ROOT}:{HERE / 'clock'}", "CLOCK": str(path)}

    def step(self, seconds):
        new = self.path.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self.path)


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path / "clock")


def date(answer):
    """How far its Date is from the real time, seconds."""
    return email.utils.parsedate_to_datetime(answer.fields["date"]).timestamp() - time.time()


def test_serving_app_goes_on_and_shows_the_new_time(systemd, clock):
    limits = dict(
        idle_timeout=1,
        request_timeout=2,
        header_timeout=1.5,
        keepalive_timeout=0.9,
        body_timeout=1.5,
        start_timeout=5,
    )
    life = systemd(workers=2, environ=clock.environ, **limits)
    assert abs(date(visit(life.address))) < 2
    life.until(lambda: len(workers(life.run.pid)) == 2, "there are not two workers")
    before = workers(life.run.pid)
    for seconds in STEPS:
        with (
            life.visitor_under_way("/sleep/1.2") as busy,
            Visitor(life.address) as slow,
            Visitor(life.address) as kept,
        ):
            slow.sock.sendall(b"GET / HTTP/1.1\r\n")
            assert kept.ask(keep=True).status == 200
            clock.step(seconds)
            time.sleep(0.3)
            assert kept.ask(keep=True).status == 200
            slow.sock.sendall(b"Host: test\r\n\r\n")
            assert slow.answer().status == 200
            assert busy.answer().text == "slept"
        life.until(
            lambda seconds=seconds: abs(date(visit(life.address)) - seconds) < 2,
            "the Date is not that of the clock",
        )
    assert workers(life.run.pid) == before
    began = time.monotonic()
    life.until_asleep(1)
    assert 0.5 < time.monotonic() - began < 5
    assert life.run.status == 0
    assert len(life.runs) == 1


def test_failing_app_is_tried_as_often_as_ever_and_its_mending_noticed(systemd, clock, tmp_path):
    app = tmp_path / "app.py"
    app.write_text("import blgo\n")
    life = systemd("app:app", directory=tmp_path, idle_timeout=60, environ=clock.environ)
    assert visit(life.address).status == 503
    with Crowd(life.address, count=1, pause=0.05) as crowd:
        for seconds in STEPS:
            used = cpu_seconds(life.run.pid)
            tries = life.log.count("still failing")
            clock.step(seconds)
            time.sleep(1)
            assert life.log.count("still failing") - tries <= 3
            assert cpu_seconds(life.run.pid) - used < 0.5
        assert abs(date(crowd.answers[-1]) - STEPS[-1]) < 3
        app.write_text(
            "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'mended']\n"
        )
        began = time.monotonic()
        life.until(lambda: crowd.answers[-1].status == 200, "the mending was not noticed")
        assert time.monotonic() - began < 3
    assert crowd.lost == []
    assert [
        status for status, _ in itertools.groupby(answer.status for answer in crowd.answers)
    ] == [503, 200]
