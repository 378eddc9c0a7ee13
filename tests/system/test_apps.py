"""Flask and Django in their units: the apps and visits of tests/apps, on the unix
socket of spyglass@NAME.socket.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from apps import visits
from apps.visits import VISITS, Browser
from machine import Machine

OURS = re.compile("(master|zygote|worker): ")
APPS = Path(visits.__file__).parent
SETTINGS = {
    "flask": ("flask_app", 'app = "guestbook:app"\n'),
    "django": ("django_app", 'app = "board.wsgi"\n'),
}


@pytest.fixture(scope="module", params=SETTINGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def app(machine: Machine, name: str) -> Iterator[Callable[[], Browser]]:
    """A new browser in front of the app."""
    directory, settings = SETTINGS[name]
    machine.copy(APPS / directory, f"/srv/{name}")
    machine.run(
        "find", f"/srv/{name}", "-name", "__pycache__", "-prune", "-exec", "rm", "-r", "{}", "+"
    )
    machine.write(
        f"/etc/spyglass/{name}.toml",
        f'{settings}directory = "/srv/{name}"\nvenv = "/srv/venv"\nidle_timeout = 2\n',
    )
    machine.systemctl("start", f"spyglass@{name}.socket")
    yield lambda: Browser(lambda: machine.connect(f"/run/spyglass/{name}.sock"))
    machine.systemctl("stop", f"spyglass@{name}.socket")


@pytest.mark.parametrize("visit", VISITS, ids=lambda visit: visit.__name__)
def test_visit(app: Callable[[], Browser], visit: Callable[[Browser], None]) -> None:
    visit(app())


def test_entries_and_sessions_outlive_a_sleep(
    machine: Machine, name: str, app: Callable[[], Browser]
) -> None:
    visitor = app()
    visits.sign(visitor, "slept well")
    machine.wait_until(lambda: not machine.processes(f"spyglass@{name}"), what=f"{name} sleeps")
    assert machine.state(f"spyglass@{name}.socket")["SubState"] == "listening"
    visits.find_again(visitor, "slept well")
    # The user that it is awake as is another each time, perhaps; what it has written is
    # its own, and nobody else's.
    assert machine.run("stat", "--format=%a", f"/var/lib/private/spyglass/{name}").stdout == "750\n"


def test_errors_of_the_app_are_in_the_journal(
    machine: Machine, name: str, app: Callable[[], Browser]
) -> None:
    assert app().get("/broken").status == 500
    assert "RuntimeError: this page is broken" in "\n".join(
        machine.journal(f"spyglass@{name}.service")
    )


def test_nothing_else_was_wrong(machine: Machine, name: str, app: Callable[[], Browser]) -> None:
    """No worker has died, nothing has been restarted, systemd has found nothing odd;
    what apps write themselves is their own affair.
    """
    records = machine.records(f"spyglass@{name}.service") + machine.records(
        f"spyglass@{name}.socket"
    )
    warnings = [record for record in records if int(record["PRIORITY"]) <= 5]
    assert [
        each["MESSAGE"]
        for each in warnings
        if each["SYSLOG_IDENTIFIER"] == "systemd" or OURS.match(each["MESSAGE"])
    ] == []
    assert machine.state(f"spyglass@{name}.service")["NRestarts"] == "0"
    # Nothing was written beside the code.
    assert machine.run("find", f"/srv/{name}", "-newer", f"/etc/spyglass/{name}.toml").stdout == ""
