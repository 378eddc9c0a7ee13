"""A WSGI app that tells what it knows of its wake, as JSON; at /forked, what a process
that it forks does.
"""

import json
import os

import spyglass

AT_IMPORT = spyglass.last_wake()


def told():
    wake = spyglass.last_wake()
    return (
        None
        if wake is None
        else {"at": wake.at, "seconds": wake.seconds, "listener": wake.listener, "name": wake.name}
    )


def in_a_fork():
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writer, json.dumps(told()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    said = json.loads(os.read(reader, 4096))
    os.close(reader)
    os.close(writer)
    return said


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    answer = in_a_fork() if environ["PATH_INFO"] == "/forked" else told()
    return [json.dumps({"pid": os.getpid(), "wake": answer, "at_import": repr(AT_IMPORT)}).encode()]
