"""What `apply` reports of an app that it has tried: the reason, in one line."""

import sys
from types import SimpleNamespace

import pytest

from spyglass.errors import StartError
from spyglass.ops.apply import saved_settings
from spyglass.ops.check import app_trial, sandboxed_check
from spyglass.ops.check.sandboxed_check import CheckResult

STEP = SimpleNamespace(
    name="a", app=SimpleNamespace(config=SimpleNamespace(start_timeout=60)), service={}
)


@pytest.fixture
def check(monkeypatch):
    """check(result, stderr): how the check of the app ends, or the error it raises."""
    monkeypatch.setattr(saved_settings, "drop_ins", lambda app: {})
    monkeypatch.setattr(saved_settings, "unit_texts", lambda *_: {})

    def ends(result, said=""):
        def run(*_):
            print("printed by the app")
            print(said, end="", file=sys.stderr)
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(sandboxed_check, "run_in_sandbox", run)

    return ends


@pytest.mark.parametrize(
    ("result", "said", "why"),
    [
        (CheckResult(0), "spyglass: a note\n", ""),
        (CheckResult(78, "exit-code"), "x\nspyglass: KeyError: 'X'\nTraceback\n  x\n", "KeyError: 'X'"),
        (CheckResult(78, "exit-code"), "spyglass: forged\nspyglass: true\n", "true"),
        (CheckResult(78, "exit-code"), "a: cannot be served: no 'x'\n", "no 'x'"),
        (CheckResult(78, "exit-code"), "spyglass: \x1b[31mred\n", r"\x1b[31mred"),
        (CheckResult(243, "exit-code", ["no credential db"]), "", "no credential db"),
        (CheckResult(None, "oom-kill"), "", "its check ended: oom-kill"),
        (StartError("another check runs"), "", "it could not be tried: another check runs"),
    ],
)  # fmt: skip
def test_the_reason(check, capsys, result, said, why):
    check(result, said)
    assert app_trial.why_broken(STEP) == why
    assert app_trial.broken_apps([STEP]) == ({"a": why} if why else {})
    assert capsys.readouterr() == ("", "")
