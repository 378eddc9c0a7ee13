"""`spyglass new`: write /etc/spyglass/NAME.toml, and nothing else.

The settings that are usually changed next are in it as comments.
"""

from __future__ import annotations

import os
import shlex
import textwrap
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.config.setting_errors import default_text
from spyglass.config.setting_text import toml
from spyglass.config.settings import SETTINGS
from spyglass.config.unit_settings import address, unfit
from spyglass.errors import ConfigError, UsageError
from spyglass.ops.app import app_detection
from spyglass.ops.command_declaration import Command, Operand, Option
from spyglass.ops.files import atomic_files

if TYPE_CHECKING:
    import argparse

COMMAND = Command(
    "new",
    "create the file of a new app, /etc/spyglass/NAME.toml, with comments on what else can be set",
    operands=(
        Operand("NAME", "name of the app: 1 to 22 of a-z, 0-9, - and _"),
        Operand(
            "DIRECTORY",
            "directory of its code (default: the current one)",
            optional=True,
            default=".",
        ),
    ),
    options=(
        Option(
            "--app",
            value="APP",
            help="module:callable, module, or the path of a .py or .wsgi file (default: what is "
            "found in DIRECTORY)",
        ),
        Option(
            "--venv",
            value="VENV",
            help="virtual environment of the app (default: venv or .venv in DIRECTORY)",
        ),
        Option(
            "--listen",
            value="ADDRESS",
            help="port, address:port, [v6]:port or path (default: /run/spyglass/NAME.sock)",
            many=True,
        ),
        Option(
            "--user",
            value="USER",
            help="system user to run as (default: a dynamic user that exists only while the app "
            "runs)",
        ),
    ),
    changes=True,
    group="Set up",
    brief="create the file of a new app, /etc/spyglass/NAME.toml",
)

# Settings that are usually changed next, with an example if the default does not show
# the syntax.
_LIKELY = {
    "listen": '["127.0.0.1:8001", "[::1]:8001"]',
    "workers": "",
    "threads": "",
    "idle_timeout": "",
    "request_timeout": "",
    "max_body": '"1G"',
    "access_log": "",
    "environment": '{ NAME = "text" }',
    "credentials": '{ password = "/etc/spyglass/NAME.password" }',
    "memory_max": '"500M"',
    "user": '"NAME"',
    "writable": '["media"]',
}
_FOR_WSGI = ("threads",)  # of these, what has no effect on an ASGI app


def run(options: argparse.Namespace) -> int:
    file = _file(options.name)
    directory = os.path.abspath(options.directory)
    if not os.path.isdir(directory):
        raise ConfigError(f"{directory} is not a directory")
    venv = options.venv if options.venv is not None else app_detection.venv_in(directory)
    app, notes = _named(directory, venv, options.app) if options.app else _found(directory)
    values: dict[str, object] = {"app": app, "directory": directory}
    if venv:
        values["venv"] = venv
    if options.listen:
        values["listen"] = [_listen(word) for word in options.listen]
    if options.user:
        values["user"] = options.user
    for setting, value in values.items():
        try:
            SETTINGS[setting].check(value)
        except ValueError as error:
            raise UsageError(f"--{setting}: {error.args[0]}, not {value!r}") from None
    _refuse_unfit(values)
    is_asgi = app_detection.is_asgi(directory, app)
    _write(options.name, file, text(options.name, values, is_asgi=is_asgi))
    for note in notes:
        print(note)
    kind = " (ASGI)" if is_asgi else ""
    environment = f", its environment {venv}" if venv else ""
    print(f"wrote {file}: the app is {app}{kind}{environment}")
    for port in values.get("listen", ()):  # type: ignore[attr-defined]
        if isinstance(port, int):
            print(
                f"port {port} is open to the network; for this machine only: "
                f'listen = "127.0.0.1:{port}"'
            )
    print(f"Next: spyglass check {options.name}, then spyglass apply {options.name}")
    return 0


