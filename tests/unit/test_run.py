"""A command as an app: what is copied into its unit, how the words travel, and what is
executed.
"""

import os
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.errors import LoadError, StartError, UsageError
from spyglass.ops import command_table
from spyglass.ops.app import apps
from spyglass.ops.commands import run as run_command
from spyglass.ops.run import enter_app, run_channel, run_preparation, run_unit, terminal_relay
from spyglass.ops.run.run_channel import Request
from spyglass.ops.run.terminal_relay import TerminalRelay

UNIT = """\
[Unit]
Requires=spyglass@%i.socket
[Service]
ExecStart=/usr/bin/spyglass serve --name %i
ExecStartPre=/bin/false
ExecPaths=/usr
NoExecPaths=/
User=spyglass-%i
DynamicUser=yes
PrivateTmp=yes
PrivateUsers=yes
ProtectProc=invisible
SystemCallFilter=~@clock
MemoryMax=1G
WatchdogSec=30
Sockets=x.socket
"""


def service(text):
    return text.split("[Service]\n")[1].splitlines()


def made(**more):
    return run_unit.unit_text("blog", [UNIT], "/run/spyglass-run/7", **more)


# The unit


def test_unit_runs_in_the_sandbox_of_the_service():
    lines = service(made())
    assert {"User=spyglass-%i", "DynamicUser=yes", "SystemCallFilter=~@clock"} <= {*lines}
    assert {"ExecPaths=/usr", "NoExecPaths=/", "MemoryMax=1G"} <= {*lines}
    started = [line for line in lines if line.startswith("ExecStart")]
    assert started == ["ExecStart=/usr/bin/spyglass enter-app /run/spyglass-run/7 --name %i"]
    assert "WatchdogSec=0" in lines
    assert "Sockets=x.socket" not in lines


def test_unit_shares_slice_and_tmp_with_the_service():
    assert service(made())[0] == "Slice=system-spyglass.slice"
    assert "JoinsNamespaceOf=spyglass@blog.service\n" in made()
    own = run_unit.unit_text("blog", [UNIT, "[Service]\nSlice=mine.slice\n"], "/x")
    assert [line for line in service(own) if line.startswith("Slice=")][-1] == "Slice=mine.slice"


def test_without_sandbox_the_user_and_the_limits_stay():
    lines = service(made(sandbox=False))
    assert {"User=spyglass-%i", "DynamicUser=yes", "PrivateTmp=yes", "MemoryMax=1G"} <= {*lines}
    assert not [
        line
        for line in lines
        if line.startswith(("Protect", "SystemCall", "PrivateUsers", "ExecPaths", "NoExec"))
    ]


def test_writable_paths_come_last_and_cannot_be_specifiers():
    assert service(made(writable=["/srv/a b/%i"]))[-1] == 'ReadWritePaths="/srv/a b/%%i"'


# The channel


@given(
    st.lists(st.binary(max_size=20).filter(lambda word: b"\0" not in word)),
    st.dictionaries(st.text(st.characters(codec="ascii")), st.text(st.characters(codec="utf-8"))),
)
def test_words_travel_unchanged(words, variables):
    request = Request([os.fsdecode(word) for word in words], variables, 2)
    assert run_channel.decode(run_channel.encode(request)) == request


def test_descriptors_travel_with_a_long_command(tmp_path):
    path = str(tmp_path / "socket")
    request = Request(["x" * 100_000] * 10)
    with socket.socket(socket.AF_UNIX) as listener, open(tmp_path / "file", "w+") as file:
        listener.bind(path)
        listener.listen()

        def answer():
            channel, _ = listener.accept()
            with channel:
                run_channel.send(channel, request, [file.fileno()] * 3)

        thread = threading.Thread(target=answer)
        thread.start()
        received, fds = run_channel.receive(path)
        thread.join()
        assert received == request
        os.write(fds[1], b"there")
        for fd in fds:
            os.close(fd)
        file.seek(0)
        assert file.read() == "there"


