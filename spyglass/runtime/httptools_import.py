"""Brings httptools in for request_reader.py, without what an import of it brings along,
and out of an app's sight again.

httptools/parser/__init__.py imports `typing` for the sake of a class that documents the
callbacks, and with it `re`, `contextlib` and `warnings`: half a bare interpreter's
start, at each wake. What parses is a C module beside it. So the two packages around
that module are put in place as they are found on the disk, without running their
__init__. The C module too asks `typing` for a name, `Optional`, which it never uses:
for the moment of its import a hollow one is there to give it.

The package carries an httptools of its own (_vendor), for Debian's is on an abandoned
parser.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

_VENDOR = os.path.join(os.path.dirname(os.path.dirname(__file__)), "_vendor")


def import_worker() -> None:
    """Import all that a worker is made of; an app that imports httptools itself then
    gets a whole one, its own where ours is _vendor.
    """
    if _loaded():
        import spyglass.worker.main  # who has it already pays nothing

        return
    sys.path.insert(0, _VENDOR)
    try:
        _put_in_place()
        import spyglass.worker.main  # noqa: F401
    finally:
        sys.path.remove(_VENDOR)
        is_vendored = os.path.isdir(_VENDOR)
        for name in _loaded():
            # The packages were hollow. The modules stay where an app would find the
            # very same files: a C module is initialized once in a process, and must go
            # on raising the errors that its neighbours know.
            if is_vendored or hasattr(sys.modules[name], "__path__"):
                del sys.modules[name]


def _loaded() -> list[str]:
    return [name for name in sys.modules if name == "httptools" or name.startswith("httptools.")]


def _put_in_place() -> None:
    """httptools as its C module alone. Where it is not laid out as expected, nothing:
    the import that follows takes the usual way.
    """
    where = _find("httptools")
    if where is None:
        return
    package = _place("httptools", where)
    _place("httptools.parser", os.path.join(where, "parser"))
    is_typed = "typing" in sys.modules
    if not is_typed:
        _place("typing", where).Optional = list  # type: ignore[attr-defined]  # which can be asked for list[bool], too
    try:
        from httptools.parser import errors, parser

        for name in errors.__all__:
            setattr(package, name, getattr(errors, name))
        package.HttpRequestParser = parser.HttpRequestParser  # type: ignore[attr-defined]
    except (ImportError, AttributeError):
        for name in _loaded():
            del sys.modules[name]
    finally:
        if not is_typed:
            del sys.modules["typing"]


def _place(name: str, where: str) -> ModuleType:
    module = sys.modules[name] = type(sys)(name)
    module.__path__ = [where]
    return module


def _find(name: str) -> str | None:
    """The directory of a package; importlib.util.find_spec() would tell as well, were
    it not for its own imports.
    """
    for finder in sys.meta_path:
        spec = finder.find_spec(name, None)
        if spec is not None:
            return next(iter(spec.submodule_search_locations or []), None)
    return None
