"""`spyglass doctor` on how an app fares and keeps its secrets, and on what it could not
look at.
"""

import os
import tempfile
from pathlib import Path

import pytest

from spyglass.config import settings
from spyglass.master import counters
from spyglass.ops.app import apps
from spyglass.ops.apply import older_settings
from spyglass.ops.apply.running_settings import Action, Difference
from spyglass.ops.doctor_checks import running, secrets
from spyglass.ops.files import path_ownership
from spyglass.ops.output.finding import Finding
from spyglass.ops.status import app_status, state_directory


@pytest.fixture
def etc(monkeypatch):
    """/etc/spyglass, readable by all (which tmp_path is not), with files whose owner
    could be root.
    """
    monkeypatch.setattr(path_ownership, "weakness", lambda path: "")
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        monkeypatch.setattr(settings, "DIRECTORY", directory)
        yield Path(directory)


def write(path, text, mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return path


def app(etc, text=""):
    write(etc / "blog.toml", text, 0o644)
    return apps.read("blog")


SECRETS = ["SECRET_KEY=x", "DB_PASSWORD=x", "api_token=x", "STRIPE_API_KEY=x", "KEY=x", "SENTRY_DSN=x", "DATABASE_URL=postgres://me:pw@db/x"]  # fmt: skip
HARMLESS = ["DEBUG=1", "SECRET_KEY=", "KEYBOARD=x", "DATABASE_URL=postgres:///x", "URL=http://db/x@y", "PASSAGE=x", "TZ=UTC"]  # fmt: skip


@pytest.mark.parametrize("line", SECRETS)
def test_secret_in_a_public_file_of_variables(etc, line):
    file = write(etc / "blog.env", f"{line}\n", 0o644)
    [finding] = secrets.examine("blog", app(etc))
    assert finding.what == (
        f"{file} is readable by all users, and {line.partition('=')[0]} looks like a secret"
    )
    assert (finding.grave, finding.cure) == (True, [f"chmod o= {file}"])
    file.chmod(0o640)
    assert secrets.examine("blog", app(etc)) == []


@pytest.mark.parametrize("line", HARMLESS)
def test_public_file_without_secrets(etc, line):
    write(etc / "blog.env", f"{line}\n", 0o644)
    assert secrets.examine("blog", app(etc)) == []


def test_file_in_a_private_directory_is_not_public(etc):
    (etc / "private").mkdir(mode=0o750)
    file = write(etc / "private" / "more.env", "SECRET=x\n", 0o644)
    assert secrets.examine("blog", app(etc, f"environment_file = ['{file}']\n")) == []
    (etc / "private").chmod(0o755)
    [finding] = secrets.examine("blog", app(etc, f"environment_file = ['{file}']\n"))
    assert finding.what.startswith(f"{file} is readable by all users")


def test_public_credential(etc):
    file = write(etc / "blog.key", "x", 0o644)
    known = app(etc, f"credentials = {{ key = '{file}' }}\n")
    [finding] = secrets.examine("blog", known)
    assert finding.what == f"{file}, the credential key, is readable by all users"
    file.chmod(0o600)
    assert secrets.examine("blog", known) == []


def test_secret_in_the_settings_is_public_whatever_their_mode(etc):
    text = "workers = 2\n[environment]\nTZ = 'UTC'\nSECRET_KEY = 'hunter2'\n"
    known = app(etc, text)
    (etc / "blog.toml").chmod(0o600)
    [finding] = secrets.examine("blog", known)
    assert finding.what == f"{etc}/blog.toml:2: environment: SECRET_KEY looks like a secret"
    assert f"move it to {etc}/blog.env" in finding.why
    assert finding.cure[-1] == "spyglass apply blog"
    assert "hunter2" not in str(vars(finding))


def test_ignored_lines_of_an_instance_without_settings(etc):
    write(etc / "blog.env", "export A=1\nB=2\n")
    [finding] = secrets.examine("blog", None)
    assert finding.what.startswith(f"{etc}/blog.env:1: 'export' before the name")
    assert secrets.examine("blog", app(etc)) == []  # apps.examine() reports it


def test_unreadable_file_is_not_inspected(etc, monkeypatch):
    write(etc / "blog.env", "A=1\n")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(secrets.untrusted_files, "read", denied)
    [gap] = secrets.examine("blog", app(etc))
    assert (gap.inspected, gap.grave, gap.what) == (False, False, f"{etc}/blog.env")


# How it fares


def status(state=app_status.AWAKE, **facts):
    made = app_status.AppStatus("blog", {}, {}, state=state, record=counters.Record())
    for name, value in facts.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def differ(monkeypatch):
    """differ(found): what older_settings.look() finds."""
    return lambda found: monkeypatch.setattr(older_settings, "look", lambda app: found)


def test_app_that_fares_well_has_no_findings(differ):
    differ([])
    assert running.examine(status()) == []


def test_app_whose_every_request_fails_is_found(differ):
    differ([])
    failing = status()
    failing.record.recent_requests = failing.record.recent_errors = 3
    [finding] = running.examine(failing)
    assert finding.what.startswith("all 3 requests since the last wake failed")
    assert (finding.grave, finding.cure) == (True, ["spyglass status blog"])


def test_older_settings_are_found(differ):
    differ([Difference("workers 2 -> 3", Action.RELOAD)])
    [finding] = running.examine(status())
    assert finding.what == "it runs with older settings: workers 2 -> 3"
    assert finding.cure == ["spyglass apply blog"]


def test_older_settings_that_only_root_can_see(differ):
    differ(None)
    [gap] = running.examine(status())
    assert (gap.inspected, gap.what) == (False, "whether the saved settings are in force")


def test_whatever_list_shows_in_red_is_found():
    failing = status(app_status.FAILING, trouble="boom")
    [finding] = running.unexplained(failing, [Finding("blog", "x", "y", grave=False)])
    assert (finding.what, finding.grave) == ("it is failing: boom", True)
    assert running.unexplained(failing, [Finding("blog", "x", "y")]) == []
    assert running.unexplained(status(), []) == []


@pytest.mark.parametrize(
    ("facts", "whats"),
    [
        ({}, []), ({"unread": "/x: Permission denied"}, ["counts, stored files and byte code"]),
        ({"unread": "/x is damaged"}, ["counts"]),
    ],
)  # fmt: skip
def test_unreadable_counts_are_not_inspected(facts, whats):
    found = running.uninspected(status(**facts), None)
    assert [gap.what for gap in found] == whats
    assert not any(gap.inspected for gap in found)


def test_counts_of_a_silent_master_are_not_inspected():
    silent = status()
    silent.record.awake, silent.record.written = 1, 5.0
    [gap] = running.uninspected(silent, None)
    assert gap.what == "how its requests went in the last seconds"


@pytest.mark.parametrize(
    ("faults", "uid", "what"),
    [
        (["blog.toml: Permission denied"], 1000, "blog.toml and what it names"),
        (["blog.toml:1: wrong"], 0, "environment files, credentials and paths"),
        ([], 1000, "users, addresses and paths of its settings"),
    ],
)
def test_what_a_settings_file_hides_is_not_inspected(monkeypatch, faults, uid, what):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    [gap] = running.uninspected(status(), apps.App("blog", "blog.toml", faults=faults))
    assert gap.what == what


def test_directory_with_too_many_files_is_not_inspected(tmp_path, monkeypatch):
    monkeypatch.setattr(state_directory, "STATE", str(tmp_path))
    monkeypatch.setattr(state_directory, "_LIMIT", 2)
    directory = tmp_path / "private" / "spyglass" / "blog"
    directory.mkdir(parents=True)
    for number in range(3):
        (directory / str(number)).touch()
    if os.geteuid() == 0:
        for path in (directory, *directory.iterdir()):
            os.chown(path, 1000, 1000)
    [gap] = state_directory.examine("blog", "")
    assert not gap.inspected
    assert "more than 2" in gap.why
