"""argv to exit status.

Every import here is on the wake path: what only one command needs is imported by that
command, and the parser is a few lines over the one table of settings, because argparse
would cost a wake a quarter of a bare interpreter's start.
"""

from __future__ import annotations

import os
import sys

from spyglass.config import setting_types as types
from spyglass.config import settings as config
from spyglass.errors import EX_CONFIG, ConfigError, ListenerError, StartError, UsageError
from spyglass.log import LEVELS, open_log

_SERVERS = (
    "serve",
    "lookout",
    "check",
    "reload",
)  # all else an administrator types, and is looked up off the wake path

_CHANGE = (
    "apply",
    "lookout",
    "new",
    "reload",
    "remove",
)  # these do something, the others only say something

_USAGE = """\
usage: spyglass serve [APP] [--name NAME | --config FILE] [--SETTING VALUE ...]
       spyglass lookout [APP] [--bind ADDRESS ...] [--name NAME | --config FILE] [--SETTING VALUE ...]
       spyglass check NAME | [APP] [--name NAME | --config FILE] [--SETTING VALUE ...]
       spyglass reload [NAME]
       spyglass {commands} ...
       spyglass --version | --help

serve    what the systemd unit runs: serve APP on the sockets that systemd passes in
lookout  where there is no systemd: hold the sockets, and run serve while somebody is there
check    read the configuration and load APP as serve would, say what is wrong with them, and serve nothing; as root, only of the app
         called NAME: in the sandbox of its unit, as its user, and say whether its addresses are free
reload   load the app called NAME anew beside itself, if it is awake, and say how that went
{overview}

APP is module:callable, module, or the path of a .py or .wsgi file; without it, the welcome page is served. For check, a word of which there
is an /etc/spyglass/NAME.toml is that app.

  --bind ADDRESS    lookout: host:port, [v6]:port, :port or unix:/path; may be given several times (127.0.0.1:4222)
  --name NAME       read /etc/spyglass/NAME.toml
  --config FILE     read FILE

Settings, each also as NAME = VALUE in the TOML file and as SPYGLASS_NAME in the environment; the command line is the strongest:
"""

_UNITS = """
Settings of the units, only in the TOML file; 'spyglass apply' has the units follow:"""


class Arguments:
    """What a command line says: the command, the values of the settings, the file, the
    addresses.
    """

    def __init__(self) -> None:
        self.command = ""
        self.options: dict[str, str] = {}
        self.file: str | None = None
        self.binds: list[str] = []
        self.name: str | None = None  # of the app, by --name or to reload
        self.word = ""  # what stands for the app without --app

    def again(self) -> list[str]:
        """The command line, less the command and its addresses."""
        words = [f"--{name.replace('_', '-')}={value}" for name, value in self.options.items()]
        return words if self.file is None else ["--config", self.file, *words]


