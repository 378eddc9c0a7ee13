"""`spyglass units`: the units of a Spyglass that pip installed."""

import subprocess
from types import SimpleNamespace

import pytest

import spyglass
from spyglass.config import settings
from spyglass.errors import ConfigError
from spyglass.ops.app.app_interpreter import PACKAGED_PYTHON
from spyglass.ops.commands import units
from spyglass.ops.doctor_checks import pip_units as doctor_checks
from spyglass.ops.guards.undo import UndoneError
from spyglass.ops.systemd import systemctl
from spyglass.ops.units import pip_environment, pip_units, unit_files

COMMAND = "/opt/spyglass/bin/spyglass"


class Systemd:
    """Answers for systemctl and systemd-analyze, and what it was asked."""

    def __init__(self):
        self.asked = []
        self.complaints = []
        self.states = {}  # unit: (ActiveState, UnitFileState)

    def run(self, *words):
        self.asked.append(words)
        if words[0] == "is-active":
            active = self.states.get(words[-1], ("inactive", ""))[0] == "active"
            return subprocess.CompletedProcess(words, 0 if active else 3, "", "")
        out = ""
        if words[0] in ("list-units", "list-unit-files"):
            before, after = words[-1].split("*") if "*" in words[-1] else (words[-1], "")
            names = [
                name for name in self.states if name.startswith(before) and name.endswith(after)
            ]
            out = "".join(f"{name} x\n" for name in names)
            # As systemd 257 does.
            status = 0 if out or words[0] == "list-units" else 1
            return subprocess.CompletedProcess(words, status, out, "")
        if words[0] == "show":
            blocks = []
            for name in words[words.index("--") + 1 :]:
                active, file = self.states.get(name, ("inactive", ""))
                blocks.append(f"ActiveState={active}\nUnitFileState={file}\n")
            out = "\n".join(blocks)
        return subprocess.CompletedProcess(words, 0, out, "")

    def did(self, verb):
        return [words[1:] for words in self.asked if words[0] == verb]


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with no package, on which root runs the Spyglass in /opt/spyglass."""
    there = SimpleNamespace(
        systemd=Systemd(),
        units=tmp_path / "etc/systemd/system",
        package=tmp_path / "usr/lib/systemd/system",
    )
    there.units.mkdir(parents=True)
    there.package.mkdir(parents=True)
    monkeypatch.setattr(pip_units, "DIRECTORY", str(there.units))
    monkeypatch.setattr(pip_units, "PACKAGES", (str(there.package),))
    monkeypatch.setattr(settings, "DIRECTORY", str(tmp_path / "etc/spyglass"))
    monkeypatch.setattr(units, "_BOOTED", str(tmp_path))
    monkeypatch.setattr(units.os, "geteuid", lambda: 0)
    monkeypatch.setattr(units.locks, "held", lambda name, doing: units.contextlib.nullcontext())
    monkeypatch.setattr(pip_environment, "command", lambda: [COMMAND])
    monkeypatch.setattr(pip_environment, "refuse_unsafe", lambda: None)
    monkeypatch.setattr(pip_environment, "compile_packages", lambda: None)
    monkeypatch.setattr(pip_environment, "refuse_unknown_group", lambda group: None)
    monkeypatch.setattr(systemctl, "run", there.systemd.run)
    monkeypatch.setattr(systemctl, "verify", lambda names: there.systemd.complaints)
    return there


def run(action, **options):
    given = {"action": action, "dry_run": False, "socket_group": None} | options
    return units.run(SimpleNamespace(**given))


def installed(machine):
    return {path.name: path.read_text() for path in machine.units.iterdir()}


# Texts


def test_every_unit_of_the_package_is_one_of_ours():
    assert set(pip_units.templates()) == set(pip_units.NAMES)
    root = pip_units.os.path.dirname(pip_units.os.path.dirname(spyglass.__file__))
    there = pip_units.os.listdir(pip_units.os.path.join(root, "packaging", "systemd"))
    assert sorted(there) == sorted(pip_units.NAMES)


def test_only_the_command_and_the_header_differ_from_the_packages():
    texts = pip_units.wanted([COMMAND], "www-data")
    for name, template in pip_units.templates().items():
        text = texts[f"{pip_units.DIRECTORY}/{name}"]
        assert text.split("\n", 3)[3] == template.replace("=/usr/bin/spyglass", f"={COMMAND}")
        assert "/usr/bin/spyglass" not in text


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ([COMMAND], f"ExecStart={COMMAND} serve --name %i"),
        (["/a b/bin/spyglass"], 'ExecStart="/a b/bin/spyglass" serve --name %i'),
        (["/50%/bin/spyglass"], "ExecStart=/50%%/bin/spyglass serve --name %i"),
        (
            ["/v/bin/python3", "-s", "/v/bin/spyglass"],
            "ExecStart=/v/bin/python3 -s /v/bin/spyglass serve --name %i",
        ),
    ],
)
def test_the_command_of_a_unit(command, line):
    path = f"{pip_units.DIRECTORY}/spyglass@.service"
    text = pip_units.wanted(command, "www-data")[path]
    assert line in text.split("\n")
    file = pip_units.UnitFile(path, text)
    assert file.command == command[-1]
    assert file.version == spyglass.__version__
    assert file.is_untouched


@pytest.mark.parametrize("command", ["/a\nExecStartPre=+/bin/x", '/a"b', "/a\\b"])
def test_a_path_that_a_unit_cannot_hold_is_refused(command):
    with pytest.raises(ConfigError, match="must not contain"):
        pip_units.wanted([command], "www-data")


def test_an_edited_file_is_recognized():
    path, text = next(iter(pip_units.wanted([COMMAND], "www-data").items()))
    edited = pip_units.UnitFile(path, text + "\n")
    assert edited.is_ours
    assert not edited.is_untouched


# install


def test_install_writes_all_units_and_makes_systemd_read_them(machine, capsys):
    assert run("install") == 0
    assert set(installed(machine)) == set(pip_units.NAMES)
    assert machine.systemd.did("daemon-reload") == [()]
    assert machine.systemd.did("try-restart") == []
    assert pip_units.os.path.isdir(settings.DIRECTORY)
    assert f"they run {COMMAND}, Spyglass {spyglass.__version__}" in capsys.readouterr().out


def test_a_second_install_has_nothing_to_do(machine, capsys):
    run("install")
    machine.systemd.asked.clear()
    capsys.readouterr()
    assert run("install") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert machine.systemd.asked == []


def test_another_version_replaces_the_units_and_restarts_running_apps(machine, monkeypatch, capsys):
    run("install", socket_group="nginx")
    capsys.readouterr()
    monkeypatch.setattr(spyglass, "__version__", "9.9.9")
    awake, asleep = "spyglass@blog.service", "spyglass@wiki.service"
    machine.systemd.states = {awake: ("active", "static"), asleep: ("inactive", "static")}
    assert run("install") == 0
    for text in installed(machine).values():
        assert "of Spyglass 9.9.9" in text
    # What was chosen at the first installation stays.
    assert "SocketGroup=nginx\n" in installed(machine)["spyglass@.socket"]
    assert machine.systemd.did("try-restart") == [("--no-block", awake)]
    said = capsys.readouterr().out
    assert "updated" in said
    assert f"restarted: {awake}" in said


def test_dry_run_changes_nothing(machine, capsys):
    assert run("install", dry_run=True) == 0
    assert installed(machine) == {}
    assert "+ExecStart=" + COMMAND in capsys.readouterr().out


def test_install_is_refused_where_the_package_is(machine):
    (machine.package / "spyglass@.service").write_text("[Service]\n")
    with pytest.raises(ConfigError, match="the Debian package is installed"):
        run("install")
    assert installed(machine) == {}


def test_a_unit_that_is_not_ours_is_not_overwritten(machine):
    (machine.units / "spyglass@.service").write_text("[Service]\n")
    with pytest.raises(ConfigError, match=r"spyglass@\.service: was not made by"):
        run("install")
    assert list(installed(machine)) == ["spyglass@.service"]


def test_a_masked_unit_is_not_overwritten(machine):
    (machine.units / "spyglass.socket").symlink_to("/dev/null")
    with pytest.raises(ConfigError, match=r"spyglass\.socket: was not made by"):
        run("install")
    assert (machine.units / "spyglass.socket").is_symlink()


def test_an_edited_unit_is_not_overwritten(machine):
    run("install")
    path = machine.units / "spyglass@.service"
    path.write_text(path.read_text().replace("WatchdogSec=30", "WatchdogSec=60"))
    with pytest.raises(ConfigError, match="has been edited"):
        run("install")
    assert "WatchdogSec=60" in path.read_text()


def test_what_systemd_rejects_is_taken_back(machine, monkeypatch):
    run("install")
    before = installed(machine)
    monkeypatch.setattr(spyglass, "__version__", "9.9.9")
    machine.systemd.complaints = [f"{machine.units}/spyglass.socket:1: Missing '='"]
    with pytest.raises(UndoneError, match="Missing '='; all changes were undone"):
        run("install")
    assert installed(machine) == before


def test_only_root_may_change_units(machine, monkeypatch):
    monkeypatch.setattr(units.os, "geteuid", lambda: 1000)
    for action in ("install", "remove"):
        with pytest.raises(ConfigError, match="only root"):
            run(action)


# What the environment must be like


def test_a_spyglass_outside_of_a_virtual_environment_is_refused(monkeypatch):
    monkeypatch.setattr(pip_environment.sys, "base_prefix", pip_environment.sys.prefix)
    with pytest.raises(ConfigError, match="not in a virtual environment"):
        pip_environment.command()


def test_packages_in_the_apps_home_are_never_read(monkeypatch, tmp_path):
    """An app could have the next Master run what it has written there."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/spyglass").touch(0o755)
    monkeypatch.setattr(pip_environment.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(pip_environment.site, "ENABLE_USER_SITE", True)
    assert pip_environment.command() == [
        f"{tmp_path}/bin/python3",
        "-s",
        f"{tmp_path}/bin/spyglass",
    ]
    monkeypatch.setattr(pip_environment.site, "ENABLE_USER_SITE", False)
    assert pip_environment.command() == [f"{tmp_path}/bin/spyglass"]


def test_an_environment_that_another_user_could_replace_is_refused(monkeypatch):
    monkeypatch.setattr(pip_environment.path_ownership, "weakness", lambda path: "/x is daemon's")
    with pytest.raises(ConfigError, match="Root runs it"):
        pip_environment.refuse_unsafe()


def test_an_environment_without_the_parser_is_refused(monkeypatch):
    monkeypatch.setattr(pip_environment, "_DEPENDENCIES", {"no_such": "no-such-project"})
    with pytest.raises(ConfigError, match="no-such-project is not installed in"):
        pip_environment.refuse_unsafe()


def test_an_environment_in_tmp_is_refused(monkeypatch):
    monkeypatch.setattr(pip_environment.path_ownership, "weakness", lambda path: "")
    monkeypatch.setattr(pip_environment.sys, "prefix", "/tmp/venv")
    with pytest.raises(ConfigError, match="a /tmp of their own"):
        pip_environment.refuse_unsafe()


def test_a_group_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="there is no group 'no-such-group'"):
        pip_environment.refuse_unknown_group("no-such-group")


