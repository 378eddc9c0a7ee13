"""Apps that put something else in the place of what Python gives, as logging recipes,
gevent and eventlet do: they are served, or told why not.
"""

import subprocess

import pytest

from .fake_systemd import NOT_ROOT, server_environ, spyglass
from .processes import workers
from .visitor import Visitor, visit

APP = """
import threading as _threading, pathlib as _pathlib, os as _os, time as _time
_sleep, _fork = _time.sleep, _os.fork
def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        _pathlib.Path("asked").touch()
        while not _pathlib.Path("go").exists():
            _sleep(0.01)
    if environ["PATH_INFO"] == "/boom":
        1 / 0
    start_response("200 OK", [])
    return [b"hello"]
def gone(*_, **__):
    raise RuntimeError("not for you")
"""
REPLACED = {
    "streams, by a logger": "import sys, logging\nclass Stream:\n    def write(self, text): pass\nsys.stdout = sys.stderr = Stream()\n",
    "streams, by nothing": "import sys\nsys.stdout = sys.stderr = None\n",
    "epoll and poll": "import select\ndel select.epoll, select.poll\n",
    "select": "import select\nselect.select = select.epoll = select.poll = gone\n",
    "os": "import os\nos.fork = os.read = os.write = os.waitpid = os.pipe2 = os.eventfd_write = os.eventfd_read = os.getpid = gone\n",
    "time": "import time\ntime.monotonic = time.time = time.sleep = time.monotonic_ns = time.gmtime = gone\n",
    "signal": "import signal\nsignal.signal = signal.set_wakeup_fd = signal.pthread_sigmask = signal.getsignal = gone\n",
    "socket": "import socket\nsocket.socket = socket.SocketType = gone\n",
    "sys": "import sys\nsys.exit = gone\n",
    "gc and builtins": "import gc, builtins\ngc.enable = gc.freeze = builtins.open = builtins.print = gone\n",
    "finders": "import sys\nclass NoMore:\n    find_spec = gone\ndef post_fork(): sys.meta_path.insert(0, NoMore)\n",
}
THREADS = "import _thread, threading\n_thread.start_new_thread = threading._start_new_thread = lambda *_: 7\n"
TOLD = "the app has replaced Python's threads (app), and such threads cannot run in a worker"


@pytest.mark.parametrize("preload", [True, False], ids=["preloaded", "in each worker"])
@pytest.mark.parametrize("name", REPLACED)
def test_what_an_app_has_replaced_is_replaced_for_the_app(systemd, tmp_path, name, preload):
    (tmp_path / "app.py").write_text(APP + REPLACED[name])
    words = [] if preload else ["--no-preload"]
    life = systemd(
        "app:app",
        directory=tmp_path,
        workers=1,
        threads=2,
        idle_timeout=60,
        graceful_timeout=5,
        arguments=words,
    )
    assert visit(life.address).text == "hello"
    with Visitor(life.address) as slow:
        slow.send("/slow")
        life.until((tmp_path / "asked").exists, "it was not asked")
        assert visit(life.address).text == "hello"
        (tmp_path / "go").touch()
        assert slow.answer().text == "hello"
    assert visit(life.address, "/boom").status == 500
    life.until_logged("ZeroDivisionError")
    assert len(workers(life.run.pid)) == 1
    assert "a bug in Spyglass" not in life.log
    life.signal(15)
    life.until(lambda: life.run.ended, "it does not leave")
    assert life.run.status == 0
    assert "killed" not in life.log


@pytest.mark.parametrize("preload", [True, False], ids=["preloaded", "in each worker"])
@pytest.mark.parametrize("where", ["", "def post_fork():\n    "], ids=["import", "post_fork"])
def test_an_app_whose_threads_would_not_run_is_told_at_once(
    systemd, tmp_path, pycache, where, preload
):
    (tmp_path / "app.py").write_text(
        APP + where + THREADS.replace("\n", "\n    " if where else "\n", 1)
    )
    words = [] if preload else ["--no-preload"]
    command = NOT_ROOT + spyglass("check", "app:app", "--directory", str(tmp_path), *words)
    with subprocess.Popen(
        command,
        env=server_environ(pycache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as check:  # meanwhile, for both wait for a thread
        life = systemd("app:app", directory=tmp_path, workers=1, arguments=words)
        assert visit(life.address).status == 503
        life.until(
            lambda: any(TOLD in status for status in life.run.told("STATUS")),
            "systemd was not told",
        )
        _, told = check.communicate(timeout=60)
    assert (check.returncode, TOLD in told) == (78, True)


def test_an_app_that_leaves_a_worker_nothing_is_told_by_check_as_well(systemd, tmp_path, pycache):
    """Whatever it takes away: that it has loaded does not mean that it is served."""
    (tmp_path / "app.py").write_text(
        APP + "import spyglass.worker.loop\nspyglass.worker.loop.epoll = gone\n"
    )
    life = systemd("app:app", directory=tmp_path, workers=1)
    assert visit(life.address).status == 503
    told = "no worker can work beside this app, which may have replaced a part of the standard library: RuntimeError: not for you"
    life.until(
        lambda: any(told in status for status in life.run.told("STATUS")), "systemd was not told"
    )
    done = subprocess.run(
        NOT_ROOT + spyglass("check", "app:app", "--directory", str(tmp_path)),
        env=server_environ(pycache),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, told in done.stderr) == (78, True)
