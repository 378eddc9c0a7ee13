"""Find the settings of an app that differ from the defaults, and where each is set.

They are taken from the service as systemd has it: command line, environment and
settings file, in the order of precedence that the app itself applies.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spyglass.config import settings
from spyglass.config.command_line import parse
from spyglass.config.setting_errors import place_in
from spyglass.errors import StartError
from spyglass.ops.app import apps, env_files
from spyglass.ops.files import atomic_files

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS = re.compile(r"argv\[\]=(.*?) ; ")


@dataclass
class Setting:
    """A setting that is not the default."""

    name: str
    value: object  # as the server uses it: sizes in bytes, times in seconds
    # "/etc/spyglass/blog.toml:4", "SPYGLASS_WORKERS (Environment=)" or "--workers
    # (ExecStart=)"
    place: str


@dataclass
class EffectiveSettings:
    """The settings in effect. `faults` are errors in them (lines), `hidden` files that
    cannot be read.
    """

    differing: list[Setting] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)


def of_service(service: Mapping[str, str]) -> EffectiveSettings:
    """Return the settings of the app whose service has these properties (ExecStart,
    Environment, EnvironmentFiles).
    """
    found = EffectiveSettings()
    environ, places = environment(service, found.hidden)
    try:
        arguments = parse(command_line(service))
        if arguments.file is not None and not os.path.isabs(arguments.file):
            found.hidden.append(arguments.file)  # relative to the service's directory
            return found
        if arguments.file is not None and (why := apps.why_untrusted(arguments.file)):
            found.faults = [f"{arguments.file}: {why}"]
            return found
        whole = settings.load(arguments.file, environ, arguments.options, units=True)
    except StartError as error:
        found.faults = error.lines
        return found
    text = (
        atomic_files.read_untrusted_or_empty(arguments.file) if arguments.file is not None else ""
    )
    for name, value in whole.values.items():
        if value == settings.SETTINGS[name].default:
            continue
        variable = f"{settings.PREFIX}{name.upper()}"
        if name in arguments.options:
            place = f"{settings.SETTINGS[name].option} (ExecStart=)"
        elif variable in environ:
            place = f"{variable} ({places[variable]})"
        elif (
            arguments.file is not None
            and (line := place_in(arguments.file, text, name)) != arguments.file
        ):
            place = line
        else:
            place = "derived from another setting"  # keepalive_timeout from a short idle_timeout
        found.differing.append(Setting(name, value, place))
    return found


def command_line(service: Mapping[str, str]) -> list[str]:
    """Return the arguments of `spyglass` in ExecStart: ["serve", "--name", "blog"]."""
    match = _WORDS.search(service.get("ExecStart", ""))
    words = match[1].split() if match else []
    return words[words.index("serve") :] if "serve" in words else ["serve"]


def environment(
    service: Mapping[str, str], hidden: list[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the unit's variables that are settings, and where each comes from.

    Files that cannot be read are added to `hidden`, with the reason.
    """
    found: dict[str, str] = {}
    places: dict[str, str] = {}

    def take(words: list[str], place: str) -> None:
        for word in words:
            name, equals, value = word.partition("=")
            if equals and name.startswith(settings.PREFIX):
                found[name], places[name] = value, place

    try:
        take(shlex.split(service.get("Environment", "")), "Environment=")
    except ValueError:
        hidden.append("Environment=")
    for line in service.get("EnvironmentFiles", "").split("\n"):
        path = line.rpartition(" (")[0]
        if path:
            try:
                take(
                    [
                        f"{name}={value}"
                        for name, value in env_files.parse(atomic_files.read_untrusted(path)).found
                    ],
                    path,
                )
            except FileNotFoundError:
                pass
            except OSError as error:
                hidden.append(f"{path}: {error.strerror}")
    return found, places
