"""Connections to a database and a fork: the trap, and the three ways out of it, with
SQLite and with a real PostgreSQL.
"""

import concurrent.futures
import itertools
import json
import re
import signal
import sqlite3

import pytest

from .processes import workers
from .visitor import visit

REMEDIES = {
    "post_fork": {},
    "register_at_fork": {},
    "preload = false": {"arguments": ["--no-preload"]},
}


@pytest.fixture
def serve(systemd, request, tmp_path):
    """serve(database, remedy, **settings) -> a FakeSystemd with apps/pooled.py, on
    "postgres" or "sqlite".
    """

    def start(database, remedy, *, environ=None, **settings):
        where = (
            {"POSTGRES": request.getfixturevalue("postgres").where}
            if database == "postgres"
            else {"SQLITE": str(tmp_path / "entries.db")}
        )
        environ = {"REMEDY": remedy} | where | (environ or {})
        return systemd(
            "pooled:app", workers=3, environ=environ, **REMEDIES.get(remedy, {}), **settings
        )

    return start


def ask(life, targets):
    """What came back for each of `targets`, eight at a time: (worker, who has answered
    it).
    """
    with concurrent.futures.ThreadPoolExecutor(8) as visitors:
        answers = list(visitors.map(lambda target: visit(life.address, target), targets))
    assert {answer.status for answer in answers} == {200}
    found = [json.loads(answer.body) for answer in answers]
    assert [text for _, _, text in found] == targets, "one has got another's answer"
    return [(worker, who) for worker, who, _ in found]


def ask_all(life, numbers):
    """The same until each of the three workers has answered; `numbers` makes each
    target another.
    """
    pairs = []

    def heard_of_all():
        pairs.extend(ask(life, [f"/{next(numbers)}" for _ in range(40)]))
        return set(workers(life.run.pid)) <= {worker for worker, _ in pairs}

    ask(life, [f"/{next(numbers)}"])
    life.until(lambda: len(workers(life.run.pid)) == 3, "they are not there")
    life.until(heard_of_all, "not heard of all")
    return pairs


def leave(life):
    life.signal(signal.SIGTERM)
    life.until(lambda: life.asleep, "it has not left")
    assert life.run.status == 0


@pytest.mark.parametrize("remedy", REMEDIES)
def test_each_worker_has_connections_of_its_own_to_postgresql(serve, postgres, remedy):
    life = serve("postgres", remedy, idle_timeout=60)
    numbers = itertools.count()
    pairs = ask_all(life, numbers)
    life.signal(signal.SIGHUP)
    life.until_logged("the old one drains")
    pairs += ask_all(life, numbers)
    servants = {}
    for worker, backend in pairs:
        servants.setdefault(backend, set()).add(worker)
    assert all(len(masters) == 1 for masters in servants.values()), "two workers share a connection"
    assert len(servants) > 6
    leave(life)
    assert "warning" not in life.log
    assert "Traceback" not in life.log
    left = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid != pg_backend_pid()"
    life.until(lambda: postgres.ask(left) == [], "connections are left")


@pytest.mark.parametrize("remedy", REMEDIES)
def test_each_worker_has_an_sqlite_connection_of_its_own(serve, tmp_path, remedy):
    life = serve("sqlite", remedy, idle_timeout=60)
    numbers = itertools.count()
    ask_all(life, numbers)
    life.signal(signal.SIGHUP)
    life.until_logged("the old one drains")
    pairs = ask_all(life, numbers)
    assert all(worker == owner for worker, owner in pairs)
    leave(life)
    with sqlite3.connect(tmp_path / "entries.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute(
            "SELECT count(*), count(DISTINCT text) FROM entries"
        ).fetchall() == [(next(numbers),) * 2]
    assert "warning" not in life.log


def test_app_that_has_fallen_into_the_trap_is_told(serve, postgres):
    life = serve("postgres", "none")
    life.start()
    life.until_ready()
    told = re.findall("zygote] warning: (.*)", life.log)
    threads, [connections, remedy] = told[:-2], told[-2:]
    assert len(threads) >= 4
    assert all(
        re.fullmatch(
            r"created by the app's import: a thread, 'shop-.*', which runs .*\(\) of psycopg_pool/.*: no worker has it",
            each,
        )
        for each in threads
    )
    assert re.fullmatch(
        rf"created by the app's import: a connection to {postgres.directory}/\.s\.PGSQL\.5432 \(descriptors \d+, \d+\): "
        "all workers would send on it, and get each other's answers", connections
    )  # fmt: skip
    assert (
        remedy
        == "create it after the fork, in a function post_fork() of pooled, or set preload = false; for more, run `spyglass check`"
    )


def test_a_database_that_is_away_is_waited_for(serve, postgres):
    """In post_fork(): visitors are told to come again, the status says why, and nothing
    has to be restarted when it is back.
    """
    where = postgres.where.replace("user=tests", "user=late")
    life = serve(
        "postgres", "post_fork", environ={"POSTGRES": where, "POOL_TIMEOUT": "0.2"}, idle_timeout=60
    )
    answer = visit(life.address)
    assert answer.status == 503
    assert int(answer.fields["retry-after"]) >= 1
    life.until(
        lambda: life.run.told("STATUS")[-1].startswith("failing: post_fork: PoolTimeout: "),
        "not told why",
    )
    assert "psycopg_pool/" in life.log
    postgres.ask("CREATE ROLE late LOGIN")
    try:
        life.until(lambda: visit(life.address, "/back").status == 200, "it has not come back", 20)
        ask_all(life, itertools.count())
        assert len(life.runs) == 1
        leave(life)
    finally:
        postgres.ask("DROP ROLE late")
