"""What apps of both frameworks do with the rest of the machine, in one answer: a JSON
object of what each attempt came to.

An upload is posted: it goes through a temporary file, a row in SQLite, a row in
PostgreSQL where the kernel vouches for who we are, and a request to another server.
`app` is the one of Flask, `django.py` has Django's.
"""

import hashlib
import json
import os
import sqlite3
import tempfile
import urllib.request

import psycopg
from flask import Flask, request

STATE = os.environ["STATE_DIRECTORY"]

app = Flask(__name__)


def elsewhere():
    """What another server says, by TCP."""
    with urllib.request.urlopen("http://127.0.0.1:9901/greeting", timeout=20) as answer:
        return answer.read().decode()


def told(file, visits, role):
    """What everybody answers: `file` is the upload, wherever the framework has put
    it.
    """
    digest = hashlib.sha256(file.read()).hexdigest()
    with tempfile.NamedTemporaryFile() as mine:
        place = os.path.dirname(mine.name)
    # Django's upload has a name for as long as the request.
    others = [name for name in os.listdir(place) if not name.endswith(".upload")]
    return json.dumps(
        {
            "digest": digest,
            "spooled": spooled(file),
            "tmp": [place, others],
            "visits": visits,
            "role": role,
            "elsewhere": elsewhere(),
        }
    )


def spooled(file):
    """The path of a file on disk that may have no name any more."""
    return (
        os.readlink(f"/proc/self/fd/{file.fileno()}").removesuffix(" (deleted)").rpartition("/")[0]
    )


@app.post("/")
def everything():
    with sqlite3.connect(f"{STATE}/visits.sqlite") as database:
        database.execute("pragma journal_mode=wal")
        database.execute("create table if not exists visits (n integer)")
        database.execute("insert into visits values (1)")
        [visits] = database.execute("select count(*) from visits").fetchone()
    database.close()
    with psycopg.connect("host=/run/postgresql dbname=needs") as connection:
        connection.execute("insert into visits values ('flask')")
        [role] = connection.execute("select current_user").fetchone()
    return (
        told(request.files["file"].stream, visits, role),
        200,
        {"Content-Type": "application/json"},
    )
