"""What an app prints is in the journal when its line ends, once, whatever happens to
its process then.
"""

import os
import signal

import pytest

from .processes import workers
from .visitor import Lost, visit

APP = """
import os, sys
print("at import")
sys.stdout.write("without an end; ")
def app(environ, start_response):
    print(f"asked in {os.getpid()}")
    if environ["PATH_INFO"] == "/kill":
        os.kill(os.getpid(), 9)
    start_response("200 OK", [])
    return [b"hello"]
"""


@pytest.fixture
def life(systemd, tmp_path):
    (tmp_path / "app.py").write_text(APP)
    # Empty is as good as unset, and what runs the tests may have set it.
    return systemd(
        "app:app", directory=tmp_path, workers=3, idle_timeout=60, environ={"PYTHONUNBUFFERED": ""}
    )


def test_a_line_is_there_when_it_has_been_printed(life):
    assert visit(life.address).status == 200
    life.until_logged("asked in ", timeout=5)


def test_a_line_survives_a_kill(life):
    with pytest.raises(Lost):
        visit(life.address, "/kill")
    life.until_logged("was killed by SIGKILL")
    assert "asked in " in life.log


def test_what_the_import_has_printed_is_there_once(life):
    visit(life.address)
    life.until(lambda: len(workers(life.run.pid)) == 3, "there are not 3 workers")
    [first, *_] = workers(life.run.pid)
    os.kill(first, signal.SIGTERM)
    life.until(
        lambda: first not in workers(life.run.pid) and len(workers(life.run.pid)) == 3,
        "it has not been replaced",
    )
    life.signal(signal.SIGTERM)
    life.until_asleep(1)
    assert life.log.count("at import") == 1
    assert life.log.count("without an end; ") == 1
