"""The command as a process: its output, its exit status, and what it imports."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from spyglass import __version__
from spyglass.ops.command_table import help_of
from spyglass.runtime.compiled_engine import description

NOT_ROOT = (
    [] if os.geteuid() else ["unshare", "--user", "--map-user=1000"]
)  # root may only check an app by its name


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
        if not name.startswith(("SPYGLASS_", "LISTEN_")) or name == "SPYGLASS_PURE"
    }
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=30, **how)


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        ("--version", 0, f"spyglass {__version__} ({description()})\n", ""),
        ("--help", 0, help_of("") + "\n", ""),
        ("", 0, help_of("") + "\n", ""),
        ("help", 0, help_of("") + "\n", ""),
        ("help apply", 0, help_of("apply") + "\n", ""),
        ("apply --help", 0, help_of("apply") + "\n", ""),
        ("serve --help", 0, help_of("serve") + "\n", ""),
        ("--help serve", 0, help_of("serve") + "\n", ""),
        ("help settings", 0, help_of("settings") + "\n", ""),
        ("help idle-timeout", 0, help_of("idle_timeout") + "\n", ""),
        ("sevre", 2, "", "spyglass: unknown command 'sevre', did you mean 'serve'?\n"),
        (
            *("help aply", 2, ""),
            "spyglass: no help on 'aply': it is no command and no setting; "
            "did you mean 'spyglass help apply'?\n",
        ),
        ("serve --nonsense", 2, "", "spyglass: unknown option '--nonsense'\n"),
        (
            "lookout --workers no",
            78,
            "",
            "spyglass: --workers: workers: expected a whole number, not 'no'\n",
        ),
        (
            *("lookout --workers no --threads 0", 78, ""),
            "spyglass: --workers: workers: expected a whole number, not 'no'\n"
            "spyglass: --threads: threads: expected a whole number from 1 to 256, not '0'\n",
        ),
        (
            *("check --workers no --threads 0", 78, ""),
            "the app: cannot be served:\n"
            "  --workers: workers: expected a whole number, not 'no'\n"
            "  --threads: threads: expected a whole number from 1 to 256, not '0'\n",
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
def test_failed_start_prints_one_line_and_exits_with_its_status(words, status, out, err):
    done = spyglass(*words.split())
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


@pytest.mark.parametrize("words", ["--help", "apply --dry-run"])
def test_closed_stdout_is_no_error(words):
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


def test_port_in_use_is_named_with_the_fix():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = spyglass("lookout", "--bind", f"127.0.0.1:{port}")
    assert done.returncode == 78
    assert done.stderr.startswith(
        f"spyglass: cannot listen on 127.0.0.1:{port}: another program uses this port; "
    )
    assert "choose another port with --bind" in done.stderr


def test_sockets_for_another_process_are_ignored():
    """LISTEN_PID is inherited by all processes of a service (sd_listen_fds(3))."""
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


def test_wake_path_imports_little():
    """Each import makes every wake longer; these cost more than all of ours together."""
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


def test_lookout_imports_neither_http_nor_an_app():
    code = "import sys; import spyglass.cli, spyglass.ops.commands.lookout; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {
        "httptools",
        "spyglass.worker",
        "spyglass.welcome",
        "spyglass.zygote.app_loader",
        "spyglass.master.main",
    } & set(done.stdout.split())


def test_sigterm_ends_a_waiting_lookout():
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
