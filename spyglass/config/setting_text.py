"""Values of settings as text: for the settings file (TOML, toml.io) or a sentence.

Apart from the table of settings, which is on the wake path; a wake does not import
this.
"""

from __future__ import annotations

from spyglass.config.setting_types import NEVER, CommaText, Seconds, Setting, Size, in_units

_LONGEST = 1000  # characters of a value in a line of settings
_ESCAPES = {'"': '\\"', "\\": "\\\\"}
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def assignment(setting: Setting, value: object, width: int = 0) -> str:
    """Return the line of a settings file that sets `setting` to `value`, as the server
    uses it. The name takes at least `width` letters.

    A value that is too long to show becomes a comment, so that no line is wrong.
    """
    text = written(setting, value)
    if len(text) > _LONGEST:
        return f"# {setting.name}: {len(text)} characters"
    return f"{setting.name:<{width}} = {text}"


def written(setting: Setting, value: object) -> str:
    """Return `value`, as the server uses it, as people write it in the file: "2G"."""
    return toml(plain(setting, value))


def plain(setting: Setting, value: object) -> object:
    """Return `value`, as the server uses it, as TOML has it: a text, a number, a list
    or a table. A list of one entry is that entry, where the setting allows that.
    """
    if isinstance(value, bool):
        return value
    if is_size(setting) and isinstance(value, int) and value:
        size = in_units(value)
        return value if size.isdecimal() else size
    if isinstance(setting, Seconds) and isinstance(value, int | float):
        if value == NEVER:
            return "never"
        return int(value) if float(value).is_integer() else value
    if isinstance(setting, CommaText) and isinstance(value, str) and value:
        value = value.split(", ")
    if setting.name == "listen" and isinstance(value, tuple):
        value = [_listening(each) for each in value]
    if setting.name == "credentials" and isinstance(value, dict) and not any(value.values()):
        return list(value)
    if isinstance(value, list | tuple):
        return value[0] if len(value) == 1 else list(value)
    return value


def _listening(address: object) -> object:
    """Return an entry of `listen`: 8001, "127.0.0.1:8001", or a table."""
    path, group, mode = (str(getattr(address, name)) for name in ("path", "group", "mode"))
    if group or mode:
        table = {"path": path, "group": group, "mode": mode}
        return {name: text for name, text in table.items() if text}
    text = str(address)
    return int(text) if text.isdecimal() else text


def is_size(setting: Setting | None) -> bool:
    """Return True if the value of `setting` is a number of bytes."""
    return setting is not None and setting.kind == Size.kind


def spoken(setting: Setting | None, value: object) -> str:
    """Return a value for a sentence, without quotes: "2G", "30s", "true", "a, b"."""
    if isinstance(value, bool):
        return str(value).lower()
    if is_size(setting) and isinstance(value, int) and value:
        return in_units(value)
    if isinstance(setting, Seconds) and isinstance(value, int | float):
        never = value == NEVER or (setting.zero and value == 0)
        return "never" if never else f"{value:g}s"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return str(value)


def toml(value: object) -> str:
    """Return a string, a number, a boolean, or a list or table of these in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        pairs = [f"{_key(name)} = {toml(each)}" for name, each in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    escaped = "".join(
        _ESCAPES.get(letter) or (letter if letter.isprintable() else f"\\U{ord(letter):08X}")
        for letter in str(value)
    )
    return f'"{escaped}"'


def _key(name: str) -> str:
    return name if name and _BARE.issuperset(name) else toml(name)