def test_refused_process_gets_nothing(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        with pytest.raises(EOFError):
            run_channel.receive(path)
        thread.join()


@pytest.mark.parametrize("argv", [[], ["/nowhere/socket"]])
def test_typed_by_hand_it_says_what_it_is_for(argv, capsys):
    assert enter_app.main(argv) == 125
    assert "only the units of 'spyglass run' use enter-app" in capsys.readouterr().err


def test_a_process_of_another_unit_or_user_is_not_the_commands():
    with open("/proc/self/cgroup") as stream:
        ours = stream.readline().strip().rpartition("/")[2]
    assert run_unit._is_in(ours, os.getpid(), os.geteuid())
    assert not run_unit._is_in(ours, os.getpid(), os.geteuid() + 1)
    assert not run_unit._is_in("spyglass-run-1@blog.service", os.getpid(), os.geteuid())
    assert not run_unit._is_in(ours, 2**22 + 1, os.geteuid())


# What is executed


@pytest.fixture
def directory(tmp_path, monkeypatch):
    for name, mode in (("manage.py", 0o644), ("tool.py", 0o755), ("bin/python", 0o755)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        path.chmod(mode)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("manage.py migrate", "PYTHON manage.py migrate"),
        ("./manage.py migrate", "PYTHON ./manage.py migrate"),
        ("./tool.py -x", "./tool.py -x"),  # its first line says what runs it
        ("python manage.py", "PYTHON manage.py"),
        ("none.py", "none.py"),
        ("none", "none"),
    ],
)
def test_commands_are_completed(directory, words, expected):
    done = enter_app.complete(words.split(), "PYTHON", {"PATH": "/nowhere"})
    assert done == expected.split()


def test_path_takes_precedence_over_the_apps_directory(directory):
    path = {"PATH": str(directory / "bin")}
    assert enter_app.complete(["python", "x"], "PYTHON", path) == ["python", "x"]


def test_variables_of_the_server_are_not_the_commands(tmp_path, monkeypatch):
    file = tmp_path / "blog.toml"
    file.write_text('directory = "/srv"\n')
    kept = {"HOME": "/x", "STATE_DIRECTORY": "/y", "CREDENTIALS_DIRECTORY": "/z"}
    ours = dict.fromkeys(("NOTIFY_SOCKET", "LISTEN_FDS", "INVOCATION_ID", "JOURNAL_STREAM"), "1")
    monkeypatch.setattr(os, "environ", {**kept, **ours, "SPYGLASS_THREADS": "3"})
    config = enter_app.read_settings(["--config", str(file)])
    assert (config.directory, config.threads) == ("/srv", 3)
    assert os.environ == kept


def test_missing_directory_or_environment_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = run_preparation.apps.settings.Config()
    with pytest.raises(LoadError, match="directory 'gone': No such file or directory"):
        enter_app.enter(_with(config, directory="gone"))
    with pytest.raises(LoadError, match=r"venv 'gone': there is no bin/python3"):
        enter_app.enter(_with(config, venv="gone"))


def _with(config, **values):
    class Changed:
        directory, venv = config.directory, config.venv

    for name, value in values.items():
        setattr(Changed, name, value)
    return Changed


# The command line


@pytest.mark.parametrize(
    ("line", "own", "rest"),
    [
        ("blog manage.py migrate --fake", "blog", "manage.py migrate --fake"),
        ("blog -- --odd -- x", "blog", "--odd -- x"),
        ("--no-sandbox blog ls -- -l", "--no-sandbox blog", "ls -- -l"),
        ("--writable a blog --writable=b ls", "--writable a blog --writable=b", "ls"),
        ("blog --help", "blog --help", ""),
        ("blog", "blog", ""),
        ("", "", ""),
    ],
)
def test_options_of_the_command_are_its_own(line, own, rest):
    assert command_table.split_rest(run_command.COMMAND, line.split()) == (
        own.split(),
        rest.split(),
    )


