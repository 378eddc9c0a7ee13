"""`spyglass list` and `status`: what they make of the answers of systemctl and
journalctl, and how they show it.
"""

import json
import os
import socket
import subprocess
import time
import tomllib
from types import SimpleNamespace

import pytest

from spyglass.config import settings
from spyglass.config.unit_settings import address
from spyglass.master import counters
from spyglass.master.reload_socket import Outcome
from spyglass.master.report_socket import Report
from spyglass.ops import command_table
from spyglass.ops.addresses import address_owners
from spyglass.ops.app import effective_settings
from spyglass.ops.apply import older_settings, running_settings
from spyglass.ops.apply.running_settings import Action, Difference
from spyglass.ops.commands import list as listing
from spyglass.ops.output import terminal
from spyglass.ops.output.terminal import Column, Row
from spyglass.ops.status import app_processes, app_status, master_report
from spyglass.ops.status.app_status import ASLEEP, AWAKE, FAILING, LEAVING, OFF, WAKING
from spyglass.ops.systemd import journal, systemctl

LISTENING = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "listening",
    "Result": "success",
    "Listen": "/run/spyglass/blog.sock (Stream)",
}
DEAD = {
    "LoadState": "loaded",
    "ActiveState": "inactive",
    "SubState": "dead",
    "Result": "success",
    "StateDirectory": "spyglass/blog",
}
ACTIVE = DEAD | {
    "ActiveState": "active",
    "SubState": "running",
    "StatusText": "awake: 2 workers, 1 connection, 35 requests served",
}
STOPPED = LISTENING | {"ActiveState": "inactive", "SubState": "dead"}
FAILED = DEAD | {
    "ActiveState": "failed",
    "SubState": "failed",
    "Result": "exit-code",
    "ExecMainCode": "1",
}
STATES = [
    ("asleep", LISTENING, DEAD, ASLEEP, ""),
    ("awake", LISTENING, ACTIVE, AWAKE, ""),
    ("awake, without its socket", STOPPED, ACTIVE, AWAKE, ""),
    ("reloading", LISTENING, ACTIVE | {"ActiveState": "reloading"}, AWAKE, ""),
    ("has said nothing yet", LISTENING, ACTIVE | {"StatusText": ""}, AWAKE, ""),
    ("waking", LISTENING, DEAD | {"ActiveState": "activating", "SubState": "start"}, WAKING, ""),
    ("waking again", LISTENING, ACTIVE | {"StatusText": "waking: loading app:app"}, WAKING, ""),
    ("leaving", LISTENING, ACTIVE | {"StatusText": "leaving: 1 connection to finish"}, LEAVING, ""),
    ("stopping", LISTENING, ACTIVE | {"ActiveState": "deactivating"}, LEAVING, ""),
    ("failing", LISTENING, ACTIVE | {"StatusText": "failing: KeyError: 'a: b'"}, FAILING, "KeyError: 'a: b'"),
    ("has failed, broken", LISTENING, FAILED | {"ExecMainStatus": "78", "StatusText": "leaving"}, FAILING, app_status.BROKEN),
    ("was not started", LISTENING, FAILED | {"ExecMainStatus": "217"}, FAILING, "it ended: status 217"),
    ("was killed", LISTENING, FAILED | {"Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "9"}, FAILING, "it ended: killed by SIGKILL"),
    ("hung", LISTENING, FAILED | {"Result": "watchdog"}, FAILING, "it ended: watchdog"),
    (
        "is started again and again", LISTENING, FAILED | {"ActiveState": "activating", "SubState": "auto-restart", "ExecMainStatus": "203"}, FAILING,
        "it ended (status 203) and is being restarted",
    ),
    (
        "refuses all clients", LISTENING | {"ActiveState": "failed", "Result": "trigger-limit-hit"}, DEAD, FAILING,
        "its socket has failed (trigger-limit-hit): all connections are refused",
    ),
    ("off", STOPPED, DEAD, OFF, ""),
    ("off, and was broken", STOPPED, FAILED | {"ExecMainStatus": "78"}, OFF, ""),
    ("found a masked service", STOPPED | {"ActiveState": "failed", "Result": "resources"}, DEAD | {"LoadState": "masked", "Id": "spyglass@blog.service"}, FAILING, "its socket has failed (spyglass@blog.service is masked): all connections are refused"),
    ("cannot be loaded", STOPPED | {"LoadState": "bad-setting", "Id": "spyglass@blog.socket"}, DEAD, OFF, "spyglass@blog.socket: bad-setting"),
    ("will fail at the next client", LISTENING, DEAD | {"LoadState": "masked", "Id": "spyglass@blog.service"}, FAILING, "spyglass@blog.service is masked: systemctl unmask spyglass@blog.service"),
    ("off, and its service is masked", STOPPED, DEAD | {"LoadState": "masked"}, OFF, ""),
    ("turned off", STOPPED | {"LoadState": "masked", "Id": "spyglass@blog.socket"}, DEAD, OFF, ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("socket", "service", "state", "trouble"),
    [case[1:] for case in STATES],
    ids=[case[0] for case in STATES],
)
def test_state_of_an_app(socket, service, state, trouble):
    assert app_status.state(socket, service) == (state, trouble)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """machine(NAME=(socket, service)): systemd with these units; `.states` has the
    state directories.
    """
    monkeypatch.setattr(app_status, "_STATE", str(tmp_path))
    monkeypatch.setattr(app_status.settings, "DIRECTORY", str(tmp_path / "etc"))
    monkeypatch.setattr(address_owners, "is_missing", lambda path: False)
    asked = []

    def new(**apps):
        def show(units, properties):
            asked.append(list(units))
            every = {}
            for unit in units:
                name = unit.partition("@")[2].rpartition(".")[0]
                socket, service = apps.get(name, (STOPPED, DEAD))
                every[unit] = {"Id": unit} | (
                    socket
                    if unit.endswith(".socket")
                    else service | {"StateDirectory": f"spyglass/{name}"}
                )
            return every

        monkeypatch.setattr(systemctl, "show", show)
        monkeypatch.setattr(
            systemctl, "units", lambda pattern: [systemctl.socket_of(name) for name in apps]
        )
        return SimpleNamespace(states=tmp_path / "spyglass", etc=tmp_path / "etc", asked=asked)

    return new


def test_deleted_socket_file_means_failing(machine, monkeypatch):
    machine(blog=(LISTENING, ACTIVE))
    monkeypatch.setattr(
        address_owners, "is_missing", lambda path: path == "/run/spyglass/blog.sock"
    )
    [view] = app_status.query(["blog"])
    assert (view.state, view.trouble) == (
        FAILING,
        "/run/spyglass/blog.sock was deleted, so no client can connect: spyglass apply blog",
    )


def test_socket_that_could_not_listen_names_what_has_its_address(machine):
    with socket.create_server(("127.0.0.1", 0)) as rival:
        where = f"127.0.0.1:{rival.getsockname()[1]}"
        failed = {"ActiveState": "failed", "Result": "resources", "Listen": f"{where} (Stream)"}
        machine(blog=(LISTENING | failed, DEAD))
        [view] = app_status.query(["blog"])
        assert view.state == FAILING
        assert view.obstacle.startswith(f"{where}: in use by ")
        assert f"(pid {os.getpid()}" in view.obstacle
        assert view.trouble == (
            f"its socket could not listen, all connections are refused: {view.obstacle}"
        )
    [view] = app_status.query(["blog"])
    assert view.trouble == (
        "its socket has failed (resources): all connections are refused; "
        "it can listen now: spyglass apply blog"
    )
    # It still listens by the copies that its service has.
    machine(blog=(LISTENING | failed, ACTIVE))
    [view] = app_status.query(["blog"])
    assert (view.state, view.trouble) == (AWAKE, "")


@pytest.mark.parametrize(("service", "state"), [(DEAD, FAILING), (ACTIVE, AWAKE)])
def test_units_whose_settings_were_renamed_or_deleted(machine, service, state):
    serves = {"ExecStart": "{ argv[]=/usr/bin/spyglass serve --name blog ; }"}
    seen = machine(blog=(LISTENING, service | serves))
    [view] = app_status.query(["blog"])
    assert (view.state, view.trouble) == (
        state,
        f"there is no {seen.etc}/blog.toml: spyglass remove blog",
    )
    seen.etc.mkdir()
    (seen.etc / "blog.toml").touch()
    [view] = app_status.query(["blog"])
    assert view.trouble == ""


def keep(states, name, **facts):
    record = counters.Record()
    for fact, value in facts.items():
        setattr(record, fact, value)
    (states / name).mkdir(parents=True)
    (states / name / counters.NAME).write_text(record.text())


def test_systemd_is_asked_once_for_all(machine):
    here = machine(**{f"app{number}": (LISTENING, DEAD) for number in range(100)})
    (here.etc).mkdir()
    for name in ("app1", "only-a-file", "Not_A-Name"):
        (here.etc / f"{name}.toml").write_text("")
    names = app_status.names()
    assert names == sorted({f"app{number}" for number in range(100)} | {"only-a-file"})
    assert len(app_status.query(names)) == 101
    assert len(here.asked) == 1


def test_facts_about_a_sleeping_app(machine):
    here = machine(blog=(LISTENING, DEAD))
    keep(
        here.states,
        "blog",
        wakes=3,
        requests=40,
        woke=1_700_000_000.0,
        wake_ms=81.25,
        left=1_700_000_100.0,
        why="idle",
        interface="asgi",
    )
    [view] = app_status.query(["blog"])
    assert (view.state, view.woke, view.wake_ms, view.left, view.why) == (
        ASLEEP,
        1_700_000_000,
        81.25,
        1_700_000_100,
        "idle",
    )
    assert view.facts() == {
        "name": "blog", "state": "asleep", "trouble": None, "problems": [], "counted_at": None, "status": None, "enabled": False, "addresses": ["/run/spyglass/blog.sock"],
        "interface": "asgi", "workers": None, "memory": None, "wakes": 3, "requests": 40, "errors": 0, "failures": 0, "crashes": 0, "reloads": 0,
        "counted_since": None, "woke": "2023-11-14T22:13:20Z", "wake_ms": 81.2, "load_ms": None, "left": "2023-11-14T22:15:00Z", "why_left": "idle",
    }  # fmt: skip


def test_wake_time_begins_with_the_connection(machine):
    here = machine(
        blog=(
            LISTENING,
            ACTIVE
            | {
                "InactiveExitTimestampMonotonic": "5000000",
                "ActiveEnterTimestampMonotonic": "5100000",
            },
        )
    )
    keep(
        here.states,
        "blog",
        awake=1,
        wakes=1,
        woke=1.0,
        wake_ms=81.25,
        why="idle",
        left=1_700_000_000.0,
    )
    [view] = app_status.query(["blog"])
    assert view.wake_ms == pytest.approx(100)
    assert view.woke == pytest.approx(time.time() - time.monotonic() + 5.1, abs=1)
    assert (view.left, view.why, view.workers) == (1_700_000_000, "idle", 2)


def test_killed_app_has_no_reason_of_its_own(machine):
    here = machine(
        blog=(LISTENING, DEAD),
        other=(
            LISTENING,
            FAILED | {"Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "9"},
        ),
    )
    keep(here.states, "blog", awake=1, why="idle", left=1.0)
    keep(here.states, "other", awake=1, why="idle", left=1.0)
    (here.states / "other").chmod(0o755)
    killed, other = app_status.query(["blog", "other"])
    assert (killed.why, killed.left) == (counters.KILLED, None)
    assert other.trouble == "it ended: killed by SIGKILL"


def test_waking_app_was_not_killed(machine):
    wakes = DEAD | {"ActiveState": "activating", "SubState": "start", "MainPID": "7"}
    here = machine(
        blog=(LISTENING, wakes),
        other=(LISTENING, wakes | {"MainPID": "0", "SubState": "auto-restart"}),
    )
    keep(here.states, "blog", awake=1, why="idle", left=1.0)
    keep(here.states, "other", awake=1, why="idle", left=1.0)
    blog, other = app_status.query(["blog", "other"])
    assert (blog.why, blog.left, other.why) == ("idle", 1.0, counters.KILLED)


def test_reason_of_a_failed_load(machine):
    here = machine(blog=(LISTENING, FAILED | {"ExecMainStatus": "78"}))
    [view] = app_status.query(["blog"])
    assert view.trouble == app_status.BROKEN
    keep(here.states, "blog", why="failing: KeyError: 'a: b'", left=1.0)
    [view] = app_status.query(["blog"])
    assert view.trouble == "KeyError: 'a: b'"


def test_damaged_record_is_reported_and_missing_one_is_not(machine):
    here = machine(blog=(LISTENING, DEAD), new=(LISTENING, DEAD))
    keep(here.states, "blog")
    (here.states / "blog" / counters.NAME).write_text("spyglass 1\nwak")
    damaged, new = app_status.query(["blog", "new"])
    assert (damaged.counted("requests"), new.counted("requests")) == (None, 0)
    assert "is damaged" in damaged.unread
    assert listing.unread([damaged, new]) == f"blog: {damaged.unread}"


@pytest.mark.parametrize(
    ("current", "bytes"),
    [("1048576", 1 << 20), ("[not set]", None), ("18446744073709551615", None), ("", None)],
)
def test_memory_from_the_unit_or_its_processes(current, bytes):
    assert app_processes.memory({"MemoryCurrent": current, "ControlGroup": "/nowhere"}) == bytes


ALL_FAIL = [
    ({}, [], ""),
    ({"recent_requests": 3, "recent_errors": 2}, [], ""),
    ({"recent_requests": 3, "recent_errors": 3}, [], "all 3 requests since the last wake failed"),
    ({"recent_requests": 1, "recent_errors": 1}, [], "the only request since the last wake failed"),
    ({"recent_requests": 9, "recent_errors": 2}, [(2, 2)], "all 2 requests of its present workers failed"),
    ({"recent_requests": 9, "recent_errors": 2}, [(2, 2), (1, 0)], ""),
    ({"recent_requests": 9, "recent_errors": 2}, [(0, 0)], ""),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "workers", "said"), ALL_FAIL)
def test_app_whose_every_request_fails(facts, workers, said):
    record = counters.Record()
    for name, value in facts.items():
        setattr(record, name, value)
    record.workers = [
        counters.Process(number, served, errors, 0)
        for number, (served, errors) in enumerate(workers)
    ]
    assert app_status.all_fail(record) == (
        f"{said} (status 5xx, or an incomplete response)" if said else ""
    )
    assert app_status.all_fail(None) == ""


def test_running_master_is_asked_and_a_silent_one_has_left_its_record(machine, monkeypatch):
    here = machine(
        **{
            name: (LISTENING, ACTIVE | {"MainPID": pid})
            for name, pid in (("blog", "7"), ("shop", "8"))
        }
    )
    keep(here.states, "blog", awake=1, requests=40, written=1_700_000_000.0)
    keep(here.states, "shop", awake=1, requests=50, written=1_700_000_000.0)
    current = counters.Record()
    current.requests = 42
    reports = {
        7: Report("failing: boom", current, Outcome(78, 0.1, 5.0, "boom")),
        8: None,
    }

    def ask(masters):
        assert masters == [(str(here.states / "blog"), 7), (str(here.states / "shop"), 8)]
        return [reports[pid] for _, pid in masters]

    monkeypatch.setattr(master_report, "ask", ask)
    blog, shop = app_status.query(["blog", "shop"])
    assert (blog.state, blog.trouble, blog.counted("requests")) == (FAILING, "boom", 42)
    assert (blog.noted, blog.reloaded.why) == (None, "boom")
    assert (shop.state, shop.counted("requests"), shop.noted) == (AWAKE, 50, 1_700_000_000)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("blog", "blog"), ("spyglass@blog.service", "blog"), ("spyglass@blog.socket", "blog"), ("spyglass@blog", "blog"),
        ("_default", "_default"), ("spyglass.service", "_default"), ("spyglass.socket", "_default"),
    ],
)  # fmt: skip
def test_app_may_be_named_by_its_units(machine, text, name):
    machine(blog=(LISTENING, DEAD))
    assert app_status.resolve(text) == name


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("blgo", ", did you mean 'blog'?"),
        ("zebra", "; 'spyglass list' shows all apps"),
        ("spyglass", "; 'spyglass list' shows all apps"),
    ],
)
def test_similar_name_of_an_unknown_app_is_suggested(machine, text, more):
    machine(blog=(LISTENING, DEAD))
    with pytest.raises(app_status.NoSuchAppError) as raised:
        app_status.resolve(text)
    assert str(raised.value) == f"there is no app {text!r}{more}"
    assert raised.value.exit_status == 4