def _refuse_unfit(values: dict[str, object]) -> None:
    """Raise UsageError for a value that a unit or a TOML file cannot contain."""
    for option, setting in (("directory", "directory"), ("--venv", "venv")):
        if why := unfit(str(values.get(setting, ""))):
            raise UsageError(f"{option}: {why}")
    try:
        str(values["app"]).encode()
    except UnicodeEncodeError:
        raise UsageError(f"--app: expected text, not {values['app']!r}") from None


def _file(name: str) -> str:
    """Return the path of the new settings file. Raise UsageError for a bad name,
    ConfigError if it exists.
    """
    try:
        file = settings.file_for(name)
    except ConfigError as error:
        raise UsageError(
            f"{name!r} cannot be an app's name: {str(error).partition(': ')[2]}"
        ) from None
    if os.path.lexists(file):
        raise _exists(name, file)
    return file


def _exists(name: str, file: str) -> ConfigError:
    return ConfigError(
        f"{file} already exists: edit it, then: spyglass apply {name}; or remove the app and its "
        f"data: spyglass remove --purge {name}; or choose another name"
    )


def _listen(word: str) -> object:
    """Return an address of the command line as `listen` has it. Raise UsageError."""
    try:
        found = address(word)
    except ValueError as error:
        raise UsageError(f"--listen: {error.args[0]}, not {word!r}") from None
    return found.port if not found.host and found.port else str(found)


def _named(directory: str, venv: str, app: str) -> tuple[str, list[str]]:
    """Return `app`, and what to say about it. Raise UsageError if it can never
    answer.
    """
    _refuse_unfit({"app": app})
    refusal, doubt = app_detection.judge(directory, venv, app)
    if refusal:
        raise UsageError(f"--app: {refusal}")
    return app, [f"warning: {doubt}"] if doubt else []


def _found(directory: str) -> tuple[str, list[str]]:
    """Return the app in `directory`, and what makes it one. Raise UsageError if there
    is none, or more than one.
    """
    detection = app_detection.detect(directory)
    if len(detection.found) == 1:
        (found,) = detection.found
        return found.app, [f"found {found.app}: {found.why}"]
    if detection.found:
        listed = " or ".join(f"--app {shlex.quote(found.app)}" for found in detection.found)
        raise UsageError(f"several apps found: use {listed}")
    if detection.refused:
        raise UsageError(detection.refused[0], also=detection.refused[1:])
    raise UsageError(
        f"no wsgi.py, asgi.py, app.py, main.py or manage.py in {directory} contains an app: "
        "name it with --app MODULE:CALLABLE"
    )


def _write(name: str, file: str, content: str) -> None:
    try:
        atomic_files.write(file, content, new=True)
    except FileExistsError:
        raise _exists(name, file) from None
    except OSError as error:
        sudo = "" if os.geteuid() == 0 else "; only root may write there: sudo spyglass new"
        raise ConfigError(f"{file}: cannot be written: {error.strerror}{sudo}") from None


# The file


def text(name: str, values: dict[str, object], *, is_asgi: bool = False) -> str:
    """Return a TOML file with these values, and other settings as comments, for a WSGI
    or an ASGI app.

    Raise ConfigError for a value that TOML cannot express.
    """
    lines = [
        f"# Settings of the app {name}, for the server and for `spyglass apply {name}`.",
        "# All settings: spyglass help settings. After a change: spyglass apply.",
        "",
    ]
    lines += [f"{setting} = {toml(value)}" for setting, value in values.items()]
    for setting, example in _LIKELY.items():
        if setting not in values and not (is_asgi and setting in _FOR_WSGI):
            shown = example.replace("NAME.", f"{name}.").replace(
                '"NAME"', f'"{name}"'
            ) or default_text(SETTINGS[setting])
            lines += ["", *_comment(setting), f"# {setting} = {shown}"]
    return "\n".join(lines) + "\n"


def _comment(setting: str) -> list[str]:
    """Return the comment lines that explain a setting."""
    entry = SETTINGS[setting]
    default = default_text(entry)
    said = f"{entry.meaning}; without it: {default}" if setting == "listen" else entry.meaning
    said = said[0].upper() + said[1:] + "."
    return [f"# {line}" for line in textwrap.wrap(said, 96)]
