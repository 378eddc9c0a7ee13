"""`spyglass apply` and `remove` against a fake systemd: the commands, their order, and
the state after a failure.
"""

import os
import pwd
import socket
import subprocess
import time

import pytest

from spyglass.config import setting_notes, settings
from spyglass.config.unit_settings import address
from spyglass.ops import command_table
from spyglass.ops.addresses import address_conflicts
from spyglass.ops.app import apps
from spyglass.ops.apply import running_settings
from spyglass.ops.apply.running_settings import Action, Difference
from spyglass.ops.check import app_trial
from spyglass.ops.files import user_access
from spyglass.ops.guards import locks
from spyglass.ops.output import terminal
from spyglass.ops.status import state_directory
from spyglass.ops.systemd import systemctl
from spyglass.ops.units import unit_directives


class FakeSystemd:
    """A systemd that keeps the state of units and fails the commands in `fails`."""

    def __init__(self):
        self.told = []
        self.active = set()
        self.enabled = set()
        self.masked = set()
        self.masked_until_boot = set()
        self.activating = set()
        self.started = {}
        self.status = {}
        self.listen = {}
        self.fails = set()
        self.broken = {}
        self.complaints = []
        self.missing = False

    def run(self, *words):
        verb, names = words[0], [word for word in words[1:] if not word.startswith("-")]
        if verb in ("list-units", "list-unit-files"):
            return subprocess.CompletedProcess(
                words,
                0,
                "".join(f"{name} enabled\n" for name in sorted(self.active | self.enabled)),
                "",
            )
        if verb == "show":
            [wanted] = [word for word in words if word.startswith("--property=")]
            wanted = wanted.removeprefix("--property=").split(",")
            blocks = ["".join(self._lines(name, wanted)) for name in names]
            return subprocess.CompletedProcess(words, 0, "\n".join(blocks), "")
        self.told.append(" ".join(words))
        if self.told[-1] in self.fails:
            return subprocess.CompletedProcess(words, 1, "", "it could not\nbe done\n")
        if verb in ("start", "restart"):
            self.active |= set(names)
        elif verb == "stop" or "--now" in words:
            self.active -= set(names)
        if verb == "mask":
            self.masked |= set(names)
        elif verb == "unmask":
            masked = self.masked_until_boot if "--runtime" in words else self.masked
            masked -= set(names)
        if verb == "enable":
            self.enabled |= set(names)
        elif verb == "disable":
            self.enabled -= set(names)
        return subprocess.CompletedProcess(words, 0, "", "")

    def _lines(self, name, wanted):
        return [
            f"{line}\n"
            for line in self._shown(name).splitlines()
            if line.partition("=")[0] in wanted
        ]

    def _shown(self, name):
        state = "activating" if name in self.activating else "inactive"
        states = (
            "active" if name in self.active else state,
            "masked"
            if name in self.masked
            else "masked-runtime"
            if name in self.masked_until_boot
            else "enabled"
            if name in self.enabled
            else "disabled",
        )
        masked = name in self.masked | self.masked_until_boot
        load = "not-found" if self.missing else "masked" if masked else "loaded"
        return (
            "LoadState={}\nActiveState={}\nUnitFileState={}\nNeedDaemonReload=no\nListen={}\nStatusText={}\n".format(
                load, *states, self.listen.get(name, ""), self.status.get(name, "")
            )
            + f"InactiveExitTimestampMonotonic={self.started.get(name, 0)}\n"
            + (
                f"ExecStart={{ argv[]=/usr/bin/spyglass serve --name {name[9:-8]} ; }}\n"
                if name.endswith(".service")
                else ""
            )
        )


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    fake = FakeSystemd()
    for directory in ("etc", "systemd", "srv"):
        (tmp_path / directory).mkdir()
    monkeypatch.setattr(settings, "DIRECTORY", str(tmp_path / "etc"))
    monkeypatch.setattr(unit_directives, "DIRECTORY", str(tmp_path / "systemd"))
    monkeypatch.setattr(unit_directives, "STATE", str(tmp_path / "lib"))
    monkeypatch.setattr(locks, "DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(setting_notes, "open_ports", lambda config, text: [])
    monkeypatch.setattr(app_trial, "why_broken", lambda step: fake.broken.get(step.name, ""))
    monkeypatch.setattr(systemctl, "run", fake.run)
    monkeypatch.setattr(systemctl, "verify", lambda units: fake.complaints)
    monkeypatch.setattr(user_access, "inaccessible", lambda who, wanted: {})
    monkeypatch.setattr(address_conflicts, "why_unavailable", lambda address: "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return fake


@pytest.fixture
def files(tmp_path):
    def write(**texts):
        for name, text in texts.items():
            (tmp_path / "etc" / f"{name}.toml").write_text(text)

    return write


def drop_ins(tmp_path):
    return {
        path.parent.name.removesuffix(".d"): path.read_text()
        for path in sorted((tmp_path / "systemd").glob("*/*"))
    }


def apply(*argv):
    return command_table.run(["apply", *argv])


A, B = "spyglass@a.socket", "spyglass@b.socket"


def test_new_apps(systemd, files, tmp_path, capsys):
    files(a="listen = 8001\n", b='cpu_quota = "50%"\n')
    assert apply() == 0
    assert systemd.told == ["daemon-reload", f"start {A} {B}", f"enable {A} {B}"]
    assert list(drop_ins(tmp_path)) == [A, "spyglass@b.service"]
    assert capsys.readouterr().out.splitlines() == [
        "a: listens; open http://localhost:8001/",
        "b: listens; try curl --unix-socket /run/spyglass/b.sock http://localhost/",
        "  in nginx: proxy_pass http://unix:/run/spyglass/b.sock;",
        "  in Caddy: reverse_proxy unix//run/spyglass/b.sock",
    ]


def test_command_to_copy_is_not_wrapped(systemd, files, capsys, monkeypatch):
    files(a="", b="listen = 8001\n")
    monkeypatch.setattr(terminal, "width_limit", lambda stream, environ: 30)
    assert apply() == 0
    said = capsys.readouterr().out.splitlines()
    assert "a: listens; try curl --unix-socket /run/spyglass/a.sock http://localhost/" in said
    assert "b: listens; open" in said


def test_verbose_shows_the_units(systemd, files, capsys):
    files(a="listen = 8001\n", b='cpu_quota = "50%"\n')
    assert apply("-v") == 0
    said = capsys.readouterr().out
    assert "+ListenStream=8001\n" in said
    assert "+CPUQuota=50%\n" in said


def test_second_run_has_nothing_to_do(systemd, files, capsys):
    files(a="listen = 8001\n")
    apply()
    systemd.told.clear()
    capsys.readouterr()
    assert apply() == 0
    assert capsys.readouterr().out == "nothing to do\n"
    assert apply("a", "a") == 0
    assert capsys.readouterr().out == "a: nothing to do; open http://localhost:8001/\n"
    assert systemd.told == []


def test_no_apps(systemd, capsys):
    assert apply() == 0
    assert "nothing to do: there is no app" in capsys.readouterr().out


def test_dry_run_changes_nothing(systemd, files, tmp_path, capsys):
    files(a="listen = 8001\n")
    assert apply("--dry-run") == 0
    assert capsys.readouterr().out == "a: would listen; open http://localhost:8001/\n"
    assert (systemd.told, drop_ins(tmp_path)) == ([], {})


# Stopped before systemd reads the new addresses, or the files of unix sockets would
# stay behind.
MOVE = [f"stop {A}", "daemon-reload", f"start {A}"]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("listen = 8001", "listen = 8002", MOVE),
        ("", "listen = 8002", MOVE),
        ("listen = 8001", "", MOVE),
        ("listen = 8001", 'listen = 8001\nmemory_max = "1G"\ncpu_quota = "50%"', ["daemon-reload"]),
        ("", "network = false", ["daemon-reload", "try-restart spyglass@a.service"]),
        ('memory_max = "1G"\nnetwork = false', "network = false", ["daemon-reload"]),
        ("network = false", "", ["daemon-reload", "try-restart spyglass@a.service"]),
        ("listen = 8001", "listen = 8002\nnetwork = false", MOVE),
        ("listen = 8001", "workers = 3\nlisten = 8001", []),
    ],
)
def test_only_changed_units_are_restarted(systemd, files, before, after, told):
    files(a=f"{before}\n")
    apply()
    systemd.active.add("spyglass@a.service")
    systemd.told.clear()
    files(a=f"{after}\n")
    assert apply() == 0
    assert systemd.told == told


