"""An app or a configuration that cannot be loaded: the Master answers for it, and
mending the file is all that has to be done.

Each way to be broken gets a 503, from one Master that says READY=1 and what is wrong,
with one traceback in the log however often it is tried again; and the mended file is
served by the Master that is there, with nothing restarted. Under constant visits each
is answered soon, and when no client comes any more it leaves with status 78.
"""

import re
import signal
import threading

import pytest

from .processes import children, look_at
from .visitor import Crowd, Visitor, visit

MENDED = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'mended: a']\n"
# name: (source or None for no file, what STATUS= says, whether there is a traceback,
# settings)
APPS = {
    "syntax error": ("def app(:\n", r"SyntaxError: invalid syntax \(.*app\.py, line 1\)", True, {}),
    "missing module": ("import blgo\n", "ModuleNotFoundError: No module named 'blgo'", True, {}),
    "no such file": (None, "ModuleNotFoundError: No module named 'app'", False, {}),
    "wrong name": ("application = None\n", "'app' has no 'app'", False, {}),
    "not callable": ("app = 42\n", "'app:app' is not callable: it is of type 'int'", False, {}),
    "ASGI 2": ("def app(scope): ...\n", r"'app:app' is an app of ASGI 2 \(a double callable\), and Spyglass serves ASGI 3: .*", False, {}),
    "a class without preload": (
        "class app:\n    def __call__(self, environ, start_response): ...\n", r"'app:app' is a class, not an app: write app = \"app:app\(\)\", .*",
        False, {"arguments": ["--no-preload"]},
    ),
    "exception": ("def f():\n    1 / 0\nf()\n", "ZeroDivisionError: division by zero", True, {}),
    "sys.exit()": ("import sys\nsys.exit('enough')\n", r"the app called sys\.exit\('enough'\) while it was being loaded", True, {}),
    "os._exit()": ("import os\nos._exit(0)\n", "the app's process exited with status 0 while it was being loaded", False, {}),
    "segfault": ("import faulthandler\nfaulthandler._sigsegv()\n", "the app's process was killed by SIGSEGV while it was being loaded", True, {}),
    "killed": ("import os\nos.kill(os.getpid(), 9)\n", "the app's process was killed by SIGKILL while it was being loaded", False, {}),
    "hang": ("import time\ntime.sleep(3600)\n", r"the app was not loaded within 1 s \(start_timeout\)", True, {"start_timeout": 1}),
    "workers die": (
        MENDED + "import os\nos.register_at_fork(after_in_child=lambda: os._exit(3))\n",
        "the workers die as soon as they are started", False, {},
    ),
    "post_fork raises": (MENDED + "def post_fork():\n    1 / 0\n", "post_fork: ZeroDivisionError: division by zero", True, {}),
    "broken without preload": ("import blgo\n", "ModuleNotFoundError: No module named 'blgo'", True, {"arguments": ["--no-preload"]}),
}  # fmt: skip
TRACEBACK = re.compile(r"Traceback \(most recent call last\):$|^Fatal Python error: ", re.MULTILINE)


@pytest.fixture
def app(tmp_path):
    (tmp_path / "app").mkdir()
    return tmp_path / "app" / "app.py"


def check_answers(answers):
    """Each a 503 that says when to come again."""
    assert {answer.status for answer in answers} == {503}
    assert all(int(answer.fields["retry-after"]) >= 1 for answer in answers)


def check_crowd(crowd, tries):
    """They are answered, and need not wait for a try: then each of them would have got
    one answer for each of `tries` (int), and perhaps one before and one after.
    """
    check_answers(crowd.answers)
    assert len(crowd.answers) > (tries + 2) * crowd.count
    assert crowd.lost == []


@pytest.fixture
def broken(systemd, app):
    """broken(name, **settings): a server of that one of APPS."""

    def start(name, **settings):
        source, _, _, more = APPS[name]
        if source is not None:
            app.write_text(source)
        return systemd("app:app", directory=app.parent, workers=2, **settings | more)

    return start


@pytest.mark.parametrize("name", APPS)
def test_what_is_wrong_is_told_once_and_the_mended_app_is_served(broken, app, name):
    _, status, traced, _ = APPS[name]
    life = broken(name, idle_timeout=60)
    check_answers([visit(life.address)])
    tries = life.log.count("failing: ")
    life.signal(signal.SIGHUP)
    life.until(lambda: life.log.count("failing: ") > tries, "not tried again")
    check_answers([visit(life.address)])
    told = life.run.told("STATUS")
    assert any(re.fullmatch(f"failing: {status}", each) for each in told), told
    assert len(TRACEBACK.findall(life.log)) == traced, life.log
    if "Fatal Python error" not in life.log:  # which is written by faulthandler, with all there is
        assert "spyglass/zygote/app_loader.py" not in life.log, (
            "what is ours tells the author of an app nothing"
        )
    app.write_text(MENDED)
    life.until(lambda: visit(life.address).status == 200, "mending the file was not enough")
    assert visit(life.address).text == "mended: a"
    assert life.run.told("READY") == ["1", "1"]  # the second for the SIGHUP
    assert len(life.runs) == 1


