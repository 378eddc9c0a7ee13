"""The declarations of all commands, and the help that is generated from them."""

import io
import sys

import pytest

from spyglass.config import settings
from spyglass.config.command_line import SERVER_COMMANDS
from spyglass.config.setting_errors import default_text
from spyglass.errors import StartError, UsageError
from spyglass.ops import command_help, command_table
from spyglass.ops.command_declaration import GROUPS, Command
from spyglass.ops.command_table import COMMANDS, all_commands, help_of, parser, unknown

LISTED = [command for command in all_commands() if command.group]


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "\u0663", "9" * 20, "", "1_0"])
@pytest.mark.parametrize("line", ["status blog -n", "logs blog -n"])
def test_number_that_is_none_is_refused(capsys, line, text):
    assert command_table.run([*line.split(), text]) == 2
    said = capsys.readouterr().err
    assert "expected a" in said
    assert "number" in said or "argument" in said


def test_every_command_is_declared_once_under_its_name():
    names = [command.name for command in all_commands()]
    assert names == [*SERVER_COMMANDS, *COMMANDS]
    assert len(set(names)) == len(names)


# `spyglass`


def test_overview_is_one_screen_with_a_line_for_each_command():
    lines = help_of("").splitlines()
    assert len(lines) <= 23  # and the prompt
    assert max(map(len, lines)) < 80
    found = [line[11:].split()[0] for line in lines[2:-1]]
    assert sorted(found) == sorted(command.name for command in LISTED)
    assert [line[:11].strip() for line in lines[2:-1] if line[0] != " "] == [
        group for group in GROUPS if any(command.group == group for command in LISTED)
    ]


@pytest.mark.parametrize("command", LISTED, ids=lambda command: command.name)
def test_line_of_a_command_is_whole(command):
    assert command.group in GROUPS
    (line,) = (line for line in help_of("").splitlines() if line[11:20].strip() == command.name)
    assert "…" not in line
    assert len(line) > 30


def test_overview_has_room_for_twenty_commands():
    commands = [Command(f"name{number}", "do it, and more", group="Look") for number in range(20)]
    lines = command_help.overview(commands).splitlines()
    assert len(lines) <= 23
    assert lines[3] == "           name1    do it, and more"


def test_long_help_is_cut_at_a_clause():
    command = Command("dig", "dig a hole: " + "deeper and deeper " * 9)
    assert "Every day  dig      dig a hole" in command_help.overview([command]).splitlines()


def test_overview_is_coloured_only_on_a_terminal(monkeypatch):
    assert "\033" not in help_of("")
    assert "\033[1mSet up     \033[mnew" in help_of("", coloured=True)

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for name in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for no_color in ("", "1"):
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setattr(sys, "stdout", Terminal())
        command_table.print_help("")
        assert ("\033" in sys.stdout.getvalue()) != bool(no_color)


# Settings


def test_help_has_every_setting_with_meaning_and_default():
    text = " ".join(help_of("settings").split())
    for setting in settings.SETTINGS.values():
        described = f"{setting.meaning} ({setting.kind}; default {default_text(setting)})"
        assert f"{setting.name} {described}" in text
        assert described in " ".join(help_of(setting.name).split())


def test_help_of_a_setting_tells_where_it_is_set():
    assert help_of("workers").splitlines() == [
        "workers",
        "    number of worker processes (whole number; default 2)",
        "",
        "In the TOML file: workers = VALUE. In the environment: SPYGLASS_WORKERS=VALUE.",
        "As an option of serve, lookout and check: --workers VALUE.",
    ]
    assert "--preload, --no-preload." in " ".join(help_of("preload").split())
    assert help_of("listen").endswith("Only in the TOML file; then run 'spyglass apply'.")
    assert help_of("max-body") == help_of("max_body")


# `spyglass COMMAND --help`


@pytest.mark.parametrize("name", ["", "settings", *(command.name for command in all_commands())])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_help_fits_the_terminal(name, width):
    assert max(map(len, help_of(name, width).splitlines())) < width


