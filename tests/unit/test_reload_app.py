"""`spyglass reload NAME`: what it says of each way in which a reload ends, and its exit
status.
"""

import os
import socket
import subprocess
import time

import pytest

from spyglass import cli
from spyglass.master.reload_socket import Outcome
from spyglass.ops.apply import older_settings, reload_app
from spyglass.ops.status import app_status, master_report
from spyglass.ops.status.app_status import ASLEEP, AWAKE, FAILING, LEAVING, OFF, WAKING
from spyglass.ops.systemd import systemctl

UNIT = "spyglass@hello.service"
JOB = f"Job for {UNIT} failed."
TRACEBACK = '  File "/srv/app.py", line 6\n    x = (\n        ^\nSyntaxError: unclosed\n'


def app(state, active="active", status="", trouble="", socket="active", outcome=None):
    service = {"Id": UNIT, "ActiveState": active, "StatusText": status, "MainPID": "7"}
    made = app_status.AppStatus("hello", {"ActiveState": socket}, service, state, trouble)
    made.reloaded = outcome
    return made


def broken(why="SyntaxError: unclosed (app.py, line 6)", details=TRACEBACK):
    return Outcome(78, 0.1, 2.0, why, details)


SERVES = "awake: 1 worker"
RESTING = [
    (app(ASLEEP, "inactive"), 0, "asleep, the next request loads the new code"),
    (app(LEAVING, "deactivating"), 0, "leaving, the next request loads the new code"),
    (app(OFF, "inactive", socket="inactive"), 0, "off, nothing to reload: its next start loads the new code"),
    (
        app(FAILING, "failed", trouble="KeyError: 'a'"), 0,
        "not running, the next request loads the new code (before: KeyError: 'a')",
    ),
    (
        app(FAILING, "inactive", trouble="its socket has failed", socket="failed"), 1,
        "not reloaded: its socket has failed; see 'spyglass doctor hello'",
    ),
    (app(FAILING, "inactive", trouble="there is no hello.toml: spyglass remove hello"), 1, "not reloaded: there is no hello.toml: spyglass remove hello"),
]  # fmt: skip
SUCCEEDED = [
    (app(AWAKE, outcome=Outcome(0, 0.15, 2.0)), 0, "new code serves after 0.15 s"),
    (app(FAILING, trouble="its socket was deleted", outcome=Outcome(0, 0.15, 2.0)), 0, "new code serves after 0.15 s"),
    (app(AWAKE), 0, "new code serves after 3.00 s"),  # an ordinary user: systemctl's time
    (app(ASLEEP, "inactive"), 0, "asleep, the next request loads the new code"),
    (app(WAKING), 0, "waking, with the new code"),
    (app(FAILING, trouble="boom"), 1, "not reloaded: boom"),
    (
        app(AWAKE, outcome=broken()), 1,  # Type=notify-reload
        "the new code cannot be loaded, the old one keeps serving: SyntaxError: unclosed (app.py, line 6)",
    ),
]  # fmt: skip
FAILED = [
    (
        app(AWAKE, outcome=broken()), JOB,
        "the new code cannot be loaded, the old one keeps serving: SyntaxError: unclosed (app.py, line 6)",
    ),
    (
        app(FAILING, trouble="x", status="failing: x", outcome=broken()), JOB,
        "the new code cannot be loaded, the app answers 503: SyntaxError: unclosed (app.py, line 6)",
    ),
    (
        app(AWAKE, status=f"{SERVES}; reload failed: KeyError: 'a; b'"), JOB,
        "the new code cannot be loaded, the old one keeps serving: KeyError: 'a; b'",
    ),
    (
        app(AWAKE, status=f"{SERVES}; reload failed: of yesterday"), "Access denied",
        f"not reloaded: Access denied (journalctl -u {UNIT})",
    ),
    (app(WAKING, "activating"), reload_app._WAKING, f"not reloaded: {reload_app._WAKING}"),
    (app(AWAKE, status=SERVES), JOB, f"not reloaded: {JOB} (journalctl -u {UNIT})"),
    (
        app(ASLEEP, "inactive"), "Job for it canceled.",
        "the reload was cancelled, because the app stopped; now asleep, the next request loads the new code",
    ),
    (
        app(LEAVING, outcome=Outcome(69, 0.1, 2.0, "the app is stopping")), JOB,
        "the reload was cancelled, because the app stopped; now leaving, the next request loads the new code",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("found", "status", "said"), RESTING)
def test_app_without_a_process_has_nothing_to_reload(found, status, said):
    result = reload_app.resting(found)
    assert (result.status, result.said) == (status, said)


def test_app_that_systemd_restarts_needs_no_reload():
    found = app(FAILING, "activating", trouble="it ended (status 1) and is being restarted")
    found.service["SubState"] = "auto-restart"
    assert reload_app.resting(found).said == (
        "not running, its next start loads the new code "
        "(before: it ended (status 1) and is being restarted)"
    )


@pytest.mark.parametrize(("found", "status", "said"), SUCCEEDED)
def test_success_is_told(found, status, said):
    result = reload_app.succeeded(app(AWAKE), found, 3.0)
    assert (result.status, result.said) == (status, said)


@pytest.mark.parametrize(("found", "printed", "said"), FAILED)
def test_failure_is_told_whole_and_first(found, printed, said):
    result = reload_app.failed(app(AWAKE), found, printed)
    assert (result.status, result.said) == (1, said)


@pytest.mark.parametrize(
    "said",
    [
        f"Failed to reload-or-try-restart {UNIT}: Access denied",
        f"Failed to reload-or-try-restart {UNIT}: Interactive authentication required.",
    ],
)
def test_another_user_is_told_to_be_root(monkeypatch, said):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = reload_app.failed(app(AWAKE), app(AWAKE, status=SERVES), said)
    assert (result.status, result.said) == (
        1, "not reloaded: only root may reload an app through systemd: sudo spyglass reload hello",
    )  # fmt: skip


def test_app_that_was_restarted_meanwhile_has_the_new_code():
    after = app(AWAKE)
    after.service["InvocationID"] = "another"
    result = reload_app.failed(app(AWAKE), after, f"Job for {UNIT} canceled.")
    assert (result.status, result.said) == (0, "restarted meanwhile, with the new code")


def test_traceback_and_hint_follow_the_reason():
    assert reload_app.failed(app(AWAKE), app(AWAKE, outcome=broken()), JOB).details == [
        '    File "/srv/app.py", line 6',
        "      x = (",
        "          ^",
        "  SyntaxError: unclosed",
        "(to try a fix without a reload: spyglass check hello)",
    ]


@pytest.mark.parametrize(("uid", "more"), [(1000, ", or this command as root"), (0, "")])
def test_without_an_answer_it_says_where_the_traceback_is(monkeypatch, uid, more):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    found = app(AWAKE, status=f"{SERVES}; reload failed: boom")
    [hint] = reload_app.failed(app(AWAKE), found, JOB).details
    assert hint == f"(the traceback: journalctl -u {UNIT}{more})"


def test_a_fault_without_a_traceback_promises_none():
    found = app(AWAKE, outcome=broken("ModuleNotFoundError: No module named 'app'", ""))
    assert reload_app.failed(app(AWAKE), found, JOB).details == [
        "(to try a fix without a reload: spyglass check hello)"
    ]


@pytest.mark.parametrize(
    ("state", "status", "serves"),
    [(AWAKE, SERVES, "the old ones stay in force"), (FAILING, "failing: x", "the app answers 503")],
)
def test_settings_that_cannot_be_read_are_not_called_code(state, status, serves):
    why = "/etc/spyglass/hello.toml:4: unknown setting 'backlog'"
    found = app(state, status=status, outcome=broken(why, ""))
    result = reload_app.failed(app(AWAKE), found, JOB)
    assert result.said == f"the new settings cannot be read, {serves}: {why}"


# The command


@pytest.fixture
def machine(monkeypatch):
    """machine(*states, reload=(status, stderr)): systemd with the app hello in these
    states, one after the other; `.asked` has the units that it was to reload.
    """

    def new(*states, reload=(0, ""), warning=""):
        waiting, asked = list(states), []

        def ask(unit):
            asked.append(unit)
            return subprocess.CompletedProcess([], reload[0], "", reload[1])

        monkeypatch.setattr(app_status, "names", lambda: ["hello"])
        monkeypatch.setattr(app_status, "query", lambda names: [waiting.pop(0)])
        monkeypatch.setattr(systemctl, "reload", ask)
        monkeypatch.setattr(older_settings, "describe", lambda app: warning)
        return asked

    return new


def test_sleeping_app_is_left_alone(machine, capsys):
    asked = machine(app(ASLEEP, "inactive"))
    assert cli.main(["reload", "hello"]) == 0
    assert asked == []
    assert capsys.readouterr() == ("hello: asleep, the next request loads the new code\n", "")


def test_awake_app_is_reloaded_by_systemd(machine, capsys):
    done = Outcome(0, 0.15, time.monotonic() + 60)
    asked = machine(app(AWAKE), app(AWAKE, outcome=done))
    assert cli.main(["reload", UNIT]) == 0
    assert asked == [UNIT]
    assert capsys.readouterr() == ("hello: new code serves after 0.15 s\n", "")


def test_outcome_of_an_earlier_reload_is_not_taken_for_this_one(machine, capsys):
    old = Outcome(0, 9.99, time.monotonic() - 60)
    machine(app(AWAKE), app(AWAKE, outcome=old))
    assert cli.main(["reload", "hello"]) == 0
    assert "9.99" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b"0 \n", 0, "new code serves after 0.15 s"),
        (b"", 1, f"not reloaded: the Master has ended (journalctl -u {UNIT})"),
        (b"69 the app is stopping\n", 1, f"not reloaded: the app is stopping (journalctl -u {UNIT})"),
        (None, 1, f"not reloaded: {reload_app._WAKING}"),
    ],
)  # fmt: skip
def test_waking_app_is_told_to_start_over(machine, monkeypatch, capsys, answer, status, said):
    """systemd takes the start that is under way for the reload."""
    ours, masters = socket.socketpair()
    if answer is not None:
        masters.send(answer)
    masters.close()

    def connect(path, pid):
        assert (path, pid) == ("/var/lib/spyglass/hello/.spyglass-reload", 7)
        return None if answer is None else ours

    monkeypatch.setattr(master_report, "connect", connect)
    done = Outcome(0, 0.15, time.monotonic() + 60) if status == 0 else None
    asked = machine(app(WAKING, "activating"), app(AWAKE, outcome=done))
    assert cli.main(["reload", "hello"]) == status
    assert asked == []
    assert "".join(capsys.readouterr()) == f"hello: {said}\n"
    ours.close()


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ([app(ASLEEP, "inactive")], "asleep, the next request loads the new code"),
        ([app(AWAKE), app(AWAKE, outcome=Outcome(0, 0.15, 1e9))], "new code serves after 0.15 s"),
    ],
)
def test_what_needs_apply_is_a_warning(machine, capsys, states, said):
    machine(*states, warning="running with older settings: hello.env changed")
    assert cli.main(["reload", "hello"]) == 0
    assert capsys.readouterr() == (
        f"hello: {said}\n",
        "hello: running with older settings: hello.env changed\n",
    )


