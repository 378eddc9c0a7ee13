"""The ASGI app of the edge: its answers begin with the life of the unit, where systemd
tells it, and the pid of the worker.

/sleep/0.5 takes that long first, /stream/0.5 while it answers, /after/0.5 when it has
answered. /upload tells what came, as a number, and /large/1000 has so many bytes more.
A WebSocket hears what it says.
"""

import asyncio
import os
import time
import zlib

PIECES = 5
TEXT = f"{os.environ.get('INVOCATION_ID', '-')} ".encode()


async def app(scope, receive, send):
    await {"lifespan": live, "http": answer, "websocket": echo}[scope["type"]](scope, receive, send)


async def live(scope, receive, send):
    for what in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{what}"
        await asyncio.sleep(0)
        await send({"type": f"lifespan.{what}.complete"})


async def answer(scope, receive, send):
    what, _, number = scope["path"][1:].partition("/")
    text = TEXT + b"%d" % os.getpid()
    if what == "sleep":
        await asyncio.sleep(float(number))
    if what == "upload":
        crc, more = 0, True
        while more:
            message = await receive()
            crc, more = zlib.crc32(message.get("body", b""), crc), message["more_body"]
        text += b" %d" % crc
    if what == "large":
        text += b" " + bytes(int(number))
    fields = [(b"content-type", b"text/plain"), (b"x-answered", str(time.monotonic()).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    for _ in range(PIECES if what == "stream" else 0):
        await send({"type": "http.response.body", "body": text, "more_body": True})
        await asyncio.sleep(float(number) / PIECES)
        text = b" ." * 5000
    await send({"type": "http.response.body", "body": text})
    if what == "after":
        await asyncio.sleep(float(number))


async def echo(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": (TEXT + b"%d" % os.getpid()).decode()})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
