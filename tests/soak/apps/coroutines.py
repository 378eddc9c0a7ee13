import asyncio
import os
from urllib.parse import parse_qsl

import deeds
import live_deeds

VERSION = "0"  # each deploy has another
REFUSES = globals().get("REFUSES", "")  # why it does not start
HERE = os.path.dirname(os.path.abspath(__file__))


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope["state"], receive, send)
        return
    assert scope["state"]["pid"] == os.getpid(), "the state is another worker's"
    query = dict(parse_qsl(scope["query_string"].decode()))
    visit = query.get("visit", "-")
    if scope["type"] == "websocket":
        await live_deeds.converse(visit, VERSION, query, receive, send)
    else:
        await PAGES.get(scope["path"], missing)(visit, query, scope, receive, send)


async def lifespan(state, receive, send):
    await receive()
    if REFUSES:
        await send({"type": "lifespan.startup.failed", "message": REFUSES})
        return
    await live_deeds.live(state)
    await send({"type": "lifespan.startup.complete"})
    stop, end = asyncio.ensure_future(receive()), asyncio.ensure_future(state["end"].wait())
    await asyncio.wait({stop, end}, return_when=asyncio.FIRST_COMPLETED)
    await live_deeds.die()
    if end.done():
        raise RuntimeError("what the app lives on has ended")
    end.cancel()
    await send({"type": "lifespan.shutdown.complete"})


async def body_of(receive):
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ConnectionError("the client has left")
        yield event["body"]
        if not event["more_body"]:
            return


async def start(send, status=200, kind="text/plain", **fields):
    pairs = {"content-type": kind} | {key.replace("_", "-"): fields[key] for key in fields}
    headers = [(name.encode(), value.encode()) for name, value in pairs.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def page(send, body, status=200):
    await start(send, status, content_length=str(len(body)))
    await send({"type": "http.response.body", "body": body})


async def stream(send, pieces):
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


async def missing(visit, query, scope, receive, send):
    await page(send, b"no such page\n", 404)


async def health(visit, query, scope, receive, send):
    await page(send, b"well\n")


async def echo(visit, query, scope, receive, send):
    await page(send, await live_deeds.echo(visit, VERSION, query, body_of(receive)))


async def in_pieces(visit, query, scope, receive, send):
    deeds.seen(visit)
    digest = await live_deeds.digest_of(body_of(receive))
    await start(send)
    await stream(send, live_deeds.pieces(visit, VERSION, query, digest))


async def events(visit, query, scope, receive, send):
    """Every other one does not listen for the end: its call is cancelled."""
    await start(send, kind="text/event-stream")
    streaming = asyncio.ensure_future(stream(send, live_deeds.events(visit, VERSION, query)))
    try:
        if "deaf" not in query:
            await body_of(receive).__anext__()
            leaving = asyncio.ensure_future(receive())
            await asyncio.wait({leaving, streaming}, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            if not streaming.done():
                streaming.cancel()
        await asyncio.wait({streaming})
    finally:
        streaming.cancel()


async def file(visit, query, scope, receive, send):
    deeds.seen(visit)
    await start(send, x_visit=visit)
    await send({"type": "http.response.pathsend", "path": os.path.join(HERE, "static")})


async def later(visit, query, scope, receive, send):
    if "held" in query:
        live_deeds.hold(visit, query)
    await echo(visit, query, scope, receive, send)
    if "held" not in query:
        await live_deeds.work(visit, query)


async def harm(visit, query, scope, receive, send):
    await live_deeds.harm(visit, query, scope["state"])
    await echo(visit, query, scope, receive, send)


PAGES = {
    "/echo": echo, "/stream": in_pieces, "/events": events, "/file": file, "/later": later, "/harm": harm, "/health": health,
}  # fmt: skip
