"""What happens to an app's socket on a machine in use: restarts, moves, a deleted file,
a renamed app, an address that comes and goes.
"""

from __future__ import annotations

import pytest
from instance import TELL
from machine import Machine
from process.visitor import visit
from test_apply import curl, furnish, spyglass


@pytest.mark.parametrize("unit", ["spyglass.socket", "spyglass@often.socket"])
def test_a_socket_may_be_restarted_at_any_rate(machine: Machine, unit: str) -> None:
    """systemd allows five starts in ten seconds, and refuses all clients after the
    sixth.
    """
    furnish(machine, "often", TELL, "")
    for _ in range(8):
        machine.systemctl("restart", unit)
    assert machine.state(unit)["SubState"] == "listening"
    machine.systemctl("stop", unit)
    machine.run("rm", "/etc/spyglass/often.toml")


def test_addresses_may_change_at_any_rate_and_no_file_stays_behind(machine: Machine) -> None:
    for number in range(7):
        furnish(machine, "moving", TELL, f'listen = "/run/moving/{number}.sock"\n')
        spyglass(machine, "apply", "moving")
        assert visit(machine.path(f"/run/moving/{number}.sock")).status == 200
        assert machine.run("ls", "/run/moving").stdout == f"{number}.sock\n"
    # Nor if the new address comes from a drop-in of the administrator's, which only
    # systemd has read.
    machine.write(
        "/etc/systemd/system/spyglass@moving.socket.d/own.conf",
        "[Socket]\nListenStream=\nListenStream=/run/moving/own.sock\n",
    )
    spyglass(machine, "apply", "moving")
    assert machine.run("ls", "/run/moving").stdout == "own.sock\n"
    assert visit(machine.path("/run/moving/own.sock")).status == 200
    machine.run("rm", "/etc/systemd/system/spyglass@moving.socket.d/own.conf")
    spyglass(machine, "remove", "--purge", "moving")
    assert machine.run("ls", "/run/moving").stdout == ""


@pytest.mark.parametrize("awake", [False, True])
def test_a_socket_file_that_was_deleted_is_noticed_and_made_again(
    machine: Machine, awake: bool
) -> None:
    furnish(
        machine, "lost", TELL, 'listen = ["/run/spyglass/lost.sock", 8081]\nidle_timeout = 60\n'
    )
    spyglass(machine, "apply", "lost")
    if awake:
        assert curl(machine, "localhost:8081")
    machine.run("rm", "/run/spyglass/lost.sock")
    assert "/run/spyglass/lost.sock was deleted" in spyglass(machine, "list").stdout
    assert (
        "/run/spyglass/lost.sock was deleted"
        in spyglass(machine, "status", "lost", status=1).stdout
    )
    assert (
        "/run/spyglass/lost.sock was deleted"
        in spyglass(machine, "doctor", "lost", status=1).stdout
    )
    # What is in its place now is somebody's, and a restart that failed would cost the
    # other address.
    machine.run("mkdir", "/run/spyglass/lost.sock")
    assert (
        "/run/spyglass/lost.sock: a file that is not a socket exists there: move it away"
        in spyglass(machine, "apply", "lost", status=78).stderr
    )
    assert curl(machine, "localhost:8081")
    machine.run("rmdir", "/run/spyglass/lost.sock")
    assert (
        "lost: socket would be restarted (its file was deleted); open "
        in spyglass(machine, "apply", "-n", "lost").stdout
    )
    assert (
        "lost: socket restarted (its file was deleted); open " in spyglass(machine, "apply").stdout
    )
    assert visit(machine.path("/run/spyglass/lost.sock")).status == 200
    assert spyglass(machine, "apply").stdout == "nothing to do\n"
    spyglass(machine, "doctor", "lost")
    spyglass(machine, "remove", "--purge", "lost")


def test_an_app_whose_settings_were_renamed_is_noticed_and_can_be_removed(machine: Machine) -> None:
    furnish(machine, "old", TELL, "listen = 8082\n")
    spyglass(machine, "apply", "old")
    machine.run("mv", "/etc/spyglass/old.toml", "/etc/spyglass/new.toml")
    said = "there is no /etc/spyglass/old.toml"
    assert said in spyglass(machine, "list").stdout
    assert f"{said}: spyglass remove old" in spyglass(machine, "status", "old", status=1).stdout
    assert f"{said}\n" in spyglass(machine, "doctor", "old", status=1).stdout
    refused = spyglass(machine, "apply", status=78)
    assert "8082: in use by spyglass@old.socket" in refused.stderr
    assert f"{said}, but spyglass@old.socket still exists: spyglass remove old\n" in refused.stdout
    spyglass(machine, "remove", "old")
    assert said not in spyglass(machine, "apply").stdout
    assert curl(machine, "localhost:8082")
    spyglass(machine, "remove", "--purge", "new")


def test_an_address_that_comes_late_costs_nothing_but_itself(machine: Machine) -> None:
    """As after a boot in which the network comes late, or on the standby of a floating
    address. IPv6 may be missing altogether.
    """
    machine.run("sysctl", "--quiet", "--write", "net.ipv6.conf.all.disable_ipv6=1")
    furnish(
        machine,
        "late",
        TELL,
        'listen = ["192.0.2.5:8085", "[2001:db8::5]:8085", "[::1]:8085", "127.0.0.1:8085", "/run/spyglass/late.sock"]\n',
    )
    said = spyglass(machine, "apply", "late").stdout
    assert (
        "late: no interface of this machine has 192.0.2.5 now; 192.0.2.5:8085 works as soon as one does\n"
        in said
    )
    machine.systemctl("restart", "spyglass@late.socket")
    assert curl(machine, "127.0.0.1:8085")
    assert visit(machine.path("/run/spyglass/late.sock")).status == 200
    doctor = spyglass(machine, "doctor", "late").stdout  # worth knowing, and no fault
    assert (
        "listens on 192.0.2.5:8085, [2001:db8::5]:8085, [::1]:8085, but no interface of this machine has that address now"
        in doctor
    )
    machine.run("sysctl", "--quiet", "--write", "net.ipv6.conf.all.disable_ipv6=0")
    for address, url in (
        ("192.0.2.5/32", "192.0.2.5:8085"),
        ("2001:db8::5/128", "[2001:db8::5]:8085"),
        ("::1/128", "[::1]:8085"),
    ):
        machine.run(
            "ip",
            "address",
            "add",
            address,
            "dev",
            "lo",
            *(["nodad"] if ":" in address else []),
            check=address != "::1/128",
        )
        assert curl(machine, url)
    assert "has that address now" not in spyglass(machine, "doctor", "late").stdout
    for address in ("192.0.2.5/32", "2001:db8::5/128"):
        machine.run("ip", "address", "del", address, "dev", "lo")
    assert spyglass(machine, "apply").stdout == "nothing to do\n"
    assert curl(machine, "127.0.0.1:8085")
    spyglass(machine, "remove", "--purge", "late")


def test_the_port_of_an_address_to_come_may_be_taken(machine: Machine) -> None:
    machine.systemctl("start", "spyglass.socket")
    furnish(machine, "later", TELL, 'listen = "192.0.2.5:4222"\n')
    assert (
        "192.0.2.5:4222: in use by spyglass.socket"
        in spyglass(machine, "apply", "later", status=78).stderr
    )
    machine.systemctl("stop", "spyglass.socket")
    machine.run("rm", "/etc/spyglass/later.toml")
