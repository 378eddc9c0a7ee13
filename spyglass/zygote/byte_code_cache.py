"""Where an app's byte code is read from and written to.

The app's code is read-only in its unit, so byte code is written to the cache directory
(sys.pycache_prefix). Python then ignores the __pycache__ next to a module, where pip
and Debian put byte code at installation. The loader here looks there first. If that has
no byte code, or outdated byte code, the cache directory is used.

Deployments into a new directory each time leave byte code of the old ones in the cache.
sweep() removes it.
"""

from __future__ import annotations

import _frozen_importlib_external as external  # what importlib.machinery shows, without an import
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import SourceFileLoader
    from types import CodeType
else:
    SourceFileLoader = external.SourceFileLoader

_TAG = sys.implementation.cache_tag + (f".opt-{sys.flags.optimize}" if sys.flags.optimize else "")
# How byte code says which source it is of (PEP 552). A checked hash is left to Python.
_TIMESTAMP, _UNCHECKED_HASH = 0, 1

_DAY = 86400.0
_UNUSED = 3 * _DAY  # seconds until unread byte code of another directory is removed
_MOST = 100_000  # files that one sweep looks at
_STAMP = ".swept"


class Loader(SourceFileLoader):
    """Load a module from the byte code next to it if that is valid."""

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        try:
            code = _beside(path, fullname)
        except Exception:  # missing or damaged; only its head is checked before it is read
            code = None
        return super().get_code(fullname) if code is None else code


def _beside(path: str, name: str) -> CodeType | None:
    folder, file = os.path.split(path)
    with open(
        f"{folder}/__pycache__/{file.rpartition('.')[0]}.{_TAG}.pyc", "rb", buffering=0
    ) as stream:
        data = stream.readall()
    if data[:4] != external.MAGIC_NUMBER:
        return None
    flags = int.from_bytes(data[4:8], "little")
    if flags == _TIMESTAMP:
        source = os.stat(path)
        if data[8:16] != _word(int(source.st_mtime)) + _word(source.st_size):
            return None
    elif flags != _UNCHECKED_HASH:
        return None
    code: CodeType = external._compile_bytecode(memoryview(data)[16:], name=name, source_path=path)  # type: ignore[attr-defined]
    return code


def _word(number: int) -> bytes:
    return (number & 0xFFFFFFFF).to_bytes(4, "little")


def use(cache: str) -> None:
    """Have byte code read from next to each module or from the directory `cache`, and
    written to `cache`.
    """
    sys.pycache_prefix = cache
    sys.dont_write_bytecode = False
    loaders = [
        (Loader if loader is external.SourceFileLoader else loader, suffixes)
        for loader, suffixes in external._get_supported_file_loaders()  # type: ignore[attr-defined]
    ]
    # Before Python's own hook, which accepts any directory.
    names = [getattr(hook, "__name__", "") for hook in sys.path_hooks]
    own = "path_hook_for_FileFinder"
    sys.path_hooks.insert(
        names.index(own) if own in names else len(names), external.FileFinder.path_hook(*loaders)
    )
    sys.path_importer_cache.clear()


def sweep(cache: str, used: Iterable[str]) -> None:
    """Remove unused byte code from the directory `cache`, at most once a day. Never
    raises.

    Byte code is unused if its source file is gone, or if another Python compiled it. It
    is also unused if its source is below no directory of `used` and nothing has read it
    for three days: earlier releases often stay on the disk.
    """
    stamp = os.path.join(cache, _STAMP)
    try:
        if os.lstat(stamp).st_mtime > time.time() - _DAY:
            return
        # Not opened: the app may have put a named pipe there, or a link to a file.
        os.unlink(stamp)
    except OSError:
        pass
    try:
        os.close(os.open(stamp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _sweep(cache, tuple(os.path.join(os.path.realpath(each), "") for each in used if each))
    except OSError:
        pass  # no such directory, a full disk, no descriptor left: another day


def _sweep(cache: str, used: tuple[str, ...]) -> None:
    oldest = time.time() - _UNUSED
    folders, looked = [cache], 0
    for folder in folders:  # the list grows; a subdirectory comes after its parent
        with os.scandir(folder) as entries:
            for entry in entries:
                looked += 1
                if looked > _MOST:
                    return
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name.endswith(".pyc") and _is_unused(entry, cache, used, oldest):
                    os.unlink(entry.path)
    for folder in reversed(folders[1:]):
        try:
            os.rmdir(folder)
        except OSError:
            pass  # not empty


def _is_unused(entry: os.DirEntry[str], cache: str, used: tuple[str, ...], oldest: float) -> bool:
    folder = os.path.dirname(entry.path)[len(cache) :]
    module, _, tag = entry.name.removesuffix(".pyc").partition(f".{sys.implementation.cache_tag}")
    if tag and not tag.startswith(".opt-"):
        return True
    if module == entry.name.removesuffix(".pyc"):
        return True  # another implementation's
    source = os.path.join(folder, module)
    if not any(_exists(source + suffix) for suffix in (".py", ".wsgi")):
        return True
    times = entry.stat(follow_symlinks=False)
    return not source.startswith(used) and max(times.st_atime, times.st_mtime) < oldest


def _exists(path: str) -> bool:
    """Return False only if it is certain that there is none."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
