"""Each kind of mistake in the configuration, where nobody waits in a socket: one line
that names place and setting, and status 78.
"""

import re
import subprocess

import pytest

from .fake_systemd import server_environ, spyglass

# name: (file, environment, words, the line without "spyglass: "); FILE stands for the
# path of the file
MISTAKES = {
    "unknown setting": ("workers = 2\n\nwrokers = 3\n", {}, [], r"FILE:3: unknown setting 'wrokers', did you mean 'workers'\?"),
    "unknown and like nothing": ("colour = 'red'\n", {}, [], "FILE:1: unknown setting 'colour'"),
    "unknown table": ("workers = 2\n[server]\nport = 80\n", {}, [], "FILE:2: unknown table .server.: settings belong to no table, so delete this line"),
    "text for a number": ("# how many\nworkers = 'two'\n", {}, [], "FILE:2: workers: expected a whole number, not 'two'"),
    "number for a text": ("app = 1\n", {}, [], "FILE:1: app: expected text, not 1"),
    "flag for a number": ("workers = true\n", {}, [], "FILE:1: workers: expected a whole number, not true"),
    "number for a flag": ("debug = 1\n", {}, [], "FILE:1: debug: expected true or false, not 1; write true"),
    "fraction": ("workers = 1.5\n", {}, [], "FILE:1: workers: expected a whole number, not 1.5"),
    "none": ("workers = 0\n", {}, [], "FILE:1: workers: expected a whole number from 1 to 256, not 0"),
    "negative": ("idle_timeout = -1\n", {}, [], "FILE:1: idle_timeout: expected a number of seconds of at least 0 .*, not -1"),
    "zero seconds": ("start_timeout = 0\n", {}, [], "FILE:1: start_timeout: expected a number of seconds above 0 .*, not 0"),
    "infinite": ("idle_timeout = inf\n", {}, [], "FILE:1: idle_timeout: expected a number of seconds .*, not inf"),
    "not a number": ("idle_timeout = nan\n", {}, [], "FILE:1: idle_timeout: expected a number of seconds .*, not nan"),
    "size": ("max_body = '1 GB'\n", {}, [], "FILE:1: max_body: expected a number of bytes, .*, not '1 GB'; write \"1G\""),
    "choice": ("log_level = 'loud'\n", {}, [], "FILE:1: log_level: expected one of error, warning, info, debug, not 'loud'"),
    "list": ("workers = [2]\n", {}, [], r"FILE:1: workers: expected a whole number, not \[2\]; write 2"),
    "not TOML": ("workers = 2\nthreads =\n", {}, [], "FILE:2: threads has no value: .*"),
    "unclosed": ("app = 'x\n", {}, [], "FILE:1: the quote ' is not closed"),
    "twice": ("workers = 2\nworkers = 3\n", {}, [], "FILE:2: workers is set twice, first in line 1: .*"),
    "not UTF-8": (b"app = '\xff'\n", {}, [], "FILE:1: not UTF-8: byte 0xff; .*"),
    "no file": (None, {}, [], "FILE: cannot be read: No such file or directory"),
    "contradiction": (
        "idle_timeout = 5\nkeepalive_timeout = 10\n", {}, [],
        "FILE(:2)?: keepalive_timeout: 10 s must be shorter than idle_timeout, 5 s, .*",
    ),
    "environment, unknown": ("", {"SPYGLASS_WROKERS": "2"}, [], r"SPYGLASS_WROKERS: unknown setting 'wrokers', did you mean 'SPYGLASS_WORKERS'\?"),
    "environment, wrong": ("", {"SPYGLASS_WORKERS": "two"}, [], "SPYGLASS_WORKERS: workers: expected a whole number, not 'two'"),
    "environment, empty": ("", {"SPYGLASS_WORKERS": ""}, [], "SPYGLASS_WORKERS: workers: expected a whole number, not ''"),
    "option, wrong": ("", {}, ["--workers", "two"], "--workers: workers: expected a whole number, not 'two'"),
    "option, digits of another script": ("", {}, ["--workers", "٢"], "--workers: workers: expected a whole number, not '٢'"),
    "option, wrong flag": ("", {}, ["--debug=maybe"], "--debug: debug: expected true or false, not 'maybe'"),
}  # fmt: skip
# What cannot be understood at all is wrong usage: status 2, as everywhere on Unix.
USAGE = {
    "unknown option": (
        ["--wrokers", "2"],
        r"unknown option '--wrokers', did you mean '--workers'\?",
    ),
    "underscore": (
        ["--idle_timeout", "2"],
        r"unknown option '--idle_timeout', did you mean '--idle-timeout'\?",
    ),
    "no value": (["--workers"], "--workers needs a value"),
    "two apps": (["one:app", "two:app"], "more than one app: 'one:app' and 'two:app'"),
    "name and file": (
        ["--name", "a", "--config", "b"],
        "--name and --config each name the one file; .*",
    ),
}


def lookout(pycache, words, environ=()):
    """Run the lookout where it must refuse. Its address cannot be had either, so that
    nothing listens if it does not.
    """
    argv = spyglass("lookout", "--bind", "192.0.2.1:1", *words)
    return subprocess.run(
        argv,
        env=server_environ(pycache) | dict(environ),
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_that_names_its_place(tmp_path, pycache, name):
    content, environ, words, line = MISTAKES[name]
    file = tmp_path / "site.toml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = lookout(pycache, ["--config", str(file), *words], environ)
    assert re.fullmatch(
        f"spyglass: {line.replace('FILE', re.escape(str(file)))}\n", result.stderr
    ), result.stderr
    assert result.stdout == ""
    assert result.returncode == 78


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage_is_one_line(pycache, name):
    words, line = USAGE[name]
    result = lookout(pycache, words)
    assert re.fullmatch(f"spyglass: {line}\n", result.stderr), result.stderr
    assert result.returncode == 2


@pytest.mark.parametrize("name", ["../a", "A", "a.b", "a" * 23, "", "-a"])
def test_a_name_that_no_unit_could_have(pycache, name):
    result = lookout(pycache, [f"--name={name}"])
    assert re.fullmatch(
        f"spyglass: --name {re.escape(repr(name))}: expected .*\n", result.stderr
    ), result.stderr
    assert result.returncode == 78


def test_the_later_is_the_stronger(tmp_path, pycache):
    """File, then environment, then command line: each puts the mistake of the one
    before right.
    """
    file = tmp_path / "site.toml"
    file.write_text("workers = 2\n")
    right = lookout(pycache, ["--config", str(file), "--workers", "4"], {"SPYGLASS_WORKERS": "3"})
    assert "192.0.2.1" in right.stderr  # it came as far as that
    assert right.returncode == 78


def test_the_version_and_the_help(pycache):
    for words, pattern in [
        (["--version"], r"spyglass \d\S* \((compiled|pure Python: .+)\)\n"),
        (["--help"], r"(?s)usage: spyglass COMMAND .*lookout.*"),
        (["help", "settings"], r"(?s)Settings of the server\n.*\nidle_timeout\n.*"),
        (["serve", "--help"], "(?s)usage:.*"),
    ]:
        result = subprocess.run(
            spyglass(*words),
            env=server_environ(pycache),
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        assert re.fullmatch(pattern, result.stdout), result.stdout
        assert result.returncode == 0
