"""A page that is open in a browser, with a WebSocket and an event stream, while its app
is reloaded, goes to sleep and wakes.
"""

import pytest

from .chromium import Chromium
from .processes import workers


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    chromium = Chromium(tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.end()


def url(life, query=""):
    host, port = life.address
    return f"http://{host}:{port}/{query}"


@pytest.mark.slow
def test_page_lives_through_a_reload(systemd, chromium):
    life = systemd("browsed:app", workers=2, idle_timeout=0)
    chromium.open(url(life, "?events"))
    chromium.until("pids.length == 1 && events.length == 1")
    life.until_workers(2)
    old = set(workers(life.run.pid))
    assert life.reload().wait(30) == 0
    # Both connect again; the stream may be asked for once more where it has ended, on
    # its connection that was kept.
    for heard in ("pids", "events"):
        chromium.until(f"{heard}.length > 1 && !{sorted(old)}.includes(+{heard}.at(-1))")
    assert chromium.evaluate("codes") == [1012]
    life.until(lambda: not old & set(workers(life.run.pid)), "the old ones stay")
    chromium.evaluate("socket.send('hello')")
    chromium.until("pids.at(-1) == 'hello'")
    chromium.open("about:blank")


@pytest.mark.slow
def test_page_with_an_ignored_socket_lets_the_app_sleep_and_wakes_it(systemd, chromium):
    life = systemd(
        "browsed:app", workers=2, idle_timeout=1, keepalive_timeout=0.5,
        idle_ignore="websocket:/live",
    )  # fmt: skip
    chromium.open(url(life))
    chromium.until("codes.length == 1")
    assert chromium.evaluate("codes") == [1001]
    life.until_asleep(1)
    chromium.evaluate("connect()")
    chromium.until("pids.length == 2")
    assert chromium.evaluate("pids[0] != pids[1]")
    assert len(life.runs) == 2
    chromium.open("about:blank")
    life.until_asleep(2)
    assert [run.status for run in life.runs] == [0, 0]
