"""ASGI apps that do what no app should, and clients that do what few do: nothing is
lost, nothing hangs, and the others are served.
"""

import signal
import socket
from contextlib import ExitStack, suppress

import pytest
from rfc6455.speaking import text
from waiting import wait_until

from .processes import look_at, workers
from .speaker import Speaker
from .visitor import Visitor, visit


@pytest.fixture
def asgi(systemd, tmp_path):
    """asgi(**settings) -> a FakeSystemd that serves apps/asgi_odd.py in one worker;
    `told(what)` tells how often the app has told that.
    """

    def new(**settings):
        story = tmp_path / "story"
        life = systemd("asgi_odd:app", environ={"STORY": str(story)}, workers=1, **settings)
        life.told = lambda what: story.exists() and story.read_text().count(f" {what}\n")
        return life

    return new


# What follows a response that was completed in a task


@pytest.mark.parametrize("path", ["yields", "sleeps"])
def test_requests_sent_ahead_are_answered_at_once(asgi, path):
    life = asgi()
    with Visitor(life.address, patience=5) as visitor:
        ask = b"GET /%b HTTP/1.1\r\nHost: a\r\n" % path.encode()
        visitor.sock.sendall((ask + b"\r\n") * 4 + ask + b"Connection: close\r\n\r\n")
        assert visitor.until_closed().count(b"HTTP/1.1 200 OK\r\n") == 5


def test_the_end_of_a_response_is_heard_at_once(asgi):
    life = asgi()
    with Visitor(life.address) as visitor:
        assert visitor.ask("/listens", keep=True).text == "listening"
        life.until(lambda: life.told("heard"), "not heard", timeout=5)


# Calls that end in an odd way


def test_an_app_that_raises_generator_exit_gets_a_500(asgi):
    life = asgi()
    assert visit(life.address, "/closes_its_coroutine", patience=5).status == 500
    assert "the app raised GeneratorExit" in life.log


def test_an_app_cannot_stop_the_loop(asgi):
    life = asgi()
    with Visitor(life.address) as other:
        other.send("/sleeps")
        assert visit(life.address, "/stops_the_loop").text == "stopped"
        assert other.answer().text == "slept"
    assert life.log.count("the app has stopped the event loop, which goes on") == 1
    assert "a bug in Spyglass" not in life.log


@pytest.mark.parametrize("waits", ["", "?1"])
def test_a_child_that_exits_has_the_status_that_it_wants(asgi, waits):
    life = asgi()
    assert visit(life.address, f"/exits_in_a_child{waits}").text == ("1" if waits else "7")
    assert len(workers(life.run.pid)) == 1


def test_a_client_that_has_said_its_last_gets_a_503_as_others(asgi):
    life = asgi(request_timeout=0.3)
    with Visitor(life.address) as visitor:
        visitor.send("/hangs", keep=True)
        visitor.sock.shutdown(socket.SHUT_WR)
        assert visitor.answer().status == 503
    assert life.log.count("asyncio.sleep(3600)") == 1  # where it was


def test_programs_run_under_a_policy_for_event_loops_that_has_no_watcher(systemd, tmp_path):
    """As uvloop's has none, which many apps set when they are imported."""
    (tmp_path / "policed.py").write_text("""
import asyncio, warnings
warnings.simplefilter("ignore", DeprecationWarning)
class Policy(asyncio.AbstractEventLoopPolicy):
    def get_event_loop(self): raise RuntimeError
    def set_event_loop(self, loop): pass
    def new_event_loop(self): return asyncio.SelectorEventLoop()
asyncio.set_event_loop_policy(Policy())
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    program = await asyncio.create_subprocess_exec("true")
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"%d" % await program.wait()})
""")
    life = systemd("policed:app", directory=tmp_path, workers=1)
    assert visit(life.address).text == "0"


def test_the_lifespan_ends_though_the_app_has_replaced_parts_of_asyncio(systemd, tmp_path):
    (tmp_path / "replacing.py").write_text("""
import asyncio
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        for name in "all_tasks", "current_task", "create_task", "gather", "wait", "shield":
            setattr(asyncio, name, None)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        open("ended", "w").close()
    else:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})
""")
    life = systemd("replacing:app", directory=tmp_path, workers=1)
    assert visit(life.address).status == 200
    life.signal(signal.SIGTERM)
    life.until_asleep()
    assert (tmp_path / "ended").exists()
    assert "a bug in Spyglass" not in life.log


