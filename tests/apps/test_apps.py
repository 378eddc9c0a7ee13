"""Two small real apps, in Flask and in Django, visited through a systemd in one thread
and through the lookout.

tests/system visits the same apps in their units.
"""

import pathlib

import pytest
from process.visitor import Visitor

from .visits import VISITS, Browser, find_again, sign

HERE = pathlib.Path(__file__).parent
APPS = {
    "flask": ("guestbook:app", HERE / "flask_app"),
    "django": ("board.wsgi", HERE / "django_app"),
}


def browser(server):
    return Browser(lambda: Visitor(server.address).sock)


@pytest.fixture(params=APPS)
def app(request, tmp_path):
    """Arguments of a server: name of the app, where it is, and what it may write to."""
    name, directory = APPS[request.param]
    (tmp_path / "state").mkdir()
    return name, {"directory": directory, "environ": {"STATE_DIRECTORY": str(tmp_path / "state")}}


def test_visits(systemd, app):
    name, settings = app
    server = systemd(name, idle_timeout=60, **settings)
    for visit in VISITS:
        visit(browser(server))
    assert len(server.runs) == 1


def test_entries_and_sessions_outlive_a_sleep(systemd, app):
    name, settings = app
    server = systemd(name, idle_timeout=0.3, **settings)
    visitor = browser(server)
    sign(visitor, "slept well")
    server.until_asleep(1)
    find_again(visitor, "slept well")
    assert len(server.runs) >= 2


def test_through_the_lookout(lookout, app):
    name, settings = app
    server = lookout(name, idle_timeout=60, **settings)
    server.until_listening()
    sign(browser(server), "looked out")
    for visit in VISITS:
        visit(browser(server))