# Tables


def seen(name, state=ASLEEP, addresses=(), **facts):
    view = app_status.AppStatus(
        name, {}, {}, state=state, addresses=list(addresses) or [f"/run/spyglass/{name}.sock"]
    )
    view.record = counters.Record()
    view.record.requests = facts.pop("requests", 0)
    for fact, value in facts.items():
        setattr(view, fact, value)
    return view


NOW = 1_700_000_000.0
APPS = [
    seen(
        "blog",
        AWAKE,
        service={"StatusText": "awake: 2 workers, 0 connections"},
        requests=1234,
        memory=35 << 20,
        woke=NOW - 200,
        wake_ms=81.3,
    ),
    seen(
        "a-very-long-name-of-it",
        ASLEEP,
        ["127.0.0.1:8001", "[::1]:8001", "/run/x.sock"],
        woke=NOW - 3 * 86400,
        wake_ms=812,
        why="idle",
    ),
    seen(
        "broken",
        FAILING,
        ["[::]:4222"],
        trouble="ModuleNotFoundError: No module named 'blgo'",
        woke=NOW - 5,
    ),
    seen("gone", OFF),
]


def test_table_of_apps():
    assert (
        listing.render(APPS, None, now=NOW)
        == """\
NAME                    STATE    ADDRESS                                WORKERS  REQUESTS  MEMORY  LAST WAKE    TOOK  LAST EXIT
blog                    awake    unix                                         2      1234  35 MiB  3 min ago   81 ms  -
a-very-long-name-of-it  asleep   127.0.0.1:8001 [::1]:8001 /run/x.sock        -         0       -    3 d ago  812 ms  idle
broken                  failing  *:4222                                       -         0       -    5 s ago       -  -
    ModuleNotFoundError: No module named 'blgo'
gone                    off      unix                                         -         0       -          -       -  -
""".splitlines()
    )