# remove


def test_remove_deletes_what_install_wrote(machine, capsys):
    run("install")
    assert run("remove") == 0
    assert installed(machine) == {}
    assert machine.units.is_dir()
    assert not pip_units.os.path.exists(settings.DIRECTORY)  # it was empty
    capsys.readouterr()
    assert run("remove") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_remove_is_refused_while_apps_exist(machine):
    run("install")
    machine.systemd.states = {
        "spyglass@blog.socket": ("inactive", "enabled"),
        "spyglass@wiki.service": ("active", "static"),
        "spyglass.socket": ("active", "disabled"),
    }
    with pytest.raises(ConfigError) as refused:
        run("remove")
    assert refused.value.lines == [
        "these apps still need the units: blog, wiki: spyglass remove blog wiki",
        "spyglass.socket is still in use: systemctl disable --now spyglass.socket",
        "nothing was changed",
    ]
    assert len(installed(machine)) == 4


def test_remove_hands_apps_over_to_the_package(machine):
    run("install")
    (machine.package / "spyglass@.service").write_text("[Service]\n")
    machine.systemd.states = {"spyglass@blog.service": ("active", "static")}
    assert run("remove") == 0
    assert installed(machine) == {}
    assert machine.systemd.did("try-restart") == [("--no-block", "spyglass@blog.service")]


