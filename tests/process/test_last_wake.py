"""spyglass.last_wake(): when, by what and in how long; the same for all that belongs to
one wake.
"""

import json
import signal
import time

import pytest

import spyglass

from .processes import workers
from .visitor import visit

TICK = 0.02  # seconds: Linux notes the start of a process to a hundredth, and cuts off what is more


def ask(address, path="/"):
    return json.loads(visit(address, path).text)


def address_of(address):
    if isinstance(address, str):
        return f"unix:{address}"
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


@pytest.mark.parametrize("which", [0, 1, 2])
def test_it_tells_what_woke_it_when_and_how_long_that_took(systemd, which):
    life = systemd("woken:app", listeners=["tcp", "unix", "tcp6"], idle_timeout=0, workers=1)
    came = time.monotonic()
    answer = ask(life.addresses[which])
    answered = time.monotonic()
    wake = answer["wake"]
    assert (wake["listener"], wake["name"]) == (address_of(life.addresses[which]), "")
    began = wake["at"] - (time.time() - time.monotonic())
    assert came - TICK <= began <= began + wake["seconds"] <= answered
    assert answer["at_import"] == "None"


def test_an_app_started_by_hand_was_woken_by_no_client(systemd):
    life = systemd("woken:app", idle_timeout=0)
    life.start()
    life.until_ready()
    assert ask(life.address)["wake"]["listener"] == ""


def test_later_clients_belong_to_the_same_wake(systemd):
    life = systemd("woken:app", idle_timeout=0, workers=1)
    first = ask(life.address)
    life.signal(signal.SIGHUP)
    life.until(lambda: first["pid"] not in workers(life.run.pid), "it is not reloaded")
    second = ask(life.address)
    assert second["pid"] != first["pid"]
    assert second["at_import"] != "None"  # by then there had been a wake
    assert second["wake"]["listener"] == first["wake"]["listener"]
    assert [second["wake"][what] for what in ("at", "seconds")] == pytest.approx(
        [first["wake"][what] for what in ("at", "seconds")], abs=0.01
    )


def test_the_next_wake_is_another(systemd):
    life = systemd("woken:app", idle_timeout=0.2)
    first = ask(life.address)["wake"]
    life.until_asleep(1)
    second = ask(life.address)["wake"]
    assert second["at"] >= first["at"] + first["seconds"]


def test_without_preload_it_is_known_as_well(systemd):
    life = systemd("woken:app", idle_timeout=0, arguments=["--no-preload"], workers=1)
    assert ask(life.address)["wake"]["listener"] == address_of(life.address)


def test_what_the_app_forks_belongs_to_none(systemd):
    life = systemd("woken:app", idle_timeout=0)
    assert ask(life.address, "/forked")["wake"] is None


def test_where_no_server_is_there_was_no_wake():
    assert spyglass.last_wake() is None
