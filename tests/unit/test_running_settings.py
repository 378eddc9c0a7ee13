"""What is saved and not in force, as `apply`, `status` and `doctor` say it, and the least
that brings it into force.
"""

import os
import time

import pytest

import spyglass
from spyglass import __version__
from spyglass.config.settings import SERVER_SETTINGS, Config
from spyglass.master import settings_record
from spyglass.master.settings_record import Record
from spyglass.ops.apply import running_process, saved_settings
from spyglass.ops.apply.running_process import Running
from spyglass.ops.apply.running_settings import Action, Difference, compare, shown, summary
from spyglass.ops.apply.saved_settings import Saved, Source, unit_texts
from spyglass.ops.units.directive_changes import of_drop_in

UNIT = "/usr/lib/systemd/system/spyglass@.service"
OURS = "/etc/systemd/system/spyglass@a.service.d/10-spyglass.conf"
THEIRS = "/etc/systemd/system/spyglass@a.service.d/override.conf"
TEMPLATE = (
    "[Unit]\nDescription=x\n[Service]\nExecStart=/usr/bin/spyglass serve --name %i\nUMask=0077\n"
    "EnvironmentFile=-/etc/spyglass/%i.env\n"
)
STARTED, AFTER, BEFORE = 1000.0, 1010.0, 500.0


def values(**given):
    whole = Config(given).values
    return {each.name: whole[each.name] for each in SERVER_SETTINGS}


def running(units=None, **given):
    record = Record()
    record.settings = values(**given)
    record.units = units or {UNIT: TEMPLATE}
    return Running(STARTED, record=record)


def saved(units=None, current=None, touched=AFTER, **given):
    units = units or {UNIT: TEMPLATE}
    return Saved(
        values(**given),
        Source("/etc/spyglass/a.toml", BEFORE),
        units,
        current or units,
        dict.fromkeys(units, touched),
    )


def test_nothing_has_changed():
    assert compare("a", saved(), running()) == []


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ({}, {"workers": 3}, "workers 2 -> 3"),
        ({"workers": 3}, {}, "workers 3 -> 2"),
        ({"max_body": 1 << 30}, {"max_body": 3 << 20}, "max_body 1G -> 3M"),
        ({"idle_timeout": 1.5}, {"idle_timeout": 10.0**8, "keepalive_timeout": 0.75}, "idle_timeout 1.5s -> never"),
        ({"preload": True}, {"preload": False}, "preload true -> false"),
        ({"app": ""}, {"app": "b:c\x1b"}, r"app unset -> b:c\x1b"),
        ({"idle_ignore": ("/a", "/b")}, {"idle_ignore": ()}, "idle_ignore /a, /b -> unset"),
    ],
)  # fmt: skip
def test_a_reload_reads_the_settings_of_the_server(before, after, what):
    found = compare("a", saved(**after), running(**before))
    assert found == [Difference(what, Action.RELOAD)]


def test_faulty_settings_are_not_compared():
    given = saved(workers=3)
    given.settings = None
    assert compare("a", given, running()) == []


def test_setting_that_the_running_version_does_not_know_is_left_out():
    old = running()
    assert old.record is not None
    del old.record.settings["workers"]
    assert compare("a", saved(workers=3), old) == []


@pytest.mark.parametrize(("touched", "count"), [(BEFORE, 0), (AFTER, 1)])
def test_master_without_a_record_is_reloaded_if_the_file_is_newer(touched, count):
    given = saved()
    given.file.touched = touched
    found = compare("a", given, Running(STARTED))
    assert found == [Difference("a.toml changed", Action.RELOAD)][:count]


def variables(path="/etc/spyglass/a.env", touched=AFTER, **given):
    return Source(path, touched, variables=given)


@pytest.mark.parametrize(
    ("files", "environ", "what"),
    [
        ([variables(A="1")], {"A": "1"}, []),
        ([variables(A="2")], {"A": "1"}, ["a.env changed"]),
        ([variables(A="2", touched=BEFORE)], {"A": "1"}, []),
        ([variables(A="1", B="1")], {"A": "1"}, ["a.env changed"]),
        ([variables(A="1")], {"A": "1", "B": "1"}, ["a.env changed"]),
        ([variables(A="1")], {"A": "1", "HOME": "/x"}, []),
        ([variables(A="1"), variables("/x/b", A="2")], {"A": "2"}, []),
        ([variables(A="1"), variables("/x/b", A="2")], {"A": "1"}, ["/x/b changed"]),
    ],
)
def test_a_restart_reads_the_files_of_variables(files, environ, what):
    given = saved()
    given.environment_files = files
    given.other_variables = {"HOME"}
    now = running()
    now.environ = environ
    assert compare("a", given, now) == [Difference(each, Action.RESTART) for each in what]


