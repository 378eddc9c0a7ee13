"""An ASGI app whose WebSockets do what their path says. Events that end one are written
to the file that the query names.
"""

import asyncio
import json
import os
from urllib.parse import unquote


async def app(scope, receive, send):
    kind = scope["type"]
    if kind == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif kind == "http":
        body = str(os.getpid()).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
    else:
        await SOCKETS[scope["path"].split("/")[1] or "echo"](scope, receive, send)


def note(scope, what):
    """Append to the file of the query, one JSON value a line."""
    path = unquote(scope["query_string"].decode())
    if path:
        with open(path, "a") as stream:
            stream.write(json.dumps(what) + "\n")


async def accept(receive, send, **more):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", **more})


async def echo(scope, receive, send):
    await accept(receive, send)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
    note(scope, event)


async def name(scope, receive, send):
    """Say the pid, and the scope; then wait for the end."""
    subprotocol = (scope["subprotocols"] or [None])[-1]
    await accept(receive, send, subprotocol=subprotocol, headers=[(b"X-Mine", b"yes")])
    told = {key: scope[key] for key in ("type", "scheme", "path", "subprotocols", "http_version")}
    await send({"type": "websocket.send", "text": json.dumps({"pid": os.getpid(), **told})})
    note(scope, await receive())


async def deny(scope, receive, send):
    await receive()
    start = {"status": 418, "headers": [(b"content-type", b"text/plain")]}
    await send({"type": "websocket.http.response.start", **start})
    await send({"type": "websocket.http.response.body", "body": b"no ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"coffee"})
    note(scope, await receive())


async def refuse(scope, receive, send):
    await receive()
    await send({"type": "websocket.close"})
    note(scope, await receive())


async def fail(scope, receive, send):
    """In the order of the path: /fail/early, /fail/late."""
    if scope["path"].endswith("late"):
        await accept(receive, send)
    raise ValueError("as asked")


async def leave(scope, receive, send):
    if scope["path"].endswith("late"):
        await accept(receive, send)


async def close(scope, receive, send):
    await accept(receive, send)
    await receive()
    await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
    note(scope, await receive())
    try:
        await send({"type": "websocket.send", "text": "more"})
    except RuntimeError as error:
        note(scope, str(error))


async def flood(scope, receive, send):
    """Send as long as that is possible, and note how much, and what it ends with."""
    await accept(receive, send)
    sent = 0
    try:
        while True:
            await send({"type": "websocket.send", "bytes": bytes(65536)})
            sent += 1
    except OSError as error:
        note(scope, [sent, type(error).__name__])
    note(scope, await receive())


async def deaf(scope, receive, send):
    """Accept, and receive nothing until the file of the path is there."""
    await accept(receive, send)
    gate = unquote(scope["query_string"].decode()) + ".open"
    while not os.path.exists(gate):
        await asyncio.sleep(0.02)
    received = 0
    while (event := await receive())["type"] == "websocket.receive":
        received += 1
    note(scope, [received, event])


async def patient(scope, receive, send):
    """Accept when the client has gone."""
    await receive()
    note(scope, "asked")
    note(scope, await receive())
    try:
        await send({"type": "websocket.accept"})
    except OSError as error:
        note(scope, type(error).__name__)


async def never(scope, receive, send):
    """Never accept, or, /never/end, never return."""
    if scope["path"].endswith("end"):
        await accept(receive, send)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note(scope, "cancelled")
        raise


SOCKETS = {
    each.__name__: each
    for each in (echo, name, deny, refuse, fail, leave, close, flood, deaf, patient, never)
}
