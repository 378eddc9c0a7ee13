"""ASGI apps, served by real processes: their lifespan, calls that take long, clients
that leave, streams, and the idle exit.
"""

import os
import re
import signal
import socket

import pytest

from .processes import look_at, workers
from .visitor import Crowd, Lost, Visitor, visit


@pytest.fixture
def asgi(systemd, tmp_path):
    """asgi(**settings) -> a FakeSystemd that serves apps/asgi_plain.py; its `told()` are
    the lines that the app has written.
    """

    def new(environ=None, **settings):
        story = tmp_path / "story"
        settings.setdefault("workers", 1)
        environ = {"STORY": str(story)} | (environ or {})
        life = systemd("asgi_plain:app", environ=environ, **settings)
        life.told = lambda: story.read_text().split("\n")[:-1] if story.exists() else []
        life.until_told = lambda what: life.until(
            lambda: any(line.endswith(f" {what}") for line in life.told()), f"not told: {what}"
        )
        return life

    return new


def left_cleanly(life):
    life.until_asleep()
    assert life.run.status == 0
    assert not [line for line in life.log.split("\n") if "error" in line]


# The lifespan, and the idle exit


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("preload", ["true", "false"])
def test_each_worker_has_a_lifespan_around_what_it_serves(asgi, kind, preload):
    life = asgi(listeners=[kind], idle_timeout=0.5, workers=2, arguments=[f"--preload={preload}"])
    state, pid = visit(life.address).text.split()
    assert state == pid  # the state is the worker's own
    left_cleanly(life)
    starts = [line for line in life.told() if line.endswith("startup")]
    stops = [line for line in life.told() if line.endswith("shutdown")]
    assert len(starts) == len(stops) == 2
    assert {line.split()[0] for line in starts} == {line.split()[0] for line in stops}


def test_a_worker_accepts_only_when_its_app_has_started(systemd, tmp_path):
    (tmp_path / "slow.py").write_text("""
import asyncio, os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})
""")
    life = systemd("slow:app", directory=tmp_path, workers=1)
    with Visitor(life.address) as early:
        early.send()
        life.until(lambda: workers(life.run.pid), "no worker")
        assert not life.run.told("READY")
        (tmp_path / "go").touch()
        assert early.answer().text == "hello"


BROKEN = {
    "raises": ("await receive(); 1 / 0", r"lifespan\.startup: ZeroDivisionError: division by zero", True),
    "exits": ("await receive(); raise SystemExit(3)", r"lifespan\.startup: the app called sys\.exit\(3\)", True),
    "message": (
        "await receive(); await send({'type': 'lifespan.startup.failed', 'message': 'no database'})",
        r"the app sent lifespan\.startup\.failed: no database", False,
    ),
    "message and error": (
        "await receive(); await send({'type': 'lifespan.startup.failed', 'message': 'x'}); 1 / 0",
        r"lifespan\.startup: ZeroDivisionError: division by zero", True,
    ),
    "hangs": ("await receive(); import asyncio; await asyncio.sleep(3600)", r"no worker was ready within 3 s \(start_timeout\)", True),
}  # fmt: skip
LIFESPAN = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        %s
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"%s"})
"""


@pytest.mark.parametrize("name", BROKEN)
def test_an_app_that_refuses_to_start_is_answered_for_until_its_file_is_mended(
    systemd, tmp_path, name
):
    code, why, has_traceback = BROKEN[name]
    file = tmp_path / "shop.py"
    file.write_text(LIFESPAN % (code, "never"))
    settings = {"start_timeout": 3} if name == "hangs" else {}
    life = systemd("shop:app", directory=tmp_path, idle_timeout=20, **settings)
    assert visit(life.address).status == 503
    life.until(
        lambda: any(re.search(f"failing: {why}", status) for status in life.run.told("STATUS")),
        f"not told: {why}",
    )
    assert ("Traceback" in life.log or "most recent call" in life.log) == has_traceback
    assert name == "hangs" or "worker/asgi" not in life.log
    file.write_text(LIFESPAN % ("return", "mended"))
    life.until(lambda: visit(life.address).status == 200, "mending the file was not enough")
    assert visit(life.address).text == "mended"
    assert len(life.runs) == 1


def test_a_reload_to_an_app_that_refuses_to_start_is_refused(systemd, tmp_path):
    file = tmp_path / "shop.py"
    file.write_text(LIFESPAN % ("return", "old"))
    life = systemd("shop:app", directory=tmp_path)
    assert visit(life.address).text == "old"
    file.write_text(LIFESPAN % (BROKEN["message"][0], "new"))
    command = life.reload()
    said, _ = command.communicate(timeout=20)
    assert command.returncode == 78
    assert "lifespan.startup.failed: no database" in said
    assert visit(life.address).text == "old"


@pytest.mark.parametrize("code", ["raise ValueError", "assert scope['type'] == 'http'", "return"])
def test_an_app_without_a_lifespan_is_served(systemd, tmp_path, code):
    (tmp_path / "shop.py").write_text(LIFESPAN % (code, "hello"))
    life = systemd("shop:app", directory=tmp_path, idle_timeout=0.5)
    assert visit(life.address).text == "hello"
    left_cleanly(life)


@pytest.mark.parametrize(
    "end",
    [
        "raise ValueError('it broke')",
        "await send({'type': 'lifespan.shutdown.failed', 'message': 'it broke'})",
    ],
)
def test_a_lifespan_that_fails_in_the_middle_costs_its_worker(systemd, tmp_path, end):
    (tmp_path / "shop.py").write_text(f"""
