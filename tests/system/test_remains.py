"""What is left of the package on a machine that it has been used on: after a removal
what an administrator decided, after a purge nothing.

As piuparts does it: every path on the disk, with its owner and mode, and the content of
what is configured, before and after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from instance import Instance
from machine import Machine, boot, root
from process.visitor import visit
from versions import PLACE, install, newer, status, version

# What dpkg, apt, systemd and the tests write wherever a package comes or goes.
NOT_OURS = (
    "/var/lib/dpkg/",
    "/var/log/",
    "/var/cache/ldconfig/",
    "/var/lib/systemd/",
    "/var/backups/",
    "/root/",
    PLACE,
)
# systemd makes them for the first service with a user of its own (DynamicUser=),
# whoever it belongs to.
SYSTEMDS = {"/var/lib/private", "/var/cache/private"}
BROKEN = "raise RuntimeError('broken')\n"
SETTINGS = {"workers": 1, "idle_timeout": 60}


def everything(machine: Machine) -> set[str]:
    listed = machine.run("find", "/", "-xdev", "(", "-path", "/proc", "-o", "-path", "/tmp", "-o", "-path", "/srv/venv", ")", "-prune",
        "-o", "-printf", "%p %y %m %u:%g %l\n").stdout  # fmt: skip
    hashed = machine.run("sh", "-c", "find /etc -xdev -type f -exec sha256sum {} +").stdout
    states = machine.run("find", "/run", "/tmp", "-iname", "*spyglass*").stdout
    return {
        line for line in (listed + hashed + states).splitlines() if not line.startswith(NOT_OURS)
    }


def applied(machine: Machine, instance: Instance) -> str:
    """A drop-in as `spyglass apply` makes it; returns its path."""
    head, body = (
        f"# Made by `spyglass apply` from {instance.configuration}\n",
        "\n[Service]\nMemoryMax=1G\n",
    )
    path = f"/etc/systemd/system/{instance.service}.d/10-spyglass.conf"
    machine.write(
        path, f"{head}# digest: {hashlib.sha256((head + body).encode()).hexdigest()[:16]}\n{body}"
    )
    return path


def paths(lines: set[str]) -> set[str]:
    return {line.split()[0] for line in lines}


def units(machine: Machine, *options: str) -> str:
    """Those that are active or failed; with "--all" also those that systemd has merely
    heard of.
    """
    return machine.systemctl("list-units", *options, "--plain", "--no-legend", "spyglass*")


@pytest.fixture(scope="module")
def before() -> dict[str, set[str]]:
    """What each release's machine was like."""
    return {}


@pytest.fixture(scope="module")
def installed_machine(release: str, before: dict[str, set[str]]) -> Iterator[Machine]:
    with boot(release, root("tests", release)) as machine:
        before[release] = everything(machine)
        install(machine, version(machine))
        yield machine


@pytest.fixture
def used(installed_machine: Machine) -> dict[str, Instance]:
    """One app of each state: awake, asleep after it was awake, never woken, failed; and
    the default one. All are enabled.
    """
    machine = installed_machine
    if not status(machine).startswith("installed"):
        install(machine, version(machine))
    apps = {
        name: Instance(machine, name, settings=SETTINGS) for name in ("awake", "asleep", "unused")
    }
    apps["failed"] = Instance(
        machine,
        "failed",
        BROKEN,
        settings=SETTINGS | {"idle_timeout": 0.3, "keepalive_timeout": 0.1},
    )
    for app in apps.values():
        app.write()
    machine.systemctl("daemon-reload")
    machine.systemctl("enable", "--now", "spyglass.socket", *(app.socket for app in apps.values()))
    for name in ("awake", "asleep"):
        assert visit(apps[name].unix).status == 200
    machine.systemctl("stop", apps["asleep"].service)
    assert visit(apps["failed"].unix).status == 503
    machine.run("curl", "--silent", "--fail", "--max-time", "30", "localhost:4222")
    machine.wait_until(lambda: apps["failed"].state()["ActiveState"] == "failed", 20, "it gives up")
    return apps


def test_a_failed_app_stays_failed_over_an_upgrade(
    used: dict[str, Instance], installed_machine: Machine
) -> None:
    """Nothing starts that did not run, whatever the reason."""
    machine = installed_machine
    listening = {name: app.unbroken() for name, app in used.items()}
    install(machine, newer(machine))
    machine.wait_until(lambda: visit(used["awake"].unix).status == 200, 10)
    assert used["failed"].state()["ActiveState"] == "failed"
    assert used["asleep"].asleep()
    assert used["unused"].state()["InvocationID"] == ""
    assert {name: app.unbroken() for name, app in used.items()} == listening
    install(machine, version(machine))


def test_removal(used: dict[str, Instance], installed_machine: Machine) -> None:
    """Everything stops, and what was decided is kept: after another installation it is
    as before the removal, at the next boot.
    """
    machine = installed_machine
    machine.write(f"{used['awake'].code}.data", "precious")
    machine.run("dpkg", "--remove", "spyglass")
    assert status(machine).startswith("config-files")
    assert machine.processes() == []
    assert units(machine) == ""
    assert machine.run("find", "/run", "-name", "*spyglass*").stdout == ""
    left = machine.run("find", "/usr", "-iname", "*spyglass*").stdout
    assert left == ""
    install(machine, version(machine))
    assert machine.processes() == []
    for app in used.values():
        assert machine.systemctl("is-enabled", app.socket).strip() == "enabled"
        assert machine.state(app.socket)["ActiveState"] == "inactive"
    machine.systemctl("start", "sockets.target")
    assert visit(used["unused"].unix).status == 200


def test_a_purge_leaves_nothing(
    used: dict[str, Instance], installed_machine: Machine, before: dict[str, set[str]]
) -> None:
    machine = installed_machine
    applied(machine, used["awake"])
    machine.run("dpkg", "--purge", "spyglass")
    assert status(machine) in ("", "not-installed ")
    assert machine.processes() == []
    assert units(machine, "--all") == ""
    # What an administrator wrote is theirs.
    for app in used.values():
        assert machine.read(app.configuration)
        machine.run("rm", app.configuration)
    machine.run("rm", "-r", "/srv/apps")
    machine.run("rmdir", "/etc/spyglass")
    after = everything(machine)
    assert before[machine.release] - after == set()
    assert paths(after - before[machine.release]) <= SYSTEMDS


def test_what_people_have_made_is_kept(
    used: dict[str, Instance], installed_machine: Machine
) -> None:
    machine = installed_machine
    edited = applied(machine, used["awake"])
    machine.run("sed", "-i", "s/1G/2G/", edited)
    store = "/var/lib/private/spyglass/awake/board.sqlite"
    machine.write(store, "precious")
    machine.run("dpkg", "--purge", "spyglass")
    assert machine.read(store) == "precious"
    assert machine.run("ls", "/var/lib/private/spyglass").stdout == "awake\n"
    assert "2G" in machine.read(edited)
    install(machine, version(machine))
