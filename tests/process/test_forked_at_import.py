"""Processes that an app forks while it is imported, as a pool does: they have nothing
of ours, so nothing of ours waits for them.
"""

import os
import signal

import pytest

from .processes import members
from .visitor import visit

APP = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n"
POOL = "import multiprocessing\nif __name__ != '__mp_main__':\n    pool = multiprocessing.get_context('fork').Pool(2)\n"
# They outlive what has forked them, as daemons do, and pay no attention to SIGTERM.
DAEMONS = """
import os, pathlib, signal, time
for number in range(2):
    if not os.fork():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        held = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd != "2" and os.path.exists(f"/proc/self/fd/{fd}")]
        pathlib.Path(f"held-{os.getpid()}").write_text("\\n".join(held))
        time.sleep(3600)
        os._exit(0)
"""


@pytest.mark.parametrize("preload", [True, False], ids=["preloaded", "in each worker"])
@pytest.mark.parametrize("end", ["idle", "stop"])
def test_an_app_with_a_pool_ends_as_any_other(systemd, tmp_path, end, preload):
    (tmp_path / "app.py").write_text(POOL + APP)
    words = [] if preload else ["--no-preload"]
    life = systemd(
        "app:app",
        directory=tmp_path,
        workers=2,
        idle_timeout=0.5 if end == "idle" else 60,
        arguments=words,
    )
    assert visit(life.address).text == "hello"
    if end == "stop":
        life.signal(
            signal.SIGTERM
            # To all it would end the pool's processes with the pool's lock, which is a trap
            # of multiprocessing
        )
    life.until_asleep(1)
    assert life.run.status == 0
    assert life.run.left_behind == []
    assert "killed" not in life.log


@pytest.mark.parametrize("preload", [True, False], ids=["preloaded", "in each worker"])
def test_the_master_does_not_wait_for_those_that_stay(systemd, tmp_path, preload):
    (tmp_path / "app.py").write_text(DAEMONS + APP)
    words = [] if preload else ["--no-preload"]
    life = systemd("app:app", directory=tmp_path, workers=1, idle_timeout=60, arguments=words)
    assert visit(life.address).text == "hello"
    life.until(lambda: len(list(tmp_path.glob("held-*"))) == 2, "they are not there")
    strays = [int(path.name.partition("-")[2]) for path in tmp_path.glob("held-*")]
    try:
        for stray in strays:
            held = (tmp_path / f"held-{stray}").read_text()
            assert "socket:" not in held
            assert "pipe:" not in held
            assert "eventfd" not in held
        life.signal(signal.SIGTERM)
        life.until(lambda: life.run.ended, "the Master waits", 10)
        assert life.run.status == 0
        assert "killed" not in life.log
        assert sorted(each.pid for each in members(life.run.pid)) == sorted(strays)
    finally:
        for stray in strays:
            os.kill(stray, signal.SIGKILL)
    life.complaints.clear()  # that they have outlived it is what this is about
    life.until_asleep(1)
