"""What bash and zsh complete after `spyglass`, asked of a real bash and a real zsh."""

import os
import pty
import re
import shlex
import subprocess
import threading

import pytest

from spyglass.config import settings
from spyglass.config.command_line import SERVER_COMMANDS
from spyglass.config.setting_types import Flag
from spyglass.ops import command_table

from .test_manual import ENVIRON, made

__all__ = ["made"]

COMMANDS = {*SERVER_COMMANDS, *command_table.COMMANDS}
FLAGS = [setting for setting in settings.SETTINGS.values() if isinstance(setting, Flag)]
SETTINGS = settings.SERVER_SETTINGS
OPTIONS = {
    "--name",
    "--config",
    *(f"--no-{flag.option[2:]}" for flag in FLAGS),
    *(setting.option for setting in SETTINGS),
}
LEVELS = {"error", "warning", "info", "debug"}

# What is typed, and what is offered then.
QUESTIONS = {
    "": COMMANDS | {"--help", "--version"},
    "lo": {"lookout", "logs"},
    "serve --": OPTIONS | {"--help"},
    "serve --log-level ": LEVELS,
    "serve --log-level=": LEVELS,
    "serve --log-level w": {"warning"},
    "serve --access-log ": {"true", "false", "combined", "json"},
    "serve --name ": {"blog", "shop"},
    "check --name=s": {"shop"},
    "check --workers ": set(),
    "serve --config ": {"own.toml", "pages/"},
    "serve --directory ": {"pages/"},
    "serve --workers 2 ": {"hello.py", "site.wsgi", "pages/"},
    "serve hello.py ": set(),
    "lookout --bind :80 --b": {
        "--bind",
        "--bodies-disk",
        "--bodies-memory",
        "--body-memory",
        "--body-min-rate",
        "--body-timeout",
    },
    "check ": {"hello.py", "site.wsgi", "pages/", "blog", "shop"},
    "check --workers 1 b": {"blog"},
    "reload ": {"blog", "shop"},
    "reload b": {"blog"},
    "help ap": {"app", "apply"},
    "help sett": {"settings"},
    "nonsense ": set(),
}


# Files in /etc/spyglass with names that no app can have.
HOSTILE = [
    "$(touch ran)",
    "`touch ran`",
    "a;touch ran",
    "a b",
    "a\nblog\nc",
    "$HOME",
    "~",
    "*",
    "s[h]op",
    "'",
    '"',
    "\\",
    "{x,y}",
    "-x",
    "Blog",
    "é",
    "s:x",
    "",
]


@pytest.fixture(scope="module")
def place(made, tmp_path_factory):
    """A directory with the completions of both shells, apps in etc, and a few files to
    complete.
    """
    place = tmp_path_factory.mktemp("completion")
    for name in ("spyglass.bash", "_spyglass"):
        (place / name).write_text(
            (made / name).read_text().replace(settings.DIRECTORY, str(place / "etc"))
        )
    for name in (
        "etc/blog.toml",
        "etc/shop.toml",
        "etc/blog.env",
        "work/hello.py",
        "work/site.wsgi",
        "work/own.toml",
        "work/notes.txt",
    ):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).touch()
    (place / "work" / "pages").mkdir()
    for name in HOSTILE:
        (place / "etc" / f"{name}.toml").touch()
    return place


def test_completion_has_every_command_and_option(made):
    for name in ("spyglass.bash", "_spyglass"):
        text = (made / name).read_text()
        assert re.findall(r"@[A-Z]+@", text) == []
        for command in command_table.COMMANDS:
            for action in command_table.parser(command)._actions:
                for option in action.option_strings:
                    assert option == "-h" or option in text


# bash

ASK = """
set -u
. /usr/share/bash-completion/bash_completion
. {place}/spyglass.bash
cd {place}/work
"""


def as_bash_splits(line):
    """Words as readline gives them: "=" and ":" are words by themselves
    (COMP_WORDBREAKS).
    """
    words = [
        piece
        for word in line.split(" ")[:-1]
        if word
        for piece in re.findall(r"[=:]+|[^=:]+", word)
    ]
    last = re.findall(r"[=:]+|[^=:]+", line.split(" ")[-1]) or [""]
    return [*words, *last, *([""] if last[-1] in ("=", ":") else [])]


