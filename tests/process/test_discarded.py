"""A generation that is given up while it loads: a worker of it may accept before its
Master has heard that it can.
"""

import signal

import pytest

from .processes import workers
from .visitor import Visitor

SLOW = """
import os, pathlib, time
HERE = pathlib.Path(os.environ["WORKED"])
(HERE / "importing").touch()
while not (HERE / "go").exists():
    time.sleep(0.01)

def app(environ, start_response):
    (HERE / "asked").touch()
    while not (HERE / "answer").exists():
        time.sleep(0.01)
    start_response("200 OK", [])
    return [b"answered"]
"""


@pytest.mark.parametrize("preload", [True, False], ids=["preloaded", "in each worker"])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_what_it_has_accepted_is_answered(systemd, tmp_path, number, preload):
    (tmp_path / "app.py").write_text(SLOW)
    words = [] if preload else ["--no-preload"]
    life = systemd(
        "app:app", directory=tmp_path, workers=1, environ={"WORKED": str(tmp_path)}, arguments=words
    )
    with Visitor(life.address) as visitor:
        visitor.send()
        life.until((tmp_path / "importing").exists, "it is not imported")
        life.signal(signal.SIGSTOP)
        (tmp_path / "go").touch()
        life.until((tmp_path / "asked").exists, "no worker has accepted")
        life.signal(number)
        life.signal(signal.SIGCONT)
        life.until_logged(
            "loading another generation" if number == signal.SIGHUP else "SIGTERM: stopping"
        )
        (tmp_path / "answer").touch()
        assert visitor.answer().text == "answered"
    if number == signal.SIGHUP:
        life.until(lambda: "awake after" in life.log, "the other generation does not serve")
        life.until(lambda: len(workers(life.run.pid)) == 1, "the first has not left")
    else:
        life.until_asleep(1)
        assert life.run.status == 0