def test_a_file_of_variables_that_was_deleted(tmp_path):
    given = saved()
    given.environment_files = [variables(str(tmp_path / "a.env"), touched=0.0)]
    now = running()
    now.environ = {"SECRET": "x"}
    assert compare("a", given, now) == [Difference(f"{tmp_path}/a.env changed", Action.RESTART)]
    now.started = time.time() + 100
    assert compare("a", given, now) == []


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (Source("/x/db", AFTER, digest="one"), []),
        (Source("/x/db", AFTER, digest="two"), ["credential db changed"]),
        (Source("/x/db", BEFORE, digest="two"), []),
        (Source("/x/db.encrypted", AFTER), ["credential db changed"]),
        (Source("/x/db.encrypted", BEFORE), []),
    ],
)
def test_a_restart_reads_the_sources_of_credentials(source, what):
    given = saved()
    given.credentials = {"db": source}
    now = running()
    now.credentials = {"db": "one"}
    assert compare("a", given, now) == [Difference(each, Action.RESTART) for each in what]


def units(ours="", theirs="", template=TEMPLATE):
    texts = {
        UNIT: template,
        OURS: ours and f"[Service]\n{ours}\n",
        THEIRS: theirs and f"[Service]\n{theirs}\n",
    }
    return {path: text for path, text in texts.items() if text}


@pytest.mark.parametrize(
    ("before", "disk", "after", "what"),
    [
        # Applied, and the service was not restarted.
        ("UMask=0027", "", "", [("umask 0027 -> 0077", Action.RESTART)]),
        # Not applied yet.
        ("", "", "UMask=0027", [("umask 0077 -> 0027", Action.RESTART)]),
        ("MemoryMax=1", "MemoryMax=1", "MemoryMax=2", [("memory_max 1 -> 2", Action.UNITS)]),
        # Limits are in force as soon as systemd has read them.
        ("MemoryMax=1", "MemoryMax=2", "MemoryMax=2", []),
        # Back to what it was started with, before it was restarted.
        ("UMask=0027", "", "UMask=0027", []),
        ("", "", 'ReadWritePaths="/srv/a"\nReadWritePaths="/srv/b"', [("writable unset -> /srv/a, /srv/b", Action.RESTART)]),
        ("", "", "PrivateNetwork=yes", [("network true -> false", Action.RESTART)]),
        ("MemoryDenyWriteExecute=no", "", "", [("allow_jit true -> false", Action.RESTART)]),
        ("", "", "MemoryMax=314572800", [("memory_max unset -> 300M", Action.UNITS)]),
        # What each app has is not what was set.
        ("", "", "EnvironmentFile=/srv/env", [("environment_file unset -> /srv/env", Action.RESTART)]),
        ("", "", "UMask=0027\nCacheDirectoryMode=0700", [("umask 0077 -> 0027", Action.RESTART)]),
        # There is no setting for it.
        ("", "", "ExecStart=\nExecStart=/x serve\nExecReload=\nExecReload=/x reload", [("ExecStart /usr/bin/spyglass serve --name %i -> /x serve", Action.RESTART)]),
        ("", "", 'Environment="A=secret"', [("environment A added", Action.RESTART)]),
        ("LoadCredential=db:/a", "LoadCredential=db:/b", "LoadCredential=db:/b", [("credential db changed", Action.RESTART)]),
        (
            "", "", "DynamicUser=no\nUser=ada\nProtectSystem=strict\nProtectHome=read-only\nPrivateTmp=yes\nNoNewPrivileges=yes",
            [("user unset -> ada", Action.RESTART)],
        ),
    ],
)  # fmt: skip
def test_a_restart_reads_the_units(before, disk, after, what):
    found = compare("a", saved(units(after), units(disk)), running(units(before)))
    assert found == [Difference(*each) for each in what]


def test_drop_in_of_the_administrator():
    found = compare("a", saved(units(theirs="PrivateNetwork=yes")), running())
    assert found == [Difference("PrivateNetwork unset -> yes", Action.RESTART)]
    old = saved(units(theirs="PrivateNetwork=yes"), touched=BEFORE)
    assert compare("a", old, running()) == []


def test_description_of_the_unit_is_no_reason():
    new = units(template=TEMPLATE.replace("Description=x", "Description=y"))
    assert compare("a", saved(new), running()) == []