def test_table_drops_columns_and_cuts_nothing():
    assert (
        listing.render(APPS, 80, now=NOW)
        == """\
NAME                    STATE    ADDRESS         REQUESTS  MEMORY  LAST WAKE
blog                    awake    unix                1234  35 MiB  3 min ago
a-very-long-name-of-it  asleep   127.0.0.1:8001         0       -    3 d ago
                                 [::1]:8001
                                 /run/x.sock
broken                  failing  *:4222                 0       -    5 s ago
    ModuleNotFoundError: No module named 'blgo'
gone                    off      unix                   0       -          -
""".splitlines()
    )


LONG = [
    "[2001:db8:1234:5678:90ab:cdef:1234:5678]:65535",
    "/srv/run/some/where/deep/down/in/the/file/system/app.sock",
]


def test_long_address_is_below_its_row():
    lines = listing.render([seen("v6", ASLEEP, [*LONG, "[::1]:80"]), seen("other")], 80, now=NOW)
    assert lines == [
        "NAME   STATE   ADDRESS   WORKERS  REQUESTS  MEMORY  LAST WAKE  TOOK  LAST EXIT",
        "v6     asleep  [::1]:80        -         0       -          -     -  -",
        f"    listens on {LONG[0]},",
        f"        {LONG[1]}",
        "other  asleep  unix            -         0       -          -     -  -",
    ]


