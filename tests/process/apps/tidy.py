"""A WSGI app that clears up when it is left: with atexit, and for so many seconds as
TAKES says. What it does is a file in WORKED.

TAKES is one number for all processes, or two: for the one that the app is loaded in,
and for the workers. With GATE (a path) it also waits until there is such a file.
"""

import atexit
import os
import pathlib
import time

WORKED = pathlib.Path(os.environ["WORKED"])
LOADED_IN = os.getpid()


@atexit.register
def clear_up():
    takes = os.environ["TAKES"].split()
    (WORKED / f"began-{os.getpid()}").touch()
    time.sleep(float(takes[0] if os.getpid() == LOADED_IN else takes[-1]))
    while not os.path.exists(os.environ.get("GATE", "/")):
        time.sleep(0.01)
    (WORKED / f"ended-{os.getpid()}").touch()


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
