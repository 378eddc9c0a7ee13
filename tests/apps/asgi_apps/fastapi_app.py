from typing import Annotated

import starlette_app
from fastapi import BackgroundTasks, Depends, FastAPI, Header, Request, WebSocket
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel

app = FastAPI(lifespan=starlette_app.lifespan)


async def agent(user_agent: Annotated[str, Header()]):
    yield user_agent


@app.get("/page")
async def page(request: Request, agent: Annotated[str, Depends(agent)]):
    return {"greeting": request.state.greeting, "agent": agent}


class Size(BaseModel):
    size: int


app.add_api_route("/size", starlette_app.size, methods=["POST"])
app.add_api_route("/fails", starlette_app.fails)


@app.get("/events")
async def events(request: Request) -> StreamingResponse:
    return await starlette_app.events(request)


@app.get("/later")
async def later(request: Request, tasks: BackgroundTasks):
    response = await starlette_app.later(request)
    tasks.add_task(response.background.func)
    return "soon"


@app.get("/in_thread")
def in_thread():
    return "from a thread"


@app.get("/file")
async def file() -> FileResponse:
    return await starlette_app.file(None)


@app.websocket("/echo")
async def echo(websocket: WebSocket, agent: Annotated[str, Depends(agent)]):
    await starlette_app.echo(websocket)


for each in (starlette_app.ticks, starlette_app.denied, starlette_app.breaks):
    app.add_api_websocket_route(f"/{each.__name__}", each)
