"""What only one process at a time can have: a file that the import has locked is never
shared by a fork, and with `preload = false` and `workers = 1` a worker begins when the
one before has exited.

The app locks its file when it is imported, and fails where another process has it, as
DuckDB and ZODB do.
"""

import os
import signal

import pytest

from .processes import children, workers
from .visitor import Crowd, Visitor, visit

LOCKS = """
import fcntl, os, time
data = open("data.lock", "w")
fcntl.flock(data, fcntl.LOCK_EX | fcntl.LOCK_NB)
VERSION = "first"
def app(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        open("called", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.01)
    start_response("200 OK", [])
    return [f"{VERSION} {os.getpid()}".encode()]
"""
WHY = (
    "data.lock: locked for writing by the app's import, and workers must not share what is locked for one process: "
    "open it in a function post_fork() of app, or set preload = false and workers = 1"
)


@pytest.fixture
def serve(systemd, tmp_path):
    """serve(**settings) -> a FakeSystemd whose app is LOCKS and what `more` (str) adds
    to it.
    """
    (tmp_path / "app").mkdir()

    def start(more="", *, preload=False, **settings):
        (tmp_path / "app" / "app.py").write_text(LOCKS + more)
        settings = {"idle_timeout": 60, "workers": 1} | settings
        return systemd(
            "app",
            directory=tmp_path / "app",
            arguments=[] if preload else ["--no-preload"],
            **settings,
        )

    return start


def only_worker(life):
    life.until(lambda: len(workers(life.run.pid)) == 1, "there is not one worker")
    return workers(life.run.pid)[0]


SEES_TO_IT = {
    "nothing": "",
    "post_fork": "def post_fork(): data.close()\n",
    "at fork": "os.register_at_fork(after_in_child=data.close)\n",
}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("more", SEES_TO_IT)
def test_what_the_import_has_locked_is_not_served_preloaded(serve, tmp_path, count, more):
    """Nor where the app would see to it in the worker, for the zygote keeps the lock;
    nor with one worker, for the next begins with old data.
    """
    life = serve(SEES_TO_IT[more], preload=True, workers=count)
    assert visit(life.address).status == 503
    life.until(lambda: life.run.told("STATUS")[-1] == f"failing: {WHY}", "not told")
    assert life.log.count(WHY) == 1
    (tmp_path / "app" / "app.py").write_text(
        LOCKS.replace("fcntl.flock", "post_fork = lambda: fcntl.flock")
    )
    life.until(lambda: visit(life.address).status == 200, "opened after the fork it is served")


def test_it_is_served_by_one_process_that_loads_the_app_itself(serve):
    life = serve()
    assert visit(life.address).text == f"first {only_worker(life)}"
    assert "locked" not in life.log


def test_recycling_waits_for_the_end_of_the_worker(serve):
    life = serve(max_requests=3)
    with Crowd(life.address, count=2) as crowd:
        life.until(lambda: life.log.count("recycled after") > 3, "not recycled", 30)
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    assert "BlockingIOError" not in life.log


def end_worker(life):
    os.kill(only_worker(life), signal.SIGTERM)


def end_zygote(life):
    os.kill(children(life.run.pid)[0].pid, signal.SIGKILL)


def reload(life):
    life.signal(signal.SIGHUP)


@pytest.mark.parametrize("end", [end_worker, end_zygote, reload], ids=lambda end: end.__name__)
def test_a_replacement_waits_for_the_end_of_the_request(serve, tmp_path, end):
    life = serve(threads=2)
    visit(life.address)
    old = only_worker(life)
    with Visitor(life.address) as slow:
        slow.send("/wait")
        life.until((tmp_path / "app" / "called").exists, "the app was not called")
        (tmp_path / "app" / "app.py").write_text(LOCKS.replace("first", "the next"))
        end(life)
        life.until(
            lambda: any(
                text in life.log
                for text in (
                    "draining",
                    "one process at a time",
                    "is shutting down (external SIGTERM)",
                )
            ),
            "it goes on",
        )
        assert workers(life.run.pid) == [old] or not children(life.run.pid), (
            "there is another beside it"
        )
        (tmp_path / "app" / "go").touch()
        assert slow.answer().text == f"first {old}"
    life.until(
        lambda: visit(life.address).text == f"the next {only_worker(life)}", "it is not replaced"
    )
    assert "BlockingIOError" not in life.log
    assert len(life.runs) == 1


def test_under_load_no_request_is_lost_to_a_reload(serve, tmp_path):
    life = serve()
    visit(life.address)
    with Crowd(life.address, count=3) as crowd:
        for number in range(3):
            (tmp_path / "app" / "app.py").write_text(
                LOCKS.replace("first", f"number {number} {'+' * number}")
            )
            command = life.reload()
            assert command.wait(20) == 0, command.stdout.read()
            assert visit(life.address).text.startswith(f"number {number}")
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    assert "BlockingIOError" not in life.log
    assert len(life.runs) == 1


def test_a_reload_that_cannot_serve_is_failing_for_the_old_one_has_left(serve, tmp_path):
    life = serve()
    visit(life.address)
    (tmp_path / "app" / "app.py").write_text("import blgo\n")
    command = life.reload()
    assert command.wait(20) == 78
    assert "No module named 'blgo'" in command.stdout.read()
    assert visit(life.address).status == 503
    (tmp_path / "app" / "app.py").write_text(LOCKS.replace("first", "mended"))
    life.until(lambda: visit(life.address).text.startswith("mended"), "it does not go on")
    assert "BlockingIOError" not in life.log


def test_a_configuration_that_cannot_be_read_leaves_the_worker_alone(systemd, tmp_path):
    (tmp_path / "app.py").write_text(LOCKS)
    settings = tmp_path / "site.toml"
    text = f'app = "app"\ndirectory = "{tmp_path}"\nidle_timeout = 60\nworkers = 1\n'
    settings.write_text(text + "preload = false\n")
    life = systemd(None, arguments=["--config", str(settings)])
    visit(life.address)
    old = only_worker(life)
    settings.write_text("wrokers = 1\n")
    assert life.reload().wait(20) == 78
    assert only_worker(life) == old
    # Where either of the two is to be alone, there is no moment with both.
    settings.write_text(text)
    assert life.reload().wait(20) == 78
    life.until(lambda: life.run.told("STATUS")[-1] == f"failing: {WHY}", "not told")
    assert "BlockingIOError" not in life.log


def test_there_is_no_second_worker_by_signal(serve):
    life = serve()
    visit(life.address)
    old = only_worker(life)
    life.signal(signal.SIGTTIN)
    life.until_logged(
        "SIGTTIN has no effect: preload = false with workers = 1 allows one worker only"
    )
    assert workers(life.run.pid) == [old]
    assert visit(life.address).status == 200


def test_a_stop_that_comes_while_the_next_one_waits(serve, tmp_path):
    life = serve(threads=2)
    with Visitor(life.address) as slow:
        slow.send("/wait")
        life.until((tmp_path / "app" / "called").exists, "the app was not called")
        life.signal(signal.SIGHUP)
        life.until_logged("one process at a time")
        life.signal(signal.SIGTERM)
        life.until(lambda: life.run.told("STOPPING"), "it does not stop")
        (tmp_path / "app" / "go").touch()
        assert slow.answer().text.startswith("first")
    life.until_asleep(1)
    assert life.run.status == 0