# Expect: 100-continue

HEAD = b"POST /%b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"


def test_a_client_that_waits_for_leave_does_not_make_a_call_endless(asgi):
    life = asgi(request_timeout=0.5)
    with Visitor(life.address, patience=5) as visitor:
        visitor.sock.sendall(HEAD % b"hangs")
        assert visitor.answer().status == 503


def test_no_interim_response_comes_in_the_middle_of_the_final_one(asgi):
    life = asgi()
    with Visitor(life.address, patience=5) as visitor:
        visitor.sock.sendall(HEAD % b"reads_late")
        got = b""
        while b"first" not in got:
            got += visitor.sock.recv(65536)
        visitor.sock.sendall(b"last")
        got += visitor.until_closed()
    assert got.endswith(b"\r\n\r\n5\r\nfirst\r\n4\r\nlast\r\n0\r\n\r\n")


# What does not end by itself, where others take over


@pytest.fixture
def reloaded(asgi):
    """reloaded(life) -> a function that reloads, and returns when the old worker has
    gone.
    """

    def reload(life):
        [old] = workers(life.run.pid)
        assert life.reload().wait(20) == 0

        def until_gone(between=lambda: None):
            wait_until(lambda: look_at(old) is None, 12, "it stays", between=between)

        return until_gone

    return reload


@pytest.mark.parametrize("does", ["sends ahead", "takes the rest"])
def test_a_stream_is_told_of_a_reload_whatever_its_client_does(asgi, reloaded, does):
    life = asgi()
    with ExitStack() as stack:
        visitors = [stack.enter_context(Visitor(life.address)) for _ in range(40)]
        for visitor in visitors:
            visitor.send(f"/streams?{6_000_000 if does == 'takes the rest' else 1}", keep=True)
        life.until(lambda: all(map(has_begun, visitors)), "no streams")
        until_gone = reloaded(life)
        for visitor in visitors:
            if does == "sends ahead":
                with suppress(OSError):
                    visitor.sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            else:
                for _ in range(40):
                    visitor.sock.recv(1 << 20)
        for visitor in visitors:
            visitor.until_closed()
        until_gone()
    assert life.told("told") == 40


def has_begun(visitor):
    return bool(visitor.sock.recv(1, socket.MSG_PEEK))


def test_a_stream_that_begins_while_the_worker_leaves_is_told(asgi, reloaded):
    life = asgi()
    with Visitor(life.address) as visitor:
        visitor.send(f"/streams_late?{life.place}/go")
        life.until(lambda: life.told("asked"), "not asked")
        until_gone = reloaded(life)
        (life.place / "go").touch()
        until_gone()
    assert life.told("told")


def test_a_websocket_whose_client_speaks_on_is_closed_all_the_same(asgi, reloaded):
    life = asgi()
    with Speaker(life.address) as client:
        until_gone = reloaded(life)
        with suppress(ConnectionError):
            until_gone(between=lambda: client.send(text("on and on")))


def test_a_websocket_that_begins_while_the_worker_leaves_is_closed(asgi, reloaded):
    life = asgi()
    with ExitStack() as stack:
        visitors = [stack.enter_context(Visitor(life.address)) for _ in range(5)]
        for visitor in visitors:
            visitor.ask(keep=True)
        until_gone = reloaded(life)
        clients = [stack.enter_context(Speaker(visitor.sock)) for visitor in visitors]
        assert {client.hear_the_end()[0] for client in clients} == {1012}
        until_gone()


def test_an_ignored_websocket_that_comes_back_at_once_is_closed_again(asgi):
    life = asgi(idle_timeout=0.5, idle_ignore="websocket:/live")
    with Speaker(life.address, "/live") as first, Speaker(life.address, "/live") as other:
        assert first.hear() == ("close", (1001, ""))
        with Speaker(life.address, "/live") as again:  # while the other one is still open
            assert again.hear_the_end() == (1001, "")
        first.close()
        assert other.hear_the_end() == (1001, "")
        life.until_asleep()


def test_a_call_is_cancelled_once_at_the_end_and_may_clean_up(asgi):
    life = asgi(graceful_timeout=0.3)
    with Visitor(life.address) as visitor:
        visitor.send("/cleans_up")
        life.until(lambda: life.told("asked"), "not asked")
        life.signal(signal.SIGTERM)
        life.until_asleep()
    assert (life.told("cancelled"), life.told("cleaned up")) == (1, 1)
