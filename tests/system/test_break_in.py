"""What docs/security.md has people type after a break-in, from an app that was broken
into to one that serves again.
"""

from __future__ import annotations

import pytest
from instance import Instance
from machine import Machine
from process.visitor import Lost, visit
from typed import Page, do

# It has written wherever it could, and goes on in a process of its own.
BROKEN_INTO = """\
import os, pathlib, subprocess, tempfile

def app(environ, start_response):
    pathlib.Path(os.environ["STATE_DIRECTORY"], "backdoor").write_text("evil")
    pathlib.Path(os.environ["CACHE_DIRECTORY"], "pycache", "evil.pyc").write_text("evil")
    pathlib.Path("/tmp/evil").write_text("evil")
    pathlib.Path("/var/tmp/evil").write_text("evil")
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    print("what it did", flush=True)
    start_response("200 OK", [])
    return [b"evil"]
"""
MENDED = """\
import os

def app(environ, start_response):
    start_response("200 OK", [])
    return [" ".join(os.listdir(os.environ["STATE_DIRECTORY"])).encode()]
"""
USERS: dict[str, dict[str, object]] = {"dynamic": {}, "named": {"user": "games"}}


@pytest.mark.parametrize("user", USERS)
def test_what_is_typed_after_a_break_in(machine: Machine, user: str) -> None:
    page = Page("docs/security.md")
    settings = {
        "directory": "/srv/blog",
        "credentials": ["secret_key=/etc/spyglass/blog.secret_key"],
    } | USERS[user]
    instance = Instance(machine, "blog", BROKEN_INTO, settings=settings).write()
    machine.write("/srv/blog/app.py", BROKEN_INTO)
    machine.write("/etc/spyglass/blog.secret_key", "known to many", 0o600)
    machine.write("/etc/spyglass/blog.env", "TOKEN=sesame\n", 0o600)
    machine.run("spyglass", "apply", "blog")
    assert visit(instance.unix).text == "evil"

    do(machine, page.script("1. Stop it"))
    assert not instance.processes()
    with pytest.raises(Lost):
        visit(instance.unix)
    for place in ("tmp", "var-tmp"):
        assert machine.read(f"/root/blog-evidence/{place}/tmp/evil") == "evil"

    do(machine, page.script("2. Keep what tells of it"))
    assert "what it did" in machine.read("/root/blog-evidence/journal")
    kept = machine.run("tar", "--list", "--file=/root/blog-evidence/files.tar").stdout
    assert {
        name for name in ("/backdoor", "/evil.pyc", "/blog.toml", "srv/blog/app.py") if name in kept
    } == {"/backdoor", "/evil.pyc", "/blog.toml", "srv/blog/app.py"}

    said = do(machine, page.script("3. What it may have written"))
    assert "backdoor" in said
    assert "evil.pyc" in said
    assert "nowhere else" in said
    said = do(machine, page.script("4. Change every secret that it had"))
    assert "secret_key" in said
    assert "TOKEN" in said
    assert "sesame" not in said
    assert machine.read("/etc/spyglass/blog.secret_key") != "known to many"

    do(machine, page.script("5. Remove what it could write, and install the code anew"))
    assert (
        machine.run(
            "find",
            "/var/lib/spyglass/",
            "/var/lib/private",
            "/var/cache/",
            "/tmp",
            "/var/tmp",
            "-name",
            "*evil*",
            "-o",
            "-name",
            "backdoor",
        ).stdout
        == ""
    )
    machine.write("/srv/blog/app.py", MENDED)
    do(machine, page.script("6. Serve it again"))
    answer = visit(instance.unix)
    assert (answer.status, "backdoor" in answer.text) == (200, False)
    machine.run("spyglass", "remove", "blog")
    machine.run("rm", "-r", "/root/blog-evidence", "/srv/blog")
