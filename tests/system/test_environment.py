"""Files of variables: what systemd takes of them is what we say that it does, and what
it ignores an administrator is told.
"""

from __future__ import annotations

import ast
import json

import pytest
from instance import TELL
from machine import Machine
from test_apply import curl, furnish, spyglass
from unit.test_env_files import IGNORED, TAKEN

UNIT = """\
[Service]
Type=oneshot
EnvironmentFile=/run/variables/%i
ExecStart=/usr/bin/python3 -c "import os; print({name: value for name, value in os.environ.items() if len(name) == 1}, file=open('/run/seen-%i', 'w'))"
"""
REFUSED = [b"A=1\nB=\xff\n", b"\xff=1\n", b"A=1\n\nB=x\0y\n"]
WRITE = """\
import ast, os, sys
os.mkdir("/run/variables")
for number, data in enumerate(ast.literal_eval(sys.stdin.read())):
    with open(f"/run/variables/{number}", "wb") as stream:
        stream.write(data)
"""
READ = """\
import os, sys
def seen(number):
    return eval(open(path).read()) if os.path.exists(path := f"/run/seen-{number}") else None
print([seen(number) for number in range(int(sys.argv[1]))])
"""

Seen = dict[bytes, dict[str, str] | None]


@pytest.fixture(scope="module")
def seen(machine: Machine) -> Seen:
    """What systemd takes of each file; None if it does not start the service."""
    files = [text.encode() for text in (*dict(TAKEN), *(text for text, _, _ in IGNORED))] + REFUSED
    machine.run("python3", "-c", WRITE, input=repr(files))
    machine.write("/run/systemd/system/takes@.service", UNIT)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", *(f"takes@{number}" for number in range(len(files))), check=False)
    taken = ast.literal_eval(machine.run("python3", "-c", READ, str(len(files))).stdout)
    return dict(zip(files, taken, strict=True))


@pytest.mark.parametrize("text", [text for text, _ in TAKEN] + [text for text, _, _ in IGNORED])
def test_systemd_takes_what_we_say(machine: Machine, seen: Seen, text: str) -> None:
    says = dict(TAKEN) | {case: names for case, names, _ in IGNORED}
    taken = seen[text.encode()]
    if text.startswith("# c \\") and machine.release == "bookworm":
        assert taken == {}
    else:
        assert taken is not None
        assert (
            taken == says[text] if isinstance(says[text], dict) else set(taken) == set(says[text])
        )


@pytest.mark.parametrize("data", REFUSED)
def test_systemd_does_not_start_the_service(seen: Seen, data: bytes) -> None:
    assert seen[data] is None


@pytest.mark.one_release
def test_lines_without_effect_are_told(machine: Machine) -> None:
    furnish(
        machine, "told", TELL, 'listen = "127.0.0.1:8097"\nenvironment_file = "/etc/told.env"\n'
    )
    machine.write("/etc/told.env", "GOOD=1\nexport BETTER=sesame\n", 0o600)
    machine.write("/etc/spyglass/told.env", "\ufeffSECRET=sesame\n", 0o600)
    lines = [
        "/etc/spyglass/told.env:1: a byte order mark before the name (save the file without one): systemd ignores it",
        "/etc/told.env:2: 'export' before the name is shell syntax (write NAME=value): systemd ignores it",
    ]
    assert [
        line
        for line in spyglass(machine, "check", "told").stdout.splitlines()
        if line.startswith("warning: ")
    ] == [f"warning: {each}" for each in lines]
    for _ in range(2):
        assert [
            line
            for line in spyglass(machine, "apply", "told").stdout.splitlines()
            if ".env:" in line
        ] == [f"told: {each}" for each in lines]
    findings = json.loads(spyglass(machine, "doctor", "--json", "told").stdout)
    assert [finding["what"] for finding in findings if finding["where"] == "told"] == lines
    assert not any(finding["grave"] for finding in findings)
    assert curl(machine, "localhost:8097")

    machine.run("sh", "-c", "printf 'A=\\377\\n' >/etc/told.env")
    for command in ("apply", "check"):
        assert (
            "/etc/told.env:1: not UTF-8: systemd rejects the whole file\n"
            in spyglass(machine, command, "told", status=78).stderr
        )
    assert "/etc/told.env:1: not UTF-8" in spyglass(machine, "doctor", "told", status=1).stdout
    machine.run("rm", "/etc/told.env")
    spyglass(machine, "remove", "--purge", "told")