def test_failure_goes_to_stderr_without_control_characters(machine, capsys):
    done = Outcome(78, 0.1, time.monotonic() + 60, "boom \x1b[31m", "  File\n\x1b]0;x\x07")
    machine(app(AWAKE), app(AWAKE, outcome=done), reload=(1, f"{JOB}\nSee journalctl."))
    assert cli.main(["reload", "hello"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hello: the new code cannot be loaded, the old one keeps serving: boom ")
    assert "\x1b" not in err


def test_what_it_says_is_wrapped_and_a_traceback_is_not(machine, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    line = '  File "/srv/app.py", line 6, in a_function_with_a_long_name: x'
    done = Outcome(78, 0.1, time.monotonic() + 60, "KeyError: 'a'", line)
    machine(app(AWAKE), app(AWAKE, outcome=done), reload=(1, JOB))
    assert cli.main(["reload", "hello"]) == 1
    assert capsys.readouterr().err.splitlines()[:3] == [
        "hello: the new code cannot be loaded, the old one keeps",
        "    serving: KeyError: 'a'",
        f"  {line}",
    ]
    machine(
        app(ASLEEP, "inactive"),
        warning="saved, but not applied: memory_max unset -> 1G, a.env changed",
    )
    assert cli.main(["reload", "hello"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "hello: saved, but not applied: memory_max unset -> 1G, a.env",
        "    changed",
    ]


@pytest.mark.parametrize(
    ("name", "more"),
    [("helo", ", did you mean 'hello'?"), ("x", "; 'spyglass list' shows all apps"), ("../A", "; 'spyglass list' shows all apps")],
)  # fmt: skip
def test_unknown_app_is_an_error(machine, capsys, name, more):
    machine()
    assert cli.main(["reload", name]) == 4
    assert capsys.readouterr().err == f"spyglass: there is no app {name!r}{more}\n"


def test_without_systemd_it_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert cli.main(["reload", "hello"]) == 69
    err = capsys.readouterr().err
    assert err.startswith("spyglass: systemctl not found: this command needs systemd")
    assert "send SIGHUP to the lookout" in err


def test_systemctl_reloads_only_what_runs(tmp_path, monkeypatch):
    fake = tmp_path / "systemctl"
    fake.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\necho no >&2\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done = systemctl.reload(UNIT)
    assert (done.returncode, done.stderr) == (1, "no\n")
    assert (tmp_path / "asked").read_text() == f"--no-pager try-reload-or-restart -- {UNIT}\n"
