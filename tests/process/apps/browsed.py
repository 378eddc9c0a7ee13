"""An ASGI app for a browser: a page with a WebSocket, and an event stream if it asks for
one. Both tell the pid.
"""

import asyncio
import os

PAGE = """<!doctype html><title>live</title><link rel="icon" href="data:,"><script>
const pids = [], codes = [], events = [];
let socket;
function connect() {
  socket = new WebSocket(location.href.replace(/^http/, "ws").replace(/[?].*/, "") + "live");
  socket.onmessage = (event) => pids.push(event.data);
  socket.onclose = (event) => { codes.push(event.code); if (event.code == 1012) connect(); };
}
connect();
if (location.search == "?events")
  new EventSource("events").onmessage = (event) => events.push(event.data);
</script>"""


async def app(scope, receive, send):
    pid = str(os.getpid())
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": pid})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})
    elif scope["path"] == "/events":
        await send(start("text/event-stream"))
        await send(body(f"retry: 100\ndata: {pid}\n\n", more=True))
        await receive()
        while (await receive())["type"] != "http.disconnect":
            await asyncio.sleep(0)
        await send(body(""))
    else:
        await send(start("text/html"))
        await send(body(PAGE))


def start(kind):
    headers = [(b"content-type", kind.encode())]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def body(text, *, more=False):
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}