def test_command_is_required():
    with pytest.raises(UsageError, match="run: which command"):
        run_command.run(command_table.parse(["run", "blog"]))
    options = command_table.parse(["run", "--writable", "x", "blog", "ls", "-l"])
    assert (options.name, options.command, options.writable) == ("blog", ["ls", "-l"], ["x"])


# Before anything is started


def test_writable_paths_begin_at_the_apps_directory(tmp_path):
    app = apps.App("blog", "/etc/spyglass/blog.toml")
    (tmp_path / "media").mkdir()
    app.config = _with(app.config, directory=str(tmp_path))
    found = run_preparation.writable_paths(app, ["media", str(tmp_path)])
    assert found == [str(tmp_path / "media"), str(tmp_path)]
    for path, why in (("none", "there is no"), ("a\nb", "must not contain")):
        with pytest.raises(StartError, match=why):
            run_preparation.writable_paths(app, [path])


def test_unknown_app_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(run_preparation.apps.settings, "DIRECTORY", str(tmp_path))
    (tmp_path / "blog.toml").touch()
    with pytest.raises(StartError, match="there is no app 'blgo'.*did you mean 'blog'"):
        run_preparation.find_app("blgo")


def test_output_for_a_terminal_that_does_not_block_is_not_lost(monkeypatch):
    """Programs that share the administrator's terminal may have set O_NONBLOCK."""
    monkeypatch.setattr(os, "isatty", lambda fd: False)
    relay = TerminalRelay()
    relay._fd, command = os.pipe()
    end, relay._screen = os.pipe()
    os.write(command, b"all of it")
    full, write = [True], os.write

    def refuse_once(fd, data):
        if fd == relay._screen and full:
            full.pop()
            raise BlockingIOError
        return write(fd, data)

    monkeypatch.setattr(os, "write", refuse_once)
    relay._show()
    os.close(relay._screen)
    assert os.read(end, 100) == b"all of it"
    for fd in (command, relay._fd, end):
        os.close(fd)


@pytest.mark.parametrize(
    ("typed", "seconds", "abandoned"),
    [
        ([b"\x1d", b"\x1d", b"\x1d"], 0.4, True),
        ([b"a\x1d\x1d\x1d"], 0.0, True),
        ([b"\x1d", b"\x1d", b"\x1d"], 0.6, False),
        ([b"\x1d", b"\x1d", b"\x1d", b"\x1d"], 0.6, False),
        ([b"\x1d\x1d", b"x", b"\x1d"], 0.0, False),
        ([b"\x03", b"\x03", b"\x03"], 0.0, False),
        ([b""], 0.0, False),
    ],
)
def test_ctrl_bracket_typed_three_times_gives_the_terminal_back(
    monkeypatch, typed, seconds, abandoned
):
    monkeypatch.setattr(os, "isatty", lambda fd: False)
    relay = TerminalRelay()
    end, relay._fd = os.pipe()
    keys, now, read = iter(typed), iter(n * seconds for n in range(9)), os.read
    monkeypatch.setattr(os, "read", lambda fd, size: next(keys) if fd == 0 else read(fd, size))
    monkeypatch.setattr(terminal_relay.time, "monotonic", lambda: next(now))
    for _ in typed:
        assert not relay.is_abandoned
        relay.handle(0)
    assert relay.is_abandoned == abandoned
    for fd in (end, relay._fd):
        os.close(fd)


@pytest.mark.parametrize(
    ("typed", "repeated"),
    [
        (
            "run blog --no-sandbox manage.py migrate -v",
            "run blog --no-sandbox manage.py migrate -v",
        ),
        ("run blog --writable a --writable /b ls", "run blog --writable=a --writable=/b ls"),
        ("shell blog", "shell blog"),
    ],
)
def test_another_user_is_told_what_to_type(monkeypatch, capsys, typed, repeated):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert command_table.run(typed.split()) == 125
    assert capsys.readouterr().err.endswith(f": sudo spyglass {repeated}\n")
