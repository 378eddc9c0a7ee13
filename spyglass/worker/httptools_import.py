"""Import httptools for request_head.py without the modules that it would bring along,
and hide it from the app again.

httptools/parser/__init__.py imports `typing` for a class that documents the callbacks,
and with it `re`, `contextlib` and `warnings`. That takes half as long as the start of a
bare interpreter, at each wake. The parser itself is a C module beside it. So the two
packages around that module are put in place as they are on the disk, without running
their __init__. The C module, too, asks `typing` for a name, `Optional`, which it never
uses: while it is imported, an empty `typing` is there to give it that.

The Debian package has an httptools of its own (_vendor), for Debian's uses an abandoned
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
    """Import all modules of a worker. An app that imports httptools itself then gets a
    complete one: its own where ours is the one in _vendor.
    """
    if _loaded():
        import spyglass.worker.main  # in here, as below: with httptools in place

        return
    sys.path.insert(0, _VENDOR)
    try:
        _put_in_place()
        import spyglass.worker.main  # noqa: F401
    finally:
        sys.path.remove(_VENDOR)
        is_vendored = os.path.isdir(_VENDOR)
        for name in _loaded():
            # The packages were empty. The modules stay where an app would find the very
            # same files: a C module is initialized once in a process, and must go on
            # raising the errors that the modules beside it know.
            if is_vendored or hasattr(sys.modules[name], "__path__"):
                del sys.modules[name]


def _loaded() -> list[str]:
    return [name for name in sys.modules if name == "httptools" or name.startswith("httptools.")]


def _put_in_place() -> None:
    """Import httptools as its C module alone. Where its files are not laid out as
    expected, do nothing: then the import that follows takes the usual way.
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
    """Return the directory of a package. importlib.util.find_spec() would do that, too,
    but for its own imports.
    """
    for finder in sys.meta_path:
        spec = finder.find_spec(name, None)
        if spec is not None:
            return next(iter(spec.submodule_search_locations or []), None)
    return None
