"""An ASGI app with a path for each thing that an app should not do, or that few apps
do.
"""

import asyncio
import os
import sys


def tell(what):
    with open(os.environ["STORY"], "a") as file:
        file.write(f"{os.getpid()} {what}\n")


async def begin(send, status=200, headers=()):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def more(send, body, more_body=True):
    await send({"type": "http.response.body", "body": body, "more_body": more_body})


async def answer(send, body):
    await begin(send)
    await more(send, body, False)


async def hello(scope, receive, send):
    await answer(send, b"hello")


async def yields(scope, receive, send):
    for _ in range(3):
        await asyncio.sleep(0)
    await answer(send, b"yielded")


async def sleeps(scope, receive, send):
    await asyncio.sleep(0.02)
    await answer(send, b"slept")


async def listens(scope, receive, send):
    """Listen for the end of the response, beside the response."""

    async def hear():
        while (await receive())["type"] != "http.disconnect":
            pass
        tell("heard")

    hearing = asyncio.create_task(hear())
    await asyncio.sleep(0.02)
    await answer(send, b"listening")
    await hearing


async def closes_its_coroutine(scope, receive, send):
    await asyncio.sleep(0)
    raise GeneratorExit


async def stops_the_loop(scope, receive, send):
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    await answer(send, b"stopped")


async def exits_in_a_child(scope, receive, send):
    pid = os.fork()
    if not pid:
        await asyncio.sleep(0) if scope["query_string"] else None
        sys.exit(7)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    await answer(send, b"%d" % os.waitstatus_to_exitcode(status))


async def hangs(scope, receive, send):
    await asyncio.sleep(3600)


async def reads_late(scope, receive, send):
    """Ask for the body when the response has begun."""
    await begin(send)
    await more(send, b"first")
    message = await receive()
    await more(send, message["body"], False)


STREAM = [(b"content-type", b"text/event-stream")]


async def streams(scope, receive, send):
    """Send so many bytes, then nothing more, and listen for the end."""
    await begin(send, headers=STREAM)
    await more(send, b"x" * int(scope["query_string"] or b"1"))
    tell("streaming")
    while (await receive())["type"] != "http.disconnect":
        pass
    tell("told")


async def streams_late(scope, receive, send):
    """Begin an event stream when a file is there, and have nothing to say."""
    tell("asked")
    while not os.path.exists(scope["query_string"]):
        await asyncio.sleep(0.01)
    await begin(send, headers=STREAM)
    while (await receive())["type"] != "http.disconnect":
        pass
    tell("told")


async def cleans_up(scope, receive, send):
    tell("asked")
    try:
        await asyncio.sleep(3600)
    finally:
        tell("cancelled")
        for _ in range(10):
            await asyncio.sleep(0.02)
        tell("cleaned up")


async def speak(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await speak(scope, receive, send)
        return
    name = scope["path"].strip("/") or "hello"
    await globals()[name](scope, receive, send)
