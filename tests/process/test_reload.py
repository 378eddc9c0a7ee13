"""Reloading: another generation beside the old one, in which it is known whether it
lives before anybody notices.

The command that systemd runs for `systemctl reload` says how it went; whatever keeps
the new generation from serving leaves the old one untouched. Apps are written anew
under the eyes of a crowd that loses nothing.
"""

import contextlib
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from spyglass.master import settings_record

from .fake_systemd import ROOT
from .processes import children, look_at, members, workers
from .visitor import Crowd, Visitor, visit

APP = """
import os, pathlib, time
def app(environ, start_response):
    if environ["QUERY_STRING"]:
        pathlib.Path(environ["QUERY_STRING"]).touch()
    time.sleep(float(environ["PATH_INFO"][1:] or 0))
    start_response("200 OK", [])
    return [b"%s"]
"""
HANG = "import pathlib, time\npathlib.Path('hangs').touch()\ntime.sleep(3600)\n"
# Of the workers one lives; the app's own counter tells them apart, for pids do not.
ONE_LIVES = "import os\ncount = os.memfd_create('count')\nos.register_at_fork(after_in_child=lambda: os.write(count, b'x') and os.fstat(count).st_size > 1 and os._exit(3))\n"
# name: (what is appended to the app, the reason, whether there is a traceback)
BROKEN = {
    "syntax": ("def app(:\n", r"SyntaxError: invalid syntax \(.*/app\.py, line 9\)", True),
    "module": ("import blgo\n", "ModuleNotFoundError: No module named 'blgo'", True),
    "name": ("del app\n", r"module 'app' has neither 'application' nor 'app': name it as app:NAME", False),
    "exit": ("import sys\nsys.exit('enough')\n", r"the app called sys\.exit\('enough'\) while it was being loaded", True),
    "segfault": ("import faulthandler\nfaulthandler._sigsegv()\n", "the app's process was killed by SIGSEGV while it was being loaded", True),
    "killed": ("import os\nos.kill(os.getpid(), 9)\n", "the app's process was killed by SIGKILL while it was being loaded", False),
    "hang": (HANG, r"the app was not loaded within 1 s \(start_timeout\)", True),
    "workers": ("import os\nos.register_at_fork(after_in_child=lambda: os._exit(3))\n", "the workers die as soon as they are started", False),
    "all but one": (ONE_LIVES, "the workers die as soon as they are started", False),
}  # fmt: skip
TRACEBACK = re.compile(r"Traceback \(most recent call last\):$|^Fatal Python error: ", re.MULTILINE)


class Site:
    """An app with a file of settings, both to be written anew."""

    def __init__(self, systemd, place, environ=None, **settings):
        self.code = place / "app.py"
        self.file = place / "site.toml"
        self.settings = {
            "app": "app",
            "directory": str(place),
            "idle_timeout": 60,
            "workers": 2,
        } | settings
        self.write("first")
        self.configure()
        self.life = systemd(None, arguments=["--config", str(self.file)], environ=environ)

    def write(self, text, more=""):
        """Never of the size it had: byte code is told from its source by time, in
        seconds, and size.
        """
        size = self.code.stat().st_size if self.code.exists() else 0
        source = APP % text + more
        self.code.write_text(source + ("#\n" if len(source) == size else ""))

    def configure(self, **settings):
        self.settings |= settings
        self.file.write_text(
            "".join(f"{name} = {value!r}\n" for name, value in self.settings.items())
        )

    def text(self):
        return visit(self.life.address).text

    def complete(self):
        """The pids of all workers, when they are there."""
        found = []

        def look():
            found[:] = workers(self.life.run.pid)
            return len(found) == self.settings["workers"]

        self.life.until(look, "not all workers are there")
        return found

    def settled(self):
        """Nobody is there any more but one generation."""
        self.life.until(
            lambda: len(children(self.life.run.pid)) == 1, "an old generation is still there"
        )
        return self.complete()

    def status(self):
        return self.life.run.told("STATUS")[-1]


@pytest.fixture
def site(systemd, tmp_path):
    """Awake, with all its workers, and its first visitor served."""
    made = []

    def make(**settings):
        made.append(Site(systemd, tmp_path, **settings))
        assert made[0].text() == "first"
        made[0].complete()
        return made[0]

    return make


