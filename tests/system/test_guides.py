"""The guides for frameworks, and for those who come from elsewhere: what they have
people type is typed, on each release, with the real thing.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

from machine import Machine
from process.visitor import Crowd
from typed import Page, do
from waiting import wait_until
from websockets.sync.client import unix_connect

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BOUNDARY = "guide"
WIKI_URL = "http://127.0.0.1/"


def follow(machine: Machine, guide: str, *headings: str) -> tuple[Page, str]:
    """Types what is below these headings; the guide, and what was said last."""
    page = Page(f"docs/guides/{guide}.md")
    return page, do(machine, page.script(*headings))


@contextmanager
def client(machine: Machine, name: str) -> Iterator[http.client.HTTPConnection]:
    with machine.http(f"/run/spyglass/{name}.sock") as connection:
        yield connection


def ask(
    machine: Machine,
    name: str,
    method: str,
    target: str,
    body: object = None,
    fields: dict[str, str] | None = None,
) -> tuple[int, str]:
    with client(machine, name) as connection:
        connection.request(method, target, body, {"Host": "localhost"} | (fields or {}))  # type: ignore[arg-type]
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_flask(machine: Machine) -> None:
    guide, said = follow(machine, "flask", "The app", "The secret", "Served")
    assert json.loads(said[said.rindex('{"notes"') :])["notes"] == []
    text = urllib.parse.urlencode({"text": "milk"})
    status, _ = ask(machine, "notes", "POST", "/", text, FORM | {"X-Forwarded-For": "192.0.2.7"})
    assert status == 303
    page = json.loads(
        ask(
            machine,
            "notes",
            "GET",
            "/",
            fields={"X-Forwarded-Proto": "https", "Host": "notes.example"},
        )[1]
    )
    assert page == {"notes": ["milk"], "style": "https://notes.example/static/style.css"}
    assert ask(machine, "notes", "GET", "/static/style.css") == (
        200,
        "body { font-family: sans-serif }\n",
    )
    machine.run("journalctl", "--sync")
    assert any(
        line.endswith("a note from 192.0.2.7") for line in machine.journal("spyglass@notes.service")
    )

    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="list.txt"\r\n\r\neggs\r\n--{BOUNDARY}--\r\n'
    status, _ = ask(
        machine,
        "notes",
        "POST",
        "/uploads/",
        part,
        {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
    )
    assert status == 200
    assert ask(machine, "notes", "GET", "/uploads/list.txt") == (200, "eggs")
    # Nobody else can read it, and what is not secret is in nobody's environment.
    assert (
        machine.run(
            "cat", "/var/lib/spyglass/notes/notes.sqlite", user="www-data", check=False
        ).returncode
        != 0
    )

    machine.write(
        "/srv/notes/notes.py",
        machine.read("/srv/notes/notes.py").replace(
            '{"notes": notes,', '{"notes": notes, "new": True,'
        ),
    )
    do(machine, guide.script("New code"))
    assert json.loads(ask(machine, "notes", "GET", "/")[1])["new"] is True
    machine.systemctl("disable", "--now", "spyglass@notes.socket")


def test_fastapi(machine: Machine) -> None:
    guide, said = follow(machine, "fastapi", "The app", "The secret", "Served")
    assert "found main:app: made by FastAPI() in main.py" in said
    assert "the app is main:app (ASGI), its environment venv" in said
    assert "tasks: can be served" in said
    assert said.endswith("[]")
    token = machine.read("/etc/spyglass/tasks.token")
    fields = {"Content-Type": "application/json", "X-Forwarded-For": "192.0.2.7"}
    task = json.dumps({"text": "milk"})
    assert ask(machine, "tasks", "POST", "/tasks", task, fields)[0] == 403
    fields["Token"] = token
    assert ask(machine, "tasks", "POST", "/tasks", task, fields) == (200, '{"text":"milk"}')
    assert ask(machine, "tasks", "GET", "/tasks") == (200, '["milk"]')
    with client(machine, "tasks") as connection:
        connection.request("GET", "/events", headers={"Host": "localhost"})
        assert connection.getresponse().read(15) == b"data: 1 tasks\n\n"
    path = machine.path("/run/spyglass/tasks.sock")
    with unix_connect(path, "ws://localhost/live", compression=None) as live:
        live.send("hello")
        assert live.recv() == "1 tasks, hello"
    assert ask(machine, "tasks", "POST", "/tidy")[0] == 202
    wait_until(
        lambda: "stays awake: tidying up" in machine.run("spyglass", "status", "tasks").stdout
    )
    machine.write(
        "/srv/tasks/main.py",
        machine.read("/srv/tasks/main.py").replace('"/tasks")\ndef read', '"/all")\ndef read'),
    )
    do(machine, guide.script("New code"))
    assert ask(machine, "tasks", "GET", "/all") == (200, '["milk"]')
    machine.run("journalctl", "--sync")
    said = "\n".join(machine.journal("spyglass@tasks.service"))
    assert "a task from 192.0.2.7" in said
    # The old generation is waited for.
    wait_until(
        lambda: any("tidied up" in line for line in machine.journal("spyglass@tasks.service"))
    )
    machine.systemctl("disable", "--now", "spyglass@tasks.socket")


def test_django(machine: Machine) -> None:
    guide, said = follow(machine, "django", "The site", "The secret", "Served")
    assert "csrfmiddlewaretoken" in said
    assert "Applying auth.0001_initial" in said
    # The only key is the one that was made here: none is in the code, and without it
    # the site does not even load.
    assert (
        "SECRET_KEY = (CREDENTIALS /"
        in machine.run("grep", "-r", "SECRET_KEY = ", "/srv/blog/blog").stdout
    )
    assert machine.run("grep", "-r", "django-insecure", "/srv/blog/blog", check=False).stdout == ""
    assert "secret_key" not in machine.run("ls", "/srv/blog").stdout
    keyless = machine.run(
        "sh", "-c", "cd /srv/blog && venv/bin/python manage.py check", check=False
    )
    assert "KeyError: 'STATE_DIRECTORY'" in keyless.stderr
    # An account by the command, a page for it by the site, and the prompt sees it.
    create = ["createsuperuser", "--no-input", "--username=ada", "--email=ada@blog.example"]
    password = ["env", "DJANGO_SUPERUSER_PASSWORD=a long one"]
    machine.run("spyglass", "run", "blog", *password, "python", "manage.py", *create)
    count = "from django.contrib.auth.models import User\nprint(User.objects.get().username)\n"
    assert machine.run("spyglass", "shell", "blog", input=count).stdout == "ada\n"
    with client(machine, "blog") as connection:
        connection.request(
            "GET", "/admin/login/", headers={"Host": "blog.example", "X-Forwarded-Proto": "https"}
        )
        response = connection.getresponse()
        [_, token] = (
            re.findall('name="csrfmiddlewaretoken" value="([^"]+)"', response.read().decode()) * 2
        )
        cookie = (response.getheader("Set-Cookie") or "").partition(";")[0]
        # By https, as nginx would say: the origin is checked against it
        # (CSRF_TRUSTED_ORIGINS), and the database is asked.
        form = urllib.parse.urlencode(
            {"csrfmiddlewaretoken": token, "username": "nobody", "password": "x"}
        )
        fields = FORM | {
            "Host": "blog.example",
            "X-Forwarded-Proto": "https",
            "Origin": "https://blog.example",
            "Cookie": cookie,
        }
        connection.request("POST", "/admin/login/", form, fields)
        response = connection.getresponse()
        assert (
            response.status,
            "Please enter the correct username" in response.read().decode(),
        ) == (200, True)
        form = form.replace("username=nobody&password=x", "username=ada&password=a+long+one")
        connection.request("POST", "/admin/login/?next=/admin/", form, fields)
        response = connection.getresponse()
        assert (response.status, response.getheader("Location")) == (302, "/admin/")
    assert ask(machine, "blog", "GET", "/", fields={"Host": "evil.example"})[0] == 400
    assert any("DisallowedHost" in line for line in machine.journal("spyglass@blog.service"))
    # The web server can read the static files, which belong to whoever owns the code,
    # and not the database.
    machine.run("cat", "/srv/blog/static/admin/css/base.css", user="www-data")
    assert (
        machine.run(
            "cat", "/var/lib/spyglass/blog/db.sqlite3", user="www-data", check=False
        ).returncode
        != 0
    )

    said = do(machine, guide.script("New code"))
    assert "No migrations to apply" in said
    machine.systemctl("disable", "--now", "spyglass@blog.socket")


def test_dash(machine: Machine) -> None:
    _, said = follow(machine, "dash", "Dash")
    assert "months" in said.splitlines()[-1]
    page = ask(machine, "sales", "GET", "/")
    assert page[0] == 200
    script = re.search(r'src="(/_dash-component-suites/[^"]*dash_renderer[^"]*)"', page[1])
    assert script
    assert ask(machine, "sales", "GET", script[1])[0] == 200
    call = {
        "output": "graph.figure", "outputs": {"id": "graph", "property": "figure"}, "changedPropIds": ["months.value"],
        "inputs": [{"id": "months", "property": "value", "value": 3}],
    }  # fmt: skip
    status, answer = ask(
        machine,
        "sales",
        "POST",
        "/_dash-update-component",
        json.dumps(call),
        {"Content-Type": "application/json"},
    )
    assert status == 200, answer
    assert json.loads(answer)["response"]["graph"]["figure"]["data"][0]["y"] == [1, 4, 9]
    machine.systemctl("disable", "--now", "spyglass@sales.socket")


TALLY = """
import os
from fastapi import FastAPI, Request

