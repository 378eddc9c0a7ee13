"""Which files decide what the setting `app` means. Nothing is imported or run here, so
that the Master may ask, too: a change of one of these files is worth another attempt to
load the app.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.config.settings import Config

WELCOME = "spyglass.welcome:app"


def split(app: str) -> tuple[str, str]:
    """Return the module or file that the setting `app` names, and the name in it, with
    the arguments of a factory; "" if there is no name.
    """
    app = app or WELCOME
    # The first colon after which a name follows: a path may contain colons, and so may
    # the arguments of a factory.
    colon = app.find(":")
    while colon >= 0:
        name = app[colon + 1 :].partition("(")[0]
        if all(part.isidentifier() for part in name.split(".")):
            return app[:colon], app[colon + 1 :]
        colon = app.find(":", colon + 1)
    where, colon_found, name = app.rpartition(":")
    return (where, name) if colon_found else (app, "")


def is_path(where: str, base: str = ".") -> bool:
    """Return True if `where` names a file (relative to the directory `base`), not a
    module.

    "blog.wsgi" may be either, and is a module in every Django project. It is taken for
    a file if one of that name exists.
    """
    if "/" in where or where.endswith(".py"):
        return True
    return where.endswith(".wsgi") and os.path.isfile(os.path.join(base, where))


def candidates(config: Config) -> list[str]:
    """Return the files that decide what `config.app` is, whether they exist or not: a
    change of one makes another attempt worthwhile.
    """
    where = split(config.app)[0] or config.app
    base = os.path.abspath(config.directory)
    file = [os.path.join(base, where)]
    if is_path(where, base):
        return file
    return [*(file if where.endswith(".wsgi") else []), *sources(base, where)]


def sources(base: str, module: str) -> list[str]:
    """Return the paths of `module`, and of the packages around it, below `base`."""
    parts = module.split(".")
    stems = [os.path.join(base, *parts[:depth]) for depth in range(1, len(parts) + 1)]
    return [path for stem in stems for path in (stem + ".py", os.path.join(stem, "__init__.py"))]
