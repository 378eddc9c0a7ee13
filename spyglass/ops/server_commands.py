"""The declarations of serve, lookout, check and reload.

They are parsed by config/command_line.py, which knows the names of their options: a
wake parses `serve`, and must not pay for the help. Their settings are options, too, and
come from the table (config/settings.py).
"""

from __future__ import annotations

from spyglass.config.setting_types import Choice, Flag, FlagOrText, Setting
from spyglass.config.settings import SERVER_SETTINGS
from spyglass.ops.command_declaration import Command, Operand, Option

_NAME = Option("--name", value="NAME", help="read /etc/spyglass/NAME.toml")
_CONFIG = Option("--config", value="FILE", help="read FILE", excludes="--name")
_BIND = Option(
    "--bind",
    value="ADDRESS",
    help="host:port, [v6]:port, :port or unix:/path (default: 127.0.0.1:4222)",
    many=True,
)
_APP = Operand(
    "APP",
    "module:callable, module, or the path of a .py or .wsgi file (default: the welcome page)",
    optional=True,
)
_STATUS = (
    "exit status: 0 idle, or asked to stop; 1 a bug in Spyglass; 2 wrong usage; "
    "78 the configuration or the app is broken"
)

COMMANDS = {
    command.name: command
    for command in (
        Command(
            "serve",
            "serve an app on the sockets that systemd passes in; the systemd unit runs this",
            operands=(_APP,),
            options=(_NAME, _CONFIG),
            settings=True,
            more=_STATUS,
            group="Server",
            brief="serve an app on the sockets that systemd passes in",
        ),
        Command(
            "lookout",
            "serve an app without systemd: hold the sockets, and run 'serve' when a client "
            "connects",
            operands=(_APP,),
            options=(_BIND, _NAME, _CONFIG),
            settings=True,
            changes=True,
            more=_STATUS,
            group="Server",
            brief="serve an app without systemd, to try it",
        ),
        Command(
            "check",
            "load the configuration and the app as 'serve' would, and report what is wrong; as "
            "root, check the app NAME in the sandbox of its unit, as its user, and its addresses",
            operands=(
                Operand(
                    "NAME | APP",
                    "an app with a file /etc/spyglass/NAME.toml, or an APP as for 'serve'",
                    optional=True,
                ),
            ),
            options=(_NAME, _CONFIG),
            settings=True,
            more="exit status: 0 the app could be served; 2 wrong usage; 78 it could not",
            group="Look",
            brief="load an app as its service would, and say what is wrong",
        ),
        Command(
            "reload",
            "load the new code and settings of an awake app alongside the old ones, switch to "
            "them, and report the result",
            operands=(
                Operand("NAME", "the app (default: the one with this ExecReload=)", optional=True),
            ),
            changes=True,
            more="exit status with NAME: 0 the new code serves, or the app is asleep or off and loads "
            "it when it starts; 1 it failed: the new code cannot be loaded, or nothing could be "
            "reloaded, and why is printed ('systemctl reload' exits with 1, too); 4 there is no such "
            "app; 69 there is no systemd. As ExecReload=: 0 the new code serves; 69 there is no Master, "
            "or it is exiting; 78 the new code cannot be loaded",
            brief="load the new code of an app without losing a request",
        ),
    )
}


def setting_options() -> list[Option]:
    """Return the options that set the settings of the server."""
    return [_option_of(setting) for setting in SERVER_SETTINGS]


def _option_of(setting: Setting) -> Option:
    if isinstance(setting, Flag):
        flags = (setting.option, f"--no-{setting.option[2:]}")
        return Option(*flags, help=setting.meaning, setting=setting)
    choices: tuple[str, ...] = ()
    if isinstance(setting, Choice):
        choices = setting.choices
    elif isinstance(setting, FlagOrText):
        choices = ("true", "false", *setting.words)
    value = "TEXT" if setting.kind == "text" else "VALUE"
    return Option(
        setting.option, value=value, help=setting.meaning, choices=choices, setting=setting
    )
