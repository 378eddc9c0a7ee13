"""A WSGI app that works without being asked, and says so: /work/SECONDS does in a
thread, and answers at once.

With AT_IMPORT in its environment it does so as soon as it is loaded, for so many
seconds; what it has finished is a file in WORKED.
"""

import os
import pathlib
import threading
import time

import spyglass

WORKED = pathlib.Path(os.environ["WORKED"])


def work(seconds):
    with spyglass.stay_awake(f"work of {seconds} s"):
        (WORKED / f"began-{os.getpid()}").touch()
        time.sleep(float(seconds))
        (WORKED / f"ended-{os.getpid()}").touch()


def in_background(seconds):
    threading.Thread(target=work, args=(seconds,), daemon=True).start()


if "AT_IMPORT" in os.environ:
    in_background(os.environ["AT_IMPORT"])


def app(environ, start_response):
    what, _, argument = environ["PATH_INFO"][1:].partition("/")
    if what == "work":
        in_background(argument)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
