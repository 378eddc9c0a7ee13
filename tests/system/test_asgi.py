"""A FastAPI app through the units: wake, idle exit, reload, a startup that fails, and
what the commands say of it.
"""

from __future__ import annotations

import json

import pytest
from instance import Instance
from machine import Machine
from process.visitor import Visitor, visit
from waiting import wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, unix_connect

SOURCE = """
import asyncio, contextlib, os
from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse

@contextlib.asynccontextmanager
async def lifespan(app):
    START
    yield
    print("stopped", os.getpid(), flush=True)

app = FastAPI(lifespan=lifespan)

@app.get("/")
def page():
    return {"version": VERSION, "pid": os.getpid()}

@app.get("/stream")
async def stream():
    async def ticks():
        for number in range(10**6):
            yield f"data: {number}\\n\\n"
            await asyncio.sleep(0.05)
    return StreamingResponse(ticks(), media_type="text/event-stream")

@app.websocket("/ws")
async def echo(websocket: WebSocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{VERSION} {text}")
"""


def source(version: int, start: str = "print('started', os.getpid(), flush=True)") -> str:
    # Not of a size that it had: byte code is told from its source by that.
    return SOURCE.replace("VERSION", str(version)).replace("START", start) + "#\n" * version


@pytest.fixture
def fast(machine: Machine) -> Instance:
    settings = {"venv": "/srv/venv", "idle_timeout": 2, "workers": 2}
    app = Instance(machine, "fast", source(1), settings=settings)
    app.write()
    machine.run("spyglass", "apply", "fast")
    return app


def version(app: Instance) -> int:
    answer = visit(app.unix)
    assert answer.status == 200, answer.body
    found: int = json.loads(answer.body)["version"]
    return found


def until_asleep(app: Instance) -> None:
    wait_until(app.asleep, 30, "it is still awake")


def socket_of(app: Instance) -> ClientConnection:
    return unix_connect(app.unix, "ws://localhost/ws", compression=None)


def test_a_wake_an_idle_exit_and_a_reload(machine: Machine, fast: Instance) -> None:
    checked = machine.run("spyglass", "check", "fast").stdout
    assert ", ASGI, " in checked
    assert "\nlifespan: started, " in checked
    assert checked.endswith("\nfast: can be served\n")
    assert version(fast) == 1
    until_asleep(fast)
    said = machine.journal(fast.service)
    assert sum("started" in line for line in said) == sum("stopped" in line for line in said)
    assert fast.said("err") == []
    # A stream and a socket keep it awake; a reload ends them, and loses no request.
    with Visitor(fast.unix) as reader, socket_of(fast) as client:
        reader.send("/stream")
        assert reader.sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        client.send("are you there?")
        assert client.recv() == "1 are you there?"
        status = machine.run("spyglass", "status", "fast").stdout
        assert "2 connections, 1 of them a WebSocket" in status, status
        assert "\n  interface ASGI\n" in status
        machine.write(fast.code, source(2))
        machine.run("spyglass", "reload", "fast")
        assert version(fast) == 2
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        while reader.sock.recv(65536):
            pass
    with socket_of(fast) as client:
        client.send("again")
        assert client.recv() == "2 again"
        machine.systemctl("stop", fast.service)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    until_asleep(fast)
    assert fast.said("err") == []


def test_a_startup_that_fails_is_healed_by_the_file(machine: Machine, fast: Instance) -> None:
    broken = source(3, "raise ConnectionError('the database is not there')")
    why = "lifespan.startup: ConnectionError: the database is not there"
    # A reload to it is refused, and the old code serves on. Were the app to fall asleep
    # meanwhile, its next wake would load the broken code.
    with socket_of(fast):
        machine.write(fast.code, broken)
        refused = machine.run("spyglass", "reload", "fast", check=False)
        assert refused.returncode != 0
        assert "the database is not there" in refused.stdout + refused.stderr
        assert version(fast) == 1
    machine.systemctl("stop", fast.service)
    # A wake with it is answered all the same, until the file is right.
    assert visit(fast.unix).status == 503
    assert why in machine.run("spyglass", "list").stdout
    checked = machine.run("spyglass", "check", "fast", check=False)
    assert checked.stderr.endswith(f"fast: cannot be served: {why}\n")
    assert f'File "{fast.code}"' in checked.stderr
    machine.write(fast.code, source(4))
    wait_until(lambda: visit(fast.unix).status == 200, 30, "the file was not enough")
    assert version(fast) == 4
    until_asleep(fast)


def test_quart_litestar_and_channels(machine: Machine) -> None:
    """Each wakes, answers, and sleeps."""
    apps = {
        "quart": "from quart import Quart\napp = Quart(__name__)\n@app.get('/')\nasync def page(): return 'hello'\n",
        "litestar": "from litestar import Litestar, get\n@get('/')\nasync def page() -> str: return 'hello'\napp = Litestar([page])\n",
        "channels": "import django\nfrom django.conf import settings\nfrom django.core.asgi import get_asgi_application\nfrom django.http import HttpResponse\nfrom django.urls import path\n"
        "from channels.routing import ProtocolTypeRouter\nsettings.configure(ROOT_URLCONF=__name__, SECRET_KEY='x', ALLOWED_HOSTS=['*'], INSTALLED_APPS=['channels'])\n"
        "django.setup()\nasync def page(request): return HttpResponse('hello')\nurlpatterns = [path('', page)]\napp = ProtocolTypeRouter({'http': get_asgi_application()})\n",
    }
    settings = {"venv": "/srv/venv", "idle_timeout": 2}
    running = [Instance(machine, name, text, settings=settings) for name, text in apps.items()]
    for app in running:
        app.write()
    machine.run("spyglass", "apply")
    for app in running:
        assert visit(app.unix).text == "hello", app.name
    for app in running:
        until_asleep(app)
        assert app.said("err") == []
