"""Commands that run as an app are not there while its data is copied, moved or deleted."""

import pytest

from spyglass.errors import ConfigError
from spyglass.ops.guards import locks, running_commands
from spyglass.ops.systemd import systemctl


@pytest.fixture
def states(monkeypatch):
    """{unit: ActiveState} of what systemd knows."""
    found = {}
    monkeypatch.setattr(
        systemctl,
        "units",
        lambda pattern: [unit for unit in found if unit.startswith(pattern.partition("*")[0])],
    )
    monkeypatch.setattr(
        systemctl, "show", lambda units, _: {unit: {"ActiveState": found[unit]} for unit in units}
    )
    return found


@pytest.mark.parametrize("state", ["activating", "deactivating", "active"])
@pytest.mark.parametrize("unit", ["spyglass-run-7@blog.service", "spyglass-check@blog.service"])
def test_a_command_that_runs_is_named(states, unit, state):
    states[unit] = state
    with pytest.raises(ConfigError, match=f"as blog .*not exported: .*systemctl stop {unit}$"):
        running_commands.refuse_running(["blog"], "exported")


@pytest.mark.parametrize("state", ["inactive", "failed"])
def test_one_that_has_ended_is_no_matter(states, state):
    states["spyglass-run-7@blog.service"] = state
    running_commands.refuse_running(["blog"], "exported")


def test_both_sides_have_one_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(locks.path_ownership, "weakness", lambda path: "")
    monkeypatch.setattr(locks, "_TIMEOUT", 0.0)
    with (
        running_commands.data_locked("blog"),
        pytest.raises(locks.LockedError, match="using the data of blog"),
        running_commands.data_locked("blog"),
    ):
        pass
    with running_commands.data_locked("blog"), running_commands.data_locked("news"):
        pass
