"""What a visitor asks for goes to a database and back, over connections of this
process, as the fork is seen to by $REMEDY.

"none" and "preload = false": they are made at import. The answer is JSON: pid of the
worker, pid of who has answered it, what came back.
"""

import json
import os
import pathlib
import sqlite3
import threading
import time

if "POSTGRES" in os.environ:
    import psycopg_pool

REMEDY = os.environ["REMEDY"]


class Postgres:
    """psycopg's pool, which has threads that connect and look after the connections."""

    def __init__(self):
        self._pool = psycopg_pool.ConnectionPool(
            os.environ["POSTGRES"], min_size=2, max_size=4, timeout=10, open=False, name="shop"
        )
        self._pool.open(wait=True, timeout=float(os.environ.get("POOL_TIMEOUT", "10")))

    def echo(self, text):
        with self._pool.connection() as connection:
            # Not at once, so that visitors are spread over all there are: workers,
            # threads, connections.
            return connection.execute(
                "SELECT pg_backend_pid(), %s::text FROM pg_sleep(0.02)", [text]
            ).fetchone()


class Sqlite:
    """One connection for all threads of a process."""

    def __init__(self):
        self._connection = sqlite3.connect(
            os.environ["SQLITE"], check_same_thread=False, timeout=10, isolation_level=None
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS entries (text)")
        self._lock = threading.Lock()

    def echo(self, text):
        with self._lock:
            time.sleep(0.01)
            self._connection.execute("INSERT INTO entries VALUES (?)", [text])
            return os.getpid(), self._connection.execute(
                "SELECT text FROM entries WHERE rowid = last_insert_rowid()"
            ).fetchone()[0]


def connect():
    global database
    database = Postgres() if "POSTGRES" in os.environ else Sqlite()


if REMEDY != "post_fork":
    connect()
if REMEDY == "post_fork":
    post_fork = connect
elif REMEDY == "register_at_fork":
    os.register_at_fork(after_in_child=connect)


def app(environ, start_response):
    if environ["QUERY_STRING"]:
        pathlib.Path(environ["QUERY_STRING"]).touch()
    who, text = database.echo(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([os.getpid(), who, text]).encode()]
