"""Commands whose output cannot be written: the reader has closed the pipe, the disk is
full, the descriptor is closed.
"""

import os
import pty
import subprocess
import sys

import pytest

SPYGLASS = [sys.executable, "-m", "spyglass"]
NOT_ROOT = (
    [] if os.geteuid() else ["unshare", "--user", "--map-user=1000"]
)  # root gets to check an app by its name alone
# After a command that is read to its first letter, and one that is not read at all.
GONE = [">/dev/null", "| head -c1", "| true"]
LOST = [">/dev/full", ">&-"]


def run(words, redirection, **environ):
    command = f"set -o pipefail; {' '.join(NOT_ROOT if words.startswith('check') else [])} {' '.join(SPYGLASS)} {words} {redirection}"
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environ,
    )


@pytest.mark.parametrize("words", ["--version", "--help", "help", "list --help", "apply --help"])
@pytest.mark.parametrize("redirection", [*GONE, *LOST])
def test_output_only_commands_fail_if_it_is_lost(words, redirection):
    done = run(words, redirection)
    assert done.returncode == (1 if redirection in LOST else 0)
    why = {">/dev/full": "No space left on device", ">&-": "Bad file descriptor"}.get(redirection)
    assert done.stderr == (f"spyglass: cannot write the output: {why}\n" if why else "")


@pytest.mark.parametrize(
    "redirection",
    [*GONE, *LOST, ">/dev/full 2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-", "2>&-", "2>/dev/full"],
)
def test_commands_with_effects_complete(tmp_path, redirection):
    """`new` represents them; `apply` needs a systemd (tests/system/test_output.py)."""
    (tmp_path / "app.py").write_text("app = print\n")
    script = f"from spyglass import cli; from spyglass.config import settings; settings.DIRECTORY = {str(tmp_path)!r}; raise SystemExit(cli.main())"
    command = f'set -o pipefail; {sys.executable} -c "{script}" new blog {tmp_path} {redirection}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, (tmp_path / "blog.toml").exists()) == (0, True), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "redirection", ["2>&-", "2>/dev/full", ">&- 2>&-", "2>&1 >/dev/null | true"]
)
def test_exit_status_of_a_fault_is_preserved(redirection):
    assert run("nonsense", redirection).returncode == 2
    assert run("list --nonsense", redirection).returncode == 2
    assert run("check --config /proc/none", redirection).returncode == 78


def test_unencodable_characters_are_escaped(tmp_path):
    done = run(
        f"new caf\N{LATIN SMALL LETTER E WITH ACUTE} {tmp_path}", "", PYTHONIOENCODING="ascii"
    )
    assert (done.returncode, done.stderr.count("caf\\xe9")) == (2, 1)


def test_closed_descriptors_are_not_reused_for_files():
    """Otherwise the next file that is opened would become standard output."""
    script = "from spyglass.ops.output import safe_stdout; import os; safe_stdout.open_missing(); os.write(int(os.environ['OUT']), b'%d' % os.open('/', os.O_RDONLY))"
    out, far = os.pipe()
    os.set_inheritable(far, True)
    command = [
        "bash",
        "-c",
        f'exec "$@" <&- >&- 2>&- {far}>&{far}',
        "-",
        sys.executable,
        "-c",
        script,
    ]
    subprocess.run(
        command, pass_fds=[far], env=os.environ | {"OUT": str(far)}, timeout=60, check=True
    )
    os.close(far)
    with open(out) as stream:
        assert int(stream.read()) > 2


def test_non_blocking_terminal_gets_all_output():
    near, far = pty.openpty()
    os.set_blocking(far, False)
    with subprocess.Popen(
        [*SPYGLASS, "help", "settings"],
        stdout=far,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(far)
        said = b""
        try:
            while piece := os.read(near, 100):
                said += piece
        except OSError:  # EIO: its last process has ended
            pass
        assert process.stderr.read() == b""
    os.close(near)
    assert process.returncode == 0
    assert " ".join(said.decode().split()).endswith("need (true or false; default false)")
