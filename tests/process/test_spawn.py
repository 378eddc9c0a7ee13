"""Processes that an app starts by spawn and forkserver, multiprocessing's ways of
starting afresh: they import the app's modules, and whatever of ours is run in them
again does nothing.

Such a process runs the file of __main__ again, under the name __mp_main__, and gets
sys.path and sys.argv from the process that starts it.
"""

import sys

import pytest

from .fake_systemd import ROOT
from .processes import members
from .visitor import visit

SCRIPT = (sys.executable, str(ROOT / "packaging/bin/spyglass"))
APP = """
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
import helper

from helper import Triple

def triple(number):
    return Triple(number)

def work():
    context = multiprocessing.get_context("{method}")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        results = [pool.submit(helper.double, 21).result(timeout=20)]
    with context.Pool(2) as pool:
        results += [each.number for each in pool.map_async({triple}, [1, 2]).get(timeout=20)]
    queue = context.Queue()
    process = context.Process(target=helper.put, args=(queue, os.getcwd()))
    process.start()
    results.append(queue.get(timeout=20) == [os.getcwd(), sys.argv])
    process.join()
    return results

{where}
def app(environ, start_response):
    start_response("200 OK", [])
    return [repr(result()).encode()]
"""
WHERE = {
    "in a request": "result = work\n",
    # As in any program, for a process that is just starting must not start others.
    "at import": "RESULT = work() if multiprocessing.parent_process() is None else None\ndef result(): return RESULT\n",
}
# A module that is being imported holds its lock, for which whatever looks up a function
# of its waits in another thread.
TRIPLE = {"in a request": "triple", "at import": "Triple"}
HELPER = "class Triple:\n    def __init__(self, number): self.number = 3 * number\nimport os, sys\ndef double(number): return 2 * number\ndef put(queue, _): queue.put([os.getcwd(), sys.argv])\n"


@pytest.mark.parametrize(
    ("where", "how"),
    [*(("in a request", how) for how in ("module", "path", "settings")), ("at import", "module")],
)
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_processes_that_start_afresh_find_the_app(systemd, tmp_path, method, where, how):
    place = tmp_path / "app"
    place.mkdir()
    (place / "helper.py").write_text(HELPER)
    (place / "spawning.py").write_text(
        APP.format(method=method, where=WHERE[where], triple=TRIPLE[where])
    )
    (place / "site.toml").write_text('app = "spawning:app"\n')
    app = {"module": "spawning:app", "path": "spawning.py", "settings": None}[how]
    settings = {} if app else {"config": place / "site.toml"}
    life = systemd(
        app, directory=place, command=SCRIPT, workers=1, idle_timeout=1, cwd=tmp_path, **settings
    )
    assert visit(life.address, patience=30).text == "[42, 3, 6, True]"
    assert "Traceback" not in life.log
    life.until_asleep(1, timeout=30)
    assert life.run.status == 0
    life.until(lambda: members(life.run.pid) == [], "something is left")
    # multiprocessing's resource tracker and its fork server end a moment after the last
    # process that knows them.
    life.complaints = [each for each in life.complaints if "left behind" not in each]


def test_the_command_does_nothing_when_it_is_imported():
    """Neither serve again nor take the first entry off the path, which is the app's
    directory by then.
    """
    import runpy

    before = list(sys.path)
    runpy.run_path(SCRIPT[1], run_name="__mp_main__")
    assert sys.path == before