@pytest.mark.parametrize("command", all_commands(), ids=lambda command: command.name)
def test_help_of_a_command_has_all_that_is_declared(command):
    text = help_of(command.name)
    words = " ".join(text.split())
    assert text.startswith(f"usage: spyglass {command.name}")
    assert command.help[1:] in words
    for each in (*command.operands, *command.options):
        assert each.help in words
        assert each.value in words
        for flag in each.flags:
            assert f" {flag}" in words
    assert ("--keepalive-timeout," in words) == command.settings
    assert ("--no-preload" in words) is False


# Mistakes


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("aply", "unknown command 'aply', did you mean 'apply'?"),
        ("Apply", "unknown command 'Apply', did you mean 'apply'?"),
        ("ls", "unknown command 'ls', did you mean 'list'?"),
        ("restart", "unknown command 'restart', did you mean 'reload'?"),
        ("runserver", "unknown command 'runserver', did you mean 'lookout'?"),
        ("zzz", "unknown command 'zzz'; 'spyglass help' lists the commands"),
        ("", "unknown command ''; 'spyglass help' lists the commands"),
        ("blog:app", "unknown command 'blog:app'; to serve an app: spyglass lookout blog:app"),
        ("hello.py", "unknown command 'hello.py'; to serve an app: spyglass lookout hello.py"),
        (
            "--workers",
            "the command comes first, then '--workers'; 'spyglass help' lists the commands",
        ),
    ],
)
def test_unknown_command_names_what_may_be_meant(word, says):
    assert unknown(word) == says


def test_words_of_other_tools_are_no_commands():
    assert set(command_table._MEANT).isdisjoint({*SERVER_COMMANDS, *COMMANDS})


@pytest.mark.parametrize(
    ("command", "words", "says"),
    [
        ("apply", "--dryrun", "unknown option '--dryrun', did you mean '--dry-run'?"),
        ("apply", "--hlp", "unknown option '--hlp', did you mean '--help'?"),
        ("status", "blog --line=3", "unknown option '--line', did you mean '--lines'?"),
        ("list", "-x", "unknown option '-x'"),
        ("list", "blog", "unexpected argument 'blog'"),
        ("status", "", "the following arguments are required: NAME"),
    ],
)
def test_mistaken_option_is_a_usage_error(command, words, says):
    with pytest.raises(UsageError) as caught:
        parser(command).parse_words(words.split())
    assert str(caught.value) == f"{says}; see 'spyglass {command} --help'"


def test_unknown_topic_is_a_usage_error():
    with pytest.raises(UsageError, match="did you mean 'spyglass help idle_timeout'"):
        help_of("idle-timout")
    with pytest.raises(UsageError, match="'spyglass help' lists commands"):
        help_of("zzz")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FileNotFoundError(2, "No such file or directory"), "No such file or directory"),
        (
            OSError(28, "No space left on device", "/a\nb\x1b[2J"),
            "/a b\\x1b[2J: No space left on device",
        ),
        (OSError("of the library"), "of the library"),
    ],
)
def test_a_fault_of_the_machine_is_one_line(error, says, monkeypatch, capsys):
    from spyglass.ops.commands import units

    def fail(_options):
        raise error

    monkeypatch.setattr(units, "run", fail)
    assert command_table.run(["units", "show"]) == 1
    assert capsys.readouterr() == ("", f"spyglass: {says}\n")


def test_a_line_end_in_a_name_makes_no_second_line(monkeypatch, capsys):
    from spyglass.ops.commands import units

    def fail(_options):
        raise StartError("state/x\nspyglass: forged: broken", also=["a\nb"])

    monkeypatch.setattr(units, "run", fail)
    assert command_table.run(["units", "show"]) == 78
    assert capsys.readouterr().err == (
        "spyglass: state/x spyglass: forged: broken\nspyglass: a b\n"
    )
