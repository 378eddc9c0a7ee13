import asyncio
import contextlib
import pathlib
import sys

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"greeting": "hello"}
    print("shut down", flush=True)


async def page(request: Request):
    return JSONResponse(
        {"greeting": request.state.greeting, "agent": request.headers["user-agent"]}
    )


async def size(request: Request):
    count = 0
    async for piece in request.stream():
        count += len(piece)
    return PlainTextResponse(str(count))


async def events(request: Request):
    async def generate():
        try:
            for number in range(3):
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.01)
            await asyncio.sleep(3600)
        finally:
            print("stream closed", flush=True)

    return StreamingResponse(generate(), media_type="text/event-stream")


async def later(request: Request):
    async def work():
        await asyncio.sleep(0.2)
        print("background done", flush=True)

    return PlainTextResponse("soon", background=BackgroundTask(work))


def in_thread(request: Request):
    return PlainTextResponse("from a thread")


async def file(request: Request):
    return FileResponse(pathlib.Path(sys.executable))


async def fails(request: Request):
    raise ValueError("as told")


async def echo(websocket: WebSocket):
    """Until the client leaves, which no error is to be made of."""
    await websocket.accept(subprotocol="chat")
    while True:
        await websocket.send_text(await websocket.receive_text())


async def ticks(websocket: WebSocket):
    """Only send: the client's leaving shows there."""
    await websocket.accept()
    while True:
        await websocket.send_bytes(b"tick")
        await asyncio.sleep(0.01)


async def denied(websocket: WebSocket):
    await websocket.send_denial_response(PlainTextResponse("not you", status_code=401))


async def breaks(websocket: WebSocket):
    await websocket.accept()
    raise ValueError("as told")


sockets = (echo, ticks, denied, breaks)
functions = (page, size, events, later, in_thread, file, fails)
routes = [Route(f"/{each.__name__}", each, methods=["GET", "POST"]) for each in functions]
routes += [WebSocketRoute(f"/{each.__name__}", each) for each in sockets]
app = Starlette(routes=routes, lifespan=lifespan)
