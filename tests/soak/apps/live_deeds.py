"""What the soak's ASGI apps do beside deeds.py, whichever framework calls it: bodies
that come in pieces, WebSockets, event streams, and work after the answer.

What a client cannot see is written down, too: that a WebSocket's call was told of its
end, and had all messages before it; that an event stream's was ended; that work was
done; that each worker's lifespan has begun and ended. The ledger has what is owed.
"""

import asyncio
import hashlib
import os
from contextlib import suppress

import deeds

tasks = set()


async def note(line):
    """Waits for a descriptor where there is none: what is owed is owed."""
    while True:
        try:
            return deeds.seen(line)
        except OSError:
            await asyncio.sleep(0.1)


async def digest_of(body):
    digest = hashlib.sha256()
    async for piece in body:
        digest.update(piece)
    return digest.hexdigest()


async def echo(visit, version, query, body):
    deeds.seen(visit)
    digest = await digest_of(body)
    if "sleep" in query:
        await asyncio.sleep(float(query["sleep"]))
    size = int(query.get("size", 0))
    return deeds.first_line(visit, version, digest) + deeds.filler(visit, size)


async def pieces(visit, version, query, digest):
    """See deeds.pieces()."""
    count, size = int(query["pieces"]), int(query["size"])
    filler = deeds.filler(visit, size)
    yield deeds.first_line(visit, version, digest)
    for number in range(count):
        await asyncio.sleep(float(query["sleep"]) / count)
        yield filler[size * number // count : size * (number + 1) // count]


async def events(visit, version, query):
    """The first one tells which app this is, as everywhere; the others are counted."""
    await note(visit)
    try:
        yield b"data: " + deeds.first_line(visit, version, hashlib.sha256().hexdigest()) + b"\n"
        for number in range(int(query["count"])):
            await asyncio.sleep(float(query["pause"]))
            yield f"data: {visit} {number}\n\n".encode()
    finally:
        await note(f"{visit}-over")


async def converse(visit, version, query, receive, send, gone=OSError):
    """A WebSocket: returns all messages as they are, and ticks where a `pause` is given.
    Sending raises `gone` after the end; what the client has said before is still heard.
    """
    await receive()
    await note(visit)
    await send({"type": "websocket.accept"})
    hello = deeds.first_line(visit, version, hashlib.sha256().hexdigest()).decode()
    with suppress(gone):
        await send({"type": "websocket.send", "text": hello})
    ticks = asyncio.create_task(_tick(visit, query, send, gone))
    heard = 0
    while (event := await receive())["type"] == "websocket.receive":
        heard += 1
        said = {key: event[key] for key in ("text", "bytes") if event.get(key) is not None}
        with suppress(gone):
            if said == {"text": "bye"}:
                ticks.cancel()
                await send({"type": "websocket.close", "code": 4000})
            else:
                await send({"type": "websocket.send"} | said)
    ticks.cancel()
    await note(f"{visit}-heard-{heard}-{event['code']}")


async def _tick(visit, query, send, gone):
    number = 0
    with suppress(gone):
        while "pause" in query:
            await asyncio.sleep(float(query["pause"]))
            await send({"type": "websocket.send", "text": f"{visit} {number}"})
            number += 1


async def work(visit, query):
    """Goes on after the answer."""
    await asyncio.sleep(float(query["seconds"]))
    await note(f"{visit}-done")


def hold(visit, query):
    """The same in a task of the app's own, which keeps it awake."""

    async def held():
        import spyglass

        with spyglass.stay_awake(visit):
            await work(visit, query)

    tasks.add(task := asyncio.create_task(held()))
    task.add_done_callback(tasks.discard)


async def harm(visit, query, state):
    """What only an ASGI app can do wrong; or else see deeds.harm()."""
    deeds.seen(visit)
    how = query["how"]
    if how == "end":
        state["end"].set()
    elif how == "wait":
        await asyncio.sleep(3600)
    elif how == "disobey":
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
    else:
        deeds.harm(visit, query)


async def live(state):
    """A lifespan's middle."""
    state["end"] = asyncio.Event()
    state["pid"] = os.getpid()
    await note(f"up-{os.getpid()}")


async def die():
    await note(f"down-{os.getpid()}")
