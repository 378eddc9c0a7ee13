"""An app with a user of its own, beside other programs: what it writes a web server can
read, what theirs is it leaves alone.
"""

from __future__ import annotations

import json

import pytest
from machine import Machine
from test_apply import curl, furnish, spyglass
from typed import Page, do

DJANGO, NGINX = Page("docs/guides/django.md"), Page("docs/guides/nginx.md")
# Writes an upload below the directory in $MEDIA, as a framework does, and into its
# state.
UPLOADS = """\
import os, pathlib, sys

def app(environ, start_response):
    year = pathlib.Path(os.environ["MEDIA"], "2026", "11")
    year.mkdir(parents=True, exist_ok=True)
    for folder in (year, pathlib.Path(os.environ["STATE_DIRECTORY"])):
        (folder / "cat.txt").write_text("a cat\\n")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getuid()} {os.getgid()}".encode()]
"""


def readable(machine: Machine, path: str) -> bool:
    return machine.run("cat", path, user="www-data", check=False).stdout == "a cat\n"


def serve_by_nginx(machine: Machine, location: str) -> None:
    server = f"server {{ listen 8088; {location} location / {{ proxy_pass http://unix:/run/spyglass/blog.sock; proxy_http_version 1.1; }} }}\n"
    machine.write("/etc/nginx/sites-enabled/default", server)
    machine.systemctl("restart", "nginx")


@pytest.mark.parametrize("guide", ["django", "nginx"])
def test_the_web_server_reads_what_the_app_writes_as_the_guides_say(
    machine: Machine, guide: str
) -> None:
    place = {"django": "media", "nginx": "files"}[guide]
    furnish(machine, "blog", UPLOADS, f'environment = {{ MEDIA = "/srv/blog/{place}" }}\n')
    if guide == "django":
        settings = DJANGO.found('umask = "0027"')  # and the key of its site, which is another
        kept = [line for line in settings.splitlines(True) if "credentials" not in line]
        toml = machine.read("/etc/spyglass/blog.toml")
        machine.write("/etc/spyglass/blog.toml", toml + "".join(kept))
        do(machine, "id blog 2>/dev/null || adduser --quiet --system --group blog")
        do(
            machine,
            "".join(
                script
                for script in DJANGO.scripts("Static files and media")
                if "location" not in script
            ),
        )
        serve_by_nginx(machine, DJANGO.found("location /media/ {"))
    else:
        do(
            machine,
            "id blog 2>/dev/null || adduser --quiet --system --group blog; install -d -o blog -g www-data -m 2750 /srv/blog/files",
        )
        machine.write(
            "/etc/spyglass/blog.toml",
            machine.read("/etc/spyglass/blog.toml") + NGINX.found('umask = "0027"'),
        )
        serve_by_nginx(
            machine,
            NGINX.found("internal;").replace("internal;", "").replace("/protected/", "/files/"),
        )
    spyglass(machine, "apply", "blog")
    uid, gid = curl(machine, "localhost:8088/").split()
    assert (uid, gid) == (
        machine.run("id", "-u", "blog").stdout.strip(),
        machine.run("id", "-g", "blog").stdout.strip(),
    )
    assert curl(machine, f"localhost:8088/{place}/2026/11/cat.txt") == "a cat\n"
    # And nothing else, nor anybody else.
    assert not readable(machine, "/var/lib/spyglass/blog/cat.txt")
    assert (
        machine.run(
            "cat", f"/srv/blog/{place}/2026/11/cat.txt", user="nobody", check=False
        ).returncode
        != 0
    )
    spyglass(machine, "remove", "--purge", "blog")
    machine.run("rm", "-r", "/srv/blog")


@pytest.mark.parametrize(
    ("settings", "owner", "mode", "others"),
    [
        ("", "mine:mine", "600", False),
        ('umask = "0022"\n', "mine:mine", "644", True),
        ('umask = "0027"\ngroup = "www-data"\n', "mine:www-data", "640", True),
        ('group = "www-data"\n', "mine:www-data", "600", False),
    ],
)
def test_umask_and_group(
    machine: Machine, settings: str, owner: str, mode: str, others: bool
) -> None:
    machine.run(
        "sh",
        "-c",
        "id mine 2>/dev/null || adduser --quiet --system --group mine; install -d -o mine -m 755 /srv/mine/media",
    )
    furnish(
        machine,
        "mine",
        UPLOADS,
        f'listen = 8089\nuser = "mine"\nwritable = "media"\n{settings}[environment]\nMEDIA = "/srv/mine/media"\n',
    )
    assert spyglass(machine, "check", "mine").stderr == ""
    spyglass(machine, "apply", "mine")
    curl(machine, "localhost:8089")
    assert (
        machine.run("stat", "-c", "%U:%G %a", "/srv/mine/media/2026/11/cat.txt").stdout
        == f"{owner} {mode}\n"
    )
    assert readable(machine, "/srv/mine/media/2026/11/cat.txt") is others
    if settings:
        assert machine.run("stat", "-c", "%a", "/var/cache/spyglass/mine").stdout == "700\n"
    spyglass(machine, "remove", "--purge", "mine")
    machine.run("rm", "-r", "/srv/mine")


def test_a_dynamic_user_may_have_a_group(machine: Machine) -> None:
    machine.run("install", "-d", "-g", "www-data", "-m", "2770", "/srv/shared/media")
    furnish(
        machine,
        "shared",
        UPLOADS,
        'listen = 8090\ngroup = "www-data"\numask = "0027"\nwritable = "media"\n[environment]\nMEDIA = "/srv/shared/media"\n',
    )
    spyglass(machine, "apply", "shared")
    assert (
        curl(machine, "localhost:8090").split()[1]
        == machine.run("id", "-g", "www-data").stdout.strip()
    )
    assert readable(machine, "/srv/shared/media/2026/11/cat.txt")
    spyglass(machine, "remove", "--purge", "shared")


def test_shared_memory_of_other_programs_of_the_user_stays(machine: Machine) -> None:
    """RemoveIPC= deletes all that belongs to the user when the app exits: /dev/shm,
    System V segments, message queues.
    """
    machine.run("sh", "-c", "id both 2>/dev/null || adduser --quiet --system --group both")
    machine.run("sh", "-c", "echo theirs >/dev/shm/theirs", user="both")
    machine.run("ipcmk", "--shmem", "4096", "--semaphore", "2", "--queue", user="both")
    listed = json.loads(machine.run("sh", "-c", "lsipc --json --shmems").stdout)
    furnish(
        machine,
        "both",
        UPLOADS,
        'listen = 8087\nuser = "both"\nenvironment = { MEDIA = "/var/lib/spyglass/both" }\n',
    )
    spyglass(machine, "apply", "both")
    curl(machine, "localhost:8087")
    machine.systemctl("stop", "spyglass@both.service")
    assert machine.run("stat", "-c", "%U", "/dev/shm/theirs").stdout == "both\n"
    assert json.loads(machine.run("sh", "-c", "lsipc --json --shmems").stdout) == listed
    assert machine.state("spyglass@both.service")["RemoveIPC"] == "no"
    spyglass(machine, "remove", "--purge", "both")
    machine.run("sh", "-c", "rm /dev/shm/theirs; ipcrm --all", user="both")
