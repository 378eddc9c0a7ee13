"""Tells who answers: the life of the unit and the pid of the worker. /sleep/0.5 takes
that long first, /stream/0.5 while it answers.

/upload tells what came, as a number, and /large/1000 has so many bytes more.
"""

import os
import time
import zlib

PIECES = 5


def stream(text, seconds):
    for number in range(PIECES):
        time.sleep(seconds / PIECES)
        yield text if number == 0 else b" ." * 5000
    yield b" end"


def app(environ, start_response):
    what, _, number = environ["PATH_INFO"][1:].partition("/")
    text = f"{os.environ['INVOCATION_ID']} {os.getpid()}".encode()
    if what == "sleep":
        time.sleep(float(number))
    start_response(
        "200 OK", [("Content-Type", "text/plain"), ("X-Answered", str(time.monotonic()))]
    )
    if what == "stream":
        return stream(text, float(number))
    if what == "upload":
        text += b" %d" % zlib.crc32(environ["wsgi.input"].read())
    if what == "large":
        text += b" " + bytes(int(number))
    return [text]
