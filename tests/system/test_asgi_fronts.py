"""Real nginx, Caddy and HAProxy in front of an ASGI app: event streams and WebSockets,
configured as docs/guides has them.
"""

from __future__ import annotations

import socket

import fronts
import pytest
from fronts import CADDY, CADDY_ALONE, CLIENT, HAPROXY, NGINX, TLS, Front
from instance import Instance
from machine import Machine
from typed import do
from waiting import wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

PORTS = {"nginx": 443, "caddy": 7443, "haproxy": 9443}
SECTION = "Event streams and WebSockets"
SOURCE = """
import asyncio
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse

app = FastAPI()
more = asyncio.Event()

@app.get("/live/stream")
async def stream():
    async def events():
        yield "data: first\\n\\n"
        try:
            while True:
                await asyncio.wait_for(more.wait(), 3600)
                more.clear()
                yield "data: second\\n\\n"
        finally:
            print("stream ended", flush=True)
    return StreamingResponse(events(), media_type="text/event-stream")

@app.get("/live/more")
async def tell():
    more.set()

@app.websocket("/live/ws")
async def echo(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text(f"{websocket.url.scheme} {websocket.client.host} {websocket.url.hostname}")
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())
"""


@pytest.fixture(scope="module")
def apps(machine: Machine) -> dict[str, Instance]:
    """The same app twice: live on its own socket, behind nginx and Caddy; cart on one
    that HAProxy can reach.
    """
    settings = {"venv": "/srv/venv", "workers": 1, "idle_timeout": 60, "websocket_ping": 1}
    live, cart = (
        Instance(machine, name, SOURCE, settings=settings).write() for name in ("live", "cart")
    )
    fronts.apply(live, "")
    reachable = HAPROXY.found("/var/lib/haproxy/shop.sock")
    fronts.apply(cart, reachable.replace("shop.sock", "cart.sock"))
    fronts.certificate(machine)

    [(path, text)] = NGINX.files("Behind nginx").items()
    location = NGINX.found("location /live/")
    text = fronts.with_lines(text, "location /static/ {", location, before=True)
    machine.write(path, text.replace("blog.sock", "live.sock"))
    for path, text in NGINX.files(SECTION).items():
        machine.write(path, text)
    fronts.reload(
        machine, "nginx", "rm -f /etc/nginx/sites-enabled/*; " + NGINX.typed("Behind nginx")
    )

    [(path, text)] = CADDY.files("Behind Caddy").items()
    machine.write(path, CADDY_ALONE + text.replace("blog.sock", "live.sock"))
    machine.systemctl("start", "caddy")
    do(machine, CADDY.typed("Behind Caddy"))

    path = "/etc/haproxy/haproxy.cfg"
    text = HAPROXY.files("Behind HAProxy")[path].replace(":443", ":9443")
    text = text.replace("/shop.sock", "/cart.sock")
    limits = HAPROXY.found("timeout tunnel")
    text = fronts.with_lines(text, "timeout server 75s", limits, instead=True)
    machine.write(path, f"{machine.read(path)}\n{text}")
    fronts.reload(machine, "haproxy", HAPROXY.typed("Behind HAProxy"))
    return {"nginx": live, "caddy": live, "haproxy": cart}


@pytest.fixture(params=PORTS)
def front(request: pytest.FixtureRequest, apps: dict[str, Instance]) -> Front:
    return Front(request.param, PORTS[request.param], apps[request.param])


def wss(front: Front) -> ClientConnection:
    with front.machine.network():
        plain = socket.create_connection(front.address, 40, (CLIENT, 0))
    return connect("wss://blog.example/live/ws", sock=plain, ssl=TLS, compression=None)


def test_a_websocket(front: Front) -> None:
    with wss(front) as client:
        assert client.recv(timeout=20) == f"wss {CLIENT} blog.example"
        client.send("are you there?")
        assert client.recv(timeout=20) == "ARE YOU THERE?"
        # The reload closes it, and the proxy passes on why.
        front.machine.run("spyglass", "reload", front.app.name)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012


def test_a_client_that_is_gone_is_noticed(front: Front) -> None:
    def held() -> str:
        return front.machine.run("spyglass", "status", front.app.name).stdout

    with wss(front) as client:
        client.recv(timeout=20)
        assert "WebSocket" in held(), held()
        client.socket.shutdown(socket.SHUT_RDWR)  # no Close, and no word of TLS's
    wait_until(lambda: "WebSocket" not in held(), 20, held)


def test_an_event_stream(front: Front) -> None:
    def ended() -> int:
        front.machine.run("journalctl", "--sync")
        return front.machine.journal(front.app.service).count("stream ended")

    front.machine.run("spyglass", "reload", front.app.name)
    before = ended()
    with front.client() as client:
        client.request("GET", "/live/stream")
        response = client.getresponse()
        # The first event arrives although the second does not exist yet.
        assert response.read(13) == b"data: first\n\n"
        assert front.ask("/live/more").status == 200
        assert response.read(14) == b"data: second\n\n"
        response.close()
    # The reader has gone, and the app hears of it.
    hears_late = front.name == "haproxy" and front.machine.release == "bookworm"

    def told() -> bool:
        if hears_late:
            # HAProxy 2.6 tells it with an event only (docs/guides/haproxy.md).
            assert front.ask("/live/more").status == 200
        return ended() > before

    wait_until(told, 20, "the app does not hear that its reader has gone")
