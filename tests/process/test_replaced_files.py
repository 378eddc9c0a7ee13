"""An upgrade replaces the program's files while a wake is under way: what the Master
imports after the first answer would be of another version.
"""

import shutil
import sys
from pathlib import Path

import spyglass

from .visitor import visit

APP = """
import os
here = {package!r}
# As dpkg does it: another file takes the name.
with open(here + "/new", "w") as new:
    new.write(open(here + "/__init__.py").read())
os.replace(here + "/new", here + "/__init__.py")
{more}
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
BROKEN = """
os.unlink(here + "/master/generations.py")
"""


def serve(systemd, tmp_path, more=""):
    place = tmp_path / "installed"
    package = place / "spyglass"
    shutil.copytree(
        Path(spyglass.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    # However slow the machine is, the files are replaced before the Master needs them.
    waits = package / "master" / "first_answer.py"
    text = waits.read_text()
    assert "\n_LONGEST = 0.25" in text
    waits.write_text(text.replace("\n_LONGEST = 0.25", "\n_LONGEST = 60.0"))
    (tmp_path / "app.py").write_text(APP.format(package=str(package), more=more))
    return systemd(
        "app",
        directory=tmp_path,
        idle_timeout=60,
        command=[sys.executable, "-P", "-m", "spyglass"],
        cwd=tmp_path,
        environ={"PYTHONPATH": str(place)},
    )


def check_restarts(life):
    """The client is served; then the Master exits with a status for which systemd
    starts it again, and says why in one line.
    """
    assert visit(life.address).text == "ok"
    life.until(lambda: life.run.status is not None, "it goes on")
    assert life.run.status == 1
    lines = [line for line in life.log.splitlines() if line]
    assert lines == [
        "spyglass: the files of Spyglass were replaced while it started: starting again"
    ]
    life.complaints.clear()  # its worker finishes after it, as after any end of a Master


def test_a_master_whose_files_are_replaced_is_started_again(systemd, tmp_path):
    check_restarts(serve(systemd, tmp_path))


def test_even_if_they_cannot_be_imported(systemd, tmp_path):
    check_restarts(serve(systemd, tmp_path, BROKEN))