@pytest.mark.parametrize("most", [40, 60, 80, 90, 100, 120, 200])
def test_table_shows_each_name_address_and_problem_whole(most):
    apps = [
        *APPS,
        seen("n" * 22, FAILING, LONG, trouble="its socket has failed (x): refused"),
        *(seen(f"app{number}", ASLEEP, [f"127.0.0.1:{number}"]) for number in range(300)),
    ]
    lines = listing.render(apps, most, now=NOW)
    text = " ".join("\n".join(lines).split())
    for app in apps:
        assert f"{app.name} {app.state}" in text
        for where in listing.addresses(app):
            assert where in text
        assert app.trouble in text
    # Only a word that is longer than the terminal is wide makes a line too long.
    longest = max(len(line) for line in lines if not any(word in line for word in LONG))
    assert longest <= max(most, 52)


def test_all_columns_are_shown_if_there_is_room():
    titles = listing.render(APPS, 140, now=NOW)[0]
    assert titles.split() == (
        [
            "NAME",
            "STATE",
            "ADDRESS",
            "WORKERS",
            "REQUESTS",
            "MEMORY",
            "LAST",
            "WAKE",
            "TOOK",
            "LAST",
            "EXIT",
        ]
    )


def test_older_settings_are_below_the_row(monkeypatch):
    said = [
        Difference("workers 2 -> 3", Action.RELOAD),
        Difference("blog.env changed", Action.RESTART),
    ]
    monkeypatch.setattr(older_settings, "look", lambda app: said if app.name == "blog" else None)
    lines = listing.render(APPS, 80, now=NOW)
    assert lines[2:4] == [
        "    running with older settings: workers 2 -> 3, blog.env changed; 'spyglass",
        "        apply blog' brings them into force",
    ]


