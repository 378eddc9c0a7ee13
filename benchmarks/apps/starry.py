"""As little as a Starlette app can be: what it costs is Starlette."""

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def hello(request):
    return PlainTextResponse("Hello\n")


app = Starlette(routes=[Route("/", hello)])