import asyncio, os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({{"type": "lifespan.startup.complete"}})
        told = asyncio.create_task(receive())
        while not told.done():
            if os.path.exists("break"):
                os.unlink("break")
                {end}
            await asyncio.sleep(0.01)
        await send({{"type": "lifespan.shutdown.complete"}})
    else:
        await send({{"type": "http.response.start", "status": 200}})
        await send({{"type": "http.response.body", "body": str(os.getpid()).encode()}})
""")
    life = systemd("shop:app", directory=tmp_path, workers=1)
    pid = visit(life.address).text
    with Crowd(life.address, count=2, pause=0.01) as crowd:
        (tmp_path / "break").touch()
        life.until(lambda: crowd.answers and crowd.answers[-1].text != pid, "no other worker")
    assert crowd.lost == []
    assert {answer.status for answer in crowd.answers} == {200}
    assert "it broke" in life.log


def test_a_stop_waits_for_the_lifespan_s_end(asgi):
    life = asgi({"SHUTDOWN": "0.5"})
    visit(life.address)
    life.signal(signal.SIGTERM)
    left_cleanly(life)
    assert life.told()[-1].endswith("shutdown")


def test_a_lifespan_that_does_not_end_is_killed(asgi):
    life = asgi({"SHUTDOWN": "3600"}, graceful_timeout=0.5)
    visit(life.address)
    life.signal(signal.SIGTERM)
    life.until_asleep()
    assert "did not exit within 0.5 s (graceful_timeout)" in life.log


# What keeps it awake


def test_a_background_task_counts_as_open(asgi):
    life = asgi(idle_timeout=0.3)
    with Visitor(life.address) as visitor:
        assert visitor.ask("/background/1.2", keep=True).text == "done soon"
        assert visitor.ask("/", keep=True).status == 200  # the connection goes on meanwhile
    life.until_told("background done")
    left_cleanly(life)
    assert [line.split(" ", 1)[1] for line in life.told()] == [
        "startup",
        "background done",
        "shutdown",
    ]


def test_a_task_of_the_app_s_own_counts_if_it_holds(asgi):
    life = asgi(idle_timeout=0.3)
    assert visit(life.address, "/hold/1").text == "holding"
    left_cleanly(life)
    assert [line.split(" ", 1)[1] for line in life.told()] == ["startup", "held", "shutdown"]


def test_an_event_stream_keeps_it_awake_until_its_client_leaves(asgi):
    life = asgi(idle_timeout=0.3)
    with Visitor(life.address) as visitor:
        visitor.send("/events")
        life.until(lambda: b"data: first" in visitor.sock.recv(65536), "no event")
        visit(life.address)
        assert not life.asleep
    life.until_told("http.disconnect")
    left_cleanly(life)


# Clients that leave


def test_a_half_closed_client_is_heard_and_answered(asgi):
    life = asgi()
    with Visitor(life.address) as visitor:
        visitor.send("/listen")
        visitor.sock.shutdown(socket.SHUT_WR)
        assert visitor.answer().text == "heard you leave"
    life.until_told("disconnect")


def test_an_abandoned_call_is_cancelled_after_request_timeout(asgi):
    life = asgi(request_timeout=1, idle_timeout=0.3)
    with Visitor(life.address) as visitor:
        visitor.send("/silent")
        life.until(lambda: b"begun" in visitor.sock.recv(65536), "no answer")
    life.until_told("cancelled")
    life.until_logged(
        "GET /silent: cancelled: it took longer than 1 s (request_timeout) after its client had gone"
    )
    life.until_asleep()
    assert life.run.status == 0


def test_a_response_that_has_begun_may_pause(asgi):
    life = asgi(request_timeout=0.3)
    with Visitor(life.address) as visitor:
        visitor.send("/silent")
        life.until(lambda: b"begun" in visitor.sock.recv(65536), "no answer")
        visit(life.address, "/wait/0.2")
        visit(life.address, "/wait/0.2")
        visit(life.address, "/wait/0.2")
        assert not visitor.ended
    assert "cancelled: " not in life.log


# Calls that take too long


def test_a_call_without_a_response_is_cancelled_with_503(asgi):
    life = asgi(request_timeout=0.5)
    with Visitor(life.address) as visitor:
        answer = visitor.ask("/wait/3600", keep=True)
        assert (answer.status, answer.text) == (503, "503: the request took longer than 0.5 s\n")
        assert visitor.ask("/", keep=True).status == 200
    life.until_logged(
        "GET /wait/3600: cancelled: it took longer than 0.5 s (request_timeout) without a response"
    )
    assert "asyncio.sleep(float(argument))" in life.log  # where it was


def test_time_in_which_the_client_is_waited_for_is_not_the_app_s(asgi):
    life = asgi(request_timeout=0.4)
    with Visitor(life.address) as visitor:
        visitor.send("/upload", method="POST", body=[b"x"] * 6, pause=0.2)
        assert visitor.answer().text.startswith("6 ")


def test_a_call_that_cannot_be_cancelled_costs_its_worker(asgi):
    life = asgi(request_timeout=0.5)
    pid = visit(life.address).text.split()[0]
    with Visitor(life.address) as visitor:
        visitor.send("/obstinate")
        life.until_told("cancelled")
        assert visit(life.address).status == 200  # others are served meanwhile
        life.until_logged(f"worker {pid} killed: a request has been running for 0.5 s", timeout=30)
    life.until(lambda: visit(life.address).text.split()[0] != pid, "no other worker")


def test_a_blocked_loop_is_noticed(asgi):
    life = asgi(request_timeout=0.5, workers=2)
    with pytest.raises(Lost):
        visit(life.address, "/block/3600")
    assert "a request has been running for 0.5 s (request_timeout)" in life.log
    assert "in block" in life.log  # the traceback
    assert visit(life.address).status == 200


# Bodies, both ways


def test_an_upload_is_read_as_fast_as_the_app_takes_it(asgi):
    life = asgi()
    with Visitor(life.address) as visitor:
        visitor.send("/upload/0.02", method="POST", body=[b"x" * 65536] * 32)
        size, events = map(int, visitor.answer().text.split())
    assert size == 32 * 65536
    assert events > 4


def test_a_body_that_the_app_did_not_want_ends_nothing(asgi):
    life = asgi()
    with Visitor(life.address) as visitor:
        visitor.send("/unread", method="POST", body=[b"x" * 30_000, b"x" * 30_000], keep=True)
        answer = visitor.answer()
        assert (answer.status, answer.text, answer.closing) == (413, "no thanks", False)
        assert visitor.ask("/", keep=True).status == 200


def test_a_large_body_that_the_app_did_not_want_ends_the_connection(asgi):
    life = asgi()
    with Visitor(life.address) as visitor:
        visitor.sock.sendall(
            b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\nxxx"
        )
        answer = visitor.answer()
        assert (answer.status, answer.closing) == (413, True)


def test_without_a_look_at_the_body_no_client_is_asked_for_it(asgi):
    life = asgi()
    head = b"POST /%b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    with Visitor(life.address) as visitor:
        visitor.sock.sendall(head % b"unread")
        answer = visitor.answer()
        assert (answer.status, answer.closing) == (413, True)
    with Visitor(life.address) as visitor:
        visitor.sock.sendall(head % b"upload")
        assert visitor.sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        visitor.sock.sendall(b"hello")
        assert visitor.answer().text == "5 1"


def test_an_app_waits_for_a_client_that_reads_slowly(asgi):
    life = asgi()
    with Visitor(life.address) as visitor:
        visitor.send("/much/16")
        life.until(lambda: visit(life.address).status == 200, "others are not served")
        assert "all sent" not in "".join(life.told())
        assert len(visitor.answer().body) == 16 << 20
    life.until_told("all sent")


def test_a_client_that_takes_nothing_is_left(asgi):
    life = asgi(write_timeout=0.5, idle_timeout=1, request_timeout=1)
    with Visitor(life.address) as visitor:
        visitor.send("/much/64")
        life.until(lambda: visitor.sock.recv(1), "nothing")
        life.until_asleep()


def test_a_file_is_sent_by_its_path(asgi, tmp_path):
    file = tmp_path / "large"
    file.write_bytes(os.urandom(3_000_000))
    life = asgi()
    with Visitor(life.address) as visitor:
        answer = visitor.ask(f"/file{file}", keep=True)
        assert answer.body == file.read_bytes()
        assert answer.fields["content-length"] == "3000000"
        assert (
            visitor.ask(f"/file{file}", method="HEAD", keep=True).fields["content-length"]
            == "3000000"
        )
        assert visitor.ask(f"/file{tmp_path}/none", keep=True).status == 500
        assert visitor.ask("/", keep=True).status == 200
    [worker] = workers(life.run.pid)
    opened = [os.readlink(f"/proc/{worker}/fd/{fd}") for fd in os.listdir(f"/proc/{worker}/fd")]
    assert str(file) not in opened


# Errors


@pytest.mark.parametrize("how", ["", "exit", "interrupt"])
def test_an_error_is_a_500_and_costs_nothing_else(asgi, how):
    life = asgi()
    pid = visit(life.address).text.split()[0]
    with Visitor(life.address) as visitor:
        answer = visitor.ask(f"/fail/{how}", keep=True)
        assert (answer.status, answer.text) == (500, "Internal Server Error\n")
        assert visitor.ask("/", keep=True).text.split()[0] == pid
    assert f"GET /fail/{how}: the app raised" in life.log
    assert "asgi_plain.py" in life.log
    assert "worker/asgi" not in life.log  # our own lines say nothing to an app's author


def test_an_error_in_the_middle_shows_to_the_client(asgi):
    life = asgi()
    with pytest.raises(Lost, match="cut"):
        visit(life.address, "/fail_late")
    assert "GET /fail_late: the app raised ValueError" in life.log


def test_a_task_that_exits_ends_nothing(asgi):
    life = asgi()
    pid = visit(life.address).text.split()[0]
    assert visit(life.address, "/task_exit").text == "still here"
    assert visit(life.address).text.split()[0] == pid
    assert "a task of the app's raised SystemExit" in life.log


def test_an_app_that_stops_the_loop_ends_nothing(asgi):
    life = asgi(idle_timeout=0.5)
    assert visit(life.address, "/stop_loop").text == "still here"
    left_cleanly(life)
    assert "the app has stopped the event loop, which goes on" in life.log


def test_threads_work(asgi):
    life = asgi(idle_timeout=0.5)
    assert visit(life.address, "/thread").text == "from a thread"
    left_cleanly(life)


def test_programs_and_sockets_of_the_app_are_its_loop_s(asgi):
    life = asgi(idle_timeout=0.5)
    assert visit(life.address, "/program").text == "through a pipe"
    with socket.create_server(("127.0.0.1", 0)) as server, Visitor(life.address) as visitor:
        visitor.send(f"/dial/{server.getsockname()[1]}")
        other, _ = server.accept()
        with other:
            received = b"".join(iter(lambda: other.recv(65536), b""))
            other.sendall(b"%d received" % len(received))
        assert visitor.answer().text == "300000 received"
    left_cleanly(life)


def test_a_signal_that_the_app_handles_in_the_loop(asgi):
    life = asgi(idle_timeout=0.5)
    visit(life.address, f"/handler/{int(signal.SIGUSR1)}")
    life.until_told(f"signal {int(signal.SIGUSR1)}")
    left_cleanly(life)


def test_a_worker_drains_on_sigterm_whatever_the_app_does_about_it(asgi):
    life = asgi(workers=1)
    pid = int(visit(life.address).text.split()[0])
    visit(life.address, f"/handler/{int(signal.SIGTERM)}")
    life.until(lambda: look_at(pid) is None, "it stays")
    assert f"{pid} signal {int(signal.SIGTERM)}" in life.told()
    assert f"{pid} shutdown" in life.told()
    assert visit(life.address).status == 200


def test_a_process_that_comes_back_from_the_app_is_ended(asgi):
    life = asgi()
    assert visit(life.address, "/fork").text == "forked"
    assert visit(life.address).status == 200
    assert "came back from its request, and is ended" in life.log


# A stop and a reload with streams


@pytest.mark.parametrize("how", ["stop", "reload"])
@pytest.mark.parametrize("kind", ["", "deaf"])
def test_an_event_stream_does_not_hold_up_a_stop_or_a_reload(asgi, how, kind):
    life = asgi(graceful_timeout=20)
    visit(life.address)
    [worker] = workers(life.run.pid)
    with Visitor(life.address) as visitor:
        visitor.send(f"/events/{kind}")
        life.until(lambda: b"data: first" in visitor.sock.recv(65536), "no event")
        if how == "stop":
            life.signal(signal.SIGTERM)
            life.until_asleep(timeout=8)
        else:
            assert life.reload().wait(20) == 0
            life.until(lambda: look_at(worker) is None, "the old one stays", timeout=8)
            assert visit(life.address).status == 200
        visitor.until_closed()
    if not kind:
        life.until_told("http.disconnect")
    assert "cutting" not in life.log


def test_an_answer_in_the_form_of_an_event_stream_is_finished(asgi):
    """Servers of MCP and language models answer a POST so: it has an end."""
    life = asgi()
    visit(life.address)
    [worker] = workers(life.run.pid)
    with Visitor(life.address) as visitor:
        visitor.send("/events/some", method="POST", body=[b"x"])
        life.until(lambda: b"data: first" in visitor.sock.recv(65536), "no event")
        assert life.reload().wait(20) == 0
        assert b"data: 9" in visitor.until_closed()
    life.until(lambda: look_at(worker) is None, "the old one stays")


def test_reloads_and_recycling_cost_no_request(asgi):
    life = asgi(workers=2, max_requests=40)
    first = workers(life.run.pid) if visit(life.address).status == 200 else []
    with Crowd(life.address, count=3) as crowd, Crowd(life.address, "/wait/0.01") as slow:
        for _ in range(3):
            assert life.reload().wait(20) == 0
        life.until(lambda: len(crowd.answers) > 200 and len(slow.answers) > 100, "too few")
    assert crowd.lost == slow.lost == []
    assert {answer.status for answer in crowd.answers + slow.answers} == {200}
    served = {answer.text.split()[0] for answer in crowd.answers}
    assert len(served - set(map(str, first))) > 3
    life.signal(signal.SIGTERM)
    left_cleanly(life)
    starts = [line.split()[0] for line in life.told() if line.endswith("startup")]
    stops = [line.split()[0] for line in life.told() if line.endswith("shutdown")]
    assert sorted(starts) == sorted(stops)


def test_what_was_accepted_is_finished_before_the_lifespan_ends(asgi):
    life = asgi()
    visit(life.address)
    with Visitor(life.address) as visitor:
        visitor.send(f"/wait/0.7?{life.place}/mark")
        life.until((life.place / "mark").exists, "not asked")
        life.signal(signal.SIGTERM)
        assert visitor.answer().text == "waited"
    left_cleanly(life)
    assert life.told()[-1].endswith("shutdown")


def test_what_does_not_end_is_cut_and_the_lifespan_ends_all_the_same(asgi):
    life = asgi(graceful_timeout=0.5)
    with Visitor(life.address) as visitor:
        visitor.send("/silent")
        life.until(lambda: b"begun" in visitor.sock.recv(65536), "no answer")
        life.signal(signal.SIGTERM)
        life.until_asleep()
        assert visitor.ended
    assert [line.split(" ", 1)[1] for line in life.told()] == ["startup", "cancelled", "shutdown"]
    assert "cutting 1 connection" in life.log


# What is counted and logged


def test_requests_are_logged_and_counted(asgi):
    life = asgi(access_log="%h %r %>s %b", idle_timeout=0.5)
    visit(life.address, "/wait/0")
    visit(life.address, "/fail")
    life.until_logged("127.0.0.1 GET /wait/0 HTTP/1.1 200 6")
    life.until_logged("127.0.0.1 GET /fail HTTP/1.1 500 22")
    life.until_asleep()
    assert any("2 requests served" in status for status in life.run.told("STATUS"))


def test_settings_without_effect_are_named(asgi):
    life = asgi(threads=8)
    visit(life.address)
    assert "settings without effect on an ASGI app: threads" in life.log
    life = asgi()
    visit(life.address)
    assert "without effect" not in life.log


def test_a_slow_request_is_logged(asgi):
    life = asgi(log_slow=0.1)
    visit(life.address, "/wait/0.2")
    life.until_logged("GET /wait/0.2")
