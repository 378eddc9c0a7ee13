"""The parser for the command lines of serve, lookout, check and reload.

Settings are options: they come from the table (settings.py). What else these commands
take, and their help, is declared in ops/server_commands.py, apart from the parser,
because a wake parses `serve` and needs no help. argparse would cost a wake a quarter of
a bare interpreter's start, hence the few lines of our own.
"""

from __future__ import annotations

from spyglass.config.setting_types import Flag, Setting, Unit
from spyglass.config.settings import SETTINGS, file_for
from spyglass.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SERVER_COMMANDS = ("serve", "lookout", "check", "reload")
OWN_OPTIONS = ("--bind", "--name", "--config")  # those that are no settings


class Arguments:
    """What a command line says: the command, the values of the settings (`options`),
    the file and the addresses.
    """

    def __init__(self) -> None:
        self.command = ""  # one of SERVER_COMMANDS
        self.help = False  # the help of the command is asked for
        self.options: dict[str, str] = {}
        self.file: str | None = None
        self.binds: list[str] = []
        self.name: str | None = None  # of the app, from --name or for reload
        self.word = ""  # the operand that names the app

    def again(self) -> list[str]:
        """Return the command line without the command and its addresses."""
        words = [f"--{name.replace('_', '-')}={value}" for name, value in self.options.items()]
        return words if self.file is None else ["--config", self.file, *words]


def parse(argv: Sequence[str]) -> Arguments:
    """Parse a command line that begins with one of SERVER_COMMANDS. Raise UsageError,
    or ConfigError for a --name that cannot be one.
    """
    arguments = Arguments()
    arguments.command, *rest = argv
    while rest:
        word = rest.pop(0)
        if word in ("--help", "-h"):
            arguments.help = True
            return arguments
        if arguments.command == "reload":
            if word.startswith("-") or arguments.name is not None:
                raise UsageError("reload takes the NAME of one app and no options")
            arguments.name = word
        elif word.startswith("-") and len(word) > 1:
            _parse_option(arguments, word, rest)
        elif "app" in arguments.options:
            raise UsageError(f"more than one app: {arguments.options['app']!r} and {word!r}")
        else:
            arguments.options["app"] = arguments.word = word
    return arguments


def _parse_option(arguments: Arguments, word: str, rest: list[str]) -> None:
    name, equals, value = word.partition("=")
    setting, implied = _setting_of(name)
    if implied == "false" and equals:
        setting = None  # --no-debug=1 is nothing
    if implied and not equals:
        value = implied
    elif setting is None and name not in OWN_OPTIONS:
        from spyglass.config.setting_errors import unknown_option

        known = {**SETTINGS, **{option[2:]: None for option in (*OWN_OPTIONS, "--help")}}
        raise UsageError(unknown_option(name, arguments.command, known))
    elif not equals:
        if not rest:
            raise UsageError(f"{name} needs a value")
        value = rest.pop(0)
    if isinstance(setting, Unit):
        from spyglass.config.setting_errors import option_of_units

        raise UsageError(f"{name}: {option_of_units(setting.name, arguments.command)}")
    if setting is not None:
        arguments.options[setting.name] = value
    else:
        _take_own(arguments, name, value)


def _setting_of(name: str) -> tuple[Setting | None, str]:
    """Return the setting that the option `name` sets, if there is one, and the value
    that it implies: --debug means true, --no-debug false, others nothing ("").
    """
    if name.startswith("--no-"):
        denied = SETTINGS.get(name[5:].replace("-", "_"))
        if isinstance(denied, Flag):
            return denied, "false"
    if not name.startswith("--") or "_" in name:
        return None, ""
    setting = SETTINGS.get(name[2:].replace("-", "_"))
    return setting, "true" if isinstance(setting, Flag) else ""


def _take_own(arguments: Arguments, name: str, value: str) -> None:
    """Take an option that is no setting."""
    if name == "--bind":
        if arguments.command != "lookout":
            raise UsageError(
                "--bind is for 'spyglass lookout'; what 'serve' listens on is ListenStream= of its "
                ".socket unit"
            )
        arguments.binds.append(value)
    elif arguments.file is not None:
        raise UsageError("--name and --config each name the one file; give one of them once")
    elif name == "--name":
        arguments.name, arguments.file = value, file_for(value)
    else:
        arguments.file = value
