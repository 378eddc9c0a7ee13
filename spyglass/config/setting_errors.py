"""Settings as people read and write them: defaults as text, and the error message for a
mistake, with its place.

Apart from the table of settings, which is on the wake path: a wake without a mistake
does not import this.
"""

from __future__ import annotations

import difflib
import shlex

from spyglass.config import setting_text, value_hints
from spyglass.config.setting_types import NEVER, Setting, Unit, in_units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def place_in(file: str, text: str, name: str) -> str:
    """Return where `file`, with the content `text`, sets `name`: "blog.toml:3", or the
    file alone if no line does.
    """
    # tomllib keeps no line numbers for values: take the first line that begins with the
    # name.
    for number, line in enumerate(text.split("\n"), 1):
        key = line.strip().removeprefix("[").partition("=")[0].strip(" \t]").strip("\"'")
        if key == name or key.startswith(name + "."):
            return f"{file}:{number}"
    return file


def fault(
    name: str, value: object, error: Exception, known: Mapping[str, Setting], *, in_file: bool
) -> str:
    """Return what is wrong with `name` set to `value`: it cannot be set in this place
    (LookupError), or not to this value (ValueError). `known` are all settings by name;
    the place is the file or, if `in_file` (bool) is False, the environment.
    """
    if isinstance(error, LookupError):
        if name in known:
            return only_in_the_file(name)
        if in_file and isinstance(value, dict):
            instead = instead_of(name, known, str)
            belong = ": settings belong to no table, so delete this line"
            return f"unknown table [{shown(name).strip(chr(39))}]{instead or belong}"
        spelled = str if in_file else as_variable
        return f"unknown setting {name!r}{instead_of(name, known, spelled)}"
    expected, *entries = error.args  # for a list, with the entry that is wrong
    entry = entries[0] if entries else value
    said = f"{name}: {expected}, not {shown(entry)}"
    if isinstance(entry, dict) and (stray := sorted({*entry} & {*known} - {name})):
        return f"{said}; {stray[0]} is a setting: move it above [{name}]"
    setting = known.get(name)
    of_list = entry is value or isinstance(value, list | str)
    meant = value_hints.closest(setting, entry) if setting is not None and of_list else None
    if meant is None:
        return said
    return (
        f"{said}; write {setting_text.toml(meant) if in_file or isinstance(meant, bool) else meant}"
    )


def only_in_the_file(name: str) -> str:
    return f"{name} configures the units: set it in the TOML file, then run 'spyglass apply'"


def option_of_units(name: str, command: str) -> str:
    """Return why the setting of the units `name` is no option of `command`."""
    if (name, command) == ("listen", "lookout"):
        return "lookout listens where --bind says: --bind 127.0.0.1:8001"
    return only_in_the_file(name)


def unknown_option(name: str, command: str, known: Mapping[str, object]) -> str:
    """Return what is wrong with the option `name` of `command`, and what to write."""
    from spyglass.config import foreign_names

    def spelled(ours: str) -> str:
        return "--bind" if (ours, command) == ("listen", "lookout") else as_option(ours)

    long = foreign_names.SHORT.get(name, name)
    return f"unknown option {name!r}{instead_of(long, known, spelled)}"


def as_variable(name: str) -> str:
    return f"SPYGLASS_{name.upper()}"


def as_option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def instead_of(
    name: str, known: Mapping[str, object], spelled: Callable[[str], str] = as_option
) -> str:
    """Return what to write instead of the unknown setting `name`, as the end of a
    message: ", did you mean 'workers'?", ": it is 'listen' here", or "".

    `known` are the settings, and the other options; `spelled` returns the name of one
    of them as it is written in this place.
    """
    # A table of other servers' names is of no use before there is a mistake.
    from spyglass.config import foreign_names

    plain = foreign_names.plain(name)
    if plain in known:
        return f", did you mean {spelled(plain)!r}?"
    if plain in foreign_names.NONE:
        return f": {foreign_names.NONE[plain]}"
    ours, equals, value = foreign_names.OURS.get(plain, "").partition(" = ")
    if not ours:
        return hint(plain, known, spelled)
    if equals:
        return f": write {f'{spelled(ours)} = {value}' if spelled is str else f'{spelled(ours)}={value}'!r}"
    if spelled is not str and isinstance(known[ours], Unit) and spelled(ours) != "--bind":
        return f": it is {ours!r} here, in the TOML file"
    return f": it is {spelled(ours)!r} here"


def kept_too_long(keepalive: float, idle: float) -> str:
    """Return what is wrong with these two timeouts (seconds)."""
    kept = "never" if keepalive == NEVER else f"{keepalive:g} s"
    return (
        f"keepalive_timeout: {kept} must be shorter than idle_timeout, {idle:g} s, or a kept-alive "
        "connection would always prevent the idle exit"
    )


def hint(name: str, known: Iterable[str], spelled: Callable[[str], str] = str) -> str:
    """Return ", did you mean 'workers'?", or "" if no known name is similar."""
    near = similar(name, known)
    return f", did you mean {spelled(near)!r}?" if near else ""


def similar(word: str, known: Iterable[str]) -> str:
    """Return the one of `known` that `word` is probably meant to be, or ""."""
    # At the usual 0.6, "server" is similar to "user".
    near = difflib.get_close_matches(word.lower(), known, 1, cutoff=0.65)
    return near[0] if near else ""


def shown(value: object, most: int = 60) -> str:
    """Return a value nearly as it is written in the file, `most` characters long at
    most.
    """
    value = list(value) if isinstance(value, tuple) else value
    text = (
        repr(str(value))
        if isinstance(value, str)
        else repr(value).lower()
        if isinstance(value, bool)
        else repr(value)
    )
    return text if len(text) <= most else text[: most - 3] + "..."


def default_text(setting: Setting) -> str:
    """Return the default as it is written in the file, or in words."""
    value = setting.default
    if isinstance(setting, Unit) and setting.instead:
        return setting.instead
    if isinstance(value, bool):
        return str(value).lower()
    if setting_text.is_size(setting) and isinstance(value, int) and value:
        return in_units(value)
    if isinstance(value, tuple | dict):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def let_in(name: str, group: str, path: str, bits: str) -> str:
    """Return how to give the app `name`, but no other program, access to `path`.

    The app runs in `group` ("": the group of a dynamic user).

    Never `chmod o+r`: an inaccessible file may be a secret, or the directory of one.
    """
    way = f"chgrp {group or name} {shlex.quote(path)} && chmod g+{bits} {shlex.quote(path)}"
    first = (
        ""
        if group
        else f'create a group for the app (addgroup --system {name}; group = "{name}"), then '
    )
    return f"{first}{way}; pass a secret in `credentials` instead"
