"""What an app finds around it, what it is spared, and what happens when the machine or
a setting gives no more.
"""

import json
import os
import re
import signal

import pytest

from .processes import children, cpu_seconds, members, no_descriptors, workers
from .visitor import Crowd, Visitor, visit

OURS = {
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
}


def test_what_systemd_meant_for_the_master_is_hidden_from_the_app(systemd):
    life = systemd(idle_timeout=60, environ={"WATCHDOG_USEC": "30000000", "MESSAGE": "for the app"})
    seen = json.loads(visit(life.address, "/environment").body)
    for moment, environ in seen.items():
        assert OURS.isdisjoint(environ), moment
        assert environ["MESSAGE"] == "for the app"


def test_no_descriptor_of_ours_reaches_a_program_that_the_app_starts(systemd):
    life = systemd(idle_timeout=60, listeners=("tcp", "unix"))
    with Visitor(life.address):  # a connection of somebody else is not its business either
        # The three that everybody has, and the one with which the program looks.
        assert visit(life.address, "/descriptors").text.split() == ["0", "1", "2", "3"]


def test_it_starts_and_serves_without_writing_anything(systemd, tmp_path):
    """As in a sandbox where all is read-only: not a byte may be written, and there is
    no home and no place for temporary files.
    """
    nowhere = dict.fromkeys(
        (
            "HOME",
            "TMPDIR",
            "TEMP",
            "TMP",
            "XDG_CACHE_HOME",
            "XDG_RUNTIME_DIR",
            "PYTHONPYCACHEPREFIX",
        ),
        "/proc/nonexistent",
    )
    place = tmp_path / "cwd"
    place.mkdir(mode=0o555)
    life = systemd(
        idle_timeout=0.5,
        environ=nowhere | {"PYTHONDONTWRITEBYTECODE": "1"},
        limits="ulimit -f 0",
        cwd=place,
    )
    assert visit(life.address).text == "hello"
    life.until_asleep(1)
    assert life.run.status == 0
    assert os.listdir(place) == []


def test_more_connections_than_allowed_wait_and_are_served(systemd):
    life = systemd(idle_timeout=60, workers=1, max_connections=4, keepalive_timeout=0.3)
    visitors = [Visitor(life.address) for _ in range(12)]
    for visitor in visitors:
        visitor.send(keep=True)
    # They are accepted in the order in which they came. Each is answered only when no
    # more than three of those before it are still connected.
    for number, visitor in enumerate(visitors):
        assert visitor.answer().status == 200
        assert sum(not each.ended for each in visitors[:number]) <= 3
    for visitor in visitors:
        assert visitor.until_closed() == b""
        visitor.sock.close()


def test_a_worker_without_descriptors_waits_calmly_and_recovers(systemd):
    life = systemd(idle_timeout=60, workers=1, keepalive_timeout=30, limits="ulimit -n 40")
    assert visit(life.address).status == 200
    [worker] = workers(life.run.pid)
    visitors = [Visitor(life.address) for _ in range(60)]
    for visitor in visitors:
        visitor.send(keep=True)
    life.until_logged("cannot accept on")
    used = cpu_seconds(worker) + cpu_seconds(life.run.pid)
    tries = life.log.count("cannot accept on")
    life.until(lambda: life.log.count("cannot accept on") >= tries + 3, "it does not try again")
    assert cpu_seconds(worker) + cpu_seconds(life.run.pid) - used < 0.2, "it spins"
    assert "Too many open files" in life.log
    for visitor in visitors:  # in the order in which they were accepted
        assert visitor.answer().status == 200
        visitor.sock.close()
    assert visit(life.address).status == 200
    assert workers(life.run.pid) == [worker]
    assert not re.search("Traceback", life.log)


def test_a_failing_master_without_descriptors_waits_calmly_and_recovers(systemd, tmp_path):
    life = systemd(
        "app:app", directory=tmp_path, idle_timeout=60, header_timeout=1.5, limits="ulimit -n 40"
    )
    assert visit(life.address).status == 503
    mute = [Visitor(life.address) for _ in range(60)]
    used = cpu_seconds(life.run.pid)
    assert visit(life.address).status == 503
    assert cpu_seconds(life.run.pid) - used < 0.5, "it spins"
    for visitor in mute:
        visitor.sock.close()
    assert visit(life.address).status == 503
    assert len(life.runs) == 1, life.story()


@pytest.mark.parametrize("zygote", [False, True], ids=["reloaded", "zygote killed"])
def test_a_master_without_descriptors_goes_on_and_recovers(systemd, zygote):
    """Also when it has never failed before, and so has not even read its own code for
    that.
    """
    life = systemd(idle_timeout=60)
    with Crowd(life.address, count=2, pause=0.01) as crowd:
        life.until(lambda: len(workers(life.run.pid)) == 2, "not all workers are there")
        [old] = children(life.run.pid)
        before = {old.pid, *workers(life.run.pid)}
        with no_descriptors(life.run.pid):
            os.kill(
                old.pid if zygote else life.run.pid, signal.SIGKILL if zygote else signal.SIGHUP
            )
            life.until_logged(
                "the zygote could not be replaced, its workers keep serving: "
                if zygote
                else "reload failed, the old generation keeps serving: "
            )
            assert "Too many open files" in life.log
            came = len(crowd.answers)
            life.until(lambda: len(crowd.answers) > came + 20, "nobody is served")
        if not zygote:
            life.signal(signal.SIGHUP)
        life.until_logged("another generation has taken over")
        life.until(
            lambda: before.isdisjoint(each.pid for each in members(life.run.pid)),
            "somebody of the old generation is still there",
        )
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    assert len(life.runs) == 1, life.story()
    assert "Traceback" not in life.log
