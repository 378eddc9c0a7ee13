"""`spyglass apply` and `remove` against a fake systemd: the commands, their order, and
the state after a failure.
"""

import os
import pwd
import socket
import subprocess

import pytest

from spyglass.config import settings
from spyglass.ops import (
    address_conflicts,
    apps,
    command_table,
    state_directory,
    systemctl,
    unit_directives,
    user_access,
)


class FakeSystemd:
    """A systemd that keeps the state of units and fails the commands in `fails`."""

    def __init__(self):
        self.told = []
        self.active = set()
        self.enabled = set()
        self.fails = set()
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
            return subprocess.CompletedProcess(words, 0, "\n".join(map(self._shown, names)), "")
        self.told.append(" ".join(words))
        if self.told[-1] in self.fails:
            return subprocess.CompletedProcess(words, 1, "", "it could not\nbe done\n")
        if verb in ("start", "restart"):
            self.active |= set(names)
        elif verb == "stop" or "--now" in words:
            self.active -= set(names)
        if verb == "enable":
            self.enabled |= set(names)
        elif verb == "disable":
            self.enabled -= set(names)
        return subprocess.CompletedProcess(words, 0, "", "")

    def _shown(self, name):
        states = (
            "active" if name in self.active else "inactive",
            "enabled" if name in self.enabled else "disabled",
        )
        load = "not-found" if self.missing else "loaded"
        return (
            "LoadState={}\nActiveState={}\nUnitFileState={}\nNeedDaemonReload=no\nListen=\n".format(
                load, *states
            )
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
    said = capsys.readouterr().out
    assert "+ListenStream=8001\n" in said
    assert "+CPUQuota=50%\n" in said
    assert (
        "a: written, enabled, started; listens on port 8001\nb: written, enabled, started; listens on /run/spyglass/b.sock\n"
        in said
    )
    assert said.count("listen: port 8001 is open to the network") == 1


def test_second_run_has_nothing_to_do(systemd, files, capsys):
    files(a="listen = 8001\n")
    apply()
    systemd.told.clear()
    capsys.readouterr()
    assert apply("a", "a") == 0
    assert capsys.readouterr().out == "nothing to do\n"
    assert systemd.told == []


def test_no_apps(systemd, capsys):
    assert apply() == 0
    assert "nothing to do: there is no app" in capsys.readouterr().out


def test_dry_run_changes_nothing(systemd, files, tmp_path, capsys):
    files(a="listen = 8001\n")
    assert apply("--dry-run") == 0
    assert "+ListenStream=8001\n" in (said := capsys.readouterr().out)
    assert (
        "a: would be written, would be enabled, would be started; would listen on port 8001\n"
        in said
    )
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
    silent = iter([True, False])
    monkeypatch.setattr(address_conflicts, "not_held_by_systemd", lambda addresses: next(silent))
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
    assert capsys.readouterr().out.splitlines() == ["nothing to do", line]
    (etc / "new.toml").write_text("listen = -1\n")
    assert line in refused(capsys, "new")[1]
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


def test_one_invalid_file_stops_all_changes(systemd, files, tmp_path, capsys):
    files(a="listen = 8001\n", b="listen = 0\nmemory_max = 3\n", c="listen", Bad="")
    etc = tmp_path / "etc"
    said = refused(capsys)
    assert [line.partition(": ")[2].partition(": ")[0] for line in said[:-1]] == [
        str(etc / "Bad.toml"),
        f"{etc}/b.toml:1",
        f"{etc}/b.toml:2",
        f"{etc}/c.toml:1",
    ]
    assert said[-1] == "spyglass: nothing was changed"
    assert (systemd.told, drop_ins(tmp_path)) == ([], {})
    # An app that is named is applied although other files are invalid.
    assert apply("a") == 0


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
        "spyglass.ops.user_access.pwd.getpwnam", lambda name: pwd.struct_passwd((name, *root[1:]))
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
        "spyglass.ops.user_access.pwd.getpwnam",
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
    left = f"systemctl {at}: it could not be done" if at in ("daemon-reload", f"start {A}") else ""
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
        f"disable {A}",
        "stop spyglass@a.service",
        "daemon-reload",
        f"reset-failed {A} spyglass@a.service",
    ]
    assert drop_ins(tmp_path) == {}
    assert list((tmp_path / "systemd").iterdir()) == []
    assert capsys.readouterr().out == f"a: stopped and removed; left: {tmp_path}/etc/a.toml\n"


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
    assert command_table.run(["remove", "a", "nobody"]) == 78
    assert capsys.readouterr().err == "spyglass: there is no app 'nobody'\n"
    assert systemd.told == []
    assert command_table.run(["remove", "../x"]) == 78


def test_too_long_file_of_variables_is_not_judged_by_a_part(systemd, files, tmp_path):
    """A part may end in the middle of a letter, which is no fault of the file."""
    (tmp_path / "long.env").write_text("AB=" + "é" * (1 << 20) + "\n")
    files(a=f'environment_file = "{tmp_path / "long.env"}"\n')
    assert apply("--dry-run") == 0