@pytest.mark.parametrize(
    ("state", "active", "known", "said"),
    [
        (ASLEEP, "inactive", True, "saved, but not applied: memory_max unset -> 300M; 'spyglass apply blog' brings them into force"),
        (ASLEEP, "inactive", False, ""), (OFF, "inactive", True, ""), (AWAKE, "active", True, ""),
    ],
)  # fmt: skip
def test_unapplied_settings_of_a_sleeping_app(monkeypatch, tmp_path, state, active, known, said):
    monkeypatch.setattr(settings, "DIRECTORY", str(tmp_path))
    (tmp_path / ("blog.toml" if known else "other.toml")).touch()
    found = [Difference("memory_max unset -> 300M", Action.UNITS)]
    monkeypatch.setattr(running_settings, "pending", lambda app, socket, service: found)
    blog = seen("blog", state, service={"ActiveState": active})
    assert older_settings.sentence(blog, []) == said
    assert older_settings.facts(blog, None) is None
    assert older_settings.facts(blog, []) == (["memory_max unset -> 300M"] if said else [])


@pytest.mark.parametrize("state", [ASLEEP, AWAKE, FAILING, OFF])
def test_settings_with_a_fault_are_not_in_force(monkeypatch, tmp_path, state):
    monkeypatch.setattr(settings, "DIRECTORY", str(tmp_path))
    (tmp_path / "blog.toml").write_text("workers = = 3\n")
    fault = f"{tmp_path}/blog.toml:1: one = is enough: workers = 3"
    blog = seen(
        "blog", state, trouble=fault if state == FAILING else "", service={"ActiveState": "active"}
    )
    said = state in (ASLEEP, AWAKE)  # nobody expects an app that is off to use them
    assert older_settings.sentence(blog, []) == (
        f"saved, but cannot be applied: {fault}" if said else ""
    )
    assert older_settings.facts(blog, []) == ([fault] if said else [])


