"""The types of settings: how the text or the TOML value of a setting becomes a value.

The table of settings (settings.py) has one row for each setting, an object of one of
these types. A row that must know more than its type, such as which access log formats
exist, names a check as "module:function". The module is imported when a value other
than the default is checked: a wake with default settings does not pay for it.

argparse and dataclasses would each add a third of a bare interpreter's start to every
wake, hence the few lines of our own.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Values(Protocol):
        """What settings are read from: a Config."""

        values: dict[str, object]


class Setting:
    """One setting: its `default`, its `meaning` (str, for people), the `kind` of value
    it takes (str, for people) and, for some, the name of its `checker`. As an attribute
    of a Config it is the configured value, which cannot be assigned.
    """

    name = ""
    kind = ""

    def __init__(self, default: object, meaning: str, check: str = "") -> None:
        self.default = default
        self.meaning = meaning
        self.checker = check

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, config: Values, value: object) -> None:
        raise AttributeError(f"{self.name}: a configuration is read once and never changed")

    @property
    def option(self) -> str:
        """The option that sets it on a command line."""
        return "--" + self.name.replace("_", "-")

    def check(self, value: object) -> object:
        """Return the value of a TOML entry as the server uses it. Raise ValueError with
        what was expected and, for an entry of a list, the entry.
        """
        raise NotImplementedError

    def parse(self, text: str) -> object:
        """Like check(), for the text of an environment variable or an option."""
        return self.check(text)

    def run_checker(self, value: object) -> object:
        """Return what the row's "module:function" makes of `value`. It raises
        ValueError.
        """
        module, _, function = self.checker.partition(":")
        call: Callable[[object], object] = getattr(
            __import__(module, fromlist=[function]), function
        )
        return call(value)


class Text(Setting):
    kind = "text"

    def __get__(self, config: Values, owner: type | None = None) -> str:
        return config.values[self.name]  # type: ignore[return-value]

    def check(self, value: object) -> object:
        if not isinstance(value, str) or "\0" in value:
            raise ValueError("expected text")
        return value


class UrlPath(Text):
    """A path of a URL. The check is called with any but the empty one, and returns the
    value.
    """

    def __init__(self, meaning: str, check: str) -> None:
        super().__init__("", meaning)
        self.kind = 'path, "/blog"'
        self.checker = check

    def check(self, value: object) -> object:
        text = super().check(value)
        return self.run_checker(text) if text else text


class Choice(Text):
    def __init__(self, default: str, choices: tuple[str, ...], meaning: str) -> None:
        super().__init__(default, meaning)
        self.kind = ", ".join(choices)
        self.choices = choices

    def check(self, value: object) -> object:
        if value not in self.choices:
            raise ValueError(f"expected one of {self.kind}")
        return value


def _entries(value: object, kind: str) -> list[str]:
    """Return the entries of a list, or of text in which commas separate them. Raise
    ValueError.
    """
    if isinstance(value, str):
        value = value.split(",") if value.strip() else []
    if not isinstance(value, list):
        raise ValueError(f"expected {kind}")
    for entry in value:
        if not isinstance(entry, str):
            raise ValueError(f"expected {kind}", entry)
    return [entry.strip() for entry in value]


class Entries(Setting):
    """Several texts. The check is called with each of them."""

    def __init__(self, default: tuple[str, ...], kind: str, meaning: str, check: str) -> None:
        super().__init__(default, meaning, check)
        self.kind = kind

    def __get__(self, config: Values, owner: type | None = None) -> tuple[str, ...]:
        return config.values[self.name]  # type: ignore[return-value]

    def check(self, value: object) -> object:
        entries = _entries(value, self.kind)
        for entry in entries:
            self.run_checker(entry)
        return tuple(entries)


class CommaText(Text):
    """Several texts without commas, used as one text: "127.0.0.1, ::1". The check is
    called with that text.
    """

    def __init__(self, default: str, kind: str, meaning: str, check: str = "") -> None:
        super().__init__(default, meaning, check)
        self.kind = kind

    def check(self, value: object) -> object:
        entries = [self.entry(entry) for entry in _entries(value, self.kind)]
        text = ", ".join(entries)
        if self.checker and text != self.default:
            self.run_checker(text)
        return text

    def entry(self, text: str) -> str:
        """Return one entry as it is used. Raise ValueError."""
        if not text or "," in text:
            raise ValueError(f"expected {self.kind}", text)
        return text


class Choices(CommaText):
    """Several of `choices`; a `prefix` before one of them is removed."""

    def __init__(self, default: str, choices: tuple[str, ...], prefix: str, meaning: str) -> None:
        super().__init__(default, f"{', '.join(choices)}; a list, or separated by commas", meaning)
        self.choices = choices
        self.prefix = prefix

    def entry(self, text: str) -> str:
        name = text.lower().removeprefix(self.prefix)
        if name not in self.choices:
            raise ValueError(f"expected {self.kind}", text)
        return name


_FLAGS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class Flag(Setting):
    kind = "true or false"

    def __get__(self, config: Values, owner: type | None = None) -> bool:
        return config.values[self.name]  # type: ignore[return-value]

    def check(self, value: object) -> object:
        if not isinstance(value, bool):
            raise ValueError("expected true or false")
        return value

    def parse(self, text: str) -> object:
        if text.lower() not in _FLAGS:
            raise ValueError("expected true or false")
        return _FLAGS[text.lower()]


class FlagOrText(Setting):
    """true, false, one of `words`, or another text, with which the check is called."""

    def __init__(
        self, default: bool | str, words: tuple[str, ...], other: str, meaning: str, check: str
    ) -> None:
        super().__init__(default, meaning, check)
        self.words = words
        self.kind = ", ".join(["true", "false", *(f'"{word}"' for word in words), f"or {other}"])

    def __get__(self, config: Values, owner: type | None = None) -> bool | str:
        return config.values[self.name]  # type: ignore[return-value]

    def check(self, value: object) -> object:
        if not isinstance(value, bool | str):
            raise ValueError(f"expected {self.kind}")
        if isinstance(value, str) and value not in self.words:
            self.run_checker(value)
        return value

    def parse(self, text: str) -> object:
        lower = text.lower()
        return _FLAGS[lower] if lower in _FLAGS else self.check(text)


class Count(Setting):
    kind = "whole number"

    def __init__(self, default: int, meaning: str, least: int = 0, most: int = 2**31) -> None:
        super().__init__(default, meaning)
        self.least = least
        self.most = most

    def __get__(self, config: Values, owner: type | None = None) -> int:
        return config.values[self.name]  # type: ignore[return-value]

    def check(self, value: object) -> object:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"expected a {self.kind}")
        if not self.least <= value <= self.most:
            raise ValueError(f"expected a {self.kind} from {self.limits()}")
        return value

    def limits(self) -> str:
        """Return the least and the largest value, as people write them."""
        return f"{self.least} to {self.most}"

    def parse(self, text: str) -> object:
        # int() would take "1_000", " 7 " and digits of other scripts as well.
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"expected a {self.kind}")
        return self.check(int(text))


UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def in_units(size: int) -> str:
    """Return a number of bytes as people write it: "300M"."""
    unit = next((each for each in "GMK" if size and size % UNITS[each] == 0), "")
    return f"{size // UNITS.get(unit, 1)}{unit}"


class Size(Count):
    kind = 'number of bytes, or "64K", "1M", "2G"'

    def __init__(self, default: int, meaning: str, least: int = 0) -> None:
        super().__init__(default, meaning, least, 1 << 50)

    def check(self, value: object) -> object:
        return self.parse(value) if isinstance(value, str) else super().check(value)

    def limits(self) -> str:
        return f"{in_units(self.least)} to {in_units(self.most)}"

    def parse(self, text: str) -> object:
        number, unit = text, 1
        if text[-1:].upper() in UNITS:
            number, unit = text[:-1], UNITS[text[-1].upper()]
        if not (number.isascii() and number.isdigit()):
            raise ValueError(f"expected a {self.kind}")
        return self.check(int(number) * unit)


# Three years, in seconds. A number rather than infinity, because what is computed from
# it must be one that systemd and the kernel accept.
NEVER = 10.0**8


TIMES = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Seconds(Setting):
    """With `zero` (bool), 0 is allowed, and "never" means 0."""

    kind = 'number of seconds, or "500ms", "5m", "1h", "never"'
    most = NEVER

    def __init__(self, default: float, meaning: str, zero: bool = False) -> None:
        super().__init__(float(default), meaning)
        self.zero = zero

    def __get__(self, config: Values, owner: type | None = None) -> float:
        return config.values[self.name]  # type: ignore[return-value]

    def check(self, value: object) -> object:
        if isinstance(value, str):
            return self.parse(value)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"expected a {self.kind}")
        if not (0 < value <= self.most or (self.zero and value == 0)):
            least = "of at least 0" if self.zero else "above 0"
            raise ValueError(
                f'expected a number of seconds {least} and below {self.most:.0e}, or "never"'
            )
        return float(value)

    def parse(self, text: str) -> object:
        if text == "never":
            return 0.0 if self.zero else NEVER
        number = text.rstrip("hmins")
        unit = TIMES.get(text[len(number) :])
        digits = number.replace(".", "", 1)
        if unit is None or not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"expected a {self.kind}")
        return self.check(float(number) * unit)


class Unit(Setting):
    """A setting of the units, from which `spyglass apply` makes drop-ins; only in the
    file. The server does not look at its value.

    Its check returns the value as `spyglass apply` uses it. `instead` (str) describes
    the default in words.
    """

    def __init__(
        self, default: object, kind: str, meaning: str, check: str, instead: str = ""
    ) -> None:
        super().__init__(default, meaning, check)
        self.kind = kind
        self.instead = instead

    def __get__(self, config: Values, owner: type | None = None) -> Any:
        return config.values[self.name]

    def check(self, value: object) -> object:
        return self.run_checker(value)
