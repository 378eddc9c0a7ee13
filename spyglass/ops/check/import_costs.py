"""What an app's import costs, by package: `spyglass check` measures it, and `spyglass
status` shows what the last check found.

The import dominates the wake of a real app, so the packages that it is spent in are
what to look at. The times are each module's own, without what it imports itself, so
they add up. They are measured in a rehearsal only: no wake pays for it.

The result is one line of the check's report. It comes from a process that the app runs
in, so the app can write there what it likes: a reader takes nothing but names and
numbers from it.
"""

from __future__ import annotations

import os
import re
import sys
import time
from _thread import get_ident
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spyglass.ops.files.atomic_files import read_untrusted, write
from spyglass.ops.guards import locks
from spyglass.ops.output.terminal import local_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

TITLE = "imports: "
LONGEST_LINE = 2000  # characters

_MOST = 10  # packages in the line
_LEAST = 0.001  # seconds; what costs less is among the others
_LONGEST_NAME = 40
_NAME = rf"[\w.?-]{{1,{_LONGEST_NAME}}}"
_COMPILED = re.compile(r"; (\d{1,6}) modules? compiled$")
_PACKAGE = re.compile(rf"({_NAME}) (\d{{1,9}}) ms \((\d{{1,6}}) modules?(?:, by ({_NAME}))?\)")


@dataclass
class PackageCost:
    """What a package (a top-level name) cost: milliseconds of all its modules that were
    imported (`modules`, int), without what they import from others.

    `by` is the module that imported it first, "" for the app's own.
    """

    package: str
    ms: int
    modules: int
    by: str


@dataclass
class _Package:
    by: str
    seconds: float = 0.0
    modules: int = 0


class ImportTimer:
    """Measures imports, in all threads, between start() and stop().

    It stands in front of a function of importlib that is not public, by which each
    module is found and loaded (`_find_and_load_unlocked`, Python 3.11 to 3.14).
    Python's own -X importtime measures the same, but has to be set before Python starts
    and writes to stderr. Without that function nothing is measured.
    """

    def __init__(self) -> None:
        self._packages: dict[str, _Package] = {}
        self._compiled = 0
        self._bootstrap = sys.modules["_frozen_importlib"]
        self._loader = sys.modules["_frozen_importlib_external"].SourceLoader
        self._find: Callable[[str, object], ModuleType] | None = getattr(
            self._bootstrap, "_find_and_load_unlocked", None
        )
        self._compile = self._loader.source_to_code

    def start(self) -> None:
        if self._find is not None:
            self._bootstrap._find_and_load_unlocked = self._timed(self._find)  # type: ignore[attr-defined]
            self._loader.source_to_code = self._counted(self._compile)

    def stop(self) -> None:
        if self._find is not None:
            self._bootstrap._find_and_load_unlocked = self._find  # type: ignore[attr-defined]
            self._loader.source_to_code = self._compile

    def line(self) -> str:
        """Return the line of the report, "" if no package cost a millisecond."""
        self._packages.pop("spyglass", None)
        found = sorted(self._packages.items(), key=lambda item: -item[1].seconds)
        dear = [item for item in found[:_MOST] if item[1].seconds >= _LEAST]
        if not dear:
            return ""
        text = TITLE + _listed([_cost(name, package) for name, package in dear])
        if others := found[len(dear) :]:
            spent = sum(package.seconds for _, package in others)
            text += f"; {len(others)} more: {spent * 1000:.0f} ms"
        return text + _compiled(self._compiled)

    def _timed(self, find: Callable[[str, object], ModuleType]) -> Callable[..., ModuleType]:
        packages, clock, thread = self._packages, time.perf_counter, get_ident
        stacks: dict[int, list[tuple[str, list[float]]]] = {}

        def find_and_load(name: str, import_: object) -> ModuleType:
            stack = stacks.setdefault(thread(), [])
            package = name.partition(".")[0]
            if package not in packages:
                packages[package] = _Package(_importer(stack, package))
            nested = [0.0]  # seconds in what this module imports
            stack.append((name, nested))
            began = clock()
            try:
                return find(name, import_)
            finally:
                took = clock() - began
                # Tasks that the app has in the place of threads (gevent) may take turns
                # within an import.
                while stack and stack.pop()[1] is not nested:
                    pass
                if stack:
                    stack[-1][1][0] += took
                packages[package].seconds += took - nested[0]
                packages[package].modules += 1

        # Python leaves importlib's own frames out of the traceback of a failed import,
        # and knows them by the file.
        find_and_load.__code__ = find_and_load.__code__.replace(
            co_filename="<frozen importlib._bootstrap>"
        )
        return find_and_load

    def _counted(self, compile_: Callable[..., object]) -> Callable[..., object]:
        def source_to_code(*arguments: object, **options: object) -> object:
            self._compiled += 1
            return compile_(*arguments, **options)

        source_to_code.__code__ = source_to_code.__code__.replace(
            co_filename="<frozen importlib._bootstrap_external>"
        )
        return source_to_code


