"""What an app has stored, moved in and out by an administrator, on a real disk.

systemd 257 maps the owners of a dynamic user's directories where the file system can do
that, as ext4 can; an overlay on tmpfs, of which the machine is made otherwise, cannot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from machine import Machine
from test_apply import curl, furnish, spyglass

STATE, PRIVATE = "/var/lib/spyglass/shop", "/var/lib/private/spyglass/shop"
# Adds a letter to each file in its state, and says which it could not.
WRITES = """\
import os, pathlib

def app(environ, start_response):
    state, failed = pathlib.Path(os.environ["STATE_DIRECTORY"]), []
    for path in [*(each for each in state.rglob("*") if not each.is_socket()), state / "own"]:
        try:
            (path / "new" if path.is_dir() else path).open("a").write("x")
        except OSError as error:
            failed.append(path.name)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [" ".join(sorted(failed) or ["all"]).encode()]
"""


@pytest.fixture
def shop(disk: Machine) -> Iterator[Machine]:
    """An app that has been awake once."""
    furnish(disk, "shop", WRITES, "listen = 8095\n")
    disk.run("sh", "-c", "id shop 2>/dev/null || adduser --quiet --system --group shop")
    assert spyglass(disk, "apply", "shop").stdout.startswith(
        "shop: listens; open http://localhost:8095/\n"
    )
    assert wake(disk) == "all"
    sleep(disk)
    assert_nothing_to_do(disk)
    spyglass(disk, "doctor", "shop")
    yield disk
    sleep(disk)
    disk.run("sh", "-c", f"rm -rf {PRIVATE}.old")
    spyglass(disk, "remove", "--purge", "shop")


def assert_nothing_to_do(machine: Machine) -> None:
    said = spyglass(machine, "apply", "shop").stdout
    assert re.fullmatch(
        r"shop: (nothing to do|asleep, applies at the next wake); open http://localhost:8095/\n",
        said,
    )


def wake(machine: Machine) -> str:
    return curl(machine, "localhost:8095")


def sleep(machine: Machine) -> None:
    machine.systemctl("stop", "spyglass@shop.service")


def cure(machine: Machine, what: str) -> None:
    """`apply` names the problem, `doctor` too, and the commands that they give solve
    it.
    """
    said = [line for line in spyglass(machine, "apply", "shop").stdout.splitlines() if what in line]
    assert len(said) == 1
    [finding] = [
        each
        for each in json.loads(spyglass(machine, "doctor", "--json", "shop", status=1).stdout)
        if what in each["what"]
    ]
    assert finding["grave"]
    assert said[0].endswith(": " + "; ".join(finding["cure"]))
    for command in finding["cure"]:
        machine.run("sh", "-euc", command)
    assert what not in spyglass(machine, "doctor", "shop").stdout
    assert_nothing_to_do(machine)


@pytest.mark.parametrize("user", ["", "shop"])
@pytest.mark.parametrize("awake", [False, True])
def test_a_file_that_root_has_copied_in(shop: Machine, user: str, awake: bool) -> None:
    if user:
        furnish(shop, "shop", WRITES, f'listen = 8095\nuser = "{user}"\n')
        spyglass(shop, "apply", "shop")
        shop.run("chown", "-R", "shop:", f"{STATE}/")
        assert wake(shop) == "all"
    if awake:
        wake(shop)
    else:
        sleep(shop)
    shop.run(
        "sh", "-c", f"echo data >{STATE}/db; mkdir {STATE}/sub; ln -s /etc/passwd {STATE}/sub/link"
    )
    assert wake(shop).split()[0] == "db"
    cure(shop, "does not belong to the app's user")
    assert wake(shop) == "link"  # which leads to what is not the app's, and still is not
    assert shop.run("stat", "-c", "%U", "/etc/passwd").stdout == "root\n"


def test_what_was_there_before_the_first_wake_is_the_apps(disk: Machine) -> None:
    furnish(disk, "shop", WRITES, "listen = 8095\n")
    disk.run("sh", "-c", f"mkdir {STATE} && echo data >{STATE}/db && chmod 600 {STATE}/db")
    spyglass(disk, "apply", "shop")
    assert wake(disk) == "all"
    assert disk.read(f"{STATE}/db") == "data\nx"
    spyglass(disk, "remove", "--purge", "shop")


def test_a_directory_restored_beside_the_one_that_is_there(shop: Machine) -> None:
    shop.run("sh", "-c", f"rm {STATE}; mkdir {STATE}; echo restored >{STATE}/db")
    assert (
        shop.run("curl", "--silent", "--max-time", "2", "localhost:8095", check=False).returncode
        != 0
    )
    cure(shop, f"{STATE} is a directory, but should be a link to {PRIVATE}")
    assert wake(shop) == "all"
    assert shop.read(f"{STATE}/db").startswith("restored\n")


def test_a_backup_that_has_only_the_link(shop: Machine) -> None:
    shop.run("mv", PRIVATE, f"{PRIVATE}.old")
    assert (
        f"{STATE} is a link to {PRIVATE}, which does not exist"
        in spyglass(shop, "apply", "shop").stdout
    )
    assert (
        f"{STATE} is a link to {PRIVATE}, which does not exist"
        in spyglass(shop, "doctor", "shop", status=1).stdout
    )
    shop.run("mv", f"{PRIVATE}.old", PRIVATE)
    assert_nothing_to_do(shop)


def test_a_restored_directory_of_any_owner_becomes_the_apps(shop: Machine) -> None:
    shop.run("sh", "-c", f"echo data >{STATE}/db; chown -R 1234:1234 {PRIVATE}")
    spyglass(shop, "doctor", "shop")
    assert wake(shop) == "all"


def test_from_a_dynamic_user_to_a_named_one_and_back(shop: Machine) -> None:
    """Everything is the app's at each step, and with a name it is its user's for other
    programs as well.
    """
    for _ in range(2):
        furnish(shop, "shop", WRITES, 'listen = 8095\nuser = "shop"\n')
        said = spyglass(shop, "apply", "shop").stdout
        assert wake(shop) == "all"
        sleep(shop)
        if shop.run("stat", "-c", "%U", STATE).stdout == "nobody\n":  # systemd 257
            assert shop.run("cat", f"{STATE}/own", user="shop", check=False).returncode != 0
            said = spyglass(shop, "apply", "shop").stdout
            assert said.endswith(
                f"{STATE} belongs to nobody, not to shop: systemctl stop spyglass@shop.service; chown -R shop: {STATE}\n"
            )
            shop.run("sh", "-euc", said.rpartition("not to shop: ")[2])
        assert_nothing_to_do(shop)
        assert wake(shop) == "all"
        assert shop.run("cat", f"{STATE}/own", user="shop").stdout
        sleep(shop)
        furnish(shop, "shop", WRITES, "listen = 8095\n")
        spyglass(shop, "apply", "shop")
        assert wake(shop) == "all"
        sleep(shop)
        assert_nothing_to_do(shop)
