"""What a fork does to an app: the function it is told by, what it shares, and what it
loads again without preloading.
"""

import os
import signal

import pytest

from .processes import workers
from .visitor import Crowd, visit

ANSWER = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [f"{__import__('os').getpid()} {answer()}".encode()]
"""
PRELOAD = pytest.mark.parametrize("preload", [True, False], ids=["preload", "no preload"])


@pytest.fixture
def serve(systemd, tmp_path):
    """serve(source, **settings) -> a FakeSystemd whose app answers with its pid and
    what the function answer() of `source` returns.
    """
    (tmp_path / "app").mkdir()

    def start(source, *, preload=True, **settings):
        (tmp_path / "app" / "app.py").write_text(source + ANSWER)
        settings = {"idle_timeout": 60, "workers": 2} | settings
        return systemd(
            "app",
            directory=tmp_path / "app",
            arguments=[] if preload else ["--no-preload"],
            **settings,
        )

    return start


def answers_of_all(life, count=2):
    """What each of `count` workers answers, by pid: a worker that is busy leaves the
    next visitor to another.
    """
    found = {}

    def complete():
        with Crowd(life.address, count=4) as crowd:
            life.until(lambda: len(crowd.answers) > 20, "no request is served")
        found.clear()
        found.update(answer.text.split(" ", 1) for answer in crowd.answers)
        return len(found) == count

    life.until(complete, f"not heard of {count} workers")
    return found


# The stack


STACKS = """
import sys
def stack():
    frame, found = sys._getframe(1), []
    while frame is not None:
        path = frame.f_code.co_filename
        found += [f"{path.partition('/spyglass/spyglass/')[2] or path}:{frame.f_code.co_name}"]
        frame = frame.f_back
    return found
zygote = stack()
def post_fork():
    global worker
    worker = stack()
def answer():
    return [(any("master" in each and not each.endswith((":<lambda>", "beginning.py:live")) for each in frames), any(each.endswith(":_obey") for each in frames)) for frames in (zygote, worker)]
"""


@PRELOAD
def test_neither_zygote_nor_worker_runs_on_its_parents_stack(serve, preload):
    life = serve(STACKS, preload=preload, workers=1)
    assert visit(life.address).text.partition(" ")[2] == "[(False, False), (False, False)]"


# post_fork()


@PRELOAD
def test_post_fork_is_called_once_in_each_worker_before_it_accepts(serve, preload):
    source = "import os\ncalls = []\ndef post_fork():\n    calls.append(os.getpid())\ndef answer():\n    return calls\n"
    life = serve(source, preload=preload)
    answers = answers_of_all(life)
    assert answers == {pid: f"[{pid}]" for pid in answers}


FLAKY = """
import os
def post_fork():
    if os.path.exists("down"):
        raise ConnectionError("the database is down")
def answer():
    return "well"
"""


def test_a_worker_that_cannot_begin_leaves_the_others_alone(serve, tmp_path):
    life = serve(FLAKY)
    answers_of_all(life)  # both have called post_fork()
    down = tmp_path / "app" / "down"
    down.touch()
    with Crowd(life.address, count=2) as crowd:
        # In the middle of an answer it may be; what it held is lost, and nothing else.
        os.kill(workers(life.run.pid)[0], signal.SIGTERM)
        life.until(lambda: life.log.count("exited with status 1") >= 4, "it is not tried again")
        down.unlink()
        life.until(lambda: len(workers(life.run.pid)) == 2, "it has not come back")
        count = len(crowd.answers)
        life.until(lambda: len(crowd.answers) > count + 50, "no request is served")
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    assert (
        life.log.count("a worker cannot start: post_fork: ConnectionError: the database is down")
        == 1
    )
    assert life.log.count("Traceback") == 1
    assert "failing" not in life.log
    assert len(life.runs) == 1


HANGS = """
import os, time
def linger():
    while os.path.exists("stuck"):
        time.sleep(0.01)
def answer():
    return "well"
