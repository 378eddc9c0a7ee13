"""A guest book in Flask, in one file: what small apps do. board in ../django_app is the
same in Django, and visits.py visits both.

It keeps its entries and the key of its sessions in $STATE_DIRECTORY, as an app in
Spyglass should: the code's own directory is read-only, and what is in memory ends with
each sleep.
"""

import contextlib
import hashlib
import os
import pathlib
import secrets
import sqlite3
import time

from flask import (
    Flask,
    abort,
    redirect,
    render_template,
    request,
    session,
    stream_with_context,
    url_for,
)

STATE = pathlib.Path(os.environ["STATE_DIRECTORY"])
DATABASE = STATE / "guestbook.sqlite"


def key():
    """Made once: sessions are to outlive a sleep."""
    with contextlib.suppress(FileExistsError), open(STATE / "key", "xb") as file:
        file.write(secrets.token_bytes(32))
    return (STATE / "key").read_bytes()


def database():
    """Opened for each request: workers are forked from the process that has loaded
    this, and sqlite must not be taken across a fork.
    """
    return contextlib.closing(sqlite3.connect(DATABASE))


app = Flask(__name__)
app.secret_key = key()
with database() as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS entry (text TEXT)")


@app.before_request
def known_visitor():
    if request.method == "POST" and not secrets.compare_digest(
        request.form.get("csrf", ""), session.get("csrf", "-")
    ):
        abort(403)
    session.setdefault("csrf", secrets.token_urlsafe())


@app.get("/")
def page():
    session["visits"] = session.get("visits", 0) + 1
    with database() as connection:
        entries = [text for (text,) in connection.execute("SELECT text FROM entry ORDER BY rowid")]
    return render_template(
        "page.html", entries=entries, visits=session["visits"], csrf=session["csrf"]
    )


@app.post("/")
def write():
    with database() as connection, connection:
        connection.execute("INSERT INTO entry VALUES (?)", [request.form["text"]])
    return redirect(url_for("page"), 303)


@app.post("/upload")
def upload():
    file = request.files["file"]
    return hashlib.file_digest(file.stream, "sha256").hexdigest(), {"X-File": file.filename}


@app.get("/stream")
def stream():
    return stream_with_context(times()), {"Content-Type": "text/plain"}


def times():
    """What is known of the request is a context variable, and a connection to sqlite
    belongs to its thread (check_same_thread).
    """
    with database() as connection:
        for number in range(10):
            [text] = connection.execute("SELECT ?", [f"{number} of {request.path}"]).fetchone()
            yield f"{time.monotonic()} {text}\n"
            time.sleep(0.05)


@app.get("/old")
def old():
    return redirect(url_for("page"), 301)


@app.get("/broken")
def broken():
    raise RuntimeError("this page is broken")
