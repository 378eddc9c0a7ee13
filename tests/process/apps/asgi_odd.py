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


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    name = scope["path"].strip("/") or "hello"
    await globals()[name](scope, receive, send)
