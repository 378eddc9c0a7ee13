"""An event stream of sse-starlette, which looks for uvicorn's server to learn that it stops."""

import asyncio

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from told import tell


async def page(request):
    return PlainTextResponse(f"hello {request.query_params['name']}")


async def ticks():
    try:
        for number in range(1_000_000):
            yield {"data": number}
            await asyncio.sleep(0.02)
    finally:
        tell("stream ended")


async def stream(request):
    return EventSourceResponse(ticks())


app = Starlette(routes=[Route("/", page), Route("/stream", stream)])
