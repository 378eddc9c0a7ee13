"""What a mistaken value of a setting probably means: "2GB" is "2G", "localhost:8005" is
"127.0.0.1:8005", yes is true.

Only used once a value has been refused. A value is suggested only if its setting takes
it.
"""

from __future__ import annotations

import re

from spyglass.config.setting_types import Seconds, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SIZE = re.compile(r"([0-9]+)(\.[0-9]+)?\s*([KMGT])(?:i?B)?", re.IGNORECASE)
_BYTES = re.compile(r"([0-9]+)\s*(?:B|bytes?)", re.IGNORECASE)
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|sec|min|minutes?|seconds?|hours?|days?)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_ADDRESS = re.compile(r"(?:[a-z]+://)?(localhost|\*|[0-9.]+|\[[0-9a-f:]+\]|):([0-9]+)/?")
_WORDS: dict[str, tuple[object, ...]] = {
    "true": (True,), "yes": (True,), "on": (True,), "1": (True,), "enabled": (True,),
    "false": (False,), "no": (False,), "off": (False,), "0": (False,), "disabled": (False,),
    "none": ("never", 0), "infinite": ("never", 0), "unlimited": ("never", 0), "never": ("never",),
    "warn": ("warning",), "critical": ("error",), "fatal": ("error",), "trace": ("debug",),
}  # fmt: skip


def closest(setting: Setting, value: object) -> object:
    """Return a value that `setting` takes and that `value` probably means; None if
    there is none.
    """
    for candidate in _candidates(setting, value):
        if candidate == "" or (candidate == value and type(candidate) is type(value)):
            continue  # nothing, or a value that is wrong only beside others
        try:
            setting.check(candidate)
        except ValueError:
            continue
        return candidate
    return None


def _candidates(setting: Setting, value: object) -> Iterator[object]:
    if isinstance(value, list) and len(value) == 1:
        yield value[0]
    if isinstance(value, float) and value.is_integer():
        yield int(value)
    if isinstance(value, int) and value in (0, 1):
        yield bool(value)
    if setting.name == "cpu_quota" and isinstance(value, int):
        yield f"{value}%"
    if not isinstance(value, str):
        return
    text = value.strip().strip("\"'\u2018\u2019\u201c\u201d")
    yield text
    if re.fullmatch("[0-9]{1,15}", text):
        yield int(text)
    if re.fullmatch(r"[0-9]{0,15}\.[0-9]{1,15}", text):
        yield float(text)
    yield from _WORDS.get(text.lower(), ())
    if found := _ADDRESS.fullmatch(text):
        host = found[1].replace("localhost", "127.0.0.1")
        yield f"{host}:{found[2]}" if host not in ("", "*") else int(found[2])
    if isinstance(setting, Seconds):
        if found := _TIME.fullmatch(text):
            seconds = float(found[1]) * _SECONDS["ms" if found[2] == "ms" else found[2][0]]
            yield int(seconds) if seconds.is_integer() else round(seconds, 6)
        return
    if found := _BYTES.fullmatch(text):
        yield int(found[1])
    if found := _SIZE.fullmatch(text):
        yield from _sizes(float(found[1] + (found[2] or "")), found[3].upper())
    yield text.lower()
    if setting.name == "cpu_quota":
        yield text.replace(" ", "")
    if setting.name == "script_name" and text.replace("/", ""):
        yield f"/{text.strip('/')}"


def _sizes(number: float, unit: str) -> Iterator[str]:
    """Yield `number` of these units as a whole number of this or a smaller unit."""
    for smaller in "TGMK"["TGMK".index(unit) :]:
        if smaller != "T" and number.is_integer():
            yield f"{int(number)}{smaller}"
        number *= 1024
