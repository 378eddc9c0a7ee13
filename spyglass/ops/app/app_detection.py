"""Find the app and the virtual environment in a directory, for `spyglass new`, and
judge an app that is named, both from sources alone (app_source.py).
"""

from __future__ import annotations

import glob
import os
import re
import sys
from dataclasses import dataclass, field

from spyglass.ops.app.app_source import FACTORIES, NAMES, Source
from spyglass.ops.files import atomic_files
from spyglass.zygote import app_files
from spyglass.zygote.similar_names import file_hint, module_hint

_PACKAGES = 100  # packages, or modules, to look at
_FILES = ("wsgi.py", "app.py", "application.py", "main.py")
_SETTINGS = re.compile(r"""DJANGO_SETTINGS_MODULE['"]\s*,\s*['"]([\w.]+)\.settings""")


@dataclass(frozen=True)
class Found:
    """A candidate for the setting `app`, and what makes it one ("made by Flask() in
    app.py, line 3").
    """

    app: str
    why: str


@dataclass
class Detection:
    """The candidates in a directory, most likely first, and why others can never
    answer (lines).
    """

    found: list[Found] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def venv_in(directory: str) -> str:
    """Return the virtual environment in `directory`, relative to it, or ""."""
    return next(
        (
            name
            for name in ("venv", ".venv")
            if os.path.isfile(os.path.join(directory, name, "pyvenv.cfg"))
        ),
        "",
    )


def detect(directory: str) -> Detection:
    """Return the apps in `directory`: one if there is no doubt, as of a Django project
    or a wsgi.py.
    """
    if django := _django(directory):
        return Detection([Found(django, "the WSGI app of the Django project of manage.py")])
    detection = Detection()
    for file in _FILES:
        _look(directory, file, detection)
        if file == "wsgi.py" and detection.found:
            return detection  # this is the purpose of a wsgi.py
    if detection.found:
        return detection
    packages = sorted(glob.glob("*/wsgi.py", root_dir=directory)) + sorted(
        glob.glob("*/__init__.py", root_dir=directory)
    )
    for file in packages[:_PACKAGES]:
        _look(directory, file, detection)
    if not detection.found:
        others = sorted(set(glob.glob("*.py", root_dir=directory)) - set(_FILES))
        for file in others[:_PACKAGES]:
            _look(directory, file, detection, only_if_plain=True)
    return detection


def _django(directory: str) -> str:
    """Return the WSGI application of the project that manage.py names, or ""."""
    found = _SETTINGS.search(
        atomic_files.read_untrusted_or_empty(os.path.join(directory, "manage.py"))
    )
    if found and os.path.isfile(os.path.join(directory, *found[1].split("."), "wsgi.py")):
        return f"{found[1]}.wsgi:application"
    return ""


def _look(directory: str, file: str, detection: Detection, *, only_if_plain: bool = False) -> None:
    """Add the app in `file`, relative to `directory`, to the detection. In any file,
    `app` may be something else: then it counts `only_if_plain` that it is one.
    """
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    if not all(part.isidentifier() for part in module.split(".")):
        return  # cannot be imported, and must not get into a suggested command
    source = Source(os.path.join(directory, file), module)
    for name in (*NAMES, *(f"{each}()" for each in FACTORIES)):
        plain = name.removesuffix("()")
        if not source.has(plain):
            continue
        if why := source.refusal(name):
            detection.refused.append(why)
            continue
        what = source.made_by(name)
        if only_if_plain and not what:
            continue
        what = "a factory" if name != plain else what or "set"
        detection.found.append(
            Found(f"{module}:{name}", f"{what} in {file}, line {source.line_of(plain)}")
        )
        return


# An app that is named


def judge(directory: str, venv: str, app: str) -> tuple[str, str]:
    """Return why `app`, as in the setting, can never answer, or "", and a doubt about
    it, or "" (one line each). `venv` is its virtual environment, "" if it has none.
    """
    where, name = app_files.split(app)
    if app_files.is_path(where, directory):
        path = os.path.join(directory, where)
        if not os.path.isfile(path):
            return f"there is no file {path}{file_hint(path)}", ""
        return _refusal(path, where, name), ""
    if not all(part.isidentifier() for part in where.split(".")):
        return f"{where!r} is neither the name of a module nor the path of a .py or .wsgi file", ""
    path = next(filter(os.path.isfile, reversed(app_files.sources(directory, where))), "")
    if _is_module(path, where):
        return _refusal(path, where, name), ""
    missing = _missing_part(directory, where)
    hint = module_hint(directory, where, missing)
    text = f"there is no module {missing!r} in {directory}{hint}"
    first = where.partition(".")[0]
    if missing != first:
        return text, ""  # its package is in the directory, which comes before all others
    places = _packages(directory, venv)
    if any(os.path.exists(path) for place in places for path in app_files.sources(place, first)):
        return "", ""
    is_certain = not venv or not any(map(_adds_places, places))
    return (text, "") if hint and is_certain else ("", text)


def _refusal(path: str, where: str, name: str) -> str:
    source = Source(path, where)
    if name or not source.is_readable:
        return source.refusal(name) if name else ""
    names = [each for each in NAMES if source.has(each)]
    return source.refusal(names[0]) if names else ""


def _is_module(path: str, module: str) -> bool:
    """Return True if `path` is the file of `module`, and not of a package around it."""
    stem = path.removesuffix(".py").removesuffix("/__init__")
    return bool(path) and stem.endswith("/" + module.replace(".", "/"))


def _missing_part(directory: str, module: str) -> str:
    """Return the beginning of the dotted name `module` that does not exist."""
    parts = module.split(".")
    for depth in range(1, len(parts)):
        folder = os.path.join(directory, *parts[:depth])
        if not os.path.isdir(folder) and not os.path.isfile(f"{folder}.py"):
            return ".".join(parts[:depth])
    return module


def _adds_places(folder: str) -> bool:
    """Return True if a .pth file in this directory of packages adds others (site.py),
    as an editable installation does.
    """
    for file in glob.glob("*.pth", root_dir=folder)[:_PACKAGES]:
        lines = atomic_files.read_untrusted_or_empty(os.path.join(folder, file)).splitlines()
        code = ("#", "import ", "import\t")
        if "editable" in file or any(line.strip() and not line.startswith(code) for line in lines):
            return True
    return False


def _packages(directory: str, venv: str) -> list[str]:
    """Return the directories of installed packages that the app will have."""
    if venv:
        pattern = os.path.join(glob.escape(os.path.join(directory, venv)), "lib/python3*")
        return glob.glob(os.path.join(pattern, "site-packages"))
    return [path for path in sys.path if os.path.isdir(path)]
