"""The same as Litestar has it."""

import asyncio
import contextlib

from litestar import Litestar, MediaType, WebSocket, get, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.response import ServerSentEvent
from told import tell


@contextlib.asynccontextmanager
async def lifespan(app):
    tell("up")
    yield
    tell("down")


@get("/", media_type=MediaType.TEXT)
async def page(name: str) -> str:
    return f"hello {name}"


@get("/stream")
async def stream() -> ServerSentEvent:
    async def ticks():
        try:
            for number in range(1_000_000):
                yield str(number)
                await asyncio.sleep(0.02)
        finally:
            tell("stream ended")

    return ServerSentEvent(ticks())


@websocket("/ws")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text((await socket.receive_text()).upper())
    except WebSocketDisconnect:
        tell("socket ended")


app = Litestar([page, stream, echo], lifespan=[lifespan])
