"""ASGI apps that do what no app should, and clients that do what few do: nothing is
lost, nothing hangs, and the others are served.
"""

import pytest

from .visitor import Visitor, visit


@pytest.fixture
def asgi(systemd, tmp_path):
    """asgi(**settings) -> a FakeSystemd that serves apps/asgi_odd.py in one worker;
    `told(what)` tells how often the app has told that.
    """

    def new(**settings):
        story = tmp_path / "story"
        life = systemd("asgi_odd:app", environ={"STORY": str(story)}, workers=1, **settings)
        life.told = lambda what: story.exists() and story.read_text().count(f" {what}\n")
        return life

    return new


# What follows a response that was completed in a task


@pytest.mark.parametrize("path", ["yields", "sleeps"])
def test_requests_sent_ahead_are_answered_at_once(asgi, path):
    life = asgi()
    with Visitor(life.address, patience=5) as visitor:
        ask = b"GET /%b HTTP/1.1\r\nHost: a\r\n" % path.encode()
        visitor.sock.sendall((ask + b"\r\n") * 4 + ask + b"Connection: close\r\n\r\n")
        assert visitor.until_closed().count(b"HTTP/1.1 200 OK\r\n") == 5


def test_the_end_of_a_response_is_heard_at_once(asgi):
    life = asgi()
    with Visitor(life.address) as visitor:
        assert visitor.ask("/listens", keep=True).text == "listening"
        life.until(lambda: life.told("heard"), "not heard", timeout=5)
