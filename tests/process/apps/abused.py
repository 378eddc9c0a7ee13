"""A WSGI app with every way of answering at length, for clients who then do not read:
/list, /generator, /file and /write give SIZE bytes.

Anything else is a greeting; /sleep/0.5 sleeps, /boom raises, and what is posted is
read.
"""

import tempfile
import time

SIZE = 20 << 20
HUGE = 1 << 30
BODY = bytes(SIZE)
PIECE = bytes(64 << 10)


def generator():
    for _ in range(SIZE // len(PIECE)):
        yield PIECE


def file(environ, size):
    stream = tempfile.TemporaryFile()
    stream.truncate(size)  # a hole: its bytes cost no disk
    return environ["wsgi.file_wrapper"](stream)


def app(environ, start_response):
    what, _, argument = environ["PATH_INFO"][1:].partition("/")
    if environ["REQUEST_METHOD"] == "POST":
        while environ["wsgi.input"].read(1 << 20):
            pass
    if what == "boom":
        raise RuntimeError("boom")
    write = start_response("200 OK", [("Content-Type", "application/octet-stream")])
    if what == "write":
        write(BODY)
        return []
    if what == "sleep":
        time.sleep(float(argument))
    answers = {
        "list": lambda: [BODY],
        "generator": generator,
        "file": lambda: file(environ, SIZE),
        "huge": lambda: file(environ, HUGE),
        "pieces": lambda: (BODY for _ in range(HUGE // SIZE)),
    }
    return answers.get(what, lambda: [b"hello"])()
