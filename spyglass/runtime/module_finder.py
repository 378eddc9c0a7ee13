"""Find and read the modules of Spyglass without a search.

A wake imports some seventy of them. For each, Python asks every finder there is, lists
directories and tries suffixes; then it reads the byte code in a dozen system calls.
Here the path follows from the name, and the byte code is read in three: a twentieth of
a wake, and more where the machine is busy.

Nothing else differs. What is not found here, or not as new as its source, is left to
Python's own finders and its SourceFileLoader, and so is every other package.

What each process of a wake imports is known, and so is the order. A bundle has the byte
code of all of that in one file, without docstrings, which would be copied into the
memory of each process (byte_code_bundles.py makes it). import_all() executes these
modules one after the other. Where there is no bundle, or a source was written to since,
the import statements find everything by themselves.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib import ModuleSpec, module_from_spec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader
from marshal import loads  # as Python's own loader does, of the same files

# Bound here: some modules are imported after the app, which may replace these.
from posix import close, fstat, read, stat
from posix import open as open_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

# Bytes of byte code that are read at once: ours has some 30,000. Python takes so much
# memory before it reads, and from 128 KiB on the C library would map it each time.
_LONGEST = 100_000
_LONGEST_BUNDLE = 4 << 20
# Flags of 0: the time and size of the source follow (PEP 552)
_HEAD = MAGIC_NUMBER + bytes(4)


class ModuleFinder:
    """A finder for sys.meta_path (PEP 451)."""

    def __init__(self, package: str, directory: str) -> None:
        """Find the modules of `package` (its name), which is in `directory`."""
        self._prefix = f"{package}."
        self._directory = directory
        self._suffix = f".{sys.implementation.cache_tag}.pyc"

    def find_spec(
        self, name: str, _path: object = None, _target: object = None
    ) -> ModuleSpec | None:
        """Return the spec of a module of the package, or None: then Python's own
        finders look, and raise ModuleNotFoundError in the usual words.
        """
        if not name.startswith(self._prefix):
            return None
        parent, _, last = name[len(self._prefix) :].rpartition(".")
        place = self._directory
        if parent:
            place += f"/{parent.replace('.', '/')}"
        inside = None
        try:
            source = f"{place}/{last}.py"
            status = stat(source)
        except OSError:
            inside = f"{place}/{last}"
            place, last, source = inside, "__init__", f"{inside}/__init__.py"
            try:
                status = stat(source)
            except OSError:
                return None
        cached = f"{place}/__pycache__/{last}{self._suffix}"
        spec = ModuleSpec(
            name,
            ModuleLoader(name, source, cached, status),
            origin=source,
            is_package=inside is not None,
        )
        if inside is not None and spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(inside)
        spec.has_location = True
        spec.cached = cached
        return spec


class ModuleLoader(SourceFileLoader):
    """Loads `source` (path) from `cached` (path), if that was made of the source as its
    `status` is.
    """

    def __init__(self, name: str, source: str, cached: str, status: os.stat_result) -> None:
        super().__init__(name, source)
        self._cached = cached
        self._head = (
            _HEAD
            + (int(status.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little")
            + (status.st_size & 0xFFFFFFFF).to_bytes(4, "little")
        )

    def get_code(self, fullname: str) -> CodeType | None:
        """Return the code of the module (importlib.abc.InspectLoader)."""
        try:
            fd = open_file(self._cached, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = read(fd, _LONGEST)
            finally:
                close(fd)
            if data[:16] == self._head and len(data) < _LONGEST:
                code: CodeType = loads(memoryview(data)[16:])  # noqa: S302
                # Of the same source at another place, its tracebacks would name that.
                if code.co_filename == self.path:
                    return code
        except (OSError, ValueError, EOFError, TypeError, AttributeError):
            pass
        return super().get_code(fullname)


_DIRECTORY = os.path.dirname(os.path.dirname(__file__))


def import_all(process: str) -> None:
    """Import what is in the bundle for `process`, if there is one.

    To be called where no other thread imports: it takes no locks.
    """
    if "importtime" in sys._xoptions:  # it lists import statements only
        return
    if not any(type(finder) is ModuleFinder for finder in sys.meta_path):
        return  # see install()
    for name, tail, _, code in read_bundle(process):
        if name in sys.modules:
            continue
        path = f"{_DIRECTORY}/{tail}"
        is_package = tail.endswith("/__init__.py")
        spec = ModuleSpec(name, SourceFileLoader(name, path), origin=path, is_package=is_package)
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(path[: -len("/__init__.py")])
        place, _, file = path.rpartition("/")
        spec.has_location = True
        spec.cached = f"{place}/__pycache__/{file[:-3]}.{sys.implementation.cache_tag}.pyc"
        module = sys.modules[name] = module_from_spec(spec)
        try:
            exec(code, module.__dict__)  # noqa: S102, as importlib does
        except BaseException:
            sys.modules.pop(name, None)
            raise
        parent, _, last = name.rpartition(".")
        setattr(sys.modules[parent], last, module)


def bundle_path(process: str) -> str:
    """Return the path of the bundle for `process`."""
    return f"{_DIRECTORY}/__pycache__/{process}.{sys.implementation.cache_tag}.bundle"


def read_bundle(process: str) -> list[tuple[str, str, tuple[int, int, int], CodeType]]:
    """Return what is in a bundle that fits the sources: of each module its name, the
    path of its source below the package's directory, what stamp_of() says of that, and
    its code. Else return an empty list.
    """
    try:
        fd = open_file(bundle_path(process), os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = read(fd, min(_LONGEST_BUNDLE, fstat(fd).st_size))
        finally:
            close(fd)
        if data[:4] != MAGIC_NUMBER:
            return []
        entries: list[tuple[str, str, tuple[int, int, int], CodeType]]
        entries = loads(memoryview(data)[4:])  # noqa: S302
        for _, tail, stamp, code in entries:
            path = f"{_DIRECTORY}/{tail}"
            # A package that was moved keeps its files; tracebacks would name others.
            if stamp_of(path) != stamp or code.co_filename != path:
                return []
    except (OSError, ValueError, EOFError, TypeError, AttributeError):
        return []
    return entries


def stamp_of(path: str) -> tuple[int, int, int]:
    """Return what tells whether a source was written to: inode, size, and the time of
    its last change of any kind, which nobody can set. Raise OSError.
    """
    status = stat(path)
    return status.st_ino, status.st_size, status.st_ctime_ns


def _identity() -> tuple[int, int, int] | None:
    try:
        status = stat(f"{_DIRECTORY}/__init__.py")
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


_AT_START = _identity()


def were_replaced() -> bool:
    """Return True if the files of Spyglass are not those with which this process has
    started: an upgrade has replaced them, and what is imported now is of another
    version.

    It replaces all of them within milliseconds, and this one, which contains the
    version, as one of the first.
    """
    return _identity() != _AT_START


def install() -> None:
    """Ask this finder before all others, and before it that of the compiled engine, in
    this process and those forked from it.

    Not this one if the byte code is elsewhere (-O, PYTHONPYCACHEPREFIX): that only
    Python knows.
    """
    if not sys.flags.optimize and sys.pycache_prefix is None:
        sys.meta_path.insert(0, ModuleFinder("spyglass", _DIRECTORY))
        if sys.argv[1:2] == ["serve"]:
            import_all("beginning")
    from spyglass.runtime import compiled_engine  # in here: by the finder

    compiled_engine.install()
