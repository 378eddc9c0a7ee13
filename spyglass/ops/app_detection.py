"""What lies in a directory: the app, and the virtual environment that it is at home in.
Nothing is imported; sources are read.
"""

from __future__ import annotations

import ast
import glob
import os
import re
import warnings

from spyglass.ops import atomic_files

_NAMES = ("application", "app")  # what a module that is named alone is asked for
_FACTORIES = ("create_app", "make_app")
_PACKAGES = 100  # are looked at for an app
_FILES = ("wsgi.py", "app.py", "application.py", "main.py")
_SETTINGS = re.compile(r"""DJANGO_SETTINGS_MODULE['"]\s*,\s*['"]([\w.]+)\.settings""")


def venv_in(directory: str) -> str:
    """The virtual environment in `directory`, relative to it; "" when there is none."""
    return next(
        (
            name
            for name in ("venv", ".venv")
            if os.path.isfile(os.path.join(directory, name, "pyvenv.cfg"))
        ),
        "",
    )


def apps_in(directory: str) -> list[str]:
    """What may be the app, as `app` has it: one if it is clear, several if it is not,
    the likeliest first.
    """
    if django := _django(directory):
        return [django]
    found = [app for file in _FILES if (app := _app_in(directory, file))]
    if found and found[0].startswith("wsgi"):
        return found[:1]  # that is what the file is there for
    if not found:
        packages = sorted(glob.glob("*/wsgi.py", root_dir=directory)) + sorted(
            glob.glob("*/__init__.py", root_dir=directory)
        )
        found = [app for file in packages[:_PACKAGES] if (app := _app_in(directory, file))]
    return found


def _django(directory: str) -> str:
    """The project that manage.py names."""
    found = _SETTINGS.search(
        atomic_files.read_untrusted_or_empty(os.path.join(directory, "manage.py"))
    )
    if found and os.path.isfile(os.path.join(directory, *found[1].split("."), "wsgi.py")):
        return f"{found[1]}.wsgi:application"
    return ""


def _app_in(directory: str, file: str) -> str:
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    if not all(part.isidentifier() for part in module.split(".")):
        return ""  # no module, and it would be part of a command that is suggested
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of its author's mistakes, which are not what was asked for
            tree = ast.parse(atomic_files.read_untrusted_or_empty(os.path.join(directory, file)))
    except (
        SyntaxError,
        ValueError,
        RecursionError,
        MemoryError,
    ):  # the last two for nesting beyond what the parser takes
        return ""
    made = _top_level(tree)
    for name in _NAMES:
        if name in made:
            return f"{module}:{name}"
    return next((f"{module}:{name}()" for name in _FACTORIES if name in made), "")


def _top_level(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names