@pytest.mark.parametrize("name", ["exception", "workers die"])
def test_a_broken_app_is_answered_for_until_it_is_mended(broken, app, name):
    life = broken(name, idle_timeout=0.6)
    # As long as a client is connected it is not idle, however slow this machine is.
    with Visitor(life.address), Crowd(life.address, count=2, pause=0.02) as crowd:
        check_answers([visit(life.address)])
        tries = life.log.count("failing: ")
        life.until(
            lambda: life.log.count("failing: ") >= tries + 2 and len(crowd.answers) > 20,
            "not tried again",
        )
    check_crowd(crowd, life.log.count("failing: ") - tries)
    life.until_asleep(1)
    run = life.run
    assert run.status == 78
    assert run.told("READY") == ["1"]
    assert run.told_at("READY") < run.told_at("STOPPING")
    # Asleep: the next client starts it again, and the app is mended meanwhile.
    with Visitor(life.address), Crowd(life.address, count=2, pause=0.02) as crowd:
        assert visit(life.address).status == 503
        app.write_text(MENDED)
        life.until(lambda: 200 in crowd.statuses(), "mending the file was not enough")
        life.until(lambda: crowd.answers[-1].status == 200, "it failed again")
    assert crowd.lost == []
    assert visit(life.address).text == "mended: a"
    assert len(life.runs) == 2
    life.until_asleep(2)
    assert life.run.status == 0


def test_client_after_the_mending_sees_no_error(systemd, app):
    app.write_text("import blgo\n")
    life = systemd("app:app", directory=app.parent, idle_timeout=5)
    check_answers([visit(life.address)])
    # It takes all who wait at one go; who comes while it still does is among those.
    life.until(lambda: look_at(life.run.pid).state == "S", "it is never done")
    app.write_text(MENDED)
    assert visit(life.address).text == "mended: a"
    assert len(life.runs) == 1


def test_a_mended_import_of_the_app_is_noticed(systemd, app):
    app.write_text(f"from helper import *\n{MENDED}")
    helper = app.with_name("helper.py")
    helper.write_text("raise RuntimeError('not yet')\n")
    life = systemd("app:app", directory=app.parent, idle_timeout=5)
    check_answers([visit(life.address), visit(life.address)])
    life.until(
        lambda: not children(life.run.pid) and look_at(life.run.pid).state == "S",
        "it is never done",
    )
    helper.write_text("")
    assert visit(life.address).status == 200


@pytest.mark.parametrize("mend", ["file", "hup"])
def test_hup_is_another_try_at_once(systemd, app, mend):
    app.write_text("import os\nassert os.path.exists('there'), 'not there'\n" + MENDED)
    life = systemd("app:app", directory=app.parent, idle_timeout=5)
    with Crowd(
        life.address, count=1, pause=0.02
    ) as crowd:  # until the pauses between the tries are long
        life.until(lambda: life.log.count("failing: ") >= 3, "not tried again")
    check_answers(crowd.answers)
    (app.parent / "there").touch()
    if mend == "hup":
        life.signal(1)
        life.until_logged("awake")
    assert visit(life.address, patience=5).status in ([200] if mend == "hup" else [200, 503])
    life.until(lambda: visit(life.address).status == 200, "not tried again")
    assert len(life.runs) == 1


def test_the_answer_to_head_has_no_body(systemd, app):
    life = systemd("app:app", directory=app.parent, idle_timeout=5)
    with Visitor(life.address) as visitor:
        visitor.send(method="HEAD")
        head, _, body = visitor.until_closed().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert int(re.search(rb"Content-Length: (\d+)", head)[1]) > 100
    assert body == b""


def test_an_upload_gets_its_answer(systemd, app):
    """Closing on bytes that were not read would reset the connection and take the
    answer along (RFC 9112 9.6).
    """
    life = systemd("app:app", directory=app.parent, idle_timeout=5)
    assert visit(life.address).status == 503
    size = 1 << 20
    with Visitor(life.address) as visitor:
        visitor.sock.sendall(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % size)
        sender = threading.Thread(target=visitor.sock.sendall, args=(bytes(size),))
        sender.start()
        assert visitor.answer("POST").status == 503
        sender.join()


def test_pieces_of_a_head_and_several_at_once(systemd, app):
    life = systemd("app:app", directory=app.parent, idle_timeout=5)
    assert visit(life.address).status == 503
    with Visitor(life.address) as slow, Visitor(life.address) as pipelining:
        slow.sock.sendall(b"GET / HT")
        pipelining.sock.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 3)
        assert pipelining.until_closed().startswith(b"HTTP/1.1 503 ")
        slow.sock.sendall(b"TP/1.1\r\nHost: test\r\n\r\n")
        assert slow.answer().status == 503