"""
HANGS_AT = {
    "in post_fork": (
        HANGS + "def post_fork():\n    linger()\n",
        True,
        "no worker was ready within 0.5 s",
    ),
    "at fork": (
        HANGS + "os.register_at_fork(after_in_child=linger)\n",
        True,
        "no worker was ready within 0.5 s",
    ),
    "while loading": (HANGS + "linger()\n", False, "the app was not loaded within 0.5 s"),
}


@pytest.mark.parametrize("name", HANGS_AT)
def test_a_worker_that_is_never_ready(serve, tmp_path, name):
    """Where it hangs is in the log; the app is failing when no worker gets further, and
    goes on when others do.
    """
    source, preload, why = HANGS_AT[name]
    life = serve(source, preload=preload, start_timeout=0.5)
    stuck = tmp_path / "app" / "stuck"
    stuck.touch()
    assert visit(life.address).status == 503
    life.until(
        lambda: life.run.told("STATUS")[-1].startswith(f"failing: {why} (start_timeout)"),
        "not told",
    )
    assert life.log.count("Fatal Python error: Aborted") == 1
    assert "in linger" in life.log
    stuck.unlink()
    life.until(lambda: visit(life.address).status == 200, "it does not go on")
    life.until(
        lambda: len(answers_of_all(life)) == 2, "they do not both serve"
    )  # without preload one may still be loading
    # Another, of those that serve
    stuck.touch()
    with Crowd(life.address, count=2) as crowd:
        os.kill(workers(life.run.pid)[0], signal.SIGTERM)
        life.until(
            lambda: life.log.count("killed: not ready within 0.5 s (start_timeout)") == 2,
            "it may hang for ever",
        )
        stuck.unlink()
        life.until(lambda: len(answers_of_all(life)) == 2, "it has not come back")
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    assert len(life.runs) == 1


# Without preloading


def test_a_reload_without_preload_has_the_new_code_or_the_reason(serve, tmp_path):
    life = serve("def answer(): return 'old'\n", preload=False)
    assert visit(life.address).text.endswith(" old")
    file = tmp_path / "app" / "app.py"
    file.write_text("import blgo\n")
    life.signal(signal.SIGHUP)
    life.until_logged("ModuleNotFoundError: No module named 'blgo'")
    assert visit(life.address).text.endswith(" old")
    file.write_text("def answer(): return 'new'\n" + ANSWER)
    life.signal(signal.SIGHUP)
    life.until(lambda: visit(life.address).text.endswith(" new"), "the new code is not served")
    assert len(life.runs) == 1


# What does not go well with a fork

LEAVES = """
import sqlite3, threading, time
db = sqlite3.connect("a.db")
def tick():
    while True:
        time.sleep(0.1)
threading.Thread(target=tick, name="ticker", daemon=True).start()
def answer():
    return threading.active_count()
"""
WARNINGS = [
    "a thread, 'ticker', which runs tick() of app.py:4: no worker has it",
    "an SQLite database, a.db (descriptor ",
    "create it after the fork, in a function post_fork() of app, or set preload = false; for more, run `spyglass check`",
]


def test_an_app_that_leaves_nothing_behind_pays_for_nothing(serve):
    life = serve(
        "import sys\ndef answer(): return {'spyglass.zygote.fork_safety', 'threading'} & set(sys.modules)\n",
        workers=1,  # a second one may be the first to accept, and has `threading`
    )
    assert visit(life.address).text.endswith(" set()")


def test_each_generation_is_told_once_what_its_workers_should_not_inherit(serve):
    life = serve(LEAVES)
    visit(life.address)
    assert [life.log.count(text) for text in WARNINGS] == [1, 1, 1]
    assert life.log.count("zygote] warning: ") == 3
    life.signal(signal.SIGHUP)
    life.until_logged("the old one drains")
    assert [life.log.count(text) for text in WARNINGS] == [2, 2, 2]


@pytest.mark.parametrize(
    ("source", "preload"),
    [
        ("def answer(): return 1\n", True),
        (LEAVES, False),
        (LEAVES + "def post_fork(): db.close()\n", True),
        (LEAVES + "import os\nos.register_at_fork(after_in_child=db.close)\n", True),
    ],
    ids=["nothing", "no preload", "post_fork", "register_at_fork"],
)
def test_app_that_has_seen_to_it_is_told_nothing(serve, source, preload):
    life = serve(source, preload=preload)
    visit(life.address)
    assert "warning" not in life.log


LOCKED = """
import logging, os, sys, threading, time
class Slow(logging.StreamHandler):
    def emit(self, record):
        time.sleep(0.002)  # with the handler's lock held, nearly all of the time
        super().emit(record)
logging.basicConfig(handlers=[Slow(sys.stderr)], level=logging.INFO, format="%(process)d %(message)s")
def chatter():
    while True:
        logging.info("chatter")
threading.Thread(target=chatter, daemon=True).start()
def post_fork():
    logging.info("begins")
def answer():
    logging.info("answers")
"""


def test_a_thread_that_holds_a_lock_of_the_library_s_is_no_trap_of_ours(serve):
    """CPython sees to the locks of logging and of the streams at a fork; we must not
    add any that it does not know of.
    """
    life = serve(LOCKED, workers=8, log_level="debug")
    for times in (1, 2, 3):
        visit(life.address)
        life.until(
            lambda times=times: life.log.count("accepting, pid") == 8 * times, "they are not ready"
        )
        assert visit(life.address).status == 200
        if times < 3:
            life.signal(signal.SIGHUP)
            life.until(
                lambda times=times: life.log.count("the old one drains") == times,
                "no other generation",
            )
    assert life.log.count(" begins") == 24


RANDOM = """
import os, random, secrets, ssl, tempfile, uuid
context = ssl.create_default_context()
def answer():
    name = os.path.basename(tempfile.mktemp())
    return [random.random(), uuid.uuid4().hex, uuid.uuid1().hex, secrets.token_hex(), ssl.RAND_bytes(8).hex(), name]
"""


def test_workers_share_no_random_numbers(serve):
    answers = answers_of_all(serve(RANDOM, workers=4), 4)
    drawn = [eval(text) for text in answers.values()]
    assert [len(set(column)) for column in zip(*drawn, strict=True)] == [4] * 6
