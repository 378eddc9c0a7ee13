"""Which Spyglass runs an app, according to its virtual environment. Nothing in it is
run to find out.
"""

import os
import sys

import pytest

from spyglass import __version__
from spyglass.errors import ConfigError
from spyglass.ops.app import app_interpreter, apps
from spyglass.ops.app.app_interpreter import PACKAGED_PYTHON, Program, program_for

OURS = app_interpreter.packaged_version()


@pytest.fixture
def venv(tmp_path):
    def make(python=PACKAGED_PYTHON, version=f"version = {OURS}.1", spyglass="", pip=False):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python").symlink_to(python)
        (tmp_path / "pyvenv.cfg").write_text(f"home = /usr/bin\n{version}\n")
        site = (
            tmp_path
            / "lib"
            / f"python{version.partition('= ')[2].rpartition('.')[0]}"
            / "site-packages"
        )
        site.mkdir(parents=True)
        if spyglass:
            (tmp_path / "bin" / "spyglass").write_text("#!/bin/sh\nexit 1\n")
            (tmp_path / "bin" / "spyglass").chmod(0o755)
            (site / f"spyglass-{spyglass}.dist-info").mkdir()
        if pip:
            (tmp_path / "bin" / "pip").touch()
        return str(tmp_path)

    return make


@pytest.fixture
def another(tmp_path_factory):
    """An interpreter other than the machine's."""
    path = tmp_path_factory.mktemp("python") / "python3"
    path.touch()
    return str(path)


def test_virtualenv_of_the_packaged_python(venv):
    assert program_for(venv()) == Program()


def test_spyglass_in_a_virtualenv_of_the_packaged_python_is_not_used(venv):
    assert program_for(venv(spyglass="0.0.1")) == Program()


@pytest.mark.parametrize("key", ["version", "version_info"])
def test_other_python_of_the_same_version_is_enough(venv, another, key):
    assert program_for(venv(another, f"{key} = {OURS}.1")) == Program()


@pytest.mark.parametrize(("version", "shown"), [(__version__, ""), ("99.1", "99.1")])
def test_other_python_runs_its_own_spyglass(venv, another, version, shown):
    path = venv(another, "version = 3.99.0", spyglass=version)
    assert program_for(path) == Program(f"{path}/bin/spyglass", f"{path}/bin/python", shown)


@pytest.mark.parametrize(
    ("pip", "install"),
    [(True, "{}/bin/pip install spyglass=={}"), (False, "uv pip install --python {} spyglass=={}")],
)
def test_other_python_without_spyglass_is_rejected(venv, another, pip, install):
    path = venv(another, "version_info = 3.99.0.final.0", pip=pip)
    with pytest.raises(ConfigError) as caught:
        program_for(path)
    assert str(caught.value) == (
        f"{path} is for Python 3.99, but Spyglass runs on {OURS}: install Spyglass in the environment: {install.format(path, __version__)}"
    )


def test_missing_python_is_rejected(venv):
    path = venv("/proc/none")
    with pytest.raises(
        ConfigError,
        match=f"^the Python, /proc/none, of the virtual environment {path} does not exist: create",
    ):
        program_for(path)


def test_directory_that_is_no_virtualenv(tmp_path):
    with pytest.raises(
        ConfigError,
        match=f"^{tmp_path} is not a virtual environment: {tmp_path}/pyvenv.cfg: No such file",
    ):
        program_for(str(tmp_path))


def test_packaged_python_version(monkeypatch, tmp_path):
    (tmp_path / "python3.97").touch()
    (tmp_path / "python3").symlink_to("python3.97")
    monkeypatch.setattr(app_interpreter, "server_python", lambda: str(tmp_path / "python3"))
    assert app_interpreter.packaged_version() == "3.97"
    monkeypatch.setattr(app_interpreter, "server_python", lambda: os.path.realpath(sys.executable))
    assert (
        app_interpreter.packaged_version() == f"{sys.version_info.major}.{sys.version_info.minor}"
    )


def test_link_target_cannot_add_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("spyglass.config.settings.DIRECTORY", str(tmp_path / "etc"))
    (tmp_path / "etc").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("gone\nspyglass: nothing is wrong\x1b[8m")
    (tmp_path / "pyvenv.cfg").touch()
    (tmp_path / "etc" / "a.toml").write_text(f"venv = '{tmp_path}'\n")
    app = apps.read("a")
    apps.examine(app, [app])
    [fault] = app.faults
    assert "the Python, gone spyglass: nothing is wrong\\x1b[8m, of" in fault
    assert fault.isprintable()


def test_pyvenv_cfg_cannot_add_a_line(venv, another):
    path = venv(another, spyglass="1\nblog: listens on port 80 \x1b[8m" + "9" * 150)
    version = program_for(path).version
    assert version.startswith("1 blog")
    assert version.isprintable()
    assert len(version) <= 40


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("3.13.0rc1", "3.13"),
        ("3", "3"),
        ("3.11; curl x | sh", "3.11"),
        ("9" * 500, "?"),
        ("²", "?"),
    ],
)
def test_version_must_be_a_number(tmp_path, says, version):
    (tmp_path / "pyvenv.cfg").write_text(f"version = {says}\n")
    assert app_interpreter.version_in(str(tmp_path)) == version