def test_bash_completes(place):
    script = [ASK.format(place=shlex.quote(str(place)))]
    for question in QUESTIONS:
        line = f"spyglass {question}"
        words = as_bash_splits(line)
        script += [
            f"COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)} COMP_TYPE=9 COMP_KEY=9",
            f"COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1} COMPREPLY=()",
            f'_spyglass spyglass {shlex.quote(words[-1])} {shlex.quote(words[-2])} || true; printf "%s\\n" "${{COMPREPLY[@]-}}" -----',
        ]
    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join(script)],
        capture_output=True,
        text=True,
        env=ENVIRON,
        timeout=60,
    )
    assert done.stderr == ""
    answers = done.stdout.split("-----\n")[:-1]
    assert not (place / "work" / "ran").exists()
    for (question, offered), answer in zip(QUESTIONS.items(), answers, strict=True):
        directories = {word.rstrip("/") for word in offered}
        assert {word.strip() for word in answer.splitlines()} - {""} == directories, question


def test_bash_runs_no_code_in_file_names(place, tmp_path):
    for name in HOSTILE:
        if name and "/" not in name:
            (tmp_path / f"{name}.py").touch()
    script = (
        ASK.format(place=shlex.quote(str(place))).rpartition("cd ")[0]
        + f"cd {shlex.quote(str(tmp_path))}\n"
    )
    for question in ("serve ", "check ", "check '$(", "serve --config ", "check --name "):
        words = shlex.join(["spyglass", *question.split(" ")])
        script += f"COMP_LINE={shlex.quote('spyglass ' + question)} COMP_POINT=99 COMP_TYPE=9 COMP_KEY=9 COMP_WORDS=({words}) COMPREPLY=()\n"
        script += f"COMP_CWORD={len(question.split(' '))}; _spyglass spyglass '' '' || true\n"
    subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        env=ENVIRON,
        timeout=60,
        check=True,
    )
    assert not (tmp_path / "ran").exists()


# zsh

PREPARE = """
PROMPT=
fpath=({place} $fpath)
autoload -U compinit && compinit -D -u
bindkey '^I' complete-word
bindkey '^U' kill-whole-line
exec 9>{place}/told
compadd() {{
    # Told what would be offered, unless the completion system asks for itself.
    if [[ ${{@[(I)-[OAD]*]}} -gt 0 ]]; then builtin compadd "$@"; return; fi
    local -a matches
    builtin compadd -O matches "$@"
    print -rlu9 -- $matches
    builtin compadd "$@"
}}
comppostfuncs=(tell)
tell() {{ print -ru9 -- -----; comppostfuncs=(tell) }}
cd {place}/work
comppostfuncs=(tell)
print -ru9 -- -----
"""


class Zsh:
    """An interactive one on a terminal of its own."""

    def __init__(self, place):
        os.mkfifo(place / "told")
        self._terminal, end = pty.openpty()
        environ = {**ENVIRON, "TERM": "dumb", "ZDOTDIR": str(place), "HOME": str(place)}
        self._process = subprocess.Popen(
            ["zsh", "-f", "-i"],
            stdin=end,
            stdout=end,
            stderr=end,
            env=environ,
            start_new_session=True,
        )
        os.close(end)
        # Read what it draws, or it would block on a full terminal.
        threading.Thread(target=self._draw, daemon=True).start()
        (place / "prepare").write_text(PREPARE.format(place=place))
        self.type(f". {shlex.quote(str(place / 'prepare'))}\n")
        self._told = open(place / "told")
        self.hear()

    def _draw(self):
        try:
            while os.read(self._terminal, 4096):
                pass
        except OSError:  # its end
            pass

    def type(self, text):
        os.write(self._terminal, text.encode())

    def hear(self):
        said = set()
        while (line := self._told.readline()) != "-----\n":
            assert line, "zsh has ended"
            said.add(line.strip())
        return said - {""}

    def ask(self, line):
        self.type(f"\x15{line}\t")
        return self.hear()

    def end(self):
        self._process.kill()
        self._process.wait()
        self._told.close()
        os.close(self._terminal)


@pytest.fixture(scope="module")
def zsh(place):
    zsh = Zsh(place)
    yield zsh
    zsh.end()


@pytest.mark.parametrize("question", QUESTIONS)
def test_zsh_completes(zsh, place, question):
    offered = zsh.ask(f"spyglass {question}")
    assert not (place / "work" / "ran").exists()
    if question == "serve hello.py ":
        offered -= {
            word for word in offered if word.startswith("--")
        }  # where nothing else can stand it offers options
    expected = {word.rstrip("/") for word in QUESTIONS[question]}
    assert {word.rstrip("=") for word in offered} == (expected if question else expected & COMMANDS)
