"""The .deb, as an administrator meets it: `apt install` on a Debian that has nothing of
it, first visit, upgrade, removal.

The machine has no network, but what the package depends on lies in apt's cache: were
Depends short of a package, or longer than packaging/root foresees, apt would say so and
fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from machine import Machine, boot, package, root

UNITS = ("spyglass.socket", "spyglass.service", "spyglass@.socket", "spyglass@.service")


def apt(machine: Machine, *argv: str) -> str:
    return machine.run(
        "apt-get", "--yes", "--quiet", *argv, env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=90
    ).stdout


def install(machine: Machine) -> None:
    deb = package(machine.release)
    machine.copy(deb, f"/root/{deb.name}")
    apt(machine, "install", f"/root/{deb.name}")


def enabled(machine: Machine) -> set[str]:
    """The links below /etc/systemd/system, by which units are enabled."""
    return set(
        machine.run(
            "find", "/etc/systemd/system", "-type", "l", "-name", "*spyglass*"
        ).stdout.split()
    )


def files(machine: Machine) -> set[str]:
    """Everything on the disk whose name has to do with us."""
    places = ("/etc", "/usr", "/var", "/run", "/opt", "/srv")
    found = machine.run("find", *places, "-xdev", "-iname", "*spyglass*").stdout.splitlines()
    return {path for path in found if "/apt/" not in path}


def welcome(machine: Machine) -> str:
    """What `curl -i localhost:4222` shows; the machine has python3 by now, and curl
    from the start.
    """
    return machine.run(
        "curl", "--silent", "--show-error", "--include", "--max-time", "30", "localhost:4222"
    ).stdout


def asleep(machine: Machine) -> bool:
    return machine.state("spyglass.socket")["SubState"] == "listening" and not machine.processes()


@pytest.fixture(scope="module")
def installed(release: str) -> Iterator[Machine]:
    """A clean Debian on which the package has been installed as anybody would; nobody
    has done anything with it yet.
    """
    with boot(release, root("clean", release)) as machine:
        machine.systemctl("list-units")
        install(machine)
        yield machine


def test_installing_starts_and_enables_nothing(installed: Machine) -> None:
    assert installed.processes() == []
    assert enabled(installed) == set()
    assert "spyglass" not in installed.systemctl("list-units", "--plain", "--no-legend")
    for unit in UNITS[:2]:
        assert installed.state(unit)["LoadState"] == "loaded"
        assert installed.state(unit)["ActiveState"] == "inactive"
    assert installed.run("stat", "-c", "%F %a %U", "/etc/spyglass").stdout == "directory 755 root\n"


def test_systemd_finds_nothing_odd_in_the_units(installed: Machine) -> None:
    verified = installed.run(
        "systemd-analyze", "verify", "--man=no", *(unit.replace("@", "@a") for unit in UNITS)
    )
    assert [
        line for line in (verified.stdout + verified.stderr).splitlines() if "spyglass" in line
    ] == []


def test_the_parser_is_ours_and_stays_ours(installed: Machine) -> None:
    depends = installed.run("dpkg-query", "--show", "--showformat=${Depends}", "spyglass").stdout
    assert "python3-systemd" in depends
    assert "httptools" not in depends
    # Bound to the Python it was compiled for, so that an upgrade to the next Debian
    # takes both or neither.
    assert re.search(r"python3 \(<< 3\.\d+\)", depends)
    # No other program of the machine sees it.
    elsewhere = installed.run("python3", "-c", "import httptools", check=False)
    assert "ModuleNotFoundError" in elsewhere.stderr


def test_byte_code_is_made_by_the_installation(installed: Machine) -> None:
    places = ("/usr/lib/spyglass", "/usr/lib/python3/dist-packages/spyglass")
    sources = installed.run("find", *places, "-name", "*.py").stdout.splitlines()
    compiled = installed.run("find", *places, "-name", "*.pyc").stdout.splitlines()
    assert len(compiled) == len(sources) > 20
    # And what spares each wake the reading of the engine's sources, and of many files
    assert installed.run("find", *places, "-name", "*.stamp").stdout.count("\n") == 1
    assert installed.run("find", *places, "-name", "*.bundle").stdout.count("\n") == 4


def test_the_version_is_one(installed: Machine) -> None:
    version = installed.run("dpkg-query", "--show", "--showformat=${Version}", "spyglass").stdout
    says = installed.run("spyglass", "--version").stdout.split()[1]
    assert re.fullmatch(re.escape(says) + r"~deb1[23]u1", version)


def test_the_first_visit(installed: Machine) -> None:
    installed.systemctl("start", "spyglass.socket")
    assert asleep(installed)
    said = welcome(installed)
    assert said.startswith("HTTP/1.1 200 OK\r\n"), said
    assert "Spyglass" in said
    assert installed.state("spyglass.service")["ActiveState"] == "active"
    installed.systemctl("stop", "spyglass.socket")
    assert installed.processes() == []


def test_upgrade_restarts_apps_that_are_awake_and_wakes_none(installed: Machine) -> None:
    again = ("install", "--reinstall", f"/root/{package(installed.release).name}")
    installed.systemctl("start", "spyglass.socket")
    apt(installed, *again)
    assert asleep(installed)
    welcome(installed)
    listening_since = installed.state("spyglass.socket")["ActiveEnterTimestamp"]
    main = installed.state("spyglass.service")["MainPID"]
    apt(installed, *again)

    def restarted() -> bool:
        state = installed.state("spyglass.service")
        return state["SubState"] == "running" and state["MainPID"] not in ("0", main)

    installed.wait_until(restarted, 30, "the service runs the new program")
    # The socket never closed: whoever came meanwhile is in its queue.
    assert installed.state("spyglass.socket")["ActiveEnterTimestamp"] == listening_since
    assert "200 OK" in welcome(installed)
    installed.systemctl("stop", "spyglass.socket")


def test_removal_stops_everything_and_purging_leaves_nothing(clean_machine: Machine) -> None:
    before = files(clean_machine)
    install(clean_machine)
    settings = 'workers = 1\nlisten = ["/run/spyglass/blog.sock"]\ncpu_quota = "200%"\n'
    clean_machine.write("/etc/spyglass/blog.toml", settings)
    sockets = ("spyglass.socket", "spyglass@blog.socket")
    clean_machine.systemctl("enable", "--now", sockets[0])
    clean_machine.run("spyglass", "apply")
    welcome(clean_machine)
    clean_machine.run(
        "curl",
        "--silent",
        "--max-time",
        "30",
        "--unix-socket",
        "/run/spyglass/blog.sock",
        "localhost",
    )
    assert clean_machine.state("spyglass@blog.service")["ActiveState"] == "active"

    apt(clean_machine, "remove", "spyglass")
    assert clean_machine.processes() == []
    for unit in (*sockets, "spyglass.service", "spyglass@blog.service"):
        assert clean_machine.state(unit)["ActiveState"] == "inactive"
    # What an administrator has written is no business of a removal, nor of a purge.
    assert clean_machine.read("/etc/spyglass/blog.toml") == settings

    clean_machine.run("rm", "/etc/spyglass/blog.toml")
    apt(clean_machine, "purge", "spyglass")
    clean_machine.run("rm", f"/root/{package(clean_machine.release).name}")
    assert files(clean_machine) == before
