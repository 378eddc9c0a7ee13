"""What the soak takes for explained, and what not: a run that cannot fail would show
nothing.
"""

import journal
import pytest
from ledger import (
    CROSSED,
    LOSS,
    REPLACED,
    STOPPED,
    Done,
    Entry,
    Ledger,
    Permit,
    beyond_what_was_open,
    judge,
    unfinished,
)

WORKER, ANOTHER = 401, 402


def failed(failure="reset", site="blog", visit="v", began=10.0, ended=11.0, pid=0, **details):
    return Entry(
        site,
        "one-shot",
        visit,
        began,
        failure=failure,
        ended=ended,
        since=began,
        pid=pid,
        **details,
    )


def killed(*pids, began=10.5, ended=10.6, kinds=LOSS, **details):
    return Permit(
        "kill -9 worker", "blog", frozenset(kinds), began, ended, pids=frozenset(pids), **details
    )


def unexplained(entry, *permits, seen=None):
    return judge(Ledger(entries=[entry], permits=list(permits)), {entry.site: seen or {}})


def test_a_failure_without_a_permit_is_one():
    assert unexplained(failed())
    assert unexplained(failed(), killed(WORKER, kinds=CROSSED))
    assert unexplained(failed(site="shop"), killed(WORKER))
    assert not unexplained(failed(failure=""))


@pytest.mark.parametrize(("seen", "pid", "explained"), [
    ({"v": WORKER}, 0, True),
    ({"v": ANOTHER}, 0, False),
    ({"v": ANOTHER}, WORKER, False),  # the app knows better than the connection
    ({}, WORKER, True),
    ({}, ANOTHER, False),
    ({}, 0, True),  # nobody knows, and it was there
])  # fmt: skip
def test_only_the_work_of_the_killed_is_lost(seen, pid, explained):
    assert bool(unexplained(failed(pid=pid), killed(WORKER), seen=seen)) is not explained


@pytest.mark.parametrize(
    ("began", "ended"),
    [(8.0, 10.0), (10.7, 11.0), (10.0, 30.0)],
    ids=["before", "afterwards", "long afterwards"],
)
def test_only_clients_that_were_there_are_lost(began, ended):
    assert unexplained(failed(began=began, ended=ended), killed(WORKER))


def test_answer_of_another_app_is_never_permitted():
    everything = Permit("kill -9 everybody", None, LOSS | CROSSED | {"status 503"}, 0.0)
    assert unexplained(failed("mixed up"), everything)
    assert unexplained(failed("refused"), everything)


def test_a_request_that_was_begun_has_not_merely_crossed_the_end_of_its_connection():
    leaving = Permit("reload", "blog", CROSSED, 9.0, 20.0)
    assert not unexplained(failed("crossed"), leaving)
    assert unexplained(failed("crossed"), leaving, seen={"v": WORKER})


def test_what_stands_behind_the_last_answer_must_not_be_begun():
    assert not unexplained(failed("left over"))
    assert unexplained(failed("left over"), seen={"v": WORKER})


def test_request_too_late_for_its_connection_may_find_it_closed_and_nothing_begun():
    assert not unexplained(failed("too late"))
    assert unexplained(failed("too late"), seen={"v": WORKER})


def test_a_permit_for_large_bodies_or_long_calls_is_for_no_others():
    full = Permit("/tmp is full", None, frozenset({"status 507"}), 9.0, 20.0, big=True)
    assert unexplained(failed("status 507"), full)
    assert not unexplained(failed("status 507", big=True), full)
    assert unexplained(failed(ended=11.0), killed(WORKER, least=4.0))
    assert not unexplained(failed(began=6.0, ended=11.0), killed(WORKER, least=4.0))


def test_a_kill_costs_no_more_connections_than_the_worker_had():
    entries = [failed(visit=str(number), connection=number) for number in range(4)]
    ledger = Ledger(entries=entries, permits=[killed(WORKER)])
    assert not judge(ledger, {})
    said = "master: worker 401 was killed by SIGKILL after 2.0 s and 7 requests; {} open, in the middle of a call"
    assert beyond_what_was_open(ledger, [said.format("2 connections")])
    assert not beyond_what_was_open(ledger, [said.format("3 connections")])


KILL = "master: worker 401 was killed by SIGKILL after 2.0 s and 7 requests; 0 connections open"
WATCHDOG = "spyglass@blog.service: Watchdog timeout (limit 8s)!"


def line(message, when=10.5, site="blog", priority=3):
    return {
        "_SYSTEMD_UNIT": f"spyglass@{site}.service",
        "PRIORITY": str(priority),
        "MESSAGE": message,
        "__MONOTONIC_TIMESTAMP": f"{when * 1e6:.0f}",
    }


def unexpected(*records, done=()):
    return [
        record["MESSAGE"]
        for record in journal.judge(records, [Done(name, "blog", 10.0, 11.0) for name in done])[1]
    ]


def test_line_of_the_journal_that_is_not_expected_is_a_complaint():
    records = [
        line("master: awake after 0.30 s: app:app", priority=6),
        line("worker: a bug in Spyglass"),
        line("worker: Traceback (most recent call last):"),
        line("worker: ValueError: why"),
        line("idle_ignore: no listener is named 'x'", priority=4),
        line(
            "Traceback (most recent call last):", priority=6
        ),  # the interpreter's own: nobody has caught it
    ]
    assert unexpected(*records) == [records[number]["MESSAGE"] for number in (1, 4, 5)]