def test_sleeping_app_is_not_restarted(systemd, files):
    files(a="")
    apply()
    systemd.told.clear()
    files(a="network = false\n")
    apply()
    assert systemd.told == ["daemon-reload"]


def test_two_apps_may_swap_addresses(systemd, files):
    files(a="listen = 8001\n", b="listen = 8002\n")
    apply()
    systemd.told.clear()
    files(a="listen = 8002\n", b="listen = 8001\n")
    assert apply() == 0
    assert systemd.told == [f"stop {A} {B}", "daemon-reload", f"start {A} {B}"]


def test_socket_that_does_not_listen_is_restarted(systemd, files, monkeypatch):
    files(a="listen = 8001\n")
    apply()
    systemd.told.clear()
    silent = iter([True] * 4)  # both plans ask twice
    monkeypatch.setattr(
        address_conflicts, "not_held_by_systemd", lambda addresses: next(silent, False)
    )
    assert apply() == 0
    assert systemd.told == MOVE


def test_app_whose_file_was_renamed_is_reported(systemd, files, tmp_path, capsys):
    files(old="listen = 8001\n", other="")
    apply()
    etc = tmp_path / "etc"
    (etc / "old.toml").rename(etc / "new.toml")
    capsys.readouterr()
    line = f"old: there is no {etc}/old.toml, but spyglass@old.socket still exists: spyglass remove old"
    assert apply("other") == 0
    done = "other: nothing to do; try curl --unix-socket /run/spyglass/other.sock http://localhost/"
    assert capsys.readouterr().out.splitlines() == [done, line]
    (etc / "new.toml").write_text("listen = -1\n")
    assert apply("new") == 78
    assert capsys.readouterr().out == f"{line}\n"
    assert apply("old") == 4
    assert capsys.readouterr().err == f"spyglass: {line}\n"
    (etc / "new.toml").unlink()
    (etc / "other.toml").unlink()
    assert apply() == 0
    assert line in capsys.readouterr().out.splitlines()
    command_table.run(["remove", "old", "other"])
    capsys.readouterr()
    apply()
    assert "old" not in capsys.readouterr().out