def test_old_counts_are_said_to_be_old(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: NOW)
    old, fresh = seen("old", AWAKE), seen("fresh", AWAKE)
    for view in (old, fresh):
        view.record.awake, view.record.written = 1, NOW - 7
    fresh.is_fresh = True
    assert (
        listing.unread([old, fresh])
        == "old: its counts are of 7 s ago, because its Master did not answer"
    )


def test_app_that_is_off_fails_no_client():
    view = seen("blog", OFF)
    view.record.recent_requests = view.record.recent_errors = 1
    assert view.problems == []
    view.state = AWAKE
    assert len(view.problems) == 1


OFF_BY = {
    "never applied": ("", "not applied yet: spyglass apply blog"),
    "masked": ("", "off; to turn it on: spyglass on blog"),
    "disabled": ("", "off; to turn it on: spyglass on blog"),
    "setting": ("enabled = false\n", "off (enabled = false, {}:2)"),
}


@pytest.mark.parametrize("how", OFF_BY)
def test_app_that_is_off_says_why_and_where_it_would_listen(machine, capsys, monkeypatch, how):
    monkeypatch.setattr(journal, "entries", lambda *words: [])
    socket = STOPPED | {"DropInPaths": "" if how == "never applied" else "/etc/x.conf"}
    if how == "masked":
        socket |= {"LoadState": "masked", "Listen": ""}
    seen = machine(blog=(socket, DEAD))
    seen.etc.mkdir()
    more, says = OFF_BY[how]
    (seen.etc / "blog.toml").write_text(f"listen = 8001\n{more}")
    assert command_table.run(["status", "blog"]) == 3
    lines = capsys.readouterr().out.splitlines()[1:3]
    says = says.format(seen.etc / "blog.toml")
    assert lines == [f"  status    {says}", "  address   8001"]
    (seen.etc / "blog.toml").write_text("listen = \n")
    [view] = app_status.query(["blog"])
    assert view.addresses == ([] if how == "masked" else ["/run/spyglass/blog.sock"])


@pytest.mark.parametrize("known", [[], ["blog"], ["xyz"]])
def test_unknown_app_is_not_said_to_be_alone(known):
    """The app without a name has no file, and may run."""
    said = str(app_status.no_such_app("blgo", known))
    near = "blog" in known
    assert said == "there is no app 'blgo'" + (
        ", did you mean 'blog'?" if near else "; 'spyglass list' shows all apps"
    )


@pytest.mark.parametrize(
    ("text", "limit", "lines"),
    [
        ("  a line", None, ["  a line"]),
        ("  status    one two three four five six", 26, ["  status    one two three", "            four five six"]),
        ("exits in 12 s, since 2026-11-30 16:41:18", 15, ["exits in 12 s,", "    since", "    2026-11-30 16:41:18"]),
        ("set app = 'a'", 8, ["set", "    app = 'a'"]),
        ("of 4 sons", 5, ["of 4", "  sons"]),
        ("a /path/that/is/too/long/for-a-line of", 12, ["a", "    /path/that/is/too/long/for-a-line", "    of"]),
    ],
)  # fmt: skip
def test_wrapping(text, limit, lines):
    assert terminal.wrapped(text, limit, 12 if "status" in text else 4) == lines


def test_colours_do_not_change_widths():
    plain, coloured = (
        listing.render(APPS, 100, now=NOW),
        listing.render(APPS, 100, coloured=True, now=NOW),
    )
    for code in ("1;31", "32", "2", "1"):
        coloured = [line.replace(f"\033[{code}m", "") for line in coloured]
    assert [line.replace("\033[m", "").rstrip() for line in coloured] == plain


