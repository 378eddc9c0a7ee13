"""Connections are spread over the workers as soon as there are several."""

import contextlib
from collections import Counter

import pytest

from .processes import workers
from .visitor import Visitor

APP = """
import os

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("count", [2, 3])
def test_connections_that_come_one_by_one_are_spread_over_all_workers(
    systemd, tmp_path, kind, count
):
    (tmp_path / "app.py").write_text(APP)
    life = systemd(
        "app",
        directory=tmp_path,
        idle_timeout=60,
        keepalive_timeout=50,
        workers=count,
        listeners=[kind],
    )
    with Visitor(life.address) as first:
        first.ask()
    life.until(lambda: len(workers(life.run.pid)) == count, "not all workers are there")
    with contextlib.ExitStack() as stack:
        ready = set()  # a worker that exists may be a while away from its first accept
        life.until(
            lambda: (
                len(ready) == count
                or ready.add(stack.enter_context(Visitor(life.address)).ask(keep=True).text)
            ),
            "not all workers accept",
        )
        heard = Counter(
            stack.enter_context(Visitor(life.address)).ask(keep=True).text
            for _ in range(20 * count)
        )
    assert len(heard) == count
    assert min(heard.values()) >= 10, heard