def said(command):
    """Wait for it; returns its exit status and what it has said, less the time and the
    pid.
    """
    output, _ = command.communicate(timeout=20)
    return command.returncode, re.sub(r"^\S+ \[\d+ reload\] ", "", output)


def test_the_command_returns_when_only_the_new_one_serves(site):
    here = site()
    with Crowd(here.life.address, count=2) as crowd:
        for number in range(5):
            here.write(f"version {number}")
            assert said(here.life.reload()) == (0, "")
            assert here.text() == f"version {number}"
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    assert len(here.life.runs) == 1


def test_systemd_is_told_when_it_begins_and_when_it_ends(site):
    here = site()
    before = time.monotonic_ns() // 1000
    here.life.signal(signal.SIGHUP)
    here.life.until(lambda: here.life.run.told("READY") == ["1", "1"], "it is not ready again")
    told = [(name, value) for _, name, value in here.life.run.notes if name != "STATUS"]
    names = [name for name, _ in told]
    # A wake that takes long asks for time first.
    assert names[names.index("READY") :] == [
        "READY",
        "RELOADING",
        "MONOTONIC_USEC",
        "EXTEND_TIMEOUT_USEC",
        "READY",
    ]
    assert before <= int(dict(told)["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert any("loading another generation" in text for text in here.life.run.told("STATUS"))
    # Who has run the command knows.
    assert said(here.life.reload()) == (0, "")
    assert len(here.life.run.told("RELOADING")) == 1
    assert len(here.life.run.told("EXTEND_TIMEOUT_USEC")) == names.count("EXTEND_TIMEOUT_USEC") + 1


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_serve_leaves_the_old_one_untouched(site, name):
    more, reason, traced = BROKEN[name]
    here = site(start_timeout=1 if name == "hang" else 30)
    before = here.complete()
    with Crowd(here.life.address, count=2, pause=0.01) as crowd:
        for times in (1, 2):
            here.write("another", more)
            status, output = said(here.life.reload())
            assert re.fullmatch(f"error: failed: {reason}\n", output), output
            assert status == 78
            assert len(TRACEBACK.findall(here.life.log)) == times * traced, here.life.log
        assert re.fullmatch(f"awake: 2 workers, .*; reload failed: {reason}", here.status())
        assert here.settled() == before
        here.write("mended")
        assert said(here.life.reload()) == (0, "")
        assert here.text() == "mended"
        here.life.until(lambda: crowd.answers[-1].text == "mended", "the crowd has not come since")
    assert crowd.lost == []
    assert {answer.text for answer in crowd.answers} == {"first", "mended"}
    assert "reload failed" not in here.status()
    assert (
        len(re.findall("error: reload failed, the old generation keeps serving: ", here.life.log))
        == 2
    )
    assert "failing" not in here.life.log


def test_a_configuration_that_cannot_be_read_leaves_everything_as_it_was(site):
    here = site()
    here.configure(wrokers=3)
    status, output = said(here.life.reload())
    assert status == 78
    assert re.search(r"site\.toml:5: unknown setting 'wrokers', did you mean 'workers'\?$", output)
    assert here.text() == "first"
    assert "failing" not in here.life.log


def test_settings_that_never_served_have_no_effect(site):
    here = site(idle_timeout=0.6)
    here.configure(log_level="debug", idle_timeout=60.0, keepalive_timeout=5)
    here.write("another", "import blgo\n")
    with Visitor(here.life.address):  # as long as it is connected nothing leaves
        assert said(here.life.reload())[0] == 78
    here.life.until_asleep(1)
    assert "exiting after 0.6 s" in here.life.log
    assert "worker" not in here.life.log, "that is for debug"


def test_new_settings_have_their_effect(site):
    here = site()
    here.configure(log_level="debug", idle_timeout=0.7, workers=3)
    assert said(here.life.reload()) == (0, "")
    here.settled()
    here.life.until_asleep(1)
    assert "exiting after 0.7 s" in here.life.log
    assert len(re.findall(r"worker \d+ has left", here.life.log)) >= 3


def test_the_zygote_of_the_new_one_is_killed(site):
    here = site()
    here.write("another", HANG)
    [old] = children(here.life.run.pid)
    command = here.life.reload()
    here.life.until((here.code.parent / "hangs").exists, "it does not load")
    [new] = [each.pid for each in children(here.life.run.pid) if each.pid != old.pid]
    os.kill(new, signal.SIGKILL)
    status, output = said(command)
    assert (status, "was killed by SIGKILL while it was being loaded" in output) == (78, True)
    assert here.text() == "first"


def test_a_worker_whose_zygote_is_killed_as_it_forks_is_not_left_behind(site):
    """Nobody has heard of it: it would serve what could not take over, in a slot of the
    scoreboard that is another's.
    """
    here = site()
    before = {each.pid for each in members(here.life.run.pid)}
    here.write(
        "another",
        "import os\nos.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), 9))\n",
    )
    assert said(here.life.reload())[0] == 78
    here.life.until(
        lambda: {each.pid for each in members(here.life.run.pid)} == before,
        "somebody is left of what could not take over",
    )
    assert here.text() == "first"


def test_new_code_packages_and_paths_are_found(site, systemd, tmp_path):
    """Whatever the Master had in its own path, or looked for in vain, before there was
    an app to load.
    """
    late, early = tmp_path / "late", tmp_path / "early"
    early.mkdir()
    (tmp_path / "app.py").write_text(APP % "first")
    life = systemd(
        "app", directory=tmp_path, idle_timeout=60, environ={"PYTHONPATH": f"{ROOT}:{early}:{late}"}
    )
    assert visit(life.address).text == "first"
    late.mkdir()
    (late / "later.py").write_text("")
    (early / "sooner.py").write_text("WORD = 'one'\n")
    (tmp_path / "app.py").write_text(
        "import later, sooner\n" + (APP % "second").replace('b"second"', "sooner.WORD.encode()")
    )
    assert said(life.reload()) == (0, "")
    assert visit(life.address).text == "one"
    (early / "sooner.py").write_text("WORD = 'another'\n")
    assert said(life.reload()) == (0, "")
    assert visit(life.address).text == "another"


def make_venv(place, word):
    site_packages = (
        place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    )
    site_packages.mkdir(parents=True)
    (place / "pyvenv.cfg").write_text(
        f"version = {sys.version_info.major}.{sys.version_info.minor}.0\n"
    )
    (site_packages / "dependency.py").write_text(f"WORD = {word!r}\n")
    return site_packages


def test_another_venv_or_what_is_new_in_it(site):
    here = site()
    packages = make_venv(here.code.parent / "blue", "blue 1")
    make_venv(here.code.parent / "green", "green")
    here.configure(venv="blue")
    here.code.write_text(
        "import dependency\n" + (APP % "x").replace('b"x"', "dependency.WORD.encode()")
    )
    for change, word in [
        (lambda: None, "blue 1"),
        (lambda: (packages / "dependency.py").write_text("WORD = 'blue two'\n"), "blue two"),
        (lambda: here.configure(venv="green"), "green"),
        (lambda: here.configure(venv="blue"), "blue two"),
    ]:
        change()
        assert said(here.life.reload()) == (0, "")
        assert here.text() == word


# While something else goes on


def test_while_waking_it_begins_anew(site, systemd, tmp_path):
    here = Site(systemd, tmp_path)
    here.write("never", HANG)
    with Visitor(here.life.address) as early:
        early.send()
        here.life.until((tmp_path / "hangs").exists, "it does not load")
        here.write("second")
        command = here.life.reload()
        assert early.answer().text == "second"
        assert said(command) == (0, "")
    assert len(here.life.runs) == 1


def test_while_waking_with_a_broken_configuration_it_fails(systemd, tmp_path):
    here = Site(systemd, tmp_path)
    here.write("never", HANG)
    with Visitor(here.life.address) as early:
        early.send()
        here.life.until((tmp_path / "hangs").exists, "it does not load")
        here.configure(wrokers=2)
        status, output = said(here.life.reload())
        assert (status, "unknown setting" in output) == (78, True)
        assert early.answer().status == 503


@pytest.mark.parametrize("lives", [True, False], ids=["which lives", "which does not"])
def test_while_reloading_both_wait_for_the_newest(site, lives):
    here = site()
    here.write("never", HANG)
    first = here.life.reload()
    here.life.until((here.code.parent / "hangs").exists, "it does not load")
    here.write("newest", "" if lives else "import blgo\n")
    second = here.life.reload()
    assert [said(command)[0] for command in (first, second)] == [0, 0] if lives else [78, 78]
    assert here.text() == ("newest" if lives else "first")
    here.settled()


def test_caller_that_got_a_new_generation_is_not_told_of_the_next(site):
    """An old worker that is busy with its only thread cannot say that it has stopped
    accepting, so the first waits a little.
    """
    here = site(workers=1, threads=1)
    with here.life.visitor_under_way("/2") as busy:
        here.write("second")
        first = here.life.reload()
        here.life.until_logged("another generation has taken over")
        here.write("third", "import blgo\n")
        second = here.life.reload()
        assert said(second)[0] == 78
        assert said(first) == (0, "")
        assert here.text() == "second"
        assert busy.answer().text == "first"


def test_another_callers_at_the_same_time(site):
    """With Type=notify-reload and ExecReload= systemd sends a signal and runs the
    command.
    """
    here = site()
    for number in range(5):
        here.write(f"version {number}")
        here.life.signal(signal.SIGHUP)
        command = here.life.reload()
        here.life.signal(signal.SIGHUP)
        assert said(command) == (0, "")
        assert here.text() == f"version {number}"
    here.settled()


def test_while_failing_it_is_another_try(systemd, tmp_path):
    here = Site(systemd, tmp_path)
    here.write("never", "import blgo\n")
    with Crowd(here.life.address, count=1, pause=0.01) as crowd:
        here.life.until(lambda: crowd.answers, "nobody is answered")
        status, output = said(here.life.reload())
        assert (status, output) == (
            78,
            "error: failed: ModuleNotFoundError: No module named 'blgo'\n",
        )
        here.write("mended")
        assert said(here.life.reload()) == (0, "")
        assert here.text() == "mended"
    assert crowd.lost == []
    assert crowd.statuses() == {200, 503}


def test_the_old_one_breaks_meanwhile(site):
    """Then the Master answers, and the new one takes over from it."""
    here = site(workers=1)
    assert said(here.life.reload()) == (0, "")  # one that has not served anybody yet
    here.write("second", "while not pathlib.Path('go').exists(): time.sleep(0.01)\n")
    command = here.life.reload()
    here.life.until_logged("reload: loading another generation")
    for deaths in range(1, 4):
        [victim] = here.complete()
        os.kill(victim, signal.SIGKILL)
        here.life.until(
            lambda deaths=deaths: here.life.log.count("was killed by SIGKILL") == deaths, "it lives"
        )
    here.life.until_logged("failing: the workers die as soon as they are started")
    assert visit(here.life.address).status == 503
    here.code.with_name("go").touch()
    assert said(command) == (0, "")
    assert here.text() == "second"


def test_while_it_asks_its_workers_whether_to_leave_it_stays(site):
    here = site(idle_timeout=1.0, workers=1)
    [worker] = here.complete()
    here.life.until(lambda: "exits in" in here.status(), "it holds a connection")
    os.kill(worker, signal.SIGSTOP)  # it cannot answer
    here.life.until(lambda: re.search("exits in 0 s", here.status()), "it is not quiet")
    here.write("second")
    command = here.life.reload()
    here.life.until(lambda: len(workers(here.life.run.pid)) == 2, "it does not load")
    os.kill(worker, signal.SIGCONT)
    assert said(command) == (0, "")
    assert here.text() == "second"
    here.life.until_asleep(1)
    assert here.life.run.status == 0


@pytest.mark.parametrize("when", ["before", "during"])
def test_while_it_stops_the_next_start_has_it(site, when):
    here = site()
    here.write("second", HANG if when == "during" else "")
    with here.life.visitor_under_way("/1") as busy:
        command = here.life.reload() if when == "during" else None
        if command:
            here.life.until((here.code.parent / "hangs").exists, "it does not load")
        here.life.signal(signal.SIGTERM)
        here.life.until(lambda: here.life.run.told("STOPPING"), "it does not stop")
        status, output = said(command or here.life.reload())
        assert (status, output) == (
            69,
            "error: failed: the app is stopping; its next start loads the current code\n",
        )
        assert busy.answer().text == "first"
        names = [name for _, name, _ in here.life.run.notes]
        assert "READY" not in names[names.index("STOPPING") :]
    here.write("third")
    assert here.text() == "third"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_the_master_dies_meanwhile(site, number):
    here = site()
    here.write("another", HANG)
    command = here.life.reload()
    here.life.until((here.code.parent / "hangs").exists, "it does not load")
    run = here.life.run
    here.life.signal(number)
    assert said(command) == (69, "error: failed: the Master has ended\n")
    here.life.until(lambda: run.ended, "it lives")
    here.life.signal_all(signal.SIGTERM)  # as systemd does
    here.life.until(lambda: run.cleared, "what loads is still there", 3)


def test_there_is_no_master(site):
    here = site(idle_timeout=0.5)
    here.life.until_asleep(1)
    status, output = said(here.life.reload())
    assert (status, output) == (
        69,
        f"error: failed: cannot reach the Master, pid {here.life.run.pid}: Connection refused\n",
    )


# What is left of the old one


def test_it_finishes_what_it_has_accepted_however_long_that_takes(site):
    here = site(graceful_timeout=0.3)
    [old] = children(here.life.run.pid)
    with here.life.visitor_under_way("/1.2", keep=True) as slow, Visitor(here.life.address) as idle:
        assert not idle.ask(keep=True).closing
        here.write("second")
        assert said(here.life.reload()) == (0, "")
        assert here.text() == "second"
        answer = slow.answer()
        assert (answer.text, answer.closing) == ("first", True)
        assert idle.until_closed() == b""
    here.life.until(lambda: look_at(old.pid) is None, "the old one stays")
    assert "cutting" not in here.life.log


def test_it_is_not_held_by_the_app_for_ever(site):
    """stay_awake() in a thread that never ends: each reload would leave a generation
    behind.
    """
    here = site(graceful_timeout=0.3)
    hold = "import threading, spyglass\nheld = spyglass.stay_awake()\nos.register_at_fork(after_in_child=held.__enter__)\n"
    for number in range(2):
        here.write(f"version {number}", hold)
        assert said(here.life.reload()) == (0, "")
        assert here.text() == f"version {number}"
        here.settled()
    assert (
        here.life.log.count("though the app wants to stay awake") == 2
    )  # the workers of the first of these two


def test_a_stop_cuts_what_a_reload_does_not(site):
    here = site(graceful_timeout=0.3)
    with here.life.visitor_under_way("/30"):
        assert said(here.life.reload()) == (0, "")
        here.life.signal(signal.SIGTERM)
        here.life.until(lambda: here.life.run.ended, "it waits for the old one", 5)
    assert here.life.run.status == 0


def test_there_is_an_end_to_old_generations_that_go_on(site, tmp_path):
    """Each waits for somebody; the scoreboard has room for so many workers. (For a
    handful here.)
    """
    (tmp_path / "sitecustomize.py").write_text(
        "import spyglass.master.beginning\nspyglass.master.beginning._SLOTS = 7\n"
    )
    here = site(environ={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    with contextlib.ExitStack() as visitors:
        while True:
            visitors.enter_context(here.life.visitor_under_way("/30"))
            here.write("another")
            status, output = said(here.life.reload())
            if status:
                break
        assert (status, output) == (
            78,
            "error: failed: too many workers of earlier generations still have open connections\n",
        )
        assert here.text() in ("first", "another")
        assert len(children(here.life.run.pid)) > 1
        for worker in set(workers(here.life.run.pid)):
            os.kill(worker, signal.SIGKILL)
    here.settled()
    assert said(here.life.reload()) == (0, "")
    assert here.text() == "another"


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def has_recorded(pid):
    """True if the Master has the memory file that it makes a second after READY=1."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # A descriptor may be closed while they are listed.
        with contextlib.suppress(FileNotFoundError):
            if settings_record.NAME in str(link.readlink()):
                return True
    return False


def test_nothing_is_left_in_the_master(site):
    """Not even where an app has forked a process that lives on with all descriptors it
    was forked with.
    """
    here = site()
    master = here.life.run.pid
    here.life.until(lambda: has_recorded(master), "the settings in force are not recorded")
    fork = "import os, time\nif not os.fork():\n    open('child', 'w').write(str(os.getpid()))\n    time.sleep(3600)\n"
    counts, forked = [], []
    child = here.code.with_name("child")
    for number in range(4):
        here.write(f"version {number}", fork)
        assert said(here.life.reload()) == (0, "")
        here.life.until(
            lambda: len(children(here.life.run.pid)) == 1, "the old generation is still there"
        )
        here.life.until(lambda: child.exists() and child.read_text(), "it has not forked")
        forked.append(int(child.read_text()))
        child.unlink()
        counts.append(descriptors(here.life.run.pid))
        here.life.until(
            lambda: descriptors(here.life.run.pid) <= counts[0],
            f"there are more and more: {counts}",
        )
    for pid in forked:
        os.kill(pid, signal.SIGKILL)