@pytest.mark.parametrize("debug", [True, False])
def test_the_traceback_is_on_the_page_only_if_debug_is_true(systemd, app, debug):
    app.write_text("raise RuntimeError('<b>secret</b>')\n")
    life = systemd(
        "app:app", directory=app.parent, idle_timeout=5, arguments=["--debug"] if debug else []
    )
    page = visit(life.address).text
    assert ("RuntimeError" in page) == debug
    assert ("app.py" in page) == debug
    assert ("&lt;b&gt;secret&lt;/b&gt;" in page) == debug
    assert "<b>" not in page


def test_silent_visitors_do_not_keep_a_failing_master(systemd, app):
    life = systemd("app:app", directory=app.parent, idle_timeout=0.5, header_timeout=0.3)
    assert visit(life.address).status == 503
    with Visitor(life.address) as mute:
        assert mute.until_closed() == b""
        life.until_asleep(1)
    assert life.run.status == 78


@pytest.mark.parametrize("number", [15, 2])
def test_a_failing_master_that_is_told_to_stop_leaves_with_status_0(systemd, app, number):
    life = systemd("app:app", directory=app.parent, idle_timeout=60)
    assert visit(life.address).status == 503
    life.signal_all(number)
    life.until(lambda: life.run.ended, "it has not left")
    assert life.run.status == 0


def test_many_visitors_at_once_are_all_answered(systemd, app):
    life = systemd("app:app", directory=app.parent, idle_timeout=5)
    crowd = [Visitor(life.address) for _ in range(400)]  # more than it answers at a time
    for visitor in crowd:
        visitor.send()
    assert {visitor.answer().status for visitor in crowd} == {503}
    for visitor in crowd:
        visitor.sock.close()
    assert len(life.runs) == 1


CONFIGURATIONS = {
    "unknown setting": (
        "wrokers = 2\n",
        r".*/site\.toml:1: unknown setting 'wrokers', did you mean 'workers'\?",
        [],
    ),
    "not TOML": ("workers = = 2\n", r".*/site\.toml:1: one = is enough: workers = 2", []),
    "wrong type": ("app = 1\n", r".*/site\.toml:1: app: expected text, not 1", []),
    "no file": (None, r".*/site\.toml: cannot be read: No such file or directory", []),
    "command line": ("", "unknown option '--wrokers'.*", ["--wrokers", "2"]),
}
MENDABLE = ("not TOML", "no file")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_broken_configuration_is_answered_for_until_it_is_mended(systemd, tmp_path, name):
    text, status, more = CONFIGURATIONS[name]
    file = tmp_path / "site.toml"
    if text is not None:
        file.write_text(text)
    life = systemd(None, arguments=["--config", str(file), *more])
    with Crowd(life.address, count=2, pause=0.02) as crowd:
        life.until(
            lambda: life.log.count("failing: ") > 2 and len(crowd.answers) > 20, "not tried again"
        )
    check_crowd(crowd, life.log.count("failing: "))
    told = life.run.told("STATUS")
    assert any(re.fullmatch(f"failing: {status}", each) for each in told), told
    assert life.run.told("READY") == ["1"]
    assert len(re.findall(r"error: failing: ", life.log)) == 1
    assert "Traceback" not in life.log
    if name in MENDABLE:
        file.write_text("idle_timeout = 0.5\n")
        assert "Spyglass is awake" in visit(life.address).text
        assert len(life.runs) == 1
        life.until_asleep(1)
        assert life.run.status == 0


def test_told_to_stop_it_still_answers_requests_that_have_begun(systemd, app):
    app.write_text("import blgo\n")
    life = systemd("app:app", directory=app.parent, idle_timeout=60)
    with (
        Visitor(life.address) as early,
        Visitor(life.address) as silent,
        Visitor(life.address) as slow,
    ):
        check_answers([early.ask()])
        slow.sock.sendall(b"GET / HTTP/1.1\r\n")
        check_answers([visit(life.address)])  # those before have been accepted by now
        life.signal(signal.SIGTERM)
        life.until(lambda: life.run.told("STOPPING"), "it does not stop")
        assert silent.until_closed() == b""
        assert life.run.ended is None
        slow.sock.sendall(b"Host: test\r\n\r\n")
        check_answers([slow.answer()])
    life.until(lambda: life.run.ended, "it has not left")
    assert life.run.status == 0


def test_told_to_stop_it_does_not_wait_for_ever(systemd, app):
    app.write_text("import blgo\n")
    life = systemd(
        "app:app",
        directory=app.parent,
        idle_timeout=60,
        graceful_timeout=0.5,
        header_timeout=60,
    )
    with Visitor(life.address) as slow:
        slow.sock.sendall(b"GET / HTTP/1.1\r\n")
        check_answers([visit(life.address)])
        life.signal(signal.SIGTERM)
        life.until(lambda: life.run.ended, "it has not left")
    assert life.run.status == 0
