"""A Django project in one file, with Channels for the socket."""

import asyncio

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from told import tell

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="only of a test",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
)
django.setup()


async def page(request):
    return HttpResponse(f"hello {request.GET['name']}")


def in_a_thread(request):
    return HttpResponse(len(request.body))


async def ticks():
    try:
        for number in range(1_000_000):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.02)
    finally:
        tell("stream ended")


async def stream(request):
    return StreamingHttpResponse(ticks(), content_type="text/event-stream")


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data.upper())

    async def disconnect(self, code):
        tell("socket ended")


urlpatterns = [path("", page), path("thread", in_a_thread), path("stream", stream)]
app = ProtocolTypeRouter(
    {"http": get_asgi_application(), "websocket": URLRouter([path("ws", Echo.as_asgi())])}
)
