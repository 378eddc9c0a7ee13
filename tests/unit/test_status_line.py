"""The line that `systemctl status` shows: facts in, text out."""

import pytest

from spyglass.master import status_line

from .worker_slots import slot

NEVER = float("inf")


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (
            (2, [slot(), slot()], 7, 9.6),
            "awake: 2 workers, 0 connections, 7 requests served; idle, exits in 10 s",
        ),
        ((1, [slot(open=1)], 1, 30.0), "awake: 1 worker, 1 connection, 1 request served"),
        (
            (1, [slot()], 0, -0.1),
            "awake: 1 worker, 0 connections, 0 requests served; idle, exits in 0 s",
        ),
        (
            (2, [slot(open=2, websockets=1), slot(open=1, websockets=1)], 4, 30.0),
            "awake: 2 workers, 3 connections, 2 of them WebSockets, 4 requests served",
        ),
        (
            (1, [slot(open=1, websockets=1)], 4, 30.0),
            "awake: 1 worker, 1 connection, 1 of them a WebSocket, 4 requests served",
        ),
        ((1, [slot()], 0, NEVER), "awake: 1 worker, 0 connections, 0 requests served"),
        (
            (1, [slot(holds=1, reason="import")], 0, 30.0),
            "awake: 1 worker, 0 connections, 0 requests served; stays awake: import",
        ),
    ],
)
def test_awake(facts, line):
    assert status_line.awake(*facts) == line


def test_a_reload_that_failed_is_named_until_another_serves():
    line = "awake: 1 worker, 0 connections, 0 requests served; "
    assert (
        status_line.awake(1, [slot()], 0, NEVER, reloading=True)
        == line + "loading another generation"
    )
    assert (
        status_line.awake(1, [slot()], 0, NEVER, reloading=True, reload_failure="boom")
        == line + "reload failed: boom"
    )


def test_the_other_states():
    assert status_line.waking("blog:app", waits=False) == "waking: loading blog:app"
    assert (
        status_line.waking("", waits=True)
        == "waking: waiting for the old process to exit, then loading the welcome page"
    )
    assert status_line.failing("boom") == "failing: boom"
    assert status_line.leaving(0) == "leaving"
    assert status_line.leaving(2) == "leaving: 2 connections to finish"


@pytest.mark.parametrize(
    ("slots", "says"),
    [
        ([], ""),
        ([slot(open=1)], ""),
        ([slot(reason="long ago")], ""),
        ([slot(holds=2)], "; stays awake: the app asks for it"),
        (
            [slot(), slot(holds=1), slot(holds=1, reason="nightly import")],
            "; stays awake: nightly import",
        ),
    ],
)
def test_why_awake(slots, says):
    assert status_line.why_awake(slots) == says