# What is refused


def refused(capsys, *argv):
    assert apply(*argv) == 78
    return capsys.readouterr().err.splitlines()


def test_faulty_file_keeps_its_own_app_only_from_being_applied(systemd, files, tmp_path, capsys):
    files(a="listen = 8001\n", b="listen = 0\nmemory_max = 3\n", c="listen", Bad="")
    etc = tmp_path / "etc"
    said = refused(capsys)
    assert [line.partition(": ")[2].partition(": ")[0] for line in said[:-1]] == [
        str(etc / "Bad.toml"),
        f"{etc}/b.toml:1",
        f"{etc}/b.toml:2",
        f"{etc}/c.toml:1",
    ]
    assert said[-1] == "spyglass: not applied: Bad, b, c"
    assert systemd.active == {A}
    assert list(drop_ins(tmp_path)) == [A]
    assert apply("a") == 0


def test_address_of_an_app_that_listens_is_its_own(systemd, files, capsys, monkeypatch):
    files(a="listen = 8001\n", b="listen = 8002\n")
    apply()
    systemd.listen = {A: "[::]:8001 (Stream)", B: "[::]:8002 (Stream)"}
    monkeypatch.setattr(address_conflicts, "not_held_by_systemd", lambda addresses: False)
    files(c="listen = 8001\n", a="listen = 8001\nmemory_max = '1G'\n")
    said = refused(capsys)
    assert [line.partition(": ")[2].partition(" (")[0] for line in said] == [
        f"{settings.DIRECTORY}/c.toml:1: listen: 8001 is in use by the app a",
        "not applied: c",
    ]
    # An app that stays where it is keeps the other from moving there.
    files(c="", a="listen = 8002\n", b="listen = 8001\nuser = 'nobody-knows'\n")
    monkeypatch.setattr(
        address_conflicts,
        "why_unavailable",
        lambda wanted: "in use by b" if wanted == address("8002") else "",
    )
    said = refused(capsys)
    assert f"spyglass: {settings.DIRECTORY}/a.toml:1: listen: 8002: in use by b" in said
    assert "spyglass: not applied: a, b" in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('directory = "/proc/none"', "directory: /proc/none is not a directory"),
        (
            'venv = "/proc/none"',
            "venv: /proc/none is not a virtual environment: /proc/none/pyvenv.cfg: No such file or directory",
        ),
        (
            'user = "nobody-knows"',
            "user: there is no user 'nobody-knows'; to create it: adduser --system --group nobody-knows",
        ),
        (
            'group = "nobody-knows"',
            "group: there is no group 'nobody-knows'; to create it: addgroup --system nobody-knows",
        ),
        (
            'group = "00"',
            "group: must not be root's group, which gives access to much of this machine",
        ),
        (
            'listen = { path = "/run/x", group = "nobody-knows" }',
            "listen: there is no group 'nobody-knows'",
        ),
        (
            'listen = [{ path = "/run/x", mode = "0600" }, "/run/y"]',
            "listen: all unix sockets of an app must have the same group and mode: systemd sets them once per unit",
        ),
        (
            'listen = [8001, "127.0.0.1:8001"]',
            "listen: 127.0.0.1:8001 conflicts with another entry of the list",
        ),
        ("listen = 7000", "listen: 7000 is in use by the app other ({}/other.toml)"),
        ('environment_file = "/proc/none"', "environment_file: /proc/none is not a file"),
        ('credentials = { db = "/proc/none" }', "credentials: db: /proc/none does not exist"),
        (
            'credentials = ["nobody-knows"]',
            "credentials: nobody-knows: not in /etc/credstore, nor in systemd's other credential stores; give a path",
        ),
        ('writable = "/proc/none"', "writable: /proc/none does not exist"),
        (
            'memory_max = "100M"\nmemory_high = "200M"',
            "memory_max: must not be below memory_high: processes would be killed before they are slowed down",
        ),
    ],
)
def test_invalid_settings_are_rejected(systemd, files, tmp_path, capsys, text, says):
    files(a=f"{text}\n", other='listen = "127.0.0.1:7000"\n')
    etc = tmp_path / "etc"
    assert refused(capsys, "a") == [
        f"spyglass: {etc}/a.toml:1: {says.format(etc)}",
        "spyglass: nothing was changed",
    ]
    assert (systemd.told, drop_ins(tmp_path)) == ([], {})


@pytest.mark.parametrize("user", ["toor", "00", "000"])
def test_user_with_uid_0_is_rejected(systemd, files, tmp_path, capsys, monkeypatch, user):
    """The number counts: passwd(5) may have several names for it."""
    root = pwd.getpwuid(0)
    monkeypatch.setattr(
        "spyglass.ops.files.user_access.pwd.getpwnam",
        lambda name: pwd.struct_passwd((name, *root[1:])),
    )
    files(a=f'user = "{user}"\n')
    file = tmp_path / "etc" / "a.toml"
    said = f"user: {user!r} is root by another name (its uid is 0): an app must not run as root"
    assert refused(capsys, "a") == [f"spyglass: {file}:1: {said}", "spyglass: nothing was changed"]
    assert (systemd.told, drop_ins(tmp_path)) == ([], {})


