"""Litestar, Channels, sse-starlette, Socket.IO and an MCP server, each with a page, a
stream or a protocol of its own, and a stop that waits for none of them.
"""

import asyncio
import pathlib
import signal

import pytest
from process.speaker import Speaker
from process.visitor import Visitor, visit

HERE = pathlib.Path(__file__).parent / "asgi_apps"
# name -> what has a lifespan, and what has an event stream
APPS = {
    "litestar_app": (True, True),
    "sse_app": (False, True),
    "socketio_app": (True, False),
    "channels_app": (False, True),
}


@pytest.fixture
def serve(systemd, tmp_path):
    """serve(name, **settings) -> a FakeSystemd that serves it; `told()` are the lines
    that the app has written.
    """

    def new(name, **settings):
        story = tmp_path / "story"
        settings = {"workers": 1, "idle_timeout": 60} | settings
        life = systemd(
            f"{name}:app",
            directory=HERE,
            environ={"STORY": str(story), "PYTHONPATH": str(HERE)},
            **settings,
        )
        life.told = lambda: story.read_text().splitlines() if story.exists() else []
        life.until_told = lambda what: life.until(lambda: what in life.told(), f"not told: {what}")
        return life

    return new


def chunks(visitor, target):
    """Ask for an event stream; return its response when the first event has come."""
    visitor.send(target)
    sock = visitor.sock
    seen = b""
    while b"data: 0" not in seen:
        piece = sock.recv(65536)
        assert piece, seen
        seen += piece
    assert b"content-type: text/event-stream" in seen.lower()
    return seen


def end_of(visitor):
    while visitor.sock.recv(65536):
        pass


def complaints(life):
    return [line for line in life.log.split("\n") if "rror" in line or "Traceback" in line]


@pytest.mark.parametrize("name", APPS)
def test_a_page_a_stream_and_a_stop(serve, name):
    has_lifespan, has_stream = APPS[name]
    life = serve(name)
    page = visit(life.address, "/?name=you")
    assert (page.status, page.text) == (200, "hello you")
    assert life.told() == ["up"] * has_lifespan
    told = life.told()
    if has_stream:
        # A reader that leaves is noticed, and one that stays is sent away by the stop.
        with Visitor(life.address) as visitor:
            chunks(visitor, "/stream")
        told.append("stream ended")
        life.until(lambda: life.told() == told, "the stream goes on")
        with Visitor(life.address) as visitor:
            chunks(visitor, "/stream")
            life.signal(signal.SIGTERM)
            end_of(visitor)
        told.append("stream ended")
    else:
        life.signal(signal.SIGTERM)
    life.until_asleep()
    assert life.told() == [*told, *["down"] * has_lifespan]
    assert life.run.status == 0
    assert complaints(life) == []


@pytest.mark.parametrize("name", ["litestar_app", "channels_app"])
def test_a_websocket(serve, name):
    life = serve(name)
    with Speaker(life.address, "/ws") as client:
        client.say("louder")
        assert client.hear() == ("text", "LOUDER")
        client.die()
    life.until_told("socket ended")
    with Speaker(life.address, "/ws") as client:
        client.say("louder")
        assert client.hear() == ("text", "LOUDER")
        life.signal(signal.SIGTERM)
        assert client.hear_the_end() == (1001, "")
    life.until_asleep()
    assert life.told().count("socket ended") == 2
    assert life.run.status == 0
    assert complaints(life) == []


def test_django_has_its_threads(serve):
    life = serve("channels_app", idle_timeout=0.5)
    with Visitor(life.address) as visitor:
        visitor.send("/thread", method="POST", body=[b"x" * 100_000] * 20)
        assert visitor.answer().text == str(20 * 100_000)
    life.until_asleep()
    assert complaints(life) == []


def test_long_polling_of_socket_io(serve):
    """Its own client, which keeps the app awake as long as it is connected."""
    import socketio

    life = serve("socketio_app", idle_timeout=0.5, graceful_timeout=1)
    host, port = life.address[:2]

    with socketio.SimpleClient(handle_sigint=False) as client:
        client.connect(f"http://{host}:{port}", transports=["polling"])
        assert client.call("shout", "louder") == "LOUDER"
        assert life.told() == ["up", "connected"]
        # Its poll waits for something to say, and a stop waits for that for a second:
        # the word of a client that leaves may come too late to end it.
        life.signal(signal.SIGTERM)
    assert len(life.runs) == 1


def test_socket_of_socket_io(serve):
    """Its packets as they are on the wire (Engine.IO 4, Socket.IO 5)."""
    life = serve("socketio_app", idle_timeout=0.5)
    with Speaker(life.address, "/socket.io/?EIO=4&transport=websocket") as client:
        assert client.hear()[1].startswith("0{")
        client.say("40")
        assert client.hear()[1].startswith("40{")
        client.say('420["shout","louder"]')
        assert client.hear() == ("text", '430["LOUDER"]')
        client.close()
        assert client.hear() == ("close", (1000, ""))
    life.until_asleep()
    assert life.told() == ["up", "connected", "disconnected", "down"]
    assert complaints(life) == []


def test_an_mcp_server_is_asked_by_its_client(serve):
    from mcp import Client

    life = serve("mcp_app", idle_timeout=0.5)

    async def ask():
        async with Client(f"http://127.0.0.1:{life.address[1]}/mcp") as client:
            tools = await client.list_tools()
            result = await client.call_tool("add", {"first": 2, "second": 3})
            return [tool.name for tool in tools.tools], result.structured_content

    assert asyncio.run(ask()) == (["add"], {"result": 5})
    life.until_asleep()
    assert len(life.runs) == 1
    assert complaints(life) == []
