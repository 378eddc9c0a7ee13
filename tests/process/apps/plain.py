"""A WSGI app that does what its target says: /sleep/0.5 sleeps, /pid tells who answers,
and so on; anything else is a greeting.

The query is the path of a file that it makes first, so that whoever asked can know that
it has been asked.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
import zlib

AT_IMPORT = dict(os.environ)


def sleep(seconds):
    time.sleep(float(seconds))
    return b"slept"


def steps(seconds):
    """So many seconds of its own: a single sleep would be over when it had stood still
    for that long.
    """
    for _ in range(15):
        time.sleep(float(seconds) / 15)
    return b"slept"


def gate(path):
    """Until there is such a file."""
    while not os.path.exists(path):
        time.sleep(0.005)
    return b"open"


def hang(_):
    time.sleep(3600)


def pid(_):
    return str(os.getpid()).encode()


def environment(_):
    return json.dumps({"at import": AT_IMPORT, "now": dict(os.environ)}).encode()


def descriptors(_):
    """What a program that the app starts, and closes nothing for, finds open."""
    program = "import os; print(*sorted(set(os.listdir('/proc/self/fd'))))"
    result = subprocess.run(
        [sys.executable, "-c", program], close_fds=False, capture_output=True, check=True
    )
    return result.stdout


def stream(seconds):
    """Ten pieces, in so many seconds."""
    for number in range(10):
        time.sleep(float(seconds) / 10)
        yield b"%d\n" % number


def large(size):
    return bytes(int(size))


def upload(body):
    """What came, as a number."""
    return b"%d" % zlib.crc32(body.read())


def deafen(_):
    """Close what the server waits in, as an app does that closes all descriptors it
    finds.
    """
    for link in pathlib.Path("/proc/self/fd").iterdir():
        if link.is_symlink() and os.readlink(link) == "anon_inode:[eventpoll]":
            os.close(int(link.name))
    return b"closed"


DOES = {
    "sleep": sleep,
    "steps": steps,
    "gate": gate,
    "hang": hang,
    "pid": pid,
    "environment": environment,
    "descriptors": descriptors,
    "stream": stream,
    "large": large,
    "deafen": deafen,
}


def app(environ, start_response):
    if environ["QUERY_STRING"]:
        pathlib.Path(environ["QUERY_STRING"]).touch()
    what, _, argument = environ["PATH_INFO"][1:].partition("/")
    result = (
        upload(environ["wsgi.input"])
        if what == "upload"
        else DOES.get(what, lambda _: b"hello")(argument)
    )
    start_response(
        "200 OK", [("Content-Type", "text/plain"), ("X-Answered", str(time.monotonic()))]
    )
    return [result] if isinstance(result, bytes) else result
