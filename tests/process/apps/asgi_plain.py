"""An ASGI app that does what the path of a request says; with QUERY, it makes that file
first. What its lifespan does is written to the file $STORY, a line each.
"""

import asyncio
import os
import pathlib
import sys

import spyglass

TASKS = set()


def tell(what):
    if "STORY" in os.environ:
        with open(os.environ["STORY"], "a") as story:
            story.write(f"{os.getpid()} {what}\n")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    if scope["query_string"]:
        pathlib.Path(scope["query_string"].decode()).touch()
    name, _, argument = scope["path"][1:].partition("/")
    await PATHS.get(name, hello)(argument, scope, receive, send)


async def lifespan(scope, receive, send):
    assert (await receive()) == {"type": "lifespan.startup"}
    tell("startup")
    scope["state"]["pid"] = os.getpid()
    await send({"type": "lifespan.startup.complete"})
    assert (await receive()) == {"type": "lifespan.shutdown"}
    await asyncio.sleep(float(os.environ.get("SHUTDOWN", 0)))
    tell("shutdown")
    await send({"type": "lifespan.shutdown.complete"})


async def answer(send, body, *fields, status=200):
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def hello(argument, scope, receive, send):
    await answer(send, f"{scope['state']['pid']} {os.getpid()}".encode())


async def wait(argument, scope, receive, send):
    """Answer after so many seconds."""
    await asyncio.sleep(float(argument))
    await answer(send, b"waited")


async def block(argument, scope, receive, send):
    """Keep the loop from turning."""
    import time

    time.sleep(float(argument))
    await answer(send, b"blocked")


async def obstinate(argument, scope, receive, send):
    """Not to be cancelled."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            tell("cancelled")


async def background(argument, scope, receive, send):
    """Go on for so many seconds after the response."""
    await answer(send, b"done soon")
    await asyncio.sleep(float(argument))
    tell("background done")


async def hold(argument, scope, receive, send):
    """Have a task of its own keep the app awake."""

    @spyglass.stay_awake("holding")
    async def held():
        await asyncio.sleep(float(argument))
        tell("held")

    task = asyncio.create_task(held())
    TASKS.add(task)
    await answer(send, b"holding")


async def events(argument, scope, receive, send):
    """An event stream that listens for the end of its client, as Starlette's do, or
    does not.
    """
    fields = (b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
    if argument == "some":
        for number in range(10):
            await asyncio.sleep(0.2)
            event = b"data: %d\n\n" % number
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body"})
        return
    if argument == "deaf":
        while True:
            await asyncio.sleep(0.05)
            await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
    assert (await receive())["type"] == "http.request"
    tell((await receive())["type"])


async def silent(argument, scope, receive, send):
    """Begin a response, and never end it."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(0.2)  # a rollback, say
        tell("cancelled")
        raise


async def listen(argument, scope, receive, send):
    """Wait for the client's end, then answer."""
    while (await receive())["type"] != "http.disconnect":
        pass
    tell("disconnect")
    await answer(send, b"heard you leave")


async def upload(argument, scope, receive, send):
    """Say how much came in how many events; `argument` is a pause before each."""
    size = events = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            tell("disconnect")
            return
        events += 1
        size += len(message["body"])
        if not message["more_body"]:
            break
        await asyncio.sleep(float(argument or 0))
    await answer(send, f"{size} {events}".encode())


async def unread(argument, scope, receive, send):
    """Answer without a look at the body."""
    await answer(send, b"no thanks", status=413)


async def fail(argument, scope, receive, send):
    raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt()}.get(
        argument, ValueError("as told")
    )


async def fail_late(argument, scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await asyncio.sleep(0)
    raise ValueError("as told")


async def task_exit(argument, scope, receive, send):
    async def leave():
        sys.exit(4)

    TASKS.add(asyncio.create_task(leave()))
    await asyncio.sleep(0)
    await answer(send, b"still here")


async def stop_loop(argument, scope, receive, send):
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)
    await answer(send, b"still here")


async def file(argument, scope, receive, send):
    """Send a file by its path."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.pathsend", "path": f"/{argument}"})


async def much(argument, scope, receive, send):
    """Send so many MiB in pieces; say when all of it was taken."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(16 * int(argument)):
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    await send({"type": "http.response.body"})
    tell("all sent")


async def thread(argument, scope, receive, send):
    await answer(send, await asyncio.to_thread(lambda: b"from a thread"))


async def program(argument, scope, receive, send):
    process = await asyncio.create_subprocess_exec(
        "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate(b"through a pipe")
    await answer(send, output)


async def dial(argument, scope, receive, send):
    """Ask another server on this machine, by asyncio's own sockets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(argument))
    writer.write(b"x" * 300_000)
    writer.write_eof()
    await answer(send, await reader.read())
    writer.close()


async def handler(argument, scope, receive, send):
    """Handle a signal in the loop."""
    loop = asyncio.get_running_loop()
    number = int(argument)
    loop.add_signal_handler(number, lambda: tell(f"signal {number}"))
    os.kill(os.getpid(), number)
    await answer(send, b"handled")


async def fork(argument, scope, receive, send):
    """Fork, and come back from the app twice."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    await answer(send, b"forked")


PATHS = {
    function.__name__: function
    for function in (
        *(wait, block, obstinate, background, hold, events, silent, listen, upload, unread),
        *(fail, fail_late, task_exit, stop_loop, file, much, thread, program, dial, handler, fork),
    )
}
