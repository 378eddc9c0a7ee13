import os
from contextlib import asynccontextmanager

import deeds
import live_deeds
from fastapi import BackgroundTasks, FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, StreamingResponse
from starlette.websockets import WebSocketDisconnected

VERSION = "0"  # each deploy has another
REFUSES = globals().get("REFUSES", "")  # why it does not start
HERE = os.path.dirname(os.path.abspath(__file__))


@asynccontextmanager
async def lifespan(app):
    if REFUSES:
        raise ConnectionError(REFUSES)
    state = {}
    await live_deeds.live(state)

    yield state
    await live_deeds.die()


app = FastAPI(lifespan=lifespan)


def of(request):
    """(visit, version, query)"""
    assert request.state.pid == os.getpid(), "the state is another worker's"
    return request.query_params.get("visit", "-"), VERSION, request.query_params


@app.api_route("/echo", methods=["GET", "HEAD", "POST"])
async def echo(request: Request):
    body = await live_deeds.echo(*of(request), request.stream())
    return Response(body, media_type="text/plain")


@app.api_route("/stream", methods=["GET", "POST"])
async def stream(request: Request):
    deeds.seen(request.query_params["visit"])
    # Not in the response, which listens for the client's end.
    digest = await live_deeds.digest_of(request.stream())
    return StreamingResponse(live_deeds.pieces(*of(request), digest))


@app.get("/events")
async def events(request: Request):
    return StreamingResponse(live_deeds.events(*of(request)), media_type="text/event-stream")


@app.get("/file")
def file(visit: str):
    deeds.seen(visit)
    return FileResponse(os.path.join(HERE, "static"), headers={"X-Visit": visit})


@app.get("/later")
async def later(request: Request, background: BackgroundTasks):
    visit, _, query = of(request)
    if "held" in query:
        live_deeds.hold(visit, query)
    else:
        background.add_task(live_deeds.work, visit, query)
    return await echo(request)


@app.get("/harm")
async def harm(request: Request):
    visit, _, query = of(request)
    await live_deeds.harm(visit, query, {"end": request.state.end})
    return await echo(request)


@app.websocket("/talk")
@app.websocket("/watch")
async def converse(websocket: WebSocket):
    await live_deeds.converse(
        *of(websocket),
        websocket.receive,
        websocket.send,
        (OSError, WebSocketDisconnect, WebSocketDisconnected),
    )
