"""A machine that allows no user namespaces, as hardening-runtime sets it up, and what
is left of the sandbox there.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from instance import TELL
from machine import Machine, boot
from test_apply import curl, furnish, spyglass


@pytest.fixture
def hardened(release: str, deb_layers: Callable[[str], list[Path]]) -> Iterator[Machine]:
    """A machine in a user namespace of its own, for the limit would be that of all
    machines, and of ours.
    """
    with boot(release, *deb_layers(release), options=["--private-users=identity"]) as machine:
        yield machine


def allow(machine: Machine, most: int) -> None:
    # The machine sees /proc/sys read-only. The sysctl is that of the user namespace of
    # the process that writes it.
    write = f"echo {most} >/proc/sys/user/max_user_namespaces"
    subprocess.run(
        ["nsenter", "--user", "--target", str(machine.leader), "sh", "-c", write], check=True
    )
    assert machine.read("/proc/sys/user/max_user_namespaces") == f"{most}\n"


def test_apps_are_served_with_what_is_left(hardened: Machine) -> None:
    furnish(hardened, "app", TELL, "listen = 8096\n")
    spyglass(hardened, "apply", "app")
    assert curl(hardened, "localhost:8096")
    hardened.systemctl("stop", "spyglass@app.service")
    spyglass(hardened, "doctor")
    allow(hardened, 0)

    # Said before it is tried, and with what ends it.
    found = json.loads(spyglass(hardened, "doctor", "--json", status=1).stdout)
    [finding] = [each for each in found if "user.max_user_namespaces" in each["what"]]
    assert (
        finding["grave"],
        finding["why"].startswith("systemd cannot start spyglass@app.service"),
    ) == (True, True)
    assert (
        hardened.run(
            "curl", "--silent", "--max-time", "2", "localhost:8096", check=False
        ).returncode
        != 0
    )
    said = [
        spyglass(hardened, *command.split()[1:]).stdout
        for command in finding["cure"]
        if command.startswith("spyglass ")
    ]
    assert "(PrivateUsers yes -> no)" in said[0]
    assert "app: runs without PrivateUsers=: this machine allows no user namespaces" in said[0]
    assert curl(hardened, "localhost:8096")
    state = hardened.state("spyglass@app.service")
    assert (
        state["PrivateUsers"],
        state["ProtectSystem"],
        state["NoNewPrivileges"],
        state["PrivateDevices"],
    ) == ("no", "strict", "yes", "yes")
    assert spyglass(hardened, "check", "app").returncode == 0

    # The default app has no file of settings.
    for command in finding["cure"]:
        hardened.run("sh", "-euc", command)
    hardened.systemctl("start", "spyglass.socket")
    assert curl(hardened, "localhost:4222")
    assert "nothing wrong" in spyglass(hardened, "doctor").stdout

    # When it is allowed again, the next `apply` has it back.
    allow(hardened, 1000)
    assert "(PrivateUsers no -> yes)" in spyglass(hardened, "apply").stdout
    assert hardened.state("spyglass@app.service")["PrivateUsers"] == "yes"
    assert curl(hardened, "localhost:8096")
