"""Signals that mean nothing to Spyglass, sent to all of it: logrotate's SIGUSR1,
timers, what a terminal sends. They cost nothing.
"""

import os
import signal

import pytest

from .processes import members, workers
from .visitor import Crowd, Visitor, visit

UNHEARD = [
    *(
        signal.SIGUSR1,
        signal.SIGALRM,
        signal.SIGVTALRM,
        signal.SIGPROF,
        signal.SIGIO,
        signal.SIGPWR,
        signal.SIGSTKFLT,
    ),
    *(signal.SIGPIPE, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT, signal.SIGTSTP),
    *(signal.SIGRTMIN, signal.SIGRTMIN + 5, signal.SIGRTMAX),
]
APP = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n"
WAIT = "import os, pathlib, time\npathlib.Path('importing').touch()\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)\n"


def send_all(life):
    for number in UNHEARD:
        life.signal_all(number)


def pids(life):
    return {process.pid for process in members(life.run.pid)}


def test_while_it_serves(systemd):
    life = systemd(idle_timeout=60, workers=2)
    visit(life.address)
    life.until(lambda: len(workers(life.run.pid)) == 2, "there are not 2 workers")
    before = pids(life)
    with Crowd(life.address, count=2) as crowd:
        for _ in range(5):
            send_all(life)
        served = len(crowd.answers)
        life.until(lambda: len(crowd.answers) > served + 20, "nobody is served any more")
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    assert pids(life) == before
    assert "worker" not in life.log


@pytest.mark.parametrize("preload", [True, False], ids=["preloaded", "in each worker"])
@pytest.mark.parametrize("where", ["import", "post_fork"])
def test_while_the_app_is_loaded(systemd, tmp_path, where, preload):
    body = (
        WAIT
        if where == "import"
        else f"def post_fork():\n    {WAIT.replace(chr(10), chr(10) + '    ')}\n"
    )
    (tmp_path / "app.py").write_text(body + APP)
    life = systemd(
        "app:app", directory=tmp_path, workers=1, arguments=[] if preload else ["--no-preload"]
    )
    with Visitor(life.address) as visitor:
        visitor.send()
        life.until((tmp_path / "importing").exists, "it is not loaded")
        before = pids(life)
        send_all(life)
        (tmp_path / "go").touch()
        assert visitor.answer().text == "hello"
    assert before <= pids(life)
    assert "was killed by" not in life.log


def test_while_it_is_failing(systemd, tmp_path):
    (tmp_path / "app.py").write_text("1 / 0\n")
    life = systemd("app:app", directory=tmp_path)
    assert visit(life.address).status == 503
    send_all(life)
    assert visit(life.address).status == 503
    assert len(life.runs) == 1


def test_without_systemd(lookout):
    it = lookout()
    it.until_listening()
    for number in UNHEARD:
        if number != signal.SIGTSTP:  # Ctrl-Z: that the lookout leaves to the terminal
            os.kill(it.pid, number)
    assert visit(it.address).status == 200
    for process in members(it.pid):
        for number in UNHEARD:
            if number != signal.SIGTSTP:
                os.kill(process.pid, number)
    assert visit(it.address).status == 200
    assert "the Master was" not in it.log


OWN = """
import os, pathlib, signal, subprocess, sys, time
HERE = pathlib.Path(os.environ["WORKED"])
signal.signal(signal.SIGUSR1, lambda *_: (HERE / f"heard-{os.getpid()}").touch())
def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/alarm":
        rang = []
        old = signal.signal(signal.SIGALRM, lambda *_: rang.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        while not rang:
            time.sleep(0.01)
        signal.signal(signal.SIGALRM, old)
        return [b"rang"]
    if environ["PATH_INFO"] == "/children":
        forked = os.fork()
        if not forked:
            time.sleep(60)
            os._exit(0)
        started = subprocess.Popen(["sleep", "60"])
        for pid in (forked, started.pid):
            os.kill(pid, signal.SIGALRM)
        return [f"{os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1])} {started.wait()}".encode()]
    return [str(os.getpid()).encode()]
"""


@pytest.mark.parametrize("preload", [True, False], ids=["preloaded", "in each worker"])
def test_what_the_app_wants_of_them_it_has(systemd, tmp_path, preload):
    (tmp_path / "app.py").write_text(OWN)
    words = [] if preload else ["--no-preload"]
    life = systemd(
        "app:app",
        directory=tmp_path,
        workers=1,
        threads=1,
        environ={"WORKED": str(tmp_path)},
        arguments=words,
    )
    worker = int(visit(life.address).text)
    os.kill(worker, signal.SIGUSR1)
    life.until((tmp_path / f"heard-{worker}").exists, "its own handler has not been called")
    assert visit(life.address, "/alarm").text == "rang"
    assert visit(life.address, "/children").text == f"{-signal.SIGALRM} {-signal.SIGALRM}"
    assert int(visit(life.address).text) == worker


EARLY = """
import atexit, os, pathlib, signal
HERE = pathlib.Path(os.environ["WORKED"])

def end_once():
    (HERE / f"forked-{os.getpid()}").touch()
    try:
        (HERE / "told").touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGTERM)

@atexit.register
def clear_up():
    (HERE / f"ended-{os.getpid()}").touch()

os.register_at_fork(after_in_child=end_once)
"""


@pytest.mark.parametrize("post_fork", ["", "def post_fork(): pass\n"], ids=["", "post_fork"])
def test_a_worker_that_is_told_to_end_in_its_first_moment_clears_up(systemd, tmp_path, post_fork):
    """SIGTERM came between its fork and its first look at signals, and ended it before
    the app's atexit functions.
    """
    (tmp_path / "app.py").write_text(EARLY + post_fork + APP)
    life = systemd(
        "app:app", directory=tmp_path, workers=1, environ={"WORKED": str(tmp_path)}, idle_timeout=60
    )
    assert visit(life.address).status == 200
    life.until(
        lambda: len(list(tmp_path.glob("forked-*"))) == 2, "no other worker has taken its place"
    )
    life.signal_all(signal.SIGTERM)
    life.until_asleep(1)
    forked = {path.name.partition("-")[2] for path in tmp_path.glob("forked-*")}
    ended = {path.name.partition("-")[2] for path in tmp_path.glob("ended-*")}
    assert forked <= ended
    assert "was killed" not in life.log
