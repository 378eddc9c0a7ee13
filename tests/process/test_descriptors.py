"""An app that closes descriptors it does not own: a file twice, or "all of them", as
programs do that become daemons.

The kernel gives a number that is free to whoever comes next, so what is still written
there would reach a stranger. The worker ends, is replaced, and nobody is ever given
what is meant for somebody else; the others and the Master are not concerned.
"""

import re

import pytest

from .fake_systemd import APPS, ROOT
from .processes import children, workers
from .visitor import Crowd, Lost, Visitor, visit

THREADS = pytest.mark.parametrize("threads", [1, 4])
ROBBED = r"error: (spyglass-\w+: )?a file descriptor of Spyglass was closed, probably by the app$"


def ask(address, target):
    """What came of it; "" for a connection that was closed, or reset, without a byte of
    an answer.
    """
    try:
        return visit(address, target).text
    except Lost as error:
        assert re.match("closed without an answer|reset", str(error)), error
        return ""


def until_two(life):
    life.until(lambda: len(workers(life.run.pid)) == 2, "there are not two workers")
    return workers(life.run.pid)


@THREADS
def test_all_of_them(systemd, threads):
    life = systemd("rogue:app", idle_timeout=60, workers=2, threads=threads)
    visit(life.address)
    before = until_two(life)
    [zygote] = children(life.run.pid)
    with Crowd(life.address, "/pid", count=2, pause=0.01) as crowd:
        assert ask(life.address, "/closeall") == ""
        life.until(lambda: len(set(until_two(life)) - set(before)) == 1, "it was not replaced")
        count = len(crowd.answers)
        life.until(lambda: len(crowd.answers) > count + 20, "nobody is served")
    assert len(crowd.lost) <= 2  # who was in its hands
    assert {int(answer.text) for answer in crowd.answers} <= {*before, *workers(life.run.pid)}
    assert len(set(before) & set(workers(life.run.pid))) == 1, "the other was concerned"
    assert [child.pid for child in children(life.run.pid)] == [zygote.pid]
    assert re.search(ROBBED, life.log, re.M), life.log
    assert len(life.runs) == 1


@THREADS
def test_the_listener(systemd, threads):
    """It is still open elsewhere, so its events go on and on in this worker, which can
    neither accept nor look away.
    """
    life = systemd("rogue:app", idle_timeout=60, workers=1, threads=threads)
    worker = int(visit(life.address, "/pid").text)
    assert ask(life.address, "/close/listener") in ("closed", "")
    # Whoever comes waits in the queue for the next worker, and loses nothing.
    assert int(visit(life.address, "/pid").text) != worker
    assert re.search(ROBBED, life.log, re.M), life.log


@THREADS
@pytest.mark.parametrize("kind", ["eventpoll", "eventfd", "pipe", "standard"])
def test_one_that_is_only_ours(systemd, threads, kind):
    """What is written there, for the Master or for another thread, must not reach who
    has got its number.
    """
    life = systemd("rogue:app", idle_timeout=60, workers=1, threads=threads)
    worker = int(visit(life.address, "/pid").text)
    assert ask(life.address, f"/close/{kind}") in ("closed", "")
    came_of_it = set()
    for _ in range(3):
        came_of_it |= {ask(life.address, "/sleep/0.02"), ask(life.address, "/print")}
    assert came_of_it <= {"slept", "printed", ""}
    if kind != "pipe":  # those may still be open, for their other ends are elsewhere
        assert int(visit(life.address, "/pid").text) != worker
    assert visit(life.address).text == "hello"


def test_answer_for_a_closed_connection_reaches_no_other_client(systemd):
    life = systemd("rogue:app", idle_timeout=60, workers=1, threads=4)
    worker = int(visit(life.address, "/pid").text)
    with Visitor(life.address) as kept, life.visitor_under_way("/sleep/0.5") as slow:
        kept.ask(keep=True)
        assert ask(life.address, "/close/client") == "closed"
        answers = [ask(life.address, "/pid") for _ in range(3)]
        assert answers[0] == "", "its number was given to the next one, and nothing happened"
        assert str(worker) not in answers
        with pytest.raises(Lost):
            slow.answer()
        assert kept.until_closed() == b""
    assert re.search(ROBBED, life.log, re.M), life.log


def test_standard_streams_closed_while_it_was_loaded(systemd, tmp_path):
    (tmp_path / "daemon.py").write_text(
        "import os\nfor fd in range(3):\n    os.close(fd)\nimport rogue\napp = rogue.app\n"
    )
    life = systemd(
        "daemon:app",
        directory=tmp_path,
        idle_timeout=0.5,
        workers=1,
        environ={"PYTHONPATH": f"{ROOT}:{APPS}"},
    )
    assert visit(life.address, "/print").text == "printed"
    assert visit(life.address, "/run").text == "echoed\n"
    life.until_asleep(1)
    assert life.run.status == 0


def test_all_of_them_while_it_was_loaded(systemd, tmp_path):
    (tmp_path / "daemon.py").write_text("import os\nos.closerange(3, 1000)\ndef app(*_): ...\n")
    life = systemd("daemon:app", directory=tmp_path, idle_timeout=0.5, workers=1)
    assert visit(life.address).status == 503
    life.until_asleep(1)
    assert life.run.status == 78
    assert re.search(ROBBED, life.log, re.M), life.log
