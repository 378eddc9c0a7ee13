"""The lookout as the first process of a pid namespace, as in a container.

Such a process gets no signal that it does not handle, is the parent of every process
that has lost its own, and ends the namespace when it exits (pid_namespaces(7)).
"""

import os
import signal
import subprocess

import pytest
from waiting import wait_until

from .fake_systemd import as_user, server_environ, spyglass
from .lookout_process import free_port
from .processes import children, everybody, look_at
from .visitor import Visitor, visit

APP = """\
import os, subprocess, time

def app(environ, start_response):
    what = environ["PATH_INFO"]
    if what == "/orphan":
        # The shell ends at once, and what it has started loses its parent.
        subprocess.run(["sh", "-c", "sleep 0.2 &"], check=True)
    elif what == "/sleep":
        open(environ["QUERY_STRING"], "w").close()
        time.sleep(0.7)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [what.encode()]
"""


class Container:
    """`spyglass lookout` as process 1, asleep until the first visit."""

    def __init__(self, place, pycache, **settings):
        (place / "app.py").write_text(APP)
        self.address = ("127.0.0.1", free_port())
        self._log = place / "log"
        options = [
            word
            for name, value in settings.items()
            for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        lookout = spyglass("lookout", "app", "--bind", f"127.0.0.1:{self.address[1]}", *options)
        namespace = ["--pid", "--fork", "--kill-child", "--mount-proc", f"--wd={place}"]
        user = [] if os.geteuid() == 0 else as_user(0)[1:]
        with self._log.open("wb") as log:
            self.outer = subprocess.Popen(
                ["unshare", *user, *namespace, *lookout],
                env=server_environ(pycache),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.until(lambda: " is asleep; " in self.log, "it does not listen")
        [self.first] = children(self.outer.pid)

    @property
    def log(self):
        return self._log.read_text("utf-8", "replace")

    def until(self, condition, what):
        wait_until(condition, 15.0, lambda: f"{what}\n{self.log[-4000:]}")

    def signal(self, number):
        os.kill(self.first.pid, number)

    def adopted(self):
        """Processes with the lookout as their parent, dead ones too."""
        return [each for each in everybody() if each.parent == self.first.pid]

    def close(self):
        self.outer.kill()
        self.outer.wait()
        wait_until(lambda: look_at(self.first.pid) is None, what="the namespace has ended")


@pytest.fixture
def container(tmp_path, pycache):
    running = []

    def start(**settings):
        running.append(Container(tmp_path, pycache, **settings))
        return running[-1]

    yield start
    for each in running:
        each.close()


def test_orphans_are_reaped(container):
    box = container(idle_timeout=60)
    assert visit(box.address, "/orphan").status == 200  # adopted by now
    box.until(lambda: len(box.adopted()) == 1, "not only the Master is left")


def test_workers_of_a_killed_master_are_reaped(container):
    box = container(idle_timeout=60)
    assert visit(box.address).status == 200
    [master] = box.adopted()
    os.kill(master.pid, signal.SIGKILL)
    box.until(lambda: box.adopted() == [], "zombies remain")
    assert visit(box.address).status == 200


def test_sigterm_drains_and_ends_the_container(container, tmp_path):
    box = container(idle_timeout=60, graceful_timeout=20)
    begun = tmp_path / "begun"
    with Visitor(box.address) as busy:
        busy.send(f"/sleep?{begun}")
        box.until(begun.exists, "it is not called")
        box.signal(signal.SIGTERM)
        assert busy.answer().text == "/sleep"
    assert box.outer.wait(15) == 0
    assert look_at(box.first.pid) is None


def test_sigterm_cuts_what_takes_longer_than_the_grace_period(container, tmp_path):
    box = container(idle_timeout=60, graceful_timeout=0.1)
    begun = tmp_path / "begun"
    with Visitor(box.address) as busy:
        busy.send(f"/sleep?{begun}")
        box.until(begun.exists, "it is not called")
        box.signal(signal.SIGTERM)
        assert box.outer.wait(15) == 0


def test_sigterm_ends_one_that_is_asleep(container):
    box = container()
    box.signal(signal.SIGTERM)
    assert box.outer.wait(15) == 0
