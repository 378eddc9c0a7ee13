"""The command line: what it says becomes settings, and what it cannot mean is refused
in one line.
"""

import os
import signal
import socket
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spyglass import __version__
from spyglass.config import settings
from spyglass.config.command_line import OWN_OPTIONS, SERVER_COMMANDS, parse
from spyglass.config.setting_errors import default_text
from spyglass.config.setting_types import Unit
from spyglass.errors import ConfigError, StartError, UsageError
from spyglass.ops import server_commands
from spyglass.ops.command_table import COMMANDS, all_commands, help_of


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("", {}),
        ("blog:app", {"app": "blog:app"}),
        ("-", {"app": "-"}),
        ("--workers 3 blog", {"workers": "3", "app": "blog"}),
        ("--workers=3", {"workers": "3"}),
        ("--workers=", {"workers": ""}),
        ("--workers 3 --workers 4", {"workers": "4"}),
        ("--app blog", {"app": "blog"}),
        ("--idle-timeout 2", {"idle_timeout": "2"}),
        ("--directory --workers", {"directory": "--workers"}),
        ("--venv=a=b", {"venv": "a=b"}),
        ("--debug", {"debug": "true"}),
        ("--debug blog", {"debug": "true", "app": "blog"}),
        ("--debug=no", {"debug": "no"}),
        ("--no-preload", {"preload": "false"}),
        ("--no-preload --preload", {"preload": "true"}),
    ],
)
@pytest.mark.parametrize("command", ["serve", "lookout"])
def test_settings(command, words, options):
    arguments = parse([command, *words.split()])
    assert (arguments.command, arguments.options, arguments.file, arguments.binds) == (
        command,
        options,
        None,
        [],
    )


@pytest.mark.parametrize(
    ("words", "file", "binds"),
    [
        ("serve --name blog", "/etc/spyglass/blog.toml", []),
        ("serve --name=blog", "/etc/spyglass/blog.toml", []),
        ("serve --config ./x", "./x", []),
        (
            "lookout --bind :80 --bind=unix:/x blog --bind [::1]:1",
            None,
            [":80", "unix:/x", "[::1]:1"],
        ),
    ],
)
def test_file_and_addresses(words, file, binds):
    arguments = parse(words.split())
    assert (arguments.file, arguments.binds) == (file, binds)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        *(
            (words, "help")
            for words in (
                "",
                "--help",
                "-h",
                "help",
                "serve --help",
                "serve blog -h --nonsense",
                "lookout --help",
            )
        ),
        *((words, "version") for words in ("--version", "version")),
    ],
)
def test_questions(words, command):
    assert parse(words.split()).command == command


BIND = (
    "--bind is for 'spyglass lookout'; what 'serve' listens on is ListenStream= of its .socket unit"
)
ONE_FILE = "--name and --config each name the one file; give one of them once"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("blog:app", "unknown command 'blog:app'; 'spyglass --help' lists them"),
        ("--workers 2", "unknown command '--workers'; 'spyglass --help' lists them"),
        ("serve a b", "more than one app: 'a' and 'b'"),
        ("serve --app a b", "more than one app: 'a' and 'b'"),
        ("serve --worker 2", "unknown option '--worker', did you mean '--workers'?"),
        (
            "serve --idle_timeout 2",
            "unknown option '--idle_timeout', did you mean '--idle-timeout'?",
        ),
        ("serve -w 2", "unknown option '-w'"),
        ("serve -workers 2", "unknown option '-workers', did you mean '--workers'?"),
        ("serve --", "unknown option '--'"),
        ("serve --zzz=1", "unknown option '--zzz'"),
        (
            "serve --listen 8001",
            "--listen: listen configures the units: set it in the TOML file, then run 'spyglass apply'",
        ),
        (
            "lookout --memory-max=1G",
            "--memory-max: memory_max configures the units: set it in the TOML file, then run 'spyglass apply'",
        ),
        ("serve --no-workers", "unknown option '--no-workers', did you mean '--workers'?"),
        ("serve --no-preload=1", "unknown option '--no-preload', did you mean '--preload'?"),
        ("serve --workers", "--workers needs a value"),
        ("lookout --bind", "--bind needs a value"),
        ("serve --name", "--name needs a value"),
        ("serve --bind :80", BIND),
        ("serve --name a --name b", ONE_FILE),
        ("serve --name a --config b", ONE_FILE),
        ("serve --config a --name b", ONE_FILE),
    ],
)
def test_mistakes(words, says):
    with pytest.raises(UsageError) as caught:
        parse(words.split())
    assert (str(caught.value), caught.value.exit_status) == (says, 2)


def test_a_name_that_cannot_be_one_is_a_mistake_of_configuration():
    with pytest.raises(ConfigError, match="^--name .*A.*: expected 1 to 22"):
        parse(["serve", "--name", "A"])


words = st.sampled_from(
    [
        "a",
        "--workers",
        "--workers=2",
        "--debug",
        "--no-debug",
        "--bind",
        "--name",
        "--config",
        "x",
        "--",
        "-",
        "=",
        "",
    ]
)


@example("serve", ["--name", "a\n"])
@given(st.sampled_from(["serve", "lookout"]), st.lists(words | st.text(max_size=8), max_size=6))
def test_any_command_line_is_understood_or_refused_in_one_line(command, rest):
    try:
        arguments = parse([command, *rest])
    except StartError as error:
        assert "\n" not in str(error)
    else:
        if arguments.command != "help":
            # What the lookout hands on is understood as what it was given.
            again = parse(["serve", *arguments.again()])
            assert (again.options, again.file) == (arguments.options, arguments.file)


# Declarations


