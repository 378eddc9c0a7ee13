"""The app of apps.py as an ASGI app: the same wire cases are served through it, and must come out the same.

It does for apps.py what a WSGI server does, on top of a scope, receive() and send(). What the environ says is taken from the scope
alone, so a case that looks at the environ looks at the scope. A program that waits for its client runs in a thread; all others
run in the loop.
"""

import asyncio
import sys
from io import BytesIO
from urllib.parse import unquote_to_bytes

import apps


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    waits = b"%22await%22" in scope["query_string"] or b"%22pass%22" in scope["query_string"]
    call = asyncio.to_thread if waits else directly
    exchange = Exchange(environ_of(scope, body))
    await call(exchange.begin)
    client = asyncio.create_task(until_disconnect(receive))
    try:
        if exchange.whole is not None:
            await send_start(exchange, send)
            await send({"type": "http.response.body", "body": exchange.whole})
            return
        while not client.done() and (chunk := await call(exchange.next)) is not None:
            if chunk:
                await send_start(exchange, send)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send_start(exchange, send)
        await send({"type": "http.response.body"})
    finally:
        client.cancel()
        await call(exchange.close)


async def until_disconnect(receive):
    assert (await receive())["type"] == "http.disconnect"


async def directly(function):
    return function()


async def send_start(exchange, send):
    if not exchange.started:
        exchange.started = True
        status, fields = exchange.head
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        await send({"type": "http.response.start", "status": int(status[:3]), "headers": pairs})


def environ_of(scope, body):
    host, port = scope["server"]
    below = scope["root_path"].encode().decode("latin-1")
    # Not by `path`, in which bytes that are no UTF-8 are lost.
    raw = b"/" if scope["raw_path"] == b"*" else scope["raw_path"]
    path = unquote_to_bytes(raw).decode("latin-1")
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": below,
        "PATH_INFO": path.removeprefix(below),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": "localhost" if port is None else f"[{host}]" if ":" in host else host,
        "SERVER_PORT": str(port or 80),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_SOFTWARE": "spyglass",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "REMOTE_ADDR": scope["client"][0] if scope["client"] else "",
    }
    if scope["client"] and scope["client"][1]:
        environ["REMOTE_PORT"] = str(scope["client"][1])
    if scope["scheme"] == "https":
        environ["HTTPS"] = "on"
    environ["REQUEST_URI"] = scope["raw_path"].decode("latin-1") + ("?" if environ["QUERY_STRING"] else "") + environ["QUERY_STRING"]
    for name, value in scope["headers"]:
        assert name == name.lower()
        assert b"_" not in name
        key = name.decode("latin-1").upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        joint = "; " if key == "HTTP_COOKIE" else ", "
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]}{joint}{text}" if key in environ else text
    if environ.pop("HTTP_TRANSFER_ENCODING", None) is not None:
        assert "CONTENT_LENGTH" not in environ
        environ["CONTENT_LENGTH"] = str(len(body))
    assert scope["path"] == ("*" if raw != scope["raw_path"] else path.encode("latin-1").decode(errors="replace"))
    return environ


class Exchange:
    """One call of the WSGI app."""

    def __init__(self, environ):
        self.environ = environ
        self.head = None
        self.started = False
        self.whole = None  # all of the body, if it is there at once
        self.result = self.iterator = None
        self.written = []

    def begin(self):
        self.result = apps.app(self.environ, self.start_response)
        if type(self.result) in (list, tuple):
            self.whole = b"".join(self.result)
        self.iterator = iter(self.result)

    def start_response(self, status, fields, exc_info=None):
        if exc_info is not None and self.started:
            raise exc_info[1]
        self.head = status, fields
        return self.written.append

    def next(self):
        if self.written:
            return self.written.pop(0)
        return next(self.iterator, None)

    def close(self):
        if hasattr(self.result, "close"):
            self.result.close()
