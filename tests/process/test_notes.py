"""What systemd is told (sd_notify(3)), though there is no descriptor to do it with."""

import signal
import time

import pytest

from .processes import no_descriptors
from .visitor import Visitor, visit


@pytest.mark.parametrize("how", ["wakes", "is reloaded"])
def test_master_without_descriptors_tells_systemd_later(systemd, tmp_path, how):
    """A note takes a socket of its own (sd_notify(3)). systemd would end a service that
    never says READY=1.
    """
    go = tmp_path / "go"
    (tmp_path / "waiting.py").write_text(
        f"import os, time\nwhile not os.path.exists({str(go)!r}):\n    time.sleep(0.01)\n"
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'served']\n"
    )
    life = systemd("waiting:app", directory=tmp_path, workers=1, idle_timeout=60)
    told = asked = 0  # how often READY=1 was, and for more time
    if how == "is reloaded":
        go.touch()
        assert visit(life.address).text == "served"
        life.until_ready()
        told, asked = 1, len(life.run.told("EXTEND_TIMEOUT_USEC"))
        go.unlink()
        life.signal(signal.SIGHUP)
    with Visitor(life.address) as visitor:
        visitor.send("/")
        # A wake that takes long asks for time, as a reload does: all of the Master is there.
        life.until(lambda: len(life.run.told("EXTEND_TIMEOUT_USEC")) > asked, "it loads nothing")
        with no_descriptors(life.run.pid):
            go.touch()
            assert visitor.answer().text == "served"
            stands = time.monotonic()
            life.until(lambda: time.monotonic() > stands + 1.5, "time stands still")
            assert len(life.run.told("READY")) == told
        life.until(lambda: len(life.run.told("READY")) == told + 1, "systemd waits for ever")
    life.until(lambda: life.run.told("STATUS")[-1].startswith("awake"), "not told that it is awake")