def test_the_parser_knows_what_is_declared():
    assert tuple(server_commands.COMMANDS) == SERVER_COMMANDS
    declared = {
        flag
        for command in server_commands.COMMANDS.values()
        for option in command.options
        for flag in option.flags
    }
    assert declared == set(OWN_OPTIONS)


def test_a_command_is_declared_once_and_under_its_name():
    names = [command.name for command in all_commands()]
    assert names == [*SERVER_COMMANDS, *COMMANDS]
    assert len(set(names)) == len(names)


# Help


def test_every_setting_is_in_the_help_with_its_meaning_and_default():
    text = " ".join(help_of("").split())
    for setting in settings.SETTINGS.values():
        assert f" {setting.name if isinstance(setting, Unit) else setting.option}" in text
        assert f"{setting.meaning} ({setting.kind}; default {default_text(setting)})" in text
    for flag in ("--no-preload", "--no-debug"):
        assert flag in text


@pytest.mark.parametrize("name", ["", *(command.name for command in all_commands())])
def test_the_help_fits_a_terminal(name):
    assert max(map(len, help_of(name).splitlines())) < 80


@pytest.mark.parametrize("command", all_commands(), ids=lambda command: command.name)
def test_the_help_of_a_command_has_all_that_is_declared(command):
    text = help_of(command.name)
    words = " ".join(text.split())
    assert text.startswith(f"usage: spyglass {command.name}")
    assert command.help[1:] in words
    for each in (*command.operands, *command.options):
        assert each.help in words
        assert each.value in words
        for flag in each.flags:
            assert f" {flag}" in words
    assert ("--keepalive-timeout" in words) == command.settings
    assert f"  {command.name} " in help_of("")


# The process

NOT_ROOT = (
    [] if os.geteuid() else ["unshare", "--user", "--map-user=1000"]
)  # root gets to check an app by its name alone


def spyglass(*words, **how):
    command = [
        *(NOT_ROOT if words[:1] == ("check",) else []),
        sys.executable,
        "-m",
        "spyglass",
        *words,
    ]
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SPYGLASS_", "LISTEN_"))
    }
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=30, **how)


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        ("--version", 0, f"spyglass {__version__}\n", ""),
        ("--help", 0, help_of("") + "\n", ""),
        ("", 0, help_of("") + "\n", ""),
        ("sevre", 2, "", "spyglass: unknown command 'sevre'; 'spyglass --help' lists them\n"),
        ("serve --nonsense", 2, "", "spyglass: unknown option '--nonsense'\n"),
        (
            "lookout --workers no",
            78,
            "",
            "spyglass: --workers: workers: expected a whole number, not 'no'\n",
        ),
        (
            *("check --workers no --threads 0", 78, ""),
            "spyglass: --workers: workers: expected a whole number, not 'no'\n"
            "spyglass: --threads: threads: expected a whole number from 1 to 256, not '0'\n",
        ),
        (
            "lookout --config /proc/nonexistent",
            78,
            "",
            "spyglass: /proc/nonexistent: cannot be read: No such file or directory\n",
        ),
        (
            "lookout --bind nowhere",
            2,
            "",
            "spyglass: --bind nowhere: expected host:port, [v6]:port, :port or unix:/path\n",
        ),
        (
            *("serve", 78, ""),
            "spyglass: no listening socket was passed in: start it through its .socket unit, "
            "or use 'spyglass lookout' where there is no systemd\n",
        ),
    ],
)
def test_what_cannot_start_ends_with_one_line_and_its_status(words, status, out, err):
    done = spyglass(*words.split())
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


@pytest.mark.parametrize("words", ["--help", "apply --dry-run"])
def test_whoever_has_read_enough_hears_no_complaint(words):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "spyglass", *words.split()],
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_port_that_is_taken_is_named_with_the_way_out():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = spyglass("lookout", "--bind", f"127.0.0.1:{port}")
    assert done.returncode == 78
    assert done.stderr.startswith(
        f"spyglass: cannot listen on 127.0.0.1:{port}: another program uses this port; "
    )
    assert "choose another port with --bind" in done.stderr


def test_sockets_meant_for_another_process_are_none():
    """LISTEN_PID is inherited by whatever a service starts (sd_listen_fds(3))."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(listener.fileno(), True)
        environ = os.environ | {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        command = [sys.executable, "-m", "spyglass", "serve"]
        done = subprocess.run(
            command,
            env=environ,
            pass_fds=[listener.fileno()],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert (done.returncode, done.stderr[:43]) == (
        78,
        "spyglass: no listening socket was passed in",
    )


def test_the_wake_path_imports_little():
    """Each import is paid by every visitor who wakes an app; these cost more than all
    of ours together.
    """
    dear = [
        "argparse",
        "dataclasses",
        "logging",
        "typing",
        "inspect",
        "asyncio",
        "email",
        "http",
        "ssl",
        "tomllib",
        "re",
        "httptools",
    ]
    code = "import sys; import spyglass.cli, spyglass.master.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert set(dear) & set(done.stdout.split()) == set()


def test_the_lookout_imports_neither_http_nor_an_app():
    code = "import sys; import spyglass.cli, spyglass.ops.commands.lookout; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {
        "httptools",
        "spyglass.worker",
        "spyglass.welcome",
        "spyglass.zygote.app_loader",
        "spyglass.master.main",
    } & set(done.stdout.split())


def test_sigterm_ends_a_lookout_that_nobody_has_visited():
    lookout = subprocess.Popen(
        [sys.executable, "-m", "spyglass", "lookout", "--bind", "127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "the welcome page is asleep; open http://127.0.0.1:" in lookout.stderr.readline()
        lookout.send_signal(signal.SIGTERM)
        assert lookout.wait(10) == 0
    finally:
        lookout.kill()
        lookout.communicate()
