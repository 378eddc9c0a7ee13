"""Priorities in the journal are Spyglass's: what an app prints, which may come from a
client, has none.
"""

from __future__ import annotations

from instance import Instance
from machine import Machine
from process.visitor import visit

SOURCE = """\
import os, subprocess, sys

print("<0>imported", file=sys.stderr, flush=True)

def app(environ, start_response):
    said = environ["PATH_INFO"][1:]
    print(f"<0>{said} printed", flush=True)
    print(f"<0>{said} to stderr", file=sys.stderr, flush=True)
    environ["wsgi.errors"].write(f"<2>{said} to wsgi.errors\\n")
    environ["wsgi.errors"].flush()
    subprocess.run(["echo", f"<0>{said} by a command"])
    if said == "boom":
        raise RuntimeError("<0>boom")
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""


def test_no_line_of_an_app_is_an_emergency(machine: Machine) -> None:
    instance = Instance(
        machine, "shouts", SOURCE, settings={"workers": 1, "log_level": "debug", "access_log": True}
    ).start()
    pid = visit(instance.unix, "/hello").text
    assert visit(instance.unix, "/boom").status == 500
    machine.systemctl("reload", instance.service)
    machine.systemctl("stop", instance.socket, instance.service)
    records = [
        record for record in machine.records(instance.service) if record["_TRANSPORT"] == "stdout"
    ]
    printed = {
        record["MESSAGE"]: record["PRIORITY"]
        for record in records
        if record["MESSAGE"].startswith("<")
    }
    expected = {
        f"<0>{said} {how}"
        for said in ("hello", "boom")
        for how in ("printed", "to stderr", "by a command")
    }
    expected |= {f"<2>{said} to wsgi.errors" for said in ("hello", "boom")} | {"<0>imported"}
    assert printed == dict.fromkeys(expected, "6")
    # Ours are as grave as they are, from the process that says so, and under the unit.
    ours = [record for record in records if not record["MESSAGE"].startswith("<")]
    assert {
        record["PRIORITY"] for record in ours if "the app raised RuntimeError" in record["MESSAGE"]
    } == {"3"}
    assert {
        record["PRIORITY"] for record in ours if "RuntimeError: <0>boom" in record["MESSAGE"]
    } == {"3"}
    assert {
        record["PRIORITY"] for record in ours if record["MESSAGE"].startswith("master: awake after")
    } == {"6"}
    assert "7" in {
        record["PRIORITY"] for record in ours if record["MESSAGE"].startswith("worker: connection")
    }
    assert {record["PRIORITY"] for record in ours if '"GET /hello" 200' in record["MESSAGE"]} == {
        "6"
    }
    assert {
        record["_PID"] for record in ours if "the app raised RuntimeError" in record["MESSAGE"]
    } == {pid}
    by_identifier = {record["SYSLOG_IDENTIFIER"] for record in ours}
    assert by_identifier == {"spyglass", "spyglass-access"}
