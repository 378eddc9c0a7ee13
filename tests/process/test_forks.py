"""Processes that an app forks: they live as on any server, and none of them ever goes
on as a second worker, or zygote.

os.fork() copies a worker in the middle of the app's code, with its connections, its
epoll (shared with the original), its signals.
"""

import os
import re
import signal

import pytest

from .fake_systemd import APPS, ROOT
from .processes import children, members, workers
from .visitor import Crowd, Visitor, visit

THREADS = pytest.mark.parametrize("threads", [1, 4])
BACK = (
    r"stray\] warning: a process that the app has forked came back from its request, and is ended"
)
LONG = "/sleep/0.1"  # after it the next call for the same path goes to another thread at once


@pytest.fixture
def serve(systemd):
    """serve(threads): one worker; gives life and its pid, which must be there in the
    end, with no other.
    """
    started = []

    def start(threads, **settings):
        life = systemd(
            "rogue:app", **({"idle_timeout": 60, "workers": 1, "threads": threads} | settings)
        )
        worker = int(visit(life.address, "/pid").text)
        started.append((life, worker))
        return life, worker

    yield start
    for life, worker in started:
        life.until(
            lambda life=life, worker=worker: [each.pid for each in everybody(life)] == [worker],
            "there are others, or it is gone",
        )


def everybody(life):
    """Who is there beside Master and zygote."""
    [zygote] = children(life.run.pid)
    return [each for each in members(life.run.pid) if each.pid not in (life.run.pid, zygote.pid)]


@THREADS
@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("/run", "echoed\n"),
        ("/processes", "[1, 4, 9]"),
        ("/terminate", str(-signal.SIGTERM)),
        ("/forkexit/0", "0"),
        ("/forkexit/3", "3"),
        ("/forkraise", "1"),
        ("/forkstream", "one child"),
    ],
)
def test_what_it_starts_in_a_request_is_its_own(serve, threads, target, answer):
    life, worker = serve(threads)
    for _ in range(3):
        assert visit(life.address, target).text == answer
    assert int(visit(life.address, "/pid").text) == worker
    if target == "/forkraise":
        assert (
            len(
                re.findall(
                    r"stray\] error: GET /forkraise: the app raised RuntimeError, in a process that it had forked$",
                    life.log,
                    re.M,
                )
            )
            == 3
        )
    else:
        assert "stray" not in life.log, life.log


@THREADS
def test_one_that_comes_back_from_the_request_is_ended(serve, threads):
    life, worker = serve(threads)
    with Crowd(life.address, "/pid", count=2, pause=0.005) as crowd:
        for _ in range(10):
            assert int(visit(life.address, "/fork").text) == worker
    assert crowd.lost == []
    assert {answer.text for answer in crowd.answers} == {str(worker)}
    life.until(lambda: len(re.findall(BACK, life.log)) == 10, "they are not told of")


def test_the_same_in_another_thread_than_the_leaders(serve):
    life, worker = serve(4)

    def threads_are_there():
        with Visitor(life.address) as one, Visitor(life.address) as other:
            one.send(LONG)
            other.send(LONG)
            return {one.answer().status, other.answer().status} == {200} and len(
                visit(life.address, "/threads").text.split()
            ) > 2

    life.until(threads_are_there, "its threads were not started")
    for _ in range(3):
        assert int(visit(life.address, "/forklate").text) == worker
    life.until(lambda: len(re.findall(BACK, life.log)) == 3, "they are not told of")


@THREADS
def test_client_sees_the_end_of_its_connection_though_the_app_has_started_a_process(serve, threads):
    """A copy of the socket in another process would keep it open: without a length its
    end is the end of the response.
    """
    life, worker = serve(threads)
    with Visitor(life.address) as visitor:
        visitor.sock.sendall(b"GET /background/60 HTTP/1.0\r\n\r\n")
        assert visitor.until_closed().endswith(b"\r\n\r\nstarted")
    [started] = [each.pid for each in everybody(life) if each.pid != worker]
    os.kill(started, signal.SIGKILL)


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize(
    "ends", ["raise SystemExit(0)", "raise RuntimeError('in the child')", "pass"]
)
def test_one_that_comes_back_from_the_import_is_ended(systemd, tmp_path, preload, ends):
    source = f"import os, plain\nif os.fork() == 0:\n    {ends}\napp = plain.app\n"
    (tmp_path / "forks.py").write_text(source)
    how = {
        "arguments": () if preload else ("--no-preload",),
        "environ": {"PYTHONPATH": f"{ROOT}:{APPS}"},
    }
    life = systemd("forks:app", directory=tmp_path, idle_timeout=0.5, workers=2, **how)
    with Visitor(life.address):  # as long as it is connected nothing leaves
        assert visit(life.address).text == "hello", life.story()
        life.until(lambda: len(workers(life.run.pid)) == 2, "there are not two workers")
        life.until(lambda: len(members(life.run.pid)) == 4, lambda: str(members(life.run.pid)))
    life.until_asleep(1)
    assert life.run.status == 0
    assert "failing" not in life.log
    assert life.log.count("came back from the import, and is ended") == (1 if preload else 2)


def test_a_pool_that_it_has_from_the_import_on_can_be_told_to_end(systemd, tmp_path):
    """It was forked from the zygote, whose signals are heard and not acted on."""
    source = "import multiprocessing, plain\npool = multiprocessing.get_context('fork').Pool(1)\npool.map(abs, [1])\npool.terminate()\npool.join()\napp = plain.app\n"
    (tmp_path / "pools.py").write_text(source)
    life = systemd(
        "pools:app",
        directory=tmp_path,
        idle_timeout=0.5,
        workers=1,
        start_timeout=10,
        environ={"PYTHONPATH": f"{ROOT}:{APPS}"},
    )
    assert visit(life.address).text == "hello"
    life.until_asleep(1)
    assert life.run.status == 0