def main(argv: list[str] | None = None) -> int:
    """Run a command line (default: the process's own); returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if (
        argv[:1] == ["serve"] or sys.stdout is not sys.__stdout__
    ):  # what systemd starts; or a test that listens
        return _run(argv)
    from spyglass.ops import safe_stdout

    # An app that is changed is changed whatever becomes of the words; of the others,
    # words are all there is.
    changes = (
        bool(argv)
        and argv[0] in _CHANGE
        and not {"-n", "--dry-run", "-h", "--help"}.intersection(argv)
    )
    return safe_stdout.run(lambda: _run(argv), only_prints=not changes)


def _run(argv: list[str]) -> int:
    if argv and argv[0] not in _SERVERS:
        from spyglass.ops import command_table as commands

        if argv[0] in commands.COMMANDS:
            return commands.run(argv)
    try:
        arguments = parse(argv)
    except StartError as error:
        return _refuse(error, argv)
    if arguments.command == "version":
        from spyglass import __version__

        print(f"spyglass {__version__}")
        return 0
    if arguments.command == "help":
        return _help()
    return {"serve": _serve, "lookout": _lookout, "check": _check, "reload": _reload}[
        arguments.command
    ](arguments)


def _help() -> int:
    print(usage())
    return 0


def _refuse(error: StartError, argv: list[str]) -> int:
    # Dying with visitors in the queue would have systemd start us again at once, and
    # again, until it fails the socket for good.
    if argv[:1] == ["serve"] and os.environ.get("LISTEN_PID") == str(os.getpid()):
        arguments = Arguments()
        arguments.command = "serve"
        return _serve(arguments, error)
    print(f"spyglass: {error}", file=sys.stderr)
    return error.exit_status


def _serve(arguments: Arguments, refused: StartError | None = None) -> int:
    from spyglass.runtime.sd_daemon import adopt_listeners

    log = open_log("master")

    def read_config() -> config.Config:
        if refused is not None:
            raise ConfigError(str(refused))
        return config.load(arguments.file, os.environ, arguments.options)

    try:
        listeners = adopt_listeners()
    except ListenerError as error:
        # Nobody can be answered. A configuration that is wrong as well is worth a line,
        # too.
        print(f"spyglass: {error}", file=sys.stderr)
        return error.exit_status
    from spyglass.master.main import Master
    from spyglass.runtime import fork

    return fork.run(Master(listeners, read_config, log).run)


def _lookout(arguments: Arguments) -> int:
    from spyglass.ops.commands.lookout import Lookout

    try:
        settings = config.load(arguments.file, os.environ, arguments.options)
        log = open_log("lookout", LEVELS[settings.log_level])
        lookout = Lookout(arguments.binds or ["127.0.0.1:4222"], settings, arguments.again(), log)
    except StartError as error:
        print(f"spyglass: {error}", file=sys.stderr)
        return error.exit_status
    return lookout.run()


def _check(arguments: Arguments) -> int:
    from spyglass.ops import check_installed_app

    name = arguments.name or ""
    if arguments.word and arguments.file is None and check_installed_app.is_app(arguments.word):
        name = arguments.word
        if arguments.options["app"] == name:
            del arguments.options["app"]
        arguments.file = config.file_for(name)
    if check_installed_app.is_root():
        # Neither the app's code nor what lies in the directory of the moment is
        # imported by this process.
        if why := check_installed_app.refusal(name, arguments.word):
            print(f"spyglass: {why}", file=sys.stderr)
            return EX_CONFIG
        return check_installed_app.run(name, arguments.options)
    if arguments.word and name == arguments.word:
        print(
            f"check: as {check_installed_app.user_name()}, not as the service in its sandbox: that takes root",
            flush=True,
        )
    try:
        settings = config.load(arguments.file, os.environ, arguments.options, units=True)
    except ConfigError as error:
        for line in (str(error), *error.also):
            print(f"spyglass: {line}", file=sys.stderr)
        return error.exit_status
    from spyglass.ops.commands.check import check

    status = check(settings, open_log("check", LEVELS[settings.log_level]))
    if status and arguments.word and arguments.file is None and arguments.word.isidentifier():
        print(
            f"(a module, for there is no app called {arguments.word}: no {config.DIRECTORY}/{arguments.word}.toml)",
            file=sys.stderr,
        )
    return status


def _reload(arguments: Arguments) -> int:
    from spyglass.ops.commands.reload import reload, reload_unit

    try:
        return reload(os.environ) if arguments.name is None else reload_unit(arguments.name)
    except StartError as error:
        print(f"spyglass: {error}", file=sys.stderr)
        return error.exit_status


def parse(argv: list[str]) -> Arguments:
    """Understand a command line. Raises UsageError, or ConfigError for a --name that
    cannot be one.
    """
    arguments = Arguments()
    rest = list(argv)
    first = rest.pop(0) if rest else "--help"
    if first in ("--help", "-h", "help"):
        arguments.command = "help"
        return arguments
    if first in ("--version", "version"):
        arguments.command = "version"
        return arguments
    if first not in _SERVERS:
        raise UsageError(f"unknown command {first!r}; 'spyglass --help' lists them")
    arguments.command = first
    while rest:
        word = rest.pop(0)
        if word in ("--help", "-h"):
            arguments.command = "help"
            return arguments
        if first == "reload":
            if word.startswith("-") or arguments.name is not None:
                raise UsageError("reload takes the NAME of one app and no options")
            arguments.name = word
        elif word.startswith("-") and len(word) > 1:
            _option(arguments, word, rest)
        elif "app" in arguments.options:
            raise UsageError(f"more than one app: {arguments.options['app']!r} and {word!r}")
        else:
            arguments.options["app"] = arguments.word = word
    return arguments


def _option(arguments: Arguments, word: str, rest: list[str]) -> None:
    name, equals, value = word.partition("=")
    setting = (
        config.SETTINGS.get(name[2:].replace("-", "_"))
        if name.startswith("--") and "_" not in name
        else None
    )
    if isinstance(setting, types.Flag) and not equals:
        value = "true"
    elif (
        name.startswith("--no-")
        and isinstance(config.SETTINGS.get(name[5:].replace("-", "_")), types.Flag)
        and not equals
    ):
        setting, value = config.SETTINGS[name[5:].replace("-", "_")], "false"
    elif setting is None and name not in ("--bind", "--name", "--config"):
        from spyglass.config.setting_errors import hint

        known = {entry.option: None for entry in config.SETTINGS.values()} | {
            "--bind": None,
            "--name": None,
            "--config": None,
        }
        raise UsageError(f"unknown option {name!r}{hint(name, known)}")
    elif not equals:
        if not rest:
            raise UsageError(f"{name} needs a value")
        value = rest.pop(0)
    if isinstance(setting, types.Unit):
        from spyglass.config.setting_errors import only_in_the_file

        raise UsageError(f"{name}: {only_in_the_file(setting.name)}")
    if setting is not None:
        arguments.options[setting.name] = value
    elif name == "--bind":
        if arguments.command != "lookout":
            raise UsageError(
                "--bind is for 'spyglass lookout'; what 'serve' listens on is ListenStream= of its .socket unit"
            )
        arguments.binds.append(value)
    elif arguments.file is not None:
        raise UsageError("--name and --config each name the one file; give one of them once")
    elif name == "--name":
        arguments.name, arguments.file = value, config.file_for(value)
    else:
        arguments.file = value


def _head(setting: types.Setting) -> str:
    if isinstance(setting, types.Unit):
        return setting.name
    if isinstance(setting, types.Flag):
        return f"{setting.option}, --no-{setting.option[2:]}"
    return f"{setting.option} {'TEXT' if setting.kind == 'text' else 'VALUE'}"


def usage() -> str:
    """The help text, made from the table of settings."""
    import textwrap

    from spyglass.config.setting_errors import default_text
    from spyglass.ops.command_table import COMMANDS, overview

    lines = [_USAGE.rstrip("\n").format(commands=" | ".join(COMMANDS), overview=overview())]
    units = False
    for setting in config.SETTINGS.values():
        if isinstance(setting, types.Unit) and not units:
            units = True
            lines.append(_UNITS)
        lines.append(f"\n  {_head(setting)}")
        text = f"{setting.meaning} ({setting.kind}; default {default_text(setting)})"
        lines += textwrap.wrap(
            text, 92, initial_indent=" " * 8, subsequent_indent=" " * 8, break_on_hyphens=False
        )
    lines.append(
        "\nExit status: 0 idle or asked to stop, 78 configuration or app broken, 2 wrong usage, 1 a bug;"
    )
    lines.append(
        "of reload: 0 the new one serves, 78 it cannot, 69 there is no Master, or it is leaving."
    )
    return "\n".join(lines)