@pytest.mark.parametrize(("record", "done", "explained"), [
    (line(KILL), ["kill -9 worker"], True),
    (line(KILL), ["segfault"], False),
    (line(KILL.replace("SIGKILL", "SIGSEGV")), ["segfault"], True),
    (line(KILL.replace("SIGKILL", "SIGBUS")), ["segfault", "kill -9 worker"], False),
    (line(KILL, site="shop"), ["kill -9 worker"], False),
    (line(KILL, when=9.9), ["kill -9 worker"], False),
    (line(KILL, when=11 + journal.LATE + 0.1), ["kill -9 worker"], False),
    (line(WATCHDOG), ["STOP Master for good"], True),
    (line(WATCHDOG), ["STOP Master"], False),
])  # fmt: skip
def test_a_line_is_explained_by_what_was_done_to_that_app_at_that_time(record, done, explained):
    assert bool(unexpected(record, done=done)) is not explained


@pytest.mark.parametrize(("message", "name"), [
    (KILL, "kill -9 worker"),
    (WATCHDOG, "STOP Master for good"),
    ("master: worker 401 killed: a request has been running for 8 s (request_timeout)", "a call that hangs"),
    ("master: worker 401 killed: unresponsive for 9 s", "STOP worker for good"),
])  # fmt: skip
def test_process_that_is_killed_once_is_told_of_once(message, name):
    assert unexpected(line(message), line(message), done=[name]) == [message]
    assert unexpected(line(message), line(message), done=[name, name]) == []


# ASGI apps: what has no end of its own, and what the app owes

RELOAD = Permit("reload", "blog", REPLACED, 9.0, 20.0)
STOP = Permit("stop", "blog", STOPPED, 9.0, 20.0)


def closed(code=1012, owed=True, **details):
    heard = f"v-heard-3-{code}" if owed else ""
    return failed(f"closed {code}", owed=heard, pid=WORKER, **details)


@pytest.mark.parametrize(("entry", "permit"), [
    (closed(1012), STOP),
    (closed(1001), RELOAD),
    (closed(1011), RELOAD),
    (closed(1012, began=21.0, ended=22.0), RELOAD),
    (failed("ended", pid=WORKER), killed(ANOTHER)),
])  # fmt: skip
def test_socket_and_stream_end_only_when_and_as_they_may(entry, permit):
    seen = {"v": WORKER, entry.owed: WORKER}
    assert unexplained(entry)
    assert unexplained(entry, permit, seen=seen)


def test_socket_is_closed_and_its_app_told_of_the_code_and_all_messages():
    told = {"v": WORKER, "v-heard-3-1012": WORKER}
    assert not unexplained(closed(), RELOAD, seen=told)
    assert not unexplained(failed("ended"), STOP, seen=told)
    for heard in ("v-heard-2-1012", "v-heard-3-1006", "w-heard-3-1012"):
        assert unexplained(closed(), RELOAD, seen={"v": WORKER, heard: WORKER})
    # It was killed before it could be told.
    assert not unexplained(closed(), RELOAD, killed(WORKER), seen={"v": WORKER})
    assert unexplained(closed(), RELOAD, killed(ANOTHER), seen={"v": WORKER})


def test_only_a_socket_that_keeps_nothing_awake_ends_with_its_app_falling_asleep():
    told = {"v": WORKER, "v-heard-3-1001": WORKER}
    assert not unexplained(closed(1001, ignored=True), seen=told)
    assert unexplained(closed(1001), seen=told)
    assert unexplained(closed(1001, ignored=True), seen={"v": WORKER})
    assert unexplained(closed(1012, ignored=True), seen=told)


def test_work_after_the_answer_is_owed_unless_its_worker_is_killed_meanwhile():
    answered = {"failure": "", "owed": "v-done", "began": 5.0, "ended": 6.0}
    assert unexplained(failed(after=7.0, **answered), seen={"v": WORKER})
    assert not unexplained(failed(after=7.0, **answered), seen={"v": WORKER, "v-done": WORKER})
    assert not unexplained(failed(after=7.0, **answered), killed(WORKER), seen={"v": WORKER})
    assert unexplained(failed(after=7.0, **answered), killed(ANOTHER), seen={"v": WORKER})
    assert unexplained(failed(after=3.0, **answered), killed(WORKER), seen={"v": WORKER})
    assert unexplained(failed(after=7.0, **answered), RELOAD, seen={"v": WORKER})


def test_what_was_never_begun_owes_nothing():
    crossed = failed("crossed", owed="v-over")
    assert not unexplained(crossed, Permit("reload", "blog", CROSSED, 9.0, 20.0))
    assert crossed.failure == "crossed"


def test_recycled_worker_may_end_what_has_no_end():
    said = line(
        "master: worker 401 recycled after 60 requests: max_requests", when=12.0, priority=6
    )
    permits = journal.recycled([said, line("master: worker 402 was killed", when=12.0)])
    seen = {"v": WORKER, "v-heard-3-1012": WORKER}
    assert not unexplained(closed(), *permits, seen=seen)
    assert unexplained(closed(1001), *permits, seen={"v": WORKER, "v-heard-3-1001": WORKER})
    assert unexplained(closed(site="shop"), *permits, seen=seen)
    assert unexplained(failed("ended", pid=ANOTHER), *permits)


def test_lifespan_ends_unless_its_worker_is_killed():
    ledger = Ledger(permits=[killed(ANOTHER), Permit("reload", "blog", REPLACED, 9.0, 20.0)])
    assert not unfinished(
        ledger, {"up-401": 401, "v": 401, "down-401": 401, "up-402": 402, "w": 402}
    )
    assert not unfinished(ledger, {"up-401": 401})  # its generation was given up
    assert unfinished(ledger, {"up-401": 401, "v": 401, "up-403": 403, "down-403": 403}) == [
        "the lifespan in worker 401 has not ended"
    ]
