"""What a real Master and its workers count for Prometheus: over sleeps, reloads and the
ends of workers.
"""

import signal

import pytest

from spyglass.master import counters
from spyglass.master.counter_record import Record
from spyglass.ops.status import master_report

from .visitor import Visitor, visit

APP = """
import os, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/die":
        os._exit(3)
    if path == "/slow":
        time.sleep(0.06)
    start_response({"/5": "503 Later", "/4": "404 No"}.get(path, "200 OK"), [])
    return [b"hello"]
"""
ASGI = """
import asyncio

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/slow":
        await asyncio.sleep(0.06)
    status = {"/5": 503, "/4": 404}.get(scope["path"], 200)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""


@pytest.fixture
def counted(systemd, tmp_path):
    """counted(source, **settings): an app of our own; `.record()` is what its last
    Master has left, `.report()` what the present one says.
    """
    for name in ("app", "state"):
        (tmp_path / name).mkdir()

    def new(source=APP, **settings):
        (tmp_path / "app" / "app.py").write_text(source)
        state = tmp_path / "state"
        life = systemd(
            "app:app",
            directory=tmp_path / "app",
            environ={"STATE_DIRECTORY": str(state)},
            **{"workers": 2, "idle_timeout": 0.5} | settings,
        )
        life.record = lambda: counters.read(state)

        def report():
            """What its Master says now; nothing while that cannot answer yet."""
            [found] = master_report.ask([(str(state), life.run.pid)])
            return found.record if found else Record()

        life.report = report
        return life

    return new


@pytest.mark.parametrize("source", [APP, ASGI], ids=["wsgi", "asgi"])
def test_answers_are_counted_by_class_and_duration_over_sleeps(counted, source):
    life = counted(source)
    for number in (1, 2):
        for path in ("/", "/5", "/4", "/slow"):
            visit(life.address, path)
        with Visitor(life.address) as visitor:
            visitor.sock.sendall(b"nonsense\r\n\r\n")
            assert b" 400 " in visitor.until_closed()
        life.until_asleep(number)
        record = life.record()
        assert record.codes == {
            "1xx": 0,
            "2xx": 2 * number,
            "3xx": 0,
            "4xx": number,
            "5xx": number,
            "cut": 0,
        }
        assert record.refusals == {"4xx": number, "5xx": 0}
        took = record.requests_took
        assert took.total == 4 * number
        slow = sum(took.counts[took.bounds.index(0.1) :])
        assert slow >= number
        assert took.seconds >= 0.06 * number
        assert record.wakes_took.total == number
        assert record.exits["idle"] == number


def test_counts_outlive_workers_and_generations(counted):
    life = counted(idle_timeout=60, max_requests=2, workers=1)
    visit(life.address)
    visit(life.address)
    life.until(lambda: life.report().restarts["max_requests"] == 1, "nothing was recycled", 20)
    life.signal(signal.SIGHUP)
    life.until(lambda: life.report().reloads == 1, "it is not reloaded", 20)
    visit(life.address)
    life.until(lambda: life.report().codes["2xx"] == 3, "it was not counted", 20)
    with Visitor(life.address) as visitor:
        visitor.send("/die")
        visitor.until_closed()
    life.until(lambda: life.report().restarts["crash"] == 1, "no worker died", 20)
    visit(life.address)
    life.signal(signal.SIGTERM)
    life.until_asleep(1)
    record = life.record()
    assert (record.codes["2xx"], record.requests, record.crashes) == (4, 4, 1)
    assert record.exits == {"idle": 0, "stopped": 1, "failing": 0, "killed": 0}


def test_what_the_master_refuses_while_the_app_is_broken_is_counted(counted):
    life = counted("import no_such_module\n", idle_timeout=60)
    assert visit(life.address).status == 503
    life.until(lambda: life.report().refusals["5xx"] == 1, "it was not counted", 20)
    assert life.report().wakes_took.total == 0
    life.signal(signal.SIGTERM)
