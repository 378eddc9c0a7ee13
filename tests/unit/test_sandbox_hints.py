"""What is said of an error that the sandbox is to blame for, and that nothing is said
of any other.
"""

import errno
import os
import sqlite3
import subprocess
import sys

import pytest

from spyglass.config.setting_errors import let_in
from spyglass.zygote import sandbox_hints


@pytest.fixture(autouse=True)
def sandboxed(monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/spyglass/blog")


def raised(code):
    """The error that `code` ends with."""
    try:
        exec(compile(code, "app.py", "exec"), {})
    except Exception as error:
        return error
    raise AssertionError(f"nothing was raised by {code}")


class OperationalError(Exception):
    """As psycopg has it."""


class PolarsError(Exception):
    pass


SAID = {
    "a read-only disk": (OSError(errno.EROFS, "", "/srv/blog/x"), '/var/lib/spyglass/blog), or set writable = ["/srv/blog"]'),
    "a read-only database": (sqlite3.OperationalError("attempt to write a readonly database"), "$STATE_DIRECTORY (/var/lib/spyglass/blog)"),
    "a database that cannot be made": (sqlite3.OperationalError("unable to open database file"), "$STATE_DIRECTORY"),
    "numba": (PermissionError(1, "cannot allocate executable memory. This may be due to security"), "allow_jit = true"),
    "polars": (RuntimeError("could not execute mprotect for CPUID check"), "allow_jit = true"),
    "cffi": (MemoryError("Cannot allocate write+execute memory for ffi.callback(). You might"), "allow_jit = true"),
    "a library": (ImportError("libx.so: cannot enable executable stack as shared object requires: Permission denied"), "allow_jit = true"),
    "netlink": (OSError(errno.EAFNOSUPPORT, ""), "RestrictAddressFamilies="),
    "a device": (FileNotFoundError(errno.ENOENT, "", "/dev/ttyUSB0"), "PrivateDevices="),
    "a socket of another's in /tmp": (FileNotFoundError(errno.ENOENT, "", "/tmp/.s.PGSQL.5432"), "a /tmp of its own"),
    "nice": (PermissionError(errno.EPERM, "Operation not permitted"), "calls that need privileges"),
    "a role": (OperationalError('FATAL:  Peer authentication failed for user "blog"'), "user = ..."),
    "a database's socket": (OperationalError('connection to server on socket "/run/x/.s.PGSQL.5432" failed: Permission denied'), "cannot connect"),
    "no name": (KeyError("getpwuid(): uid not found: 61184"), "libnss-systemd"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_what_the_sandbox_refuses(name):
    error, expected = SAID[name]
    assert expected in sandbox_hints.advice(error)


def test_what_the_app_has_made_of_it():
    """Libraries wrap what the kernel has said, on purpose or while they deal with
    it.
    """
    on_purpose = raised(
        "try:\n    raise OSError(30, '', '/srv/x')\nexcept OSError as error:\n    raise RuntimeError('no') from error"
    )
    on_the_way = raised("try:\n    raise OSError(30, '', '/srv/x')\nexcept OSError:\n    {}['x']")
    assert [("writable" in sandbox_hints.advice(error)) for error in (on_purpose, on_the_way)] == [
        True,
        True,
    ]


def test_a_variable_that_is_not_set():
    assert sandbox_hints.advice(raised("import os; os.environ['SECRET_KEY']")).startswith(
        "SECRET_KEY is not in the service's environment"
    )
    assert sandbox_hints.advice(raised("{}['SECRET_KEY']")) == ""


def test_memory_by_hand():
    error = PermissionError(errno.EACCES, "Permission denied")
    assert sandbox_hints.advice(error) == ""
    mapped = raised("mmap = 1\nmmap(-1)")
    assert "allow_jit" not in sandbox_hints.advice(mapped), "that was the app's own mistake"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        ModuleNotFoundError("No module named 'blgo'"),
        FileNotFoundError(2, "", "/srv/x"),
        KeyError(),
    ],
)
def test_what_is_the_apps_own(error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sandbox_hints.advice(error) == ""


def test_outside_of_a_sandbox_nothing_is_to_blame(monkeypatch):
    monkeypatch.delenv("STATE_DIRECTORY")
    assert sandbox_hints.advice(OSError(errno.EROFS, "", "/srv/x")) == ""


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.ECONNREFUSED])
def test_without_a_network(number, monkeypatch):
    error = OSError(number, "")
    monkeypatch.setattr(sandbox_hints, "_has_network", lambda: True)
    assert sandbox_hints.advice(error) == ""
    monkeypatch.setattr(sandbox_hints, "_has_network", lambda: False)
    assert "network = true" in sandbox_hints.advice(error)


def test_a_virtual_environment_that_is_not_configured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/pyvenv.cfg").touch()
    error = ModuleNotFoundError("No module named 'flask'")
    assert 'venv = ".venv"' in sandbox_hints.advice(error)
    monkeypatch.setenv("VIRTUAL_ENV", "/srv/venv")
    assert sandbox_hints.advice(error) == ""


# As a user without access: root has all.
ASK = """
import os, sys
from spyglass.zygote import sandbox_hints
path = sys.argv[1]
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    open(path, sys.argv[2])
except OSError as error:
    print(sandbox_hints.advice(error))
"""


@pytest.mark.parametrize(
    ("closed", "mode", "path", "how", "said"),
    [
        (
            "home/ada",
            0o700,
            "home/ada/blog/app.py",
            "r",
            "cannot enter {}/home/ada (drwx------, owned by ",
        ),
        ("home", 0o700, "home/ada/blog/app.py", "r", "cannot enter {}/home (drwx------, owned by "),
        (
            "home/ada/blog/app.py",
            0o600,
            "home/ada/blog/app.py",
            "r",
            "cannot read {}/home/ada/blog/app.py (-rw-------, owned by ",
        ),
        (
            "home/ada/blog",
            0o755,
            "home/ada/blog/new",
            "w",
            "cannot write to {}/home/ada/blog (drwxr-xr-x, owned by ",
        ),
    ],
)
@pytest.mark.usefixtures("_anyone_may_enter")
def test_which_part_of_a_path_is_closed(tmp_path, closed, mode, path, how, said):
    if os.geteuid() != 0:
        said = said if how == "r" else ""  # it is our own directory
    (tmp_path / "home/ada/blog").mkdir(parents=True)
    (tmp_path / "home/ada/blog/app.py").touch()
    (tmp_path / closed).chmod(mode)
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(tmp_path / path), how],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    if said:
        assert said.format(tmp_path) in done.stdout
        # Never to all users: it may be a secret, or the way to one.
        assert "o+" not in done.stdout
        assert (f"chmod g+{'r' if mode == 0o600 else 'x'} {tmp_path / closed}" in done.stdout) == (
            how == "r"
        )


@pytest.mark.parametrize(
    ("group", "says"),
    [
        (
            "",
            'create a group for the app (addgroup --system blog; group = "blog"), then chgrp blog /x && chmod g+r /x; ',
        ),
        ("www-data", "chgrp www-data /x && chmod g+r /x; "),
    ],
)
def test_how_the_app_alone_gets_access(group, says):
    assert let_in("blog", group, "/x", "r") == f"{says}pass a secret in `credentials` instead"
