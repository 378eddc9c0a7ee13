"""Where an upload lies: on disk, and nowhere that is memory, whatever the release makes
of /tmp.

Nothing here is as large as that memory: what counts is the file system under each file.
"""

from __future__ import annotations

import json

import pytest
from instance import Instance
from machine import Machine
from process.visitor import Visitor

# A stream of the app's, and Django's and Flask's likewise, is made by tempfile; the
# body itself is wsgi.input.
SOURCE = """\
import json, os, subprocess, tempfile

def place(file):
    system = subprocess.run(["stat", "-f", "-c", "%T", "-L", f"/proc/self/fd/{file.fileno()}"], pass_fds=[file.fileno()], capture_output=True, text=True)
    return os.readlink(f"/proc/self/fd/{file.fileno()}"), system.stdout.strip(), os.fstat(file.fileno()).st_nlink

def app(environ, start_response):
    body = environ["wsgi.input"]
    with tempfile.TemporaryFile() as mine:
        told = {
            "length": len(body.read()), "body": place(body), "mine": place(mine), "left": sorted(os.listdir(os.environ["CACHE_DIRECTORY"])),
        }
    start_response("200 OK", [])
    return [json.dumps(told).encode()]
"""
SIZE = 20 << 20
USERS: dict[str, dict[str, object]] = {"dynamic": {}, "named": {"user": "games"}}


@pytest.mark.parametrize("user", USERS)
def test_an_upload_lies_on_disk(machine: Machine, user: str) -> None:
    instance = Instance(machine, f"uploads-{user}", SOURCE, settings=USERS[user]).write()
    machine.run("spyglass", "apply", instance.name)
    with Visitor(instance.unix) as visitor:
        visitor.sock.sendall(
            f"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {SIZE}\r\n\r\n".encode()
            + bytes(SIZE)
        )
        answer = visitor.answer("POST")
    assert answer.status == 200, instance.said("info")
    told = json.loads(answer.text)
    assert (told["length"], told["left"]) == (SIZE, ["pycache"])
    body, system, links = told["body"]
    assert body.startswith(("/var/cache/private/spyglass/", "/var/cache/spyglass/"))
    assert (system != "tmpfs", links) == (True, 0)
    mine, system, links = told["mine"]
    assert mine.startswith("/var/tmp/")
    assert (system != "tmpfs", links) == (True, 0)
    assert instance.said("warning") == []
    machine.run("spyglass", "remove", instance.name)


def test_the_check_sees_the_same_places(machine: Machine) -> None:
    """It runs in the same sandbox, while the app is awake, and takes nothing of it
    away.
    """
    source = "import os, tempfile\nprint('tempfile', tempfile.gettempdir())\n" + SOURCE
    instance = Instance(machine, "uploads-check", source).write()
    done = machine.run("spyglass", "check", instance.name)
    assert "tempfile /var/tmp" in done.stdout + done.stderr