@pytest.mark.parametrize(
    ("is_terminal", "environ", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_only_in_terminals_and_not_with_no_color(is_terminal, environ, coloured):
    assert terminal.is_coloured(SimpleNamespace(isatty=lambda: is_terminal), environ) == coloured


def test_file_has_no_width_limit():
    assert terminal.width_limit(SimpleNamespace(isatty=lambda: False), {}) is None


def test_too_wide_table_drops_columns_in_their_order():
    columns = [Column("NAME"), Column("COUNT", right=True, drop=2), Column("SIZE", drop=1)]
    rows = [Row(["something", "12", "big"])]
    for limit, titles in [(22, "NAME COUNT SIZE"), (21, "NAME COUNT"), (15, "NAME"), (3, "NAME")]:
        made = terminal.table_lines(columns, rows, limit)
        assert made[0].split() == titles.split()
        assert made[1].startswith("something")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s ago"),
        (-5, "0 s ago"),
        (59, "59 s ago"),
        (60, "1 min ago"),
        (7199, "119 min ago"),
        (7200, "2 h ago"),
        (86400 * 2, "2 d ago"),
    ],
)
def test_ago(seconds, text):
    assert terminal.ago(NOW - seconds, NOW) == text


# Settings


def unit(argv="/usr/bin/spyglass serve --name blog", environment="", files=""):
    return {
        "ExecStart": f"{{ path=/usr/bin/spyglass ; argv[]={argv} ; ignore_errors=no ; start_time=[n/a] }}",
        "Environment": environment,
        "EnvironmentFiles": files,
    }


def test_changed_settings_and_their_places(tmp_path):
    (tmp_path / "blog.toml").write_text(
        "# one\napp = 'blog:app'\nworkers = 2\nidle_timeout = 4\nlisten = 8001\n"
    )
    (tmp_path / "blog.env").write_text(
        "# a comment\nSPYGLASS_DEBUG=true\nSECRET=no\nSPYGLASS_ACCESS_LOG='combined'\n"
    )
    file, variables = tmp_path / "blog.toml", tmp_path / "blog.env"
    found = effective_settings.of_service(
        unit(
            f"/usr/bin/spyglass serve --config {file} --threads=1",
            'HOME=/x "SPYGLASS_WORKERS=5"',
            f"{variables} (ignore_errors=yes)\n/nowhere (ignore_errors=yes)",
        )
    )
    assert {each.name: (each.value, each.place) for each in found.differing} == {
        "app": ("blog:app", f"{file}:2"),
        "workers": (5, "SPYGLASS_WORKERS (Environment=)"),
        "threads": (1, "--threads (ExecStart=)"),
        "idle_timeout": (4.0, f"{file}:4"),
        "keepalive_timeout": (2.0, "derived from another setting"),
        "access_log": ("combined", f"SPYGLASS_ACCESS_LOG ({variables})"),
        "debug": (True, f"SPYGLASS_DEBUG ({variables})"),
        "listen": ((address(8001),), f"{file}:5"),
    }
    assert (found.faults, found.hidden) == ([], [])


@pytest.mark.parametrize("columns", ["40", "80", "300"])
def test_settings_in_force_can_be_copied_into_a_file(machine, capsys, monkeypatch, columns):
    written = (
        'app = "blog:app"\nidle_timeout = 4\nkeepalive_timeout = 2\nmax_body = "2G"\n'
        'listen = [8001, "127.0.0.1:8002"]\nenvironment = { A = "a text", B = "2" }\n'
        'memory_max = "512M"\n'
    )
    service = DEAD | {"ExecStart": "{ argv[]=/usr/bin/spyglass serve --name blog ; }"}
    seen = machine(blog=(LISTENING, service))
    monkeypatch.setattr(journal, "entries", lambda *words: [])
    monkeypatch.setenv("COLUMNS", columns)
    seen.etc.mkdir()
    (seen.etc / "blog.toml").write_text(written)
    assert command_table.run(["status", "blog"]) == 0
    shown = capsys.readouterr().out.partition("Settings, where they are not the default\n")[2]
    assert tomllib.loads(shown) == tomllib.loads(written)
    assert command_table.run(["status", "blog", "--json"]) == 0
    facts = {
        each["name"]: each["value"] for each in json.loads(capsys.readouterr().out)["settings"]
    }
    assert facts["max_body"] == 2 << 30
    assert facts["memory_max"] == 512 << 20
    assert facts["idle_timeout"] == 4
    assert facts["listen"] == ["8001", "127.0.0.1:8002"]
    assert facts["environment"] == {"A": "a text", "B": "2"}


def test_invalid_settings_are_reported(tmp_path):
    (tmp_path / "blog.toml").write_text("wrokers = 2\nthreads = 0\n")
    found = effective_settings.of_service(
        unit(f"/usr/bin/spyglass serve --config {tmp_path / 'blog.toml'}")
    )
    assert [fault.partition(": ")[2][:20] for fault in found.faults] == [
        "unknown setting 'wro",
        "threads: expected a ",
    ]


def test_relative_config_is_not_searched_in_our_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blog.toml").write_text("workers = 3\n")
    found = effective_settings.of_service(unit("/usr/bin/spyglass serve --config blog.toml"))
    assert (found.differing, found.faults, found.hidden) == ([], [], ["blog.toml"])