def _importer(stack: list[tuple[str, list[float]]], package: str) -> str:
    """Return the module outside of `package` whose import it is part of, or ""."""
    return next(
        (
            name
            for name, _ in reversed(stack)
            if name.partition(".")[0] not in (package, "spyglass")
        ),
        "",
    )


def _cost(name: str, package: _Package) -> PackageCost:
    by = _plain(package.by) if package.by else ""
    return PackageCost(_plain(name), round(package.seconds * 1000), package.modules, by)


def _plain(name: str) -> str:
    """Return `name` in a form that _NAME accepts: it may be any string."""
    return re.sub(r"[^\w.-]", "?", name)[:_LONGEST_NAME] or "?"


def parse(line: str) -> list[PackageCost]:
    """Return the packages in a line of the report; nothing else is taken from it."""
    if not line.startswith(TITLE):
        return []
    listed = line[:LONGEST_LINE].removeprefix(TITLE).partition(";")[0]
    return [
        PackageCost(name, int(ms), int(modules), by)
        for name, ms, modules, by in _PACKAGE.findall(listed)[:_MOST]
    ]


@dataclass
class Recorded:
    """What the last check found: `packages`, dearest first, at the time `when`
    (seconds, wall clock). `compiled` (int) modules had no byte code yet.
    """

    packages: list[PackageCost]
    when: float
    compiled: int = 0


def facts(found: Recorded | None) -> list[dict[str, object]] | None:
    """Return the value of `imports` in `spyglass status --json`."""
    return None if found is None else [vars(each) for each in found.packages]


def sentence(found: Recorded) -> str:
    """Return the line of `spyglass status`."""
    return f"{_listed(found.packages)}{_compiled(found.compiled)}; measured by the check of {local_time(found.when)}"


def _listed(costs: list[PackageCost]) -> str:
    return ", ".join(
        f"{each.package} {each.ms} ms ({_many(each.modules)}{f', by {each.by}' if each.by else ''})"
        for each in costs
    )


def _many(modules: int) -> str:
    return "1 module" if modules == 1 else f"{modules} modules"


def _compiled(modules: int) -> str:
    return f"; {_many(modules)} compiled" if modules else ""


def _path(name: str) -> str:
    return os.path.join(locks.DIRECTORY, f"imports-{name}")


def record(name: str, line: str) -> None:
    """Note for `spyglass status` what a check of the app `name` has reported, which may
    be "". Only root can.
    """
    costs, compiled = parse(line), _COMPILED.search(line[:LONGEST_LINE])
    text = f"{TITLE}{_listed(costs)}{_compiled(int(compiled[1]) if compiled else 0)}\n"
    # A check, and an `apply`, do not fail because of a note.
    with suppress(OSError):
        write(_path(name), text if costs else "", 0o600)


def forget(name: str) -> None:
    """Delete what was noted of the app `name`."""
    with suppress(OSError):
        write(_path(name), "")


def recorded(name: str) -> Recorded | None:
    """Return what the last check of the app `name` found since the machine started;
    None if there was none, or this is not root.
    """
    try:
        line = read_untrusted(_path(name), LONGEST_LINE).rstrip("\n")
        when = os.stat(_path(name)).st_mtime
    except OSError:
        return None
    compiled = _COMPILED.search(line)
    return Recorded(parse(line), when, int(compiled[1]) if compiled else 0)
