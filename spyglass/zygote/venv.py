"""The app's virtual environment (`venv`): this process becomes one that looks as if the
environment's own Python had started it.

The interpreter that runs Spyglass has read its own pyvenv.cfg, or none, long before the
app's settings were known. What its start makes of such a file (site.py) is done again
here for another one: which packages are found, and in which order; where Python says
that it lives; and which Python another process of the app's is run by. Runs in the
zygote and its workers, never in the Master.
"""

from __future__ import annotations

import os
import site
import sys

from spyglass.errors import LoadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def enter(venv: str, advice: Callable[[BaseException], str]) -> None:
    """Use the environment at `venv` (path). Raises LoadError, with what `advice(error)`
    says where it cannot be read.
    """
    root = os.path.abspath(venv)
    entries = _entries(venv, advice)
    os.environ["VIRTUAL_ENV"] = root
    os.environ["PATH"] = os.pathsep.join(
        [os.path.join(root, "bin"), os.environ.get("PATH") or os.defpath]
    )
    if os.path.realpath(root) == os.path.realpath(sys.prefix):
        return  # it is its Python that runs us
    shared = entries.get("include-system-site-packages", "true").lower() == "true"
    _settle(root, shared)
    kept = [path for path in sys.path if _is_kept(path)]
    others = [path for path in sys.path if path not in kept]
    sys.path[:] = kept
    # After the standard library, as everywhere: a backport of one of its modules must
    # not take that one's place.
    _add(venv, os.path.join(root, "lib", f"python{_VERSION}", "site-packages"))
    if shared:
        sys.path += [path for path in others if path not in sys.path]


def _add(venv: str, packages: str) -> None:
    try:
        site.addsitedir(packages)
    except BaseException as error:  # .pth files hold code, which may do anything
        from spyglass.zygote.app_loader import failure

        raise failure(error, doing=f"venv {venv!r}") from error


def _entries(venv: str, advice: Callable[[BaseException], str]) -> dict[str, str]:
    """What stands in its pyvenv.cfg."""
    settings = os.path.join(venv, "pyvenv.cfg")
    try:
        with open(settings, encoding="utf-8", errors="replace") as stream:
            entries = dict(_entry(line) for line in stream)
    except OSError as error:
        raise LoadError(
            f"venv {venv!r} is not a virtual environment: {settings}: {error.strerror}",
            advice(error),
            [settings],
        ) from None
    # venv and virtualenv write the one or the other.
    theirs = ".".join((entries.get("version") or entries.get("version_info") or "?").split(".")[:2])
    if theirs != _VERSION:
        raise LoadError(
            f"venv {venv!r} is for Python {theirs}, this Spyglass runs on Python {_VERSION}: "
            "create the environment again with this Python, or install Spyglass into it",
            files=[settings],
        )
    return entries


def _entry(line: str) -> tuple[str, str]:
    key, _, value = line.partition("=")
    return key.strip().lower(), value.strip()


def _settle(root: str, shared: bool) -> None:
    """Where Python says that it lives. sys.base_prefix remains what it is, which is how
    a virtual environment is told (PEP 405).
    """
    sys.prefix = sys.exec_prefix = root
    site.PREFIXES[:] = [root, *site.PREFIXES] if shared else [root]
    if not shared:
        site.ENABLE_USER_SITE = False
    # It has taken the prefix down when it was imported, which is before us only where a
    # .pth file of the system's needs it.
    sys.modules.pop("sysconfig", None)
    for name in ("python3", "python"):
        path = os.path.join(root, "bin", name)
        if os.access(path, os.X_OK):
            sys.executable = path
            if "multiprocessing.spawn" in sys.modules:
                import multiprocessing

                multiprocessing.set_executable(path)
            return


def _is_kept(path: str) -> bool:
    """Whether an entry of sys.path is not one of what is installed for the interpreter:
    the app's directory, PYTHONPATH, the library.
    """
    library = os.path.dirname(os.__file__)
    given = [
        os.path.abspath(each) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each
    ]
    archive = f"python{_VERSION.replace('.', '')}.zip"
    return (
        path in (os.getcwd(), *given, library, os.path.join(library, "lib-dynload"))
        or os.path.basename(path) == archive
    )