app = FastAPI()

@app.get("/")
def page(request: Request):
    return [os.environ["TOKEN"], request.url.scheme, request.client.host if request.client else None]
"""


def test_from_uvicorn(machine: Machine) -> None:
    guide = Page("docs/guides/from-uvicorn.md")
    do(machine, "mkdir -p /srv/tally; ln -s /srv/venv /srv/tally/venv")
    machine.write("/srv/tally/tally.py", TALLY)
    machine.write("/etc/tally.env", "TOKEN=sesame\n", 0o600)
    do(machine, guide.script("A service, step by step"))
    do(machine, "systemctl enable --now tally.service")
    curl = "curl --silent --retry 20 --retry-all-errors --retry-delay 1 --fail --unix-socket"
    before = do(machine, f"{curl} /run/tally/tally.sock http://localhost/")
    assert json.loads(before)[0] == "sesame"
    said = do(machine, guide.script("1. Describe the app"))
    assert "found tally:app: made by FastAPI() in tally.py" in said
    said = do(machine, guide.script("2. Try it, and have it listen beside the old one"))
    assert "tally: can be served" in said
    assert said.endswith('["sesame","http",null]')
    fields = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
    assert json.loads(ask(machine, "tally", "GET", "/", fields=fields)[1]) == [
        "sesame",
        "https",
        "192.0.2.7",
    ]
    do(machine, guide.script("3. Send the web server there, and turn the old one off"))
    assert machine.state("tally.service")["ActiveState"] == "inactive"
    assert ask(machine, "tally", "GET", "/")[0] == 200
    machine.systemctl("disable", "--now", "spyglass@tally.socket")


WIKI = """
import os, pathlib