def test_remove_refuses_edited_files(machine):
    run("install")
    path = machine.units / "spyglass.socket"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(ConfigError, match="has been edited"):
        run("remove")
    assert len(installed(machine)) == 4


# show, and what other commands make of them


def test_show(machine, monkeypatch, capsys):
    assert run("show") == 1
    assert capsys.readouterr().out.count("not installed") == 4
    run("install")
    capsys.readouterr()
    assert run("show") == 0
    assert COMMAND in capsys.readouterr().out
    monkeypatch.setattr(spyglass, "__version__", "9.9.9")
    assert run("show") == 1
    assert "To install those of Spyglass 9.9.9" in capsys.readouterr().out


def test_show_with_the_package(machine, capsys):
    path = machine.package / "spyglass@.service"
    path.write_text("[Service]\n")
    assert run("show") == 0
    assert capsys.readouterr().out == f"{path}: the package's\n"


def test_apps_run_on_the_python_of_the_units(machine):
    assert pip_units.server_python() == PACKAGED_PYTHON
    run("install")
    assert pip_units.server_python() == "/opt/spyglass/bin/python3"


def test_doctor_finds_nothing_in_installed_units(machine, monkeypatch):
    assert doctor_checks.examine("machine") == []
    monkeypatch.setattr(doctor_checks.sys, "prefix", "/opt/spyglass")
    monkeypatch.setattr(doctor_checks.os, "access", lambda path, mode: True)
    run("install")
    assert doctor_checks.examine("machine") == []
    monkeypatch.setattr(spyglass, "__version__", "9.9.9")
    [found] = doctor_checks.examine("machine")
    assert found.cure == [f"{COMMAND} units install"]


def test_doctor_finds_that_the_environment_is_gone(machine):
    run("install")
    [found] = doctor_checks.examine("machine")
    assert found.what == f"the units run {COMMAND}, which does not exist"


def test_doctor_finds_that_the_package_is_hidden(machine):
    run("install")
    (machine.package / "spyglass@.service").write_text("[Service]\n")
    [found] = doctor_checks.examine("machine")
    assert "hides the package's" in found.what
    assert found.cure == [f"{COMMAND} units remove"]


def test_a_bad_line_in_our_own_unit_is_cured_by_making_it_again(machine):
    run("install")
    path = machine.units / "spyglass@.service"
    unit = {"FragmentPath": str(path), "DropInPaths": ""}
    assert unit_files.removal_commands(unit, "Restart") == [f"rm {path}", "spyglass units install"]


def test_no_unit_file_that_matches_is_no_error(monkeypatch):
    def run(*words):
        return subprocess.CompletedProcess(words, 1 if "list-unit-files" in words else 0, "", "")

    monkeypatch.setattr(systemctl, "run", run)
    assert systemctl.units("spyglass@*.socket") == []