# The commands


def test_json_output(machine, capsys):
    machine(blog=(LISTENING, DEAD))
    assert command_table.run(["list", "--json"]) == 0
    [app] = json.loads(capsys.readouterr().out)
    assert app["name"] == "blog"


def test_default_app_is_listed_once_it_was_used(machine, capsys, monkeypatch):
    machine(blog=(LISTENING, DEAD))
    real = systemctl.show
    monkeypatch.setattr(
        systemctl,
        "show",
        lambda units, properties: (
            real(units, properties)
            | {"spyglass.socket": LISTENING | {"Listen": "[::]:4222 (Stream)"}}
        ),
    )
    assert command_table.run(["list"]) == 0
    assert capsys.readouterr().out.split("\n")[2].split()[:3] == ["_default", "asleep", "*:4222"]


def test_no_apps(machine, capsys):
    machine()
    assert command_table.run(["list"]) == 0
    assert capsys.readouterr().out.startswith("there is no app")


@pytest.mark.parametrize(
    ("socket", "service", "status"),
    [
        (LISTENING, DEAD, 0),
        (LISTENING, ACTIVE, 0),
        (STOPPED, DEAD, 3),
        (LISTENING, FAILED | {"ExecMainStatus": "78"}, 1),
    ],
)
def test_exit_status_depends_on_the_state(machine, socket, service, status, capsys, monkeypatch):
    machine(blog=(socket, service))
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="", stderr="", returncode=0)
    )
    assert command_table.run(["status", "blog"]) == status
    assert command_table.run(["status", "spyglass@blog.service"]) == status
    assert capsys.readouterr().out.startswith("blog: ")


@pytest.mark.parametrize("name", ["nobody", "No Name", "../etc"])
def test_unknown_app(machine, capsys, name):
    machine()
    assert command_table.run(["status", name]) == 4
    assert "there is no app" in capsys.readouterr().err


def test_processes_and_their_roles(monkeypatch):
    view = seen("blog", AWAKE, service={"MainPID": "10"})
    view.record.awake, view.record.workers = 1, [counters.Process(12, 5, 1, 2)]
    parents = {10: 1, 11: 10, 12: 11, 13: 11, 14: 13}
    from spyglass.ops.status import process_roles

    monkeypatch.setattr(process_roles, "members", lambda _service: sorted(parents))
    monkeypatch.setattr(process_roles, "_parent", parents.__getitem__)
    monkeypatch.setattr(process_roles, "share", lambda pid: pid << 20)
    found = {
        each.pid: (each.what, each.requests, each.memory) for each in process_roles.processes(view)
    }
    assert found == {
        10: ("master", None, 10 << 20), 11: ("zygote", None, 11 << 20), 12: ("worker", 5, 12 << 20), 13: ("worker", None, 13 << 20),
        14: ("process", None, 14 << 20),
    }  # fmt: skip


def test_pids_of_a_control_group(monkeypatch, tmp_path):
    (tmp_path / "a.service" / "inner").mkdir(parents=True)
    (tmp_path / "a.service" / "cgroup.procs").write_text("7\n3\n")
    (tmp_path / "a.service" / "inner" / "cgroup.procs").write_text("5\n")
    monkeypatch.setattr(app_processes, "_CGROUPS", ("/nowhere", str(tmp_path)))
    assert app_processes.members({"ControlGroup": "/a.service"}) == [3, 5, 7]
    assert app_processes.members({"ControlGroup": ""}) == []
    assert os.path.exists(tmp_path)


@pytest.mark.parametrize("kind", ["another user's", "a pipe"])
def test_untrusted_settings_file_is_not_opened(tmp_path, monkeypatch, kind):
    """`apply` rejects it; `status` must neither wait for it nor read it."""
    file = tmp_path / "blog.toml"
    if kind == "a pipe":
        os.mkfifo(file, 0o600)
        says = "not a regular file"
    else:
        (tmp_path / "theirs").mkdir()
        (tmp_path / "theirs").chmod(0o777)
        (tmp_path / "theirs" / "app.toml").write_text("workers = 3\n")
        file.symlink_to(tmp_path / "theirs" / "app.toml")
        says = f"{tmp_path / 'theirs'} is writable by other users"
    opened = []
    monkeypatch.setattr(settings, "_read_toml", lambda path: (opened.append(path), ("", {}))[1])
    found = effective_settings.of_service(unit(f"/usr/bin/spyglass serve --config {file}"))
    assert (opened, found.differing) == ([], [])
    [fault] = found.faults
    assert fault.startswith(f"{file}: {says}")
