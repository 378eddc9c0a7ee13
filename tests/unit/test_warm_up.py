"""What is imported after the first answer: when, and what happens where it cannot be."""

import builtins
import subprocess
import sys

from spyglass.worker import slow_clients
from spyglass.worker.warm_up import WarmUp

from .fake_log import FakeLog
from .stepped_worker import ONE, Closing


def test_it_is_imported_when_the_first_answer_is_out(start):
    warm = []

    def app(environ, start_response):
        warm.append(worker.loop.warm_up.done)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"/1"]

    worker = start(app)
    worker.client()  # one that says nothing asks for nothing
    worker.turns()
    assert not worker.loop.warm_up.done
    client = worker.client(ONE)
    assert worker.answers(client, 1) == [b"/1"]
    assert warm == [False]
    assert worker.loop.warm_up.done
    assert worker.loop.warm_up.slowest is slow_clients.slowest


def test_an_answer_without_end_counts(start):
    def app(environ, start_response):
        start_response("200 OK", [])
        return Closing()

    worker = start(app)
    worker.client(ONE)
    worker.until(lambda: worker.loop.warm_up.done)


def test_an_answer_that_ends_its_connection_counts(start):
    worker = start()
    worker.to_the_end(worker.client(b"GET / HTTP/1.0\r\n\r\n"))
    worker.until(lambda: worker.loop.warm_up.done)


def test_without_a_descriptor_it_is_tried_again_a_second_later(monkeypatch):
    journal = FakeLog()
    warm_up = WarmUp(journal, threads=4)

    def none_left(name, *arguments):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "__import__", none_left)
        warm_up.run(100.0)
        warm_up.run(100.5)
    assert len(journal.lines) == 1
    assert not warm_up.done
    assert warm_up.slowest([object()], 0.0) == []
    assert warm_up.untaken(-1) == 0
    warm_up.run(100.9)
    assert not warm_up.done
    warm_up.run(101.0)
    assert warm_up.done
    assert len(journal.lines) == 1


def test_what_an_import_hook_of_the_app_raises_ends_nothing_and_is_told_once(monkeypatch):
    """An app may forbid imports after its start, or have emptied sys.path."""
    journal = FakeLog()
    warm_up = WarmUp(journal, threads=4)

    def refused(name, *arguments):
        raise RuntimeError(f"too late to import {name}")

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "__import__", refused)
        for now in range(100, 110):
            warm_up.run(float(now))
    assert journal.lines == [
        "cannot import what requests may need: too late to import spyglass.worker; trying again"
    ]
    warm_up.run(200.0)
    assert warm_up.done


def test_threads_are_imported_where_there_are_to_be_some():
    code = (
        "import sys; from spyglass.worker.warm_up import WarmUp;"
        "WarmUp(None, int(sys.argv[1])).run(0.0); print('threading' in sys.modules)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-S", "-c", f"import sys; sys.path = {sys.path!r}; {code}", threads],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout.split()[-1]
        for threads in ("1", "4")
    ]
    assert said == ["False", "True"]