@pytest.mark.parametrize("where", ["passwd", "group"])
def test_user_in_root_group_is_rejected(systemd, files, tmp_path, capsys, monkeypatch, where):
    """The group may come from `group` or from the user: as its primary group or as
    another one.
    """
    gid = 0 if where == "passwd" else 54321
    monkeypatch.setattr(
        "spyglass.ops.files.user_access.pwd.getpwnam",
        lambda name: pwd.struct_passwd((name, "x", 12345, gid, "", "/", "/bin/sh")),
    )
    monkeypatch.setattr(os, "getgrouplist", lambda name, first: [first, 0])
    files(a='user = "ada"\n')
    said = "user: 'ada' is in root's group, which gives access to much of this machine"
    assert refused(capsys, "a") == [
        f"spyglass: {tmp_path / 'etc' / 'a.toml'}:1: {said}",
        "spyglass: nothing was changed",
    ]


def test_one_app_may_listen_on_ipv4_and_ipv6_separately(systemd, files):
    files(a='listen = ["[::]:8001", "0.0.0.0:8001"]\n')
    assert apply() == 0


def test_address_in_use_is_rejected(systemd, files, tmp_path, capsys, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(settings, "DIRECTORY", str(tmp_path / "etc"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        files(a=f"listen = {port}\n")
        app = apps.read("a")
        apps.examine(app, [app])
    assert app.faults[0].startswith(f"{tmp_path}/etc/a.toml:1: listen: {port}: in use by ")


def test_missing_unit_templates_are_reported(systemd, files, capsys):
    systemd.missing = True
    files(a="")
    assert "systemd has no spyglass@a.socket: install the package, or run" in refused(capsys)[0]


@pytest.mark.parametrize(
    ("how", "what"),
    [("edited", "has been edited since it was made"), ("made", "was not made by 'spyglass apply'")],
)
def test_edited_drop_ins_are_not_overwritten(systemd, files, tmp_path, capsys, how, what):
    files(a="listen = 8001\n")
    apply()
    path = tmp_path / "systemd" / f"{A}.d" / unit_directives.FILE
    text = path.read_text() + "Backlog=10\n" if how == "edited" else "[Socket]\nBacklog=10\n"
    path.write_text(text)
    files(a="listen = 8002\n")
    capsys.readouterr()
    said = refused(capsys)
    assert said[0] == (
        f"spyglass: {path}: {what}: move its lines to your own drop-in (systemctl edit {A}) or to the TOML file, then delete it"
    )
    assert path.read_text() == text
    assert command_table.run(["remove", "a"]) == 0
    assert path.read_text() == text
    assert str(path) in capsys.readouterr().out


def test_only_root_may_apply(systemd, files, capsys, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    files(a="")
    assert refused(capsys) == [
        "spyglass: only root may change units: sudo spyglass apply, or --dry-run to see what would change"
    ]
    assert apply("--dry-run") == 0


def test_app_that_holds_the_address_is_applied_together(systemd, files, capsys, monkeypatch):
    files(a="listen = 8001\n", b="listen = 8002\n")
    apply()
    systemd.listen = {A: "[::]:8001 (Stream)", B: "[::]:8002 (Stream)"}
    monkeypatch.setattr(address_conflicts, "not_held_by_systemd", lambda addresses: False)
    monkeypatch.setattr(address_conflicts, "why_unavailable", lambda wanted: "in use")
    files(a="listen = 8002\n", b="listen = 8001\n")
    line = f"{settings.DIRECTORY}/b.toml: b no longer asks for 8002: apply both, spyglass apply a b"
    assert f"spyglass: {line}" in refused(capsys, "a")
    systemd.told.clear()
    assert apply("a", "b") == 0
    assert systemd.told == [f"stop {A} {B}", "daemon-reload", f"start {A} {B}"]


@pytest.mark.parametrize("command", ["apply", "off", "on", "wake"])
def test_default_app_is_not_denied(systemd, files, capsys, command):
    files(a="listen = 8001\n")
    assert command_table.run([command, "spyglass.service"]) == 4
    assert "the default app has no settings file: use systemctl" in capsys.readouterr().err
    assert systemd.told == []


def test_unknown_app_stops_all(systemd, files, capsys):
    files(hello="")
    assert apply("hello", "helo") == 4
    assert capsys.readouterr().err == (
        f"spyglass: there is no app 'helo', no {settings.DIRECTORY}/helo.toml, did you mean 'hello'?\n"
    )
    assert systemd.told == []


# What is in force


@pytest.fixture
def awake(systemd, files, monkeypatch):
    """The app `a` is awake, with these differences."""
    files(a="listen = 8001\n", b="")
    apply()
    systemd.told.clear()
    systemd.active.add("spyglass@a.service")
    found = []
    monkeypatch.setattr(running_settings, "differences", lambda *_: list(found))
    return found


RELOADED = Difference("workers 2 -> 3", Action.RELOAD)
RESTARTED = Difference("a.env changed", Action.RESTART)


@pytest.mark.parametrize(
    ("differences", "told", "said"),
    [
        ([RELOADED], "try-reload-or-restart", "reloaded (workers 2 -> 3)"),
        ([RESTARTED], "try-restart", "restarted (a.env changed)"),
        ([RELOADED, RESTARTED], "try-restart", "restarted (workers 2 -> 3, a.env changed)"),
    ],
)
def test_the_least_is_done(systemd, awake, capsys, differences, told, said):
    awake += differences
    capsys.readouterr()
    assert apply("--dry-run") == 0
    assert systemd.told == []
    assert (
        capsys.readouterr().out.splitlines()[0]
        == f"a: would be {said}; open http://localhost:8001/"
    )
    assert apply() == 0
    assert systemd.told == [f"{told} spyglass@a.service"]
    assert capsys.readouterr().out.splitlines() == [
        f"a: {said}; open http://localhost:8001/",
        "1 other app: nothing to do",
    ]


def test_app_that_wakes_is_started_anew(systemd, awake, capsys):
    """systemd takes the start that is under way for the reload."""
    awake.append(RELOADED)
    systemd.active.discard("spyglass@a.service")
    systemd.activating = {"spyglass@a.service"}
    capsys.readouterr()
    apply("a")
    assert systemd.told == ["try-restart spyglass@a.service"]
    assert "a: restarted (workers 2 -> 3)" in capsys.readouterr().out


def test_more_than_three_differences_have_lines_of_their_own(systemd, awake, capsys):
    awake += [Difference(f"{name} 1 -> 2", Action.RELOAD) for name in "cdef"]
    awake.append(RESTARTED)
    capsys.readouterr()
    apply("a")
    assert capsys.readouterr().out.splitlines() == [
        "a: restarted (c 1 -> 2, d 1 -> 2, e 1 -> 2 and 2 more); open http://localhost:8001/",
        "  c: 1 -> 2",
        "  d: 1 -> 2",
        "  e: 1 -> 2",
        "  f: 1 -> 2",
        "  a.env changed",
    ]


def test_lines_are_wrapped_at_the_width_of_the_terminal(systemd, awake, capsys, monkeypatch):
    awake += [Difference(f"{name * 20} 1 -> 2", Action.RELOAD) for name in "cd"]
    monkeypatch.setenv("COLUMNS", "60")
    capsys.readouterr()
    apply("a")
    assert capsys.readouterr().out == (
        "a: reloaded (cccccccccccccccccccc 1 -> 2,\n"
        "  dddddddddddddddddddd 1 -> 2); open http://localhost:8001/\n"
    )


def test_another_user_is_told_what_a_dry_run_cannot_see(systemd, awake, capsys, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    capsys.readouterr()
    assert apply("--dry-run") == 0
    assert capsys.readouterr().err == (
        "spyglass: only root can tell whether the apps that are awake run with older settings\n"
    )


def test_socket_that_was_disabled_while_it_listens_is_enabled(systemd, files, capsys):
    files(a="listen = 8001\n")
    apply()
    systemd.enabled.clear()
    for words, would in (["--dry-run"], "would be "), ([], ""):
        capsys.readouterr()
        assert apply(*words) == 0
        assert capsys.readouterr().out == (
            f"a: {would}enabled, so it listens after a boot, too; open http://localhost:8001/\n"
        )
    assert systemd.enabled == {A}
    assert apply() == 0
    assert capsys.readouterr().out == "nothing to do\n"


def test_app_whose_service_is_masked_is_not_applied(systemd, files, capsys):
    files(a="listen = 8001\n", b="")
    systemd.masked.add("spyglass@a.service")
    assert apply() == 78
    said = capsys.readouterr()
    assert said.err == (
        "spyglass: spyglass@a.service: it is masked: systemctl unmask spyglass@a.service\n"
        "spyglass: not applied: a\n"
    )
    assert A not in systemd.active
    assert apply() == 78
    assert capsys.readouterr().out == "1 other app: nothing to do\n"


@pytest.mark.parametrize("command", ["apply", "off", "on", "wake"])
def test_units_name_apps_and_nonsense_names_none(systemd, files, capsys, command):
    files(a="")
    assert command_table.run([command, "spyglass@b.service"]) == 4
    assert "there is no app 'b', no " in capsys.readouterr().err
    for word in ("../b", "", "B", "b\x1b[31m"):
        assert command_table.run([command, word]) == 4
        assert capsys.readouterr().err == f"spyglass: there is no app {word!r}\n"
    assert systemd.told == []


def test_reload_that_fails_is_reported(systemd, awake, capsys):
    awake.append(RELOADED)
    systemd.fails = {"try-reload-or-restart spyglass@a.service"}
    systemd.status["spyglass@a.service"] = (
        "awake: 2 workers; reload failed: SyntaxError: x (app.py:6)"
    )
    capsys.readouterr()
    assert apply("a") == 1
    assert capsys.readouterr().out == (
        "a: not reloaded (workers 2 -> 3), the old settings stay in force: SyntaxError: x (app.py:6); "
        "open http://localhost:8001/\n"
    )


def test_app_that_is_failing_after_its_restart_is_reported(systemd, awake, capsys):
    awake.append(RESTARTED)
    systemd.status["spyglass@a.service"] = "failing: KeyError: 'X'"
    capsys.readouterr()
    assert apply("a") == 1
    assert capsys.readouterr().out.startswith(
        "a: restarted (a.env changed), and is failing: KeyError: 'X'; open"
    )
    awake.clear()
    assert apply() == 78
    assert capsys.readouterr().out.startswith(
        "a: nothing to do, but it is failing: KeyError: 'X'; open"
    )


def test_broken_app_is_applied_with_a_warning(systemd, files, capsys):
    files(a="", b="")
    systemd.broken["a"] = "ModuleNotFoundError: No module named 'x'"
    assert apply() == 78
    said = capsys.readouterr()
    assert said.err == f"spyglass: warning: a cannot be loaded: {systemd.broken['a']}\n"
    assert systemd.active == {A, B}
    files(c="")
    systemd.broken["c"] = "x"
    assert apply("--no-check", "c") == 0
    assert capsys.readouterr().err == ""


def test_only_what_takes_effect_is_tried(systemd, files, monkeypatch):
    files(a="", b="")
    apply()
    tried = []
    monkeypatch.setattr(app_trial, "why_broken", lambda step: tried.append(step.name) or "")
    files(b="network = false\n", c="", d="enabled = false\n")
    apply("--dry-run")
    assert tried == []
    apply()
    assert tried == ["b", "c"]


# Off and on


@pytest.fixture
def asleep(systemd, files, capsys):
    """The apps a and b, applied, awake once, and asleep; what apply says of them."""
    files(a="listen = 8001\n", b="listen = 8002\n")
    assert apply() == 0
    systemd.started["spyglass@a.service"] = int((time.monotonic() - 10) * 1e6)
    capsys.readouterr()

    def say(*words, status=0):
        assert apply(*words) == status
        return capsys.readouterr().out.splitlines()

    return say


NEXT_WAKE = "asleep, applies at the next wake; open http://localhost:"


def test_what_was_saved_while_an_app_sleeps_is_tried_once(systemd, files, asleep, monkeypatch):
    tried = []
    monkeypatch.setattr(app_trial, "why_broken", lambda step: tried.append(step.name) or "")
    files(a="listen = 8001\nworkers = 3\n", b="listen = 8002\nworkers = 3\n")
    assert asleep("--dry-run") == [f"a: {NEXT_WAKE}8001/", f"b: {NEXT_WAKE}8002/"]
    assert asleep("a") == [f"a: {NEXT_WAKE}8001/"]
    assert asleep() == [f"b: {NEXT_WAKE}8002/", "1 other app: nothing to do"]
    assert asleep() == ["nothing to do"]
    assert asleep("a") == ["a: nothing to do; open http://localhost:8001/"]
    assert tried == ["a", "b"]


def test_broken_app_that_sleeps_is_tried_until_it_works(systemd, files, asleep):
    files(a="listen = 8001\nworkers = 3\n")
    systemd.broken["a"] = "ImportError"
    assert asleep(status=78) == asleep(status=78) != ["nothing to do"]
    systemd.broken.clear()
    assert asleep() == [f"a: {NEXT_WAKE}8001/", "1 other app: nothing to do"]
    assert asleep() == ["nothing to do"]


def test_what_is_saved_during_the_trial_is_for_the_next_apply(systemd, files, asleep, monkeypatch):
    files(a="listen = 8001\nworkers = 3\n")
    save = [lambda: files(a="listen = 8001\nworkers = 12\n")]
    monkeypatch.setattr(app_trial, "why_broken", lambda step: (save and save.pop()()) or "")
    for _ in range(2):
        assert asleep() == [f"a: {NEXT_WAKE}8001/", "1 other app: nothing to do"]
    assert asleep() == ["nothing to do"]


def test_file_that_was_only_touched_is_no_news(systemd, files, asleep, tmp_path):
    (tmp_path / "etc" / "a.toml").touch()
    assert asleep() == ["nothing to do"]
    files(a="listen = 8001\nworkers = 3\n")
    files(a="listen = 8001\n")
    assert asleep() == ["nothing to do"]


def test_what_was_saved_before_the_last_wake_is_no_news(systemd, files, asleep):
    files(a="listen = 8001\nworkers = 3\n")
    systemd.started["spyglass@a.service"] = int((time.monotonic() + 1) * 1e6)
    assert asleep() == ["nothing to do"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"a": 1}'])
def test_damaged_memory_costs_one_more_trial(systemd, files, asleep, tmp_path, damage):
    files(a="listen = 8001\nworkers = 3\n")
    asleep()
    (tmp_path / "run" / "applied.json").write_text(damage)
    assert asleep() == [f"a: {NEXT_WAKE}8001/", "1 other app: nothing to do"]
    assert asleep() == ["nothing to do"]


def test_app_that_is_left_alone_is_not_remembered(systemd, files, asleep):
    systemd.masked.add(A)
    systemd.active.discard(A)
    assert asleep() == ["nothing to do"]
    systemd.masked.clear()
    systemd.active.add(A)
    assert asleep() == ["nothing to do"]


def test_memory_that_cannot_be_written_fails_nothing(systemd, files, asleep, tmp_path):
    """On a full disk, say."""
    (tmp_path / "run" / "applied.json").unlink()
    (tmp_path / "run" / "applied.json").mkdir()
    files(a="listen = 8001\nworkers = 3\n")
    for _ in range(2):
        assert asleep("a") == [f"a: {NEXT_WAKE}8001/"]


def test_off_and_on(systemd, files, capsys):
    files(a="listen = 8001\n", b="")
    apply()
    systemd.active.add("spyglass@a.service")
    systemd.told.clear()
    capsys.readouterr()
    assert command_table.run(["off", "a"]) == 0
    assert systemd.told == [f"stop {A} spyglass@a.service", f"mask {A}"]
    assert capsys.readouterr().out == "a: off, clients are refused; to turn it on: spyglass on a\n"
    systemd.told.clear()
    files(a="listen = 8002\n")
    assert command_table.run(["off", "a"]) == 0
    assert apply() == apply("a") == 0
    assert capsys.readouterr().out.splitlines() == [
        "a: was off already",
        "nothing to do",
        "a: off; to turn it on: spyglass on a",
    ]
    assert systemd.told == []
    assert command_table.run(["on", "a"]) == 0
    assert systemd.masked == set()
    assert systemd.told == [f"unmask {A}", f"unmask --runtime {A}", "daemon-reload", f"start {A}"]
    assert capsys.readouterr().out == (
        "a: listens (listen 8001 -> 8002); open http://localhost:8002/\n"
    )


def test_off_outlives_what_is_masked_until_the_next_boot(systemd, files, capsys):
    files(a="listen = 8001\n")
    apply()
    systemd.active.clear()
    systemd.masked_until_boot.add(A)
    systemd.told.clear()
    assert command_table.run(["off", "a"]) == 0
    assert systemd.told == [f"mask {A}"]
    assert command_table.run(["on", "a"]) == 0
    assert systemd.masked == systemd.masked_until_boot == set()


def test_app_that_cannot_be_applied_stays_off(systemd, files, capsys):
    files(a="")
    apply()
    command_table.run(["off", "a"])
    files(a="user = 'nobody-knows'\n")
    assert command_table.run(["on", "a"]) == 78
    assert systemd.masked == {A}
    files(a="")
    systemd.fails = {f"start {A}"}
    assert command_table.run(["on", "a"]) == 1
    assert (systemd.masked, systemd.active) == ({A}, set())


def test_off_that_fails_turns_nothing_off(systemd, files, capsys):
    files(a="")
    apply()
    systemd.fails = {f"mask {A}"}
    capsys.readouterr()
    assert command_table.run(["off", "a"]) == 1
    assert "it could not be done; all apps listen as before" in capsys.readouterr().err
    assert systemd.active == {A}


@pytest.mark.parametrize("command", ["off", "on"])
def test_off_and_on_of_unknown_apps(systemd, files, capsys, monkeypatch, command):
    files(a="")
    assert command_table.run([command, "a", "none"]) == 4
    assert systemd.told == []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert command_table.run([command, "a"]) == 78
    assert "only root may turn apps" in capsys.readouterr().err


def test_file_turns_an_app_off(systemd, files, tmp_path, capsys):
    files(a="listen = 8001\n", b="listen = 8002\n")
    apply()
    systemd.told.clear()
    capsys.readouterr()
    # It no longer claims its address.
    files(a="enabled = false\nlisten = 8001\n", c="listen = 8001\n")
    assert apply() == 0
    C = "spyglass@c.socket"
    assert systemd.told == [
        f"stop {A}", "daemon-reload", f"start {C}", f"enable {C}", f"disable {A}",
    ]  # fmt: skip
    place = f"(enabled = false, {settings.DIRECTORY}/a.toml:1)"
    assert capsys.readouterr().out.splitlines()[0] == f"a: turned off {place}"
    assert command_table.run(["on", "a"]) == 78
    assert (
        f"{settings.DIRECTORY}/a.toml:1: enabled = false: change it there"
        in capsys.readouterr().err
    )
    systemd.told.clear()
    assert apply("a") == 0
    assert capsys.readouterr().out == f"a: off {place}\n"
    assert systemd.told == []
    # What the file has turned off it turns on again, without being named.
    files(a="listen = 8003\n")
    assert apply() == 0
    assert A in systemd.active & systemd.enabled


def test_file_that_turns_an_app_off_is_rolled_back(systemd, files, tmp_path):
    files(a="listen = 8001\n")
    apply()
    before = drop_ins(tmp_path)
    files(a="enabled = false\nlisten = 8001\n")
    systemd.fails = {f"disable {A}"}
    assert apply() == 1
    assert (systemd.active, systemd.enabled, drop_ins(tmp_path)) == ({A}, {A}, before)


def test_socket_that_was_disabled_stays_so_unless_it_is_named(systemd, files, capsys):
    files(a="listen = 8001\n", b="")
    apply()
    systemd.active.clear()
    systemd.enabled = {B}
    capsys.readouterr()
    assert apply() == 0
    assert capsys.readouterr().out.splitlines()[0] == (
        "a: off, its socket was disabled; to turn it on: spyglass on a"
    )
    assert systemd.active == {B}  # which was only stopped
    assert apply("a") == 0
    assert systemd.active == {A, B}


# What fails half way


@pytest.mark.parametrize(
    "at",
    ["write", "verify", f"stop {A}", "daemon-reload", f"start {A}", f"start {B}", f"enable {B}"],
)
def test_failed_apply_is_rolled_back(systemd, files, tmp_path, capsys, monkeypatch, at):
    files(a="listen = 8001\n")
    apply()
    before = drop_ins(tmp_path)
    files(a="listen = 8002\n", b="listen = 8003\nnetwork = false\n")
    why = f"systemctl {at}: it could not be done"
    if at == "write":
        really, full = os.replace, iter([False, True])

        def replace(source, target):
            if next(full, False):
                raise OSError(28, "No space left on device")
            really(source, target)

        monkeypatch.setattr(os, "replace", replace)
        why = f"{unit_directives.path_of(B)}: cannot be written: No space left on device"
    elif at == "verify":
        systemd.complaints = [
            "something about another unit",
            f"{unit_directives.path_of(A)}:7: Unknown key",
        ]
        why = f"systemd rejects the new drop-ins: {unit_directives.path_of(A)}:7: Unknown key"
    systemd.fails = {at}
    systemd.told.clear()
    capsys.readouterr()
    assert apply() == 1
    again = f"the units could not be restored: systemctl {at}: it could not be done"
    left = again if at in ("daemon-reload", f"start {A}") else ""
    assert capsys.readouterr().err == f"spyglass: {why}; {left or 'all changes were undone'}\n"
    assert drop_ins(tmp_path) == before
    assert (systemd.active, systemd.enabled) == (set() if at == f"start {A}" else {A}, {A})
    if at in ("write", "verify"):
        assert systemd.told == []


def test_interrupted_apply_is_rolled_back(systemd, files, tmp_path, monkeypatch, capsys):
    files(a="listen = 8001\n")

    def interrupted(units):
        raise KeyboardInterrupt

    monkeypatch.setattr(systemctl, "verify", interrupted)
    assert apply() == 1
    assert capsys.readouterr().err == "spyglass: interrupted; all changes were undone\n"
    assert drop_ins(tmp_path) == {}


# Removing


def test_remove(systemd, files, tmp_path, capsys):
    files(a="listen = 8001\nnetwork = false\n")
    apply()
    systemd.told.clear()
    capsys.readouterr()
    assert command_table.run(["remove", "a"]) == 0
    assert systemd.told == [
        f"stop {A}",
        f"unmask {A}",
        f"unmask --runtime {A}",
        f"disable {A}",
        "stop spyglass@a.service",
        "daemon-reload",
        f"reset-failed {A} spyglass@a.service",
    ]
    assert drop_ins(tmp_path) == {}
    assert list((tmp_path / "systemd").iterdir()) == []
    assert capsys.readouterr().out == f"a: stopped and removed; left: {tmp_path}/etc/a.toml\n"


def test_remove_without_units(systemd, files, tmp_path, capsys):
    """The package has gone, or the units of a Spyglass from pip."""
    files(a="listen = 8001\n")
    apply()
    systemd.active.clear()
    systemd.missing = True
    systemd.fails = {f"stop {A}", f"disable {A}", "stop spyglass@a.service"}
    assert command_table.run(["remove", "a"]) == 0
    assert drop_ins(tmp_path) == {}
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"a: stopped and removed; left: {tmp_path}/etc/a.toml"
    ]


def test_remove_with_purge(systemd, files, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(state_directory, "STATE", str(tmp_path / "lib"))
    monkeypatch.setattr(state_directory, "CACHE", str(tmp_path / "cache"))
    files(a="")
    (tmp_path / "lib" / "spyglass" / "a").mkdir(parents=True)
    (tmp_path / "etc" / "a.env").touch()
    assert command_table.run(["remove", "--purge", "a"]) == 0
    assert systemd.told[-1] == "clean --what=state --what=cache spyglass@a.service"
    etc = tmp_path / "etc"
    assert (
        capsys.readouterr().out.splitlines()[0]
        == f"a: deleting {etc}/a.toml, {etc}/a.env, {tmp_path}/lib/spyglass/a"
    )
    assert list(etc.iterdir()) == []


def test_unknown_app_cannot_be_removed(systemd, files, capsys):
    files(a="")
    assert command_table.run(["remove", "a", "nobody"]) == 4
    message = "spyglass: there is no app 'nobody'; 'spyglass list' shows all apps\n"
    assert capsys.readouterr().err == message
    assert systemd.told == []
    assert command_table.run(["remove", "../x"]) == 78


def test_too_long_file_of_variables_is_not_judged_by_a_part(systemd, files, tmp_path):
    """A part may end in the middle of a letter, which is no fault of the file."""
    (tmp_path / "long.env").write_text("AB=" + "é" * (1 << 20) + "\n")
    files(a=f'environment_file = "{tmp_path / "long.env"}"\n')
    assert apply("--dry-run") == 0
