"""The same small app in Starlette, FastAPI and Quart, and the guest book of Django by
its ASGI handler.
"""

import pathlib
import signal
import sys

import pytest
from process.speaker import Speaker
from process.visitor import Visitor

from .test_apps import APPS, browser
from .visits import VISITS, a_stream, an_upload_of_unknown_length

HERE = pathlib.Path(__file__).parent / "asgi_apps"


@pytest.fixture(params=["starlette_app", "fastapi_app", "quart_app"])
def served(request, systemd):
    return systemd(f"{request.param}:app", directory=HERE, idle_timeout=0.5, workers=2)


def ask(life, target, **how):
    with Visitor(life.address) as visitor:
        visitor.sock.sendall(
            f"GET /{target} HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\n\r\n".encode()
        )
        return visitor.answer()


def test_pages(served):
    assert b'"hello"' in (answer := ask(served, "page")).body
    assert answer.status == 200
    assert b'"me"' in answer.body
    assert b"from a thread" in ask(served, "in_thread").body
    assert ask(served, "file").body == pathlib.Path(sys.executable).read_bytes()
    assert ask(served, "fails").status == 500
    served.until_logged("ValueError: as told")


def test_an_upload_streams(served):
    with Visitor(served.address) as visitor:
        visitor.send("/size", method="POST", body=[b"x" * 65536] * 48)
        assert visitor.answer().text.strip('"') == str(48 * 65536)


def test_an_event_stream_ends_when_its_client_leaves(served):
    with Visitor(served.address) as visitor:
        visitor.send("/events")
        received = b""
        while b"data: 2" not in received:
            received += visitor.sock.recv(65536)
    served.until_logged("stream closed")
    served.until_asleep()
    assert "error" not in served.log
    assert served.log.count("shut down") == 2


def test_a_background_task_is_finished(served):
    assert b"soon" in ask(served, "later").body
    served.until_asleep()
    assert "background done" in served.log


CHAT = ("User-Agent: me", "Sec-WebSocket-Protocol: chat")


def test_a_websocket_of_each(served):
    with Speaker(served.address, "/echo", *CHAT) as client:
        assert client.fields["sec-websocket-protocol"] == ["chat"]
        client.say("h\u00e9llo")
        assert client.hear() == ("text", "h\u00e9llo")
        client.close(1000)
        assert client.hear() == ("close", (1000, ""))
    with Speaker(served.address, "/denied", *CHAT) as client:
        assert client.status == 401
        assert b"not you" in client.body
    served.until_asleep()
    assert "error" not in served.log


def test_a_client_that_leaves_is_no_error(served):
    for target in ("/echo", "/ticks"):
        with Speaker(served.address, target, *CHAT) as client:
            if target == "/ticks":
                assert client.hear() == ("binary", b"tick")
            client.die()
    served.until_asleep()
    assert "error" not in served.log


def test_a_websocket_whose_handler_fails_is_closed_with_1011(served):
    with Speaker(served.address, "/breaks", *CHAT) as client:
        assert client.hear_the_end()[0] in (1011, 1000)  # Quart closes by itself
    served.until_logged("ValueError: as told")


def test_a_stop_is_told_to_the_handlers(served):
    with Speaker(served.address, "/echo", *CHAT) as client:
        served.signal_all(signal.SIGTERM)
        assert client.hear_the_end() == (1001, "")
    served.until_asleep()
    assert "error" not in served.log
    assert served.run.status == 0


def test_the_guest_book_of_django(systemd, tmp_path):
    _, directory = APPS["django"]
    (tmp_path / "state").mkdir()
    environ = {"STATE_DIRECTORY": str(tmp_path / "state")}
    life = systemd("board.asgi", directory=directory, environ=environ, idle_timeout=60)
    # Django's ASGI handler reads no form without a length, and makes all of a stream that
    # is no asynchronous one before it sends it.
    for visit in VISITS:
        if visit not in (an_upload_of_unknown_length, a_stream):
            visit(browser(life))
    assert len(life.runs) == 1
