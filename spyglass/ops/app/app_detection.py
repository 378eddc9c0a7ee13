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
_FILES = ("wsgi.py", "asgi.py", "app.py", "application.py", "main.py")
# In packages of the directory.
_PARTS = ("wsgi.py", "asgi.py", "__init__.py")
_PLAIN_PARTS = ("main.py", "app.py")
_API = "api"  # what many call their FastAPI()
# Apps that a Django project has for its asgi.py.
_ASYNCHRONOUS = ("channels", "daphne")
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
        return Detection([django])
    detection = Detection()
    for file in _FILES:
        _look(directory, file, detection)
        if file in ("wsgi.py", "asgi.py") and detection.found:
            return detection  # this is the purpose of a wsgi.py
    if detection.found:
        return detection
    _look_in_packages(directory, detection)
    if not detection.found:
        others = sorted(set(glob.glob("*.py", root_dir=directory)) - set(_FILES))
        for file in others[:_PACKAGES]:
            _look(directory, file, detection, only_if_plain=True)
    return detection


def _look_in_packages(directory: str, detection: Detection) -> None:
    """Add the apps of packages, one of each: with a wsgi.py and an asgi.py, as Django
    makes them, that of the first.
    """
    having: set[str] = set()
    for part in (*_PARTS, *_PLAIN_PARTS):
        is_part = part in _PLAIN_PARTS  # and so in a package, not in another project
        for file in sorted(glob.glob(f"*/{part}", root_dir=directory))[:_PACKAGES]:
            package = os.path.dirname(file)
            marker = os.path.join(directory, package, "__init__.py")
            if package in having or (is_part and not os.path.isfile(marker)):
                continue
            if _look(directory, file, detection, only_if_plain=is_part):
                having.add(package)


def _django(directory: str) -> Found | None:
    """Return the application of the project that manage.py names: that of its wsgi.py,
    unless the project is made for ASGI, or has only that.
    """
    found = _SETTINGS.search(
        atomic_files.read_untrusted_or_empty(os.path.join(directory, "manage.py"))
    )
    if not found:
        return None
    folder = os.path.join(directory, *found[1].split("."))
    has_wsgi, has_asgi = (
        os.path.isfile(os.path.join(folder, file)) for file in ("wsgi.py", "asgi.py")
    )
    needing = _asynchronous_app(folder) if has_asgi else ""
    project = "app of the Django project of manage.py"
    if has_asgi and (needing or not has_wsgi):
        why = f", which has {needing} in INSTALLED_APPS" if needing else ""
        return Found(f"{found[1]}.asgi:application", f"the ASGI {project}{why}")
    if has_wsgi:
        return Found(f"{found[1]}.wsgi:application", f"the WSGI {project}")
    return None


def _asynchronous_app(folder: str) -> str:
    """Return the app in the settings of the Django project in `folder` that needs ASGI,
    "" if none does.
    """
    files = ["settings.py", *sorted(glob.glob("settings/*.py", root_dir=glob.escape(folder)))]
    for file in files[:_PACKAGES]:
        source = Source(os.path.join(folder, file), file)
        if found := source.lists_app(_ASYNCHRONOUS):
            return found
    return ""


def _look(directory: str, file: str, detection: Detection, *, only_if_plain: bool = False) -> bool:
    """Add the app in `file`, relative to `directory`, to the detection; return True if
    there is one. In any file, `app` may be something else: then it counts
    `only_if_plain` that it is one.
    """
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    if not all(part.isidentifier() for part in module.split(".")):
        return False  # cannot be imported, and must not get into a suggested command
    source = Source(os.path.join(directory, file), module)
    for name in (*NAMES, _API, *(f"{each}()" for each in FACTORIES)):
        plain = name.removesuffix("()")
        if not source.has(plain):
            continue
        if why := source.refusal(name):
            detection.refused.append(why)
            continue
        what = source.made_by(name)
        if (only_if_plain or name == _API) and not what:
            continue
        what = "a factory" if name != plain else what or "set"
        detection.found.append(
            Found(f"{module}:{name}", f"{what} in {file}, line {source.line_of(plain)}")
        )
        return True
    return False


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


def is_asgi(directory: str, app: str) -> bool:
    """Return True if it is plain from its source that `app` is an ASGI app."""
    where, name = app_files.split(app)
    if app_files.is_path(where, directory):
        source = Source(os.path.join(directory, where), where)
    else:
        path = next(filter(os.path.isfile, reversed(app_files.sources(directory, where))), "")
        if not _is_module(path, where):
            return False
        source = Source(path, where)
    return source.is_asgi(name or next(filter(source.has, NAMES), ""))


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
