import asyncio
import contextlib
import pathlib
import sys

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route


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


functions = (page, size, events, later, in_thread, file, fails)
routes = [Route(f"/{each.__name__}", each, methods=["GET", "POST"]) for each in functions]
app = Starlette(routes=routes, lifespan=lifespan)
