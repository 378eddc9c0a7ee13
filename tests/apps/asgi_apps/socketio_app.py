"""Socket.IO, with Starlette for all that is not its own."""

import socketio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from told import tell

server = socketio.AsyncServer(async_mode="asgi")


@server.event
async def connect(sid, environ):
    tell("connected")


@server.event
async def shout(sid, text):
    return text.upper()


@server.event
async def disconnect(sid, reason):
    tell("disconnected")


async def page(request):
    return PlainTextResponse(f"hello {request.query_params['name']}")


async def start():
    tell("up")


async def stop():
    tell("down")


app = socketio.ASGIApp(
    server, Starlette(routes=[Route("/", page)]), on_startup=start, on_shutdown=stop
)