def test_the_more_specific_of_two_files_counts():
    """A record has all there were, those without effect included (systemd.unit(5))."""
    started = {
        UNIT: TEMPLATE,
        "/lib/systemd/system/spyglass@.service": TEMPLATE,
        "/etc/systemd/system/spyglass@.service.d/override.conf": "[Service]\nUMask=0000\n",
        THEIRS: "[Service]\nUMask=0007\n",
    }
    assert compare("a", saved(units(theirs="UMask=0007")), running(started)) == []


def test_another_version_is_installed():
    now = running()
    assert now.record is not None
    now.record.version = "0.0.1"
    assert compare("a", saved(), now) == []  # which is not where we are installed
    now.record.package = os.path.dirname(spyglass.__file__)
    assert compare("a", saved(), now) == [
        Difference(f"Spyglass 0.0.1 -> {__version__}", Action.RESTART)
    ]


def test_summary_names_the_first_three():
    found = [Difference(letter, Action.RELOAD) for letter in "aabcde"]
    assert summary(found[:2]) == "a"
    assert summary(found) == "a, b, c and 2 more"


def test_values_as_people_write_them():
    assert shown("access_log", value="json") == "json"
    assert shown("app", "x" * 100).endswith("...")


def test_lists_are_shown_whole():
    old, new = (
        "[Socket]\nListenStream=\nListenStream=8001\n",
        "[Socket]\nListenStream=\nListenStream=8002\nListenStream=/run/%%x\n",
    )
    assert of_drop_in(old, new, "Socket") == ["listen 8001 -> 8002, /run/%x"]


def test_process_that_has_ended_is_not_read():
    assert running_process.read({"MainPID": "0", "ControlGroup": "/x"}) is None
    assert running_process.read({"MainPID": str(2**22 + 1), "ControlGroup": "/x"}) is None
    # Another process has the pid by now.
    assert running_process.read({"MainPID": str(os.getpid()), "ControlGroup": "/none"}) is None


@pytest.mark.parametrize(
    ("seconds", "looks"), [(0.5, 3), (60, 1), (None, 1)], ids=["ready", "old", "not ready"]
)
def test_record_of_a_master_that_is_just_ready_is_waited_for(monkeypatch, seconds, looks):
    masters = iter([Running(STARTED), Running(STARTED), running()])
    seen = []
    monkeypatch.setattr(
        running_process, "_look", lambda _service: seen.append(next(masters)) or seen[-1]
    )
    ready = 0 if seconds is None else int((time.monotonic() - seconds) * 1e6)
    found = running_process.read({"ActiveEnterTimestampMonotonic": str(ready)})
    assert found is seen[-1]
    assert len(seen) == looks


def test_end_of_a_master_ends_the_wait_for_its_record(monkeypatch):
    masters = iter([Running(STARTED), None])
    monkeypatch.setattr(running_process, "_look", lambda _service: next(masters))
    ready = int(time.monotonic() * 1e6)
    assert running_process.read({"ActiveEnterTimestampMonotonic": str(ready)}) is None


def test_this_process():
    with open("/proc/self/cgroup") as stream:
        group = stream.readline().rstrip("\n").split(":", 2)[2]
    found = running_process.read({"MainPID": str(os.getpid()), "ControlGroup": group})
    if group == "/":
        assert found is None or found.record is None
    else:
        assert found is not None
        assert found.environ.get("PATH")
        assert abs(found.started - time.time()) < 3600


def test_masked_drop_in_counts_neither_when_read_nor_when_recorded(tmp_path, monkeypatch):
    """A link to /dev/null hides the drop-in of the same name (systemd.unit(5))."""
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    for place in (etc, lib):
        (place / "spyglass@.service.d").mkdir(parents=True)
    (lib / "spyglass@.service").write_text("[Service]\nUMask=0077\n")
    (lib / "spyglass@.service.d" / "limit.conf").write_text("[Service]\nTasksMax=5\n")
    (etc / "spyglass@.service.d" / "limit.conf").symlink_to("/dev/null")
    paths = settings_record.unit_paths
    monkeypatch.setattr(
        settings_record, "unit_paths", lambda unit: paths(unit, (str(etc), str(lib)))
    )
    texts = unit_texts("a", {}, {})
    assert texts == {f"{lib}/spyglass@.service": "[Service]\nUMask=0077\n"}
    recorded = settings_record.read_units("spyglass@a.service")
    effective = saved_settings.effective("spyglass@a.service", recorded)
    assert "".join(effective.values()) == "[Service]\nUMask=0077"
