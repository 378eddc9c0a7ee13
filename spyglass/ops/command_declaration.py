"""What a command takes, as data: its operands, its options, its help.

`--help`, the man page, the shell completions and the documentation are generated from
it, and so are the argparse parsers of the administrator's commands. The server's
commands are declared in ops/server_commands.py, an administrator's command in its own
file (ops/commands/).
"""

from __future__ import annotations

# Not from typing: a waiting lookout keeps what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.config.setting_types import Setting


# The groups of `spyglass --help`, in the order in which it shows them.
GROUPS = ("Set up", "Every day", "Look", "Move", "Server")


class Operand:
    """A word of the command line that is not an option: `value` (str) is its name in
    the help. It may be `optional`, given several times (`many`), one of few words
    (`choices`), or the `rest` of the command line: a command with options of its own.
    """

    flags: tuple[str, ...] = ()

    def __init__(
        self,
        value: str,
        help: str = "",
        *,
        optional: bool = False,
        many: bool = False,
        rest: bool = False,
        choices: tuple[str, ...] = (),
        default: object = None,
    ) -> None:
        self.value = value
        self.help = help
        self.choices = choices
        self.optional = optional
        self.many = many
        self.rest = rest
        self.default = default

    @property
    def dest(self) -> str:
        """The attribute of the parsed options: `name`, or `names` for several."""
        return self.value.lower() + ("s" if self.many else "")


AN_APP = Operand("NAME", "an app")
APPS = Operand("NAME", "an app", many=True)


class Option:
    """An option: its `flags`, the name of its `value` (str, "" for none) and its help.

    It may be given several times (`many`). `excludes` (str) is the option declared
    before it that must not be given with it, `setting` the setting that it sets.
    """

    def __init__(
        self,
        *flags: str,
        value: str = "",
        help: str,
        many: bool = False,
        choices: tuple[str, ...] = (),
        default: object = None,
        excludes: str = "",
        setting: Setting | None = None,
    ) -> None:
        self.flags = flags
        self.value = value
        self.help = help
        self.many = many
        self.choices = choices
        self.default = default
        self.excludes = excludes
        self.setting = setting

    @property
    def dest(self) -> str:
        """The attribute of the parsed options: `dry_run` for -n, --dry-run."""
        return self.flags[-1].lstrip("-").replace("-", "_")


class Command:
    """One command: `help` is one sentence without a full stop, `more` (str) is shown at
    the end of its help.

    It may take all settings of the server as options (`settings`), and it may change
    the machine rather than only print (`changes`).

    `spyglass --help` has one line for each command, with `brief` (str): what it does,
    in at most 58 characters. Without it, the line has the first part of `help`, up to
    a comma, a colon or a semicolon. The lines are in groups (`group`, one of GROUPS, or
    "" for a command that is not listed), in the order of COMMANDS in command_table.py:

    Set up      makes, changes or removes an app: new, apply, remove
    Every day   acts on an existing app; the default: reload, run, shell, wake, on, off
    Look        only reports: list, status, doctor, logs, check
    Move        renames or copies an app: rename, export, import
    Server      is run by systemd, or for the machine: serve, lookout, units
    """

    def __init__(
        self,
        name: str,
        help: str,
        *,
        operands: tuple[Operand, ...] = (),
        options: tuple[Option, ...] = (),
        settings: bool = False,
        changes: bool = False,
        more: str = "",
        group: str = "Every day",
        brief: str = "",
    ) -> None:
        self.name = name
        self.help = help
        self.operands = operands
        self.options = options
        self.settings = settings
        self.changes = changes
        self.more = more
        self.group = group
        self.brief = brief
