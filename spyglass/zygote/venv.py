"""The app's virtual environment (`venv`): make this process look as if the
environment's own Python had started it.

The interpreter that runs Spyglass read its own pyvenv.cfg, or none, long before the
app's settings were known. This file repeats for the app's pyvenv.cfg what site.py does
at start. That is: which packages are found and in which order, what sys.prefix is, and
which Python runs the app's subprocesses. Runs in the zygote and its workers, never in
the Master.
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


def enter(
    venv: str, advice: Callable[[BaseException], str], failure: Callable[..., LoadError]
) -> None:
    """Use the environment at `venv` (path). Raise LoadError, with what `advice(error)`
    says if it cannot be read, or as `failure(error)` explains it if its code fails.
    """
    root = os.path.abspath(venv)
    entries = _entries(venv, advice)
    announce(root)
    if os.path.realpath(root) == os.path.realpath(sys.prefix):
        return  # its own Python runs us
    shared = entries.get("include-system-site-packages", "true").lower() == "true"
    _settle(root, shared)
    kept = [path for path in sys.path if _is_kept(path)]
    others = [path for path in sys.path if path not in kept]
    sys.path[:] = kept
    # After the standard library, as always: a backport must not replace its modules.
    try:
        site.addsitedir(os.path.join(root, "lib", f"python{_VERSION}", "site-packages"))
    except BaseException as error:  # .pth files contain code, which may do anything
        raise failure(error, doing=f"venv {venv!r}") from error
    if shared:
        sys.path += [path for path in others if path not in sys.path]


def announce(root: str) -> None:
    """Set the variables that programs recognize the environment at `root` by."""
    os.environ["VIRTUAL_ENV"] = root
    os.environ["PATH"] = os.pathsep.join(
        [os.path.join(root, "bin"), os.environ.get("PATH") or os.defpath]
    )


def interpreter(root: str) -> str:
    """Return the path of the Python in the environment at `root`, "" if there is none
    that this process may run.
    """
    paths = (os.path.join(root, "bin", name) for name in ("python3", "python"))
    return next((path for path in paths if os.access(path, os.X_OK)), "")


def _entries(venv: str, advice: Callable[[BaseException], str]) -> dict[str, str]:
    """Return the entries of its pyvenv.cfg."""
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
    # venv and virtualenv write one or the other.
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
    """Set where Python says it is installed. sys.base_prefix stays: that it differs is
    how code recognizes a virtual environment (PEP 405).
    """
    sys.prefix = sys.exec_prefix = root
    site.PREFIXES[:] = [root, *site.PREFIXES] if shared else [root]
    if not shared:
        site.ENABLE_USER_SITE = False
    # sysconfig stores the prefix when it is imported. It is imported already only if a
    # .pth file of the system needed it.
    sys.modules.pop("sysconfig", None)
    if path := interpreter(root):
        sys.executable = path
        if "multiprocessing.spawn" in sys.modules:
            import multiprocessing

            multiprocessing.set_executable(path)


def _is_kept(path: str) -> bool:
    """Return True for an entry of sys.path that is not a package directory of the
    interpreter: the app's directory, PYTHONPATH, the standard library.
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
