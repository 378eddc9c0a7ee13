"""The copy of a service that only checks: what is copied, what is dropped, and its
command.
"""

import contextlib
import pathlib
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.ops.check import sandboxed_check
from spyglass.ops.files import atomic_files
from spyglass.ops.units import service_copy

UNIT = """\
# A comment
[Unit]
Description=x
Requires=spyglass@%i.socket
JoinsNamespaceOf=other.service
[Service]
Type=notify
ExecStart=/usr/bin/spyglass serve --name %i
ExecReload=/usr/bin/spyglass reload
WatchdogSec=30
User=spyglass-%i
Environment=HOME=%S/spyglass/%i UNIT=%n \\
; between
    NAME=%p 100%%n
[Install]
WantedBy=multi-user.target
"""


def lines(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def last(text, key):
    return [line for line in lines(text) if line.startswith(f"{key}=")][-1]


def test_directives_that_are_copied_or_dropped():
    made = sandboxed_check.check_unit("blog", [UNIT])
    unit, service = made.split("[Service]")
    assert lines(unit) == [
        "[Unit]",
        "Description=Check of the app %i",
        "StartLimitIntervalSec=0",
        "JoinsNamespaceOf=other.service",
    ]
    assert "User=spyglass-%i" in lines(service)
    assert (
        "Environment=HOME=%S/spyglass/%i UNIT=spyglass@blog.service      NAME=spyglass 100%%n"
        in lines(service)
    )
    assert [line for line in lines(made) if line.startswith("Exec")] == [
        "ExecStart=/usr/bin/spyglass check --name %i"
    ]
    assert last(made, "Type") == "Type=oneshot"
    assert last(made, "WatchdogSec") == "WatchdogSec=0"
    assert "WantedBy" not in made


def test_unit_times_out_even_if_the_app_blocks_the_check():
    made = sandboxed_check.check_unit(
        "blog", [UNIT, "[Service]\nTimeoutStartSec=infinity\n"], timeout=90.0
    )
    assert last(made, "TimeoutStartSec") == "TimeoutStartSec=90"


def test_drop_in_takes_precedence():
    drop_in = "[Service]\nUser=\nUser=blog\nExecStartPre=/bin/migrate\nExecStart=\nExecStart=/srv/venv/bin/spyglass serve --name %i\nSockets=x.socket\n"
    made = sandboxed_check.check_unit("blog", [UNIT, drop_in])
    assert last(made, "User") == "User=blog"
    assert [line for line in lines(made) if line.startswith("Exec")] == [
        "ExecStart=/srv/venv/bin/spyglass check --name %i"
    ]
    assert "Sockets" not in made


def test_serve_in_a_path_is_not_replaced():
    made = sandboxed_check.check_unit(
        "blog", ["[Service]\nExecStart=/srv/serve/bin/spyglass serve --name %i --app serve\n"]
    )
    assert (
        last(made, "ExecStart") == "ExecStart=/srv/serve/bin/spyglass check --name %i --app serve"
    )


def test_other_program_is_rejected():
    with pytest.raises(
        service_copy.SandboxError, match="does not run Spyglass: ExecStart=/usr/bin/gunicorn x"
    ):
        sandboxed_check.check_unit("blog", ["[Service]\nExecStart=/usr/bin/gunicorn x\n"])


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])))
def test_words_are_passed_unchanged(word):
    made = sandboxed_check.check_unit("blog", [UNIT], [word])
    said = last(made, "ExecStart").removeprefix("ExecStart=/usr/bin/spyglass check --name %i ")
    assert said.isascii()
    # systemd undoes quotes and escapes, then %% and $$.
    [plain] = (
        shlex.split(said.replace("\\x", "@@x"))
        if "\\x" not in word
        else [said[1:-1].replace("\\x", "@@x")]
    )
    plain = plain.replace("%%", "%").replace("$$", "$")
    parts = plain.split("@@x")
    assert (
        parts[0].encode()
        + b"".join(bytes([int(part[:2], 16)]) + part[2:].encode() for part in parts[1:])
        == word.encode()
    )


def test_invalid_utf8_in_a_drop_in_is_copied(tmp_path, monkeypatch):
    """systemd skips such a line; the check must not fail because of it."""
    drop_in = tmp_path / "drop-in.conf"
    drop_in.write_bytes(b"[Service]\nEnvironment=NAME=caf\xe9\n")
    monkeypatch.setattr(service_copy, "UNITS", str(tmp_path))
    monkeypatch.setattr(sandboxed_check.systemctl, "run", lambda *_: None)
    monkeypatch.setattr(sandboxed_check.locks, "held", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(
        sandboxed_check, "_pipes", lambda _: contextlib.nullcontext({"/out": 0, "/err": 0})
    )
    copied = []

    def ran(unit, _pipes):
        copied.append(pathlib.Path(service_copy.path_of(unit)).read_bytes())
        return sandboxed_check.CheckResult(1)

    monkeypatch.setattr(sandboxed_check, "_run", ran)
    sandboxed_check.run_in_sandbox("blog", [UNIT, atomic_files.read(str(drop_in))], [], 60.0)
    assert b"\nEnvironment=NAME=caf\xe9\n" in copied[0]
    assert [path.name for path in tmp_path.iterdir()] == ["drop-in.conf"]
