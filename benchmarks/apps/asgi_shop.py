"""What ASGI servers are measured with: pages, a stream and a WebSocket in one app."""

HEAD = [(b"content-type", b"application/octet-stream")]
LARGE = b"x" * (64 << 10)
PIECE = b"x" * 1000
PIECES = 10


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await live(receive, send)
    elif scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["path"] == "/stream":
        await stream(send)
    elif scope["path"] == "/echo":
        await answer(send, await body_of(receive))
    else:
        await answer(send, LARGE if scope["path"] == "/large" else b"Hello\n")


async def live(receive, send):
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


async def body_of(receive):
    parts = []
    while True:
        event = await receive()
        parts.append(event["body"])
        if not event["more_body"]:
            return b"".join(parts)


async def answer(send, body):
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [*HEAD, length]})
    await send({"type": "http.response.body", "body": body})


async def stream(send):
    await send({"type": "http.response.start", "status": 200, "headers": HEAD})
    for _ in range(PIECES):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") is not None:
            await send({"type": "websocket.send", "text": event["text"]})
        else:
            await send({"type": "websocket.send", "bytes": event["bytes"]})