def app(environ, start_response):
    with open(pathlib.Path(os.environ["WIKI_DATA"], "visits"), "a") as visits:
        visits.write(".")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [" ".join([environ["SERVER_SOFTWARE"], os.environ["TOKEN"], environ["REMOTE_ADDR"], environ["HTTP_HOST"]]).encode()]
"""


def test_from_gunicorn(machine: Machine) -> None:
    """While somebody comes all the time."""
    guide = Page("docs/guides/from-gunicorn.md")
    do(
        machine,
        "useradd --system wiki; mkdir -p /srv/wiki/data; chown wiki /srv/wiki/data; ln -s /srv/venv /srv/wiki/venv; rm /etc/nginx/sites-enabled/*",
    )
    machine.write("/srv/wiki/wiki.py", WIKI)
    machine.write("/etc/wiki.env", "TOKEN=sesame\n", 0o600)
    do(machine, guide.script("A service, step by step"))
    do(
        machine,
        "ln -s ../sites-available/wiki /etc/nginx/sites-enabled/; systemctl enable --now wiki.service nginx.service",
    )
    answered = f"curl --silent --retry 20 --retry-connrefused --retry-delay 1 --fail {WIKI_URL}"
    assert do(machine, answered).startswith("gunicorn/")
    with machine.network():
        crowd = Crowd(("127.0.0.1", 80), count=2, pause=0.02)
        crowd.__enter__()
    try:
        do(machine, guide.script("1. Describe the app"))
        assert do(machine, guide.script("2. Have it listen, beside the old one")).endswith(
            "sesame  localhost"
        )
        assert do(machine, answered).startswith("gunicorn/")
        do(machine, guide.script("3. Send nginx there"))
        machine.wait_until(
            lambda: crowd.answers[-1].text.startswith("spyglass"), what="nginx goes there"
        )
        # nginx's old processes finish what they have with the old one, and have gone
        # soon after.
        machine.wait_until(
            lambda: "shutting down" not in machine.run("ps", "-C", "nginx", "-o", "args").stdout,
            20,
            "they have gone",
        )
        do(machine, guide.script("4. Turn the old one off"))
        seen = len(crowd.answers)
        machine.wait_until(lambda: len(crowd.answers) > seen + 10)
    finally:
        crowd.__exit__()
    assert crowd.lost == []
    assert crowd.statuses() == {200}
    assert {answer.text.split("/")[0].split()[0] for answer in crowd.answers} == {
        "gunicorn",
        "spyglass",
    }
    assert crowd.answers[-1].text == "spyglass sesame 127.0.0.1 test"
    assert machine.state("wiki.service")["ActiveState"] == "inactive"
    machine.systemctl("disable", "--now", "spyglass@wiki.socket")
