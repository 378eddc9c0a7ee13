"""Which module, file or attribute was meant by a name that does not exist.

Directories are listed and files never read, so nothing of the app is run to find out.
Each hint is "" or the end of an error message. It must not raise: the error that it
belongs to matters more.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST = 2000  # names to compare with
_CUTOFF = 0.65  # as for settings: at the usual 0.6, "server" is similar to "user"
_FACTORIES = ("create_app", "make_app")
_DEFAULTS = ("application", "app")


def module_hint(base: str, wanted: str, missing: str) -> str:
    """Return which module below the directory `base` may have been meant by `wanted`,
    of which the part `missing` (both dotted) does not exist.
    """
    *package, last = missing.split(".")
    rest = wanted[len(missing) :]
    known = modules_in(os.path.join(base, *package))
    near = ""
    if not package:
        # Perhaps the package around it was left out: "wsgi" for "blog.wsgi".
        near = next((f"{each}.{last}" for each in known if _holds(base, each, last)), "")
    near = near or closest(last, known)
    return f", did you mean {'.'.join([*package, near]) + rest!r}?" if near else ""


def file_hint(path: str) -> str:
    """Return which file may have been meant by `path`, which does not exist."""
    folder, name = os.path.split(path)
    stems = {}
    for each in _names_in(folder):
        stem, suffix = os.path.splitext(each)
        if suffix in (".py", ".wsgi") and not stem.startswith("__"):
            stems[stem] = each
    near = closest(os.path.splitext(name)[0], stems)
    return f", did you mean {os.path.join(folder, stems[near])!r}?" if near else ""


def attribute_hint(owner: object, where: str, dotted: str, missing: str) -> str:
    """Return which attribute of `owner`, an object in the module `where`, may have been
    meant by `missing`, a part of the path `dotted`.
    """
    try:
        known = [
            name
            for name, value in vars(owner).items()
            if callable(value) or isinstance(value, classmethod)
        ]
    except Exception:  # an object without a __dict__, or one that lies
        return ""
    public = [name for name in known if isinstance(name, str) and not name.startswith("_")]
    near = closest(missing, public)
    parts = dotted.split(".")
    if not near and len(parts) == 1:
        near = next((name for name in _DEFAULTS if name in public), "")
    if not near:
        return ""
    index = parts.index(missing)
    right = ".".join([*parts[:index], near, *parts[index + 1 :]])
    return f", did you mean {f'{where}:{right}'!r}?"


def instead_of_a_default(module: object, where: str) -> str:
    """Return how to name the app in a module that has neither of the usual names."""
    names = vars(module)
    factory = next((each for each in _FACTORIES if callable(names.get(each))), "")
    if factory:
        return f'it has a factory, write app = "{where}:{factory}()"'
    return f"name it as {where}:NAME"


def modules_in(folder: str) -> list[str]:
    """Return the names of the modules and packages in a directory."""
    found = []
    for name in _names_in(folder):
        stem, dot, suffix = name.partition(".")
        is_module = suffix == "py" if dot else os.path.isdir(os.path.join(folder, name))
        if is_module and stem.isidentifier() and not stem.startswith("__"):
            found.append(stem)
    return found


def _holds(base: str, package: str, module: str) -> bool:
    return os.path.isfile(os.path.join(base, package, f"{module}.py"))


def closest(name: str, known: Iterable[str]) -> str:
    """Return the one of `known` that is most similar to `name`, "" if none is."""
    try:
        # The app may have a module of this name, which is found first.
        from difflib import get_close_matches

        by_lower = {each.lower(): each for each in known}
        near = get_close_matches(name.lower(), by_lower, 1, cutoff=_CUTOFF)
        return by_lower[near[0]] if near else ""
    except Exception:
        return ""


def _names_in(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or "."))[:_MOST]
    except OSError:
        return []
