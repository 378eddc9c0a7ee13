"""What a Master records of the settings in force: when, and what a reader makes of it."""

import errno
import fcntl
import os
import sys

import pytest

from spyglass import __version__
from spyglass.config.settings import SERVER_SETTINGS, Config
from spyglass.master import settings_record
from spyglass.master.settings_record import NAME, parse, unit_of, unit_paths
from spyglass.master.settings_recorder import SettingsRecorder

from .fake_log import FakeLog


class Force:
    """What the Master's parts know."""

    def __init__(self, **values):
        self.config = Config(values)
        self.ready = False
        self.log = FakeLog()
        self.record = SettingsRecorder(lambda: self.config, lambda: self.ready, self.log)


def memory_files():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith(f"/memfd:{NAME} "):
                found.append(int(name))
        except OSError:
            pass
    return found


def recorded():
    [fd] = memory_files()
    with open(f"/proc/self/fd/{fd}", errors="surrogateescape") as stream:
        return parse(stream.read())


@pytest.fixture
def force():
    made = Force(workers=3, app="hello:app", idle_ignore=("/health", "agent:x y"))
    yield made
    made.record.abandon()
    assert memory_files() == []


def test_nothing_is_written_before_the_first_answer(force):
    force.record.look(100.0)
    assert force.record.due(100.0) == [float("inf")]
    force.ready = True
    force.record.look(101.0)
    assert memory_files() == []
    assert force.record.due(101.0) == [102.0]
    force.record.look(102.0)
    assert recorded().settings["workers"] == 3
    assert force.record.due(102.0) == []


def test_each_server_setting_is_read_as_it_was_written(force):
    force.ready = True
    force.record.look(0.0)
    force.record.look(1.0)
    found = recorded()
    assert found.settings == {each.name: force.config.values[each.name] for each in SERVER_SETTINGS}
    assert found.version == __version__
    assert found.package == os.path.dirname(os.path.dirname(settings_record.__file__))


def test_a_reload_replaces_the_record_at_once(force):
    force.ready = True
    force.record.look(0.0)
    force.record.look(1.0)
    force.config = Config({"workers": 5})
    assert force.record.due(50.0) == [1.0]
    force.record.look(50.0)
    assert recorded().settings["workers"] == 5


def test_the_record_is_sealed(force):
    force.ready = True
    force.record.look(0.0)
    force.record.look(1.0)
    [fd] = memory_files()
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
    with pytest.raises(PermissionError):
        os.write(fd, b"forged")
    assert not os.get_inheritable(fd)


def test_without_a_descriptor_it_is_written_later(force, monkeypatch):
    def refuse(name, flags):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    force.ready = True
    force.record.look(0.0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "memfd_create", refuse)
        force.record.look(1.0)
    assert memory_files() == []
    assert force.record.due(1.0) == [11.0]
    force.record.look(11.0)
    assert recorded().settings["workers"] == 3


def test_upgrade_before_the_record_is_written_does_not_end_the_master(force, monkeypatch):
    """The module of the other version may fail in any way when it is imported."""

    class Stranger:
        def find_spec(self, name, *_):
            assert name != "spyglass.master.settings_record"

    from spyglass import master

    monkeypatch.delattr(master, "settings_record")
    monkeypatch.delitem(sys.modules, "spyglass.master.settings_record")
    monkeypatch.setattr(sys, "meta_path", [Stranger()])
    force.ready = True
    force.record.look(0.0)
    force.record.look(1.0)
    assert memory_files() == []
    assert force.record.due(1.0) == [11.0]


def test_kernel_that_does_not_know_the_newest_flag(force, monkeypatch):
    real = os.memfd_create

    def old_kernel(name, flags):
        if flags & settings_record._NOEXEC_SEAL:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(name, flags)

    monkeypatch.setattr(os, "memfd_create", old_kernel)
    force.ready = True
    force.record.look(0.0)
    force.record.look(1.0)
    assert recorded().settings["workers"] == 3


def test_texts_of_units_survive():
    record = settings_record.Record()
    text = '[Service]\nExecStart=a \\\n  b\nEnvironment="X=\tend\udcff"\nend'
    record.units = {"/etc/systemd/system/a b'.conf": text, "/etc/empty": ""}
    assert parse(record.text()).units == record.units


@pytest.mark.parametrize(
    "text",
    ["", "end\n", "spyglass settings 2\nend\n", "spyglass settings 1\n",
     "spyglass settings 1\nsetting workers open('x')\nend\n",
     "spyglass settings 1\nsetting workers (((\nend\n",
     "spyglass settings 1\nsetting workers\nend\n"],
)  # fmt: skip
def test_a_record_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r".*"):
        parse(text)


def test_comments_are_left_out():
    assert settings_record.directives("# a\n[Unit]\n\n; b\nA=1 \n  # c\nB=2") == "[Unit]\nA=1\nB=2"


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/system-spyglass.slice/spyglass@a.service\n", "spyglass@a.service"),
        ("4:cpu:/x.service\n1:name=systemd:/a/b.service/inner\n", "b.service"),
        ("0::/user.slice\n", ""),
        ("", ""),
        ("nonsense", ""),
    ],
)
def test_the_unit_is_the_one_whose_control_group_it_is(text, unit):
    assert unit_of(text) == unit


def test_the_files_of_a_unit(tmp_path):
    for name in ("spyglass@a.service.d/b.conf", "spyglass@.service.d/a.conf", "service.d/c.conf",
                 "spyglass@a.service.d/not", "spyglass@b.service.d/x.conf"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(unit_paths("spyglass@a.service", (str(tmp_path),))) == [
        f"{tmp_path}/spyglass@a.service",
        f"{tmp_path}/spyglass@.service",
        f"{tmp_path}/spyglass@a.service.d/b.conf",
        f"{tmp_path}/spyglass@.service.d/a.conf",
        f"{tmp_path}/service.d/c.conf",
    ]
