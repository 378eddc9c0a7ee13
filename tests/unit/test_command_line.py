"""The parser of the server's commands: a command line becomes settings, or is refused in
one line.
"""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spyglass.config.command_line import OWN_OPTIONS, SERVER_COMMANDS, parse
from spyglass.errors import ConfigError, StartError, UsageError
from spyglass.ops import server_commands


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
def test_options_set_settings(command, words, options):
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
def test_options_name_file_and_addresses(words, file, binds):
    arguments = parse(words.split())
    assert (arguments.file, arguments.binds) == (file, binds)


@pytest.mark.parametrize(
    "words", ["serve --help", "serve blog -h --nonsense", "lookout --help", "reload -h"]
)
def test_help_of_a_command_is_asked_for(words):
    arguments = parse(words.split())
    assert (arguments.help, arguments.command) == (True, words.split()[0])


BIND = (
    "--bind is for 'spyglass lookout'; what 'serve' listens on is ListenStream= of its .socket unit"
)
ONE_FILE = "--name and --config each name the one file; give one of them once"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("serve a b", "more than one app: 'a' and 'b'"),
        ("serve --app a b", "more than one app: 'a' and 'b'"),
        ("serve --worker 2", "unknown option '--worker', did you mean '--workers'?"),
        (
            "serve --idle_timeout 2",
            "unknown option '--idle_timeout', did you mean '--idle-timeout'?",
        ),
        ("serve -w 2", "unknown option '-w', did you mean '--workers'?"),
        ("serve -x 2", "unknown option '-x'"),
        # Other servers' names
        ("serve --timeout 30", "unknown option '--timeout': it is '--request-timeout' here"),
        ("serve --chdir=/srv", "unknown option '--chdir': it is '--directory' here"),
        ("lookout --lazy-apps", "unknown option '--lazy-apps': write '--preload=false'"),
        ("lookout --port 8000", "unknown option '--port': it is '--bind' here"),
        ("lookout -b :8000", "unknown option '-b', did you mean '--bind'?"),
        ("check --port 8000", "unknown option '--port': it is 'listen' here, in the TOML file"),
        ("lookout --uid www-data", "unknown option '--uid': it is 'user' here, in the TOML file"),
        (
            "lookout --listen 80",
            "--listen: lookout listens where --bind says: --bind 127.0.0.1:8001",
        ),
        (
            "serve -k gevent",
            "unknown option '-k': there is one kind of worker; "
            "`threads` says how many calls it runs at a time",
        ),
        ("serve -workers 2", "unknown option '-workers', did you mean '--workers'?"),
        ("serve --", "unknown option '--'"),
        ("serve --zzz=1", "unknown option '--zzz'"),
        ("serve --hlp", "unknown option '--hlp', did you mean '--help'?"),
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
def test_mistake_is_a_usage_error(words, says):
    with pytest.raises(UsageError) as caught:
        parse(words.split())
    assert (str(caught.value), caught.value.exit_status) == (says, 2)


def test_invalid_name_is_a_configuration_error():
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
def test_any_command_line_is_parsed_or_refused_in_one_line(command, rest):
    try:
        arguments = parse([command, *rest])
    except StartError as error:
        assert "\n" not in str(error)
    else:
        if not arguments.help:
            # The Master understands what the lookout passes on as the lookout did.
            again = parse(["serve", *arguments.again()])
            assert (again.options, again.file) == (arguments.options, arguments.file)


def test_parser_knows_the_declared_options():
    assert tuple(server_commands.COMMANDS) == SERVER_COMMANDS
    declared = {
        flag
        for command in server_commands.COMMANDS.values()
        for option in command.options
        for flag in option.flags
    }
    assert declared == set(OWN_OPTIONS)
