"""Shows what has come through a proxy: /environ as JSON, /upload as a number;
/large/1000 is so long, /stream goes on when /go was asked for.

/sleep/0.5 takes so long, /file lets the proxy send a file (X-Accel-Redirect), and
everything else tells who answers: life and pid.
"""

import json
import os
import pathlib
import time
import zlib

GO = pathlib.Path(os.environ["STATE_DIRECTORY"], "go")
time.sleep(float(os.environ.get("SLOW_IMPORT", "0")))


def stream():
    """Whoever waits for the first piece before asking for /go gets both; if somebody
    between waits for the whole, it does not come.
    """
    yield b"first\n"
    for _ in range(200):
        if GO.exists():
            GO.unlink()
            yield b"last\n"
            return
        time.sleep(0.05)


def checksum(file):
    seen, length = 0, 0
    while piece := file.read(1 << 16):
        seen, length = zlib.crc32(piece, seen), length + len(piece)
    return f"{length} {seen}".encode()


def app(environ, start_response):
    what, _, number = environ["PATH_INFO"][1:].partition("/")
    fields = [("Content-Type", "text/plain")]
    text = f"{os.environ['INVOCATION_ID']} {os.getpid()}".encode()
    if what == "environ":
        text = json.dumps(
            {name: value for name, value in environ.items() if isinstance(value, str)}
        ).encode()
    elif what == "sleep":
        time.sleep(float(number))
    elif what == "upload":
        text = checksum(environ["wsgi.input"])
    elif what == "large":
        text = bytes(int(number))
    elif what == "file":
        fields.append(("X-Accel-Redirect", environ["QUERY_STRING"]))
    elif what == "go":
        GO.touch()
    elif what == "stream":
        fields.append(("X-Accel-Buffering", "no"))
    start_response("200 OK", fields)
    return stream() if what == "stream" else [text]
