"""Load the hot modules from the compiled engine, if there is one that fits.

There is one source. packaging/engine compiles MODULES with mypyc into one extension
module, `_engine/DIGEST.cpython-311-x86_64-linux-gnu.so` in the package. The Debian
package and wheels contain it; a clone has it after `make engine`.

Its name says what it fits: DIGEST is that of the sources that it was made of, and the
suffix is Python's own mark of its version and the architecture. After an upgrade, an
edit or a change of the Python no file has the name that is looked for. Then all modules
run as pure Python, so compiled and changed ones never mix. SPYGLASS_PURE=1 in the
environment asks for pure Python, too.

Reading all sources takes a twentieth of a wake. So the process that has read them, and
may write there, leaves a stamp beside the engine: what stat(2) said of each. Where they
all say so again, nothing was written to them since, and they need not be read.
"""

from __future__ import annotations

import _frozen_importlib
import os
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader
from _imp import extension_suffixes, source_hash

# Bound here: some modules are imported after the app, which may replace these.
from posix import close, getpid, listdir, read, replace, stat, unlink, write
from posix import open as open_file
from time import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

MODULES = (
    "spyglass.gateway.app_errors",
    "spyglass.gateway.asgi.fields",
    "spyglass.gateway.asgi.http_exchange",
    "spyglass.gateway.asgi.scope",
    "spyglass.gateway.asgi.websocket_messages",
    "spyglass.gateway.asgi.websocket_states",
    "spyglass.gateway.environ",
    "spyglass.gateway.file_wrapper",
    "spyglass.gateway.script_name",
    "spyglass.gateway.wsgi",
    "spyglass.http11.caches",
    "spyglass.http11.chunked",
    "spyglass.http11.control_headers",
    "spyglass.http11.error_response",
    "spyglass.http11.forwarded_headers",
    "spyglass.http11.last_section",
    "spyglass.http11.proxy_protocol",
    "spyglass.http11.request",
    "spyglass.http11.request_body",
    "spyglass.http11.request_head",
    "spyglass.http11.request_line",
    "spyglass.http11.request_reader",
    "spyglass.http11.response_head",
    "spyglass.http11.stream_body",
    "spyglass.master.unavailable",  # its clients have deadlines, a class in the engine
    "spyglass.runtime.bound_names",
    "spyglass.runtime.timers",
    "spyglass.websocket.close_codes",
    "spyglass.websocket.deflate",
    "spyglass.websocket.frames",
    "spyglass.websocket.handshake",
    "spyglass.websocket.message",
    "spyglass.worker.acceptor",
    "spyglass.worker.asgi.asgi_interface",
    "spyglass.worker.asgi.call_timer",
    "spyglass.worker.asgi.duplex_connection",
    "spyglass.worker.asgi.duplex_exchange",
    "spyglass.worker.asgi.duplex_sender",
    "spyglass.worker.asgi.duplex_states",
    "spyglass.worker.asgi.scoped_peer",
    "spyglass.worker.asgi.websocket_base",
    "spyglass.worker.asgi.websocket_connection",
    "spyglass.worker.asgi.websocket_inbox",
    "spyglass.worker.asgi.websocket_opener",
    "spyglass.worker.asgi.websocket_opening",
    "spyglass.worker.asgi.websocket_session",
    "spyglass.worker.asgi.websocket_shared",
    "spyglass.worker.body_spool",
    "spyglass.worker.client_connection",
    "spyglass.worker.client_socket",
    "spyglass.worker.connection",
    "spyglass.worker.connection_base",
    "spyglass.worker.connection_states",
    "spyglass.worker.drain",
    "spyglass.worker.host",
    "spyglass.worker.idle_activity",
    "spyglass.worker.interface",
    "spyglass.worker.leader_followers",
    "spyglass.worker.long_calls",
    "spyglass.worker.loop",
    "spyglass.worker.meter",
    "spyglass.worker.peer",
    "spyglass.worker.refusals",
    "spyglass.worker.request_cycle",
    "spyglass.worker.request_receiver",
    "spyglass.worker.responder",
    "spyglass.worker.response_writer",
    "spyglass.worker.server",
    "spyglass.worker.solo",
    "spyglass.worker.timed_exchange",
    "spyglass.worker.turn_queue",
)
# Not compiled; their constants (Final) are copied into what is.
INLINED = ("spyglass.runtime.scoreboard",)
GROUP = "spyglass._engine"
# mypyc's name of what the modules in the library share
LIBRARY = f"{GROUP}__mypyc"
VARIABLE = "SPYGLASS_PURE"

# The first is the one with version, architecture and ABI. A free-threaded Python has
# none here: what is compiled would need its lock.
SUFFIX = "" if "t" in getattr(sys, "abiflags", "") else extension_suffixes()[0]
_DIRECTORY = os.path.dirname(os.path.dirname(__file__))
_PLACE = "_engine"  # a directory in that of the package
_LONGEST = 1 << 20  # bytes of a file that are read at once; a source of ours has some 20,000
_STAMP = ".stamp"  # behind the name of the engine
# Seconds. Within one tick of its clock a file system gives two changes the same time.
_GRAIN = 0.1


_IMPORTLIB = {
    "importlib": {},
    "importlib._bootstrap": vars(_frozen_importlib),
    "importlib.machinery": {"ModuleSpec": ModuleSpec, "ExtensionFileLoader": ExtensionFileLoader},
}


class EngineFinder:
    """A finder for sys.meta_path (PEP 451). It looks for the engine when the first of
    its modules is imported, in the process that needs it.
    """

    def __init__(self, directory: str = _DIRECTORY) -> None:
        """Find MODULES in the engine in `directory`, which is that of their package."""
        self._directory = directory
        self._names = {LIBRARY, *MODULES}
        self._path: str | None = None  # "" if there is none

    def find_spec(
        self, name: str, _path: object = None, _target: object = None
    ) -> ModuleSpec | None:
        """Return the spec of a module in the engine, or None: then the next finder
        looks.
        """
        if name not in self._names:
            return None
        if self._path is None:
            self._path = find(self._directory)[0]
        if not self._path:
            return None
        spec = ModuleSpec(name, EngineLoader(name, self._path), origin=self._path)
        spec.has_location = True
        return spec


class EngineLoader(ExtensionFileLoader):
    """Loads a module from the engine."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Create and run the module (importlib.abc.Loader).

        mypyc asks importlib for two classes, which the interpreter has had since its
        start. What importlib imports beside them would cost each wake half a
        millisecond: meanwhile, modules with these classes are there in their places.
        """
        absent = [name for name in _IMPORTLIB if name not in sys.modules]
        for name in absent:
            module = sys.modules[name] = type(sys)(name)
            module.__dict__.update(_IMPORTLIB[name])
        try:
            module = super().create_module(spec)
        finally:
            for name in absent:
                del sys.modules[name]
        if spec.name == LIBRARY:
            # mypyc takes this for a file beside the package, and gives each module a
            # __file__ by it.
            module.__file__ = f"{os.path.dirname(_DIRECTORY)}/{LIBRARY}"
        return module


def find(directory: str = _DIRECTORY) -> tuple[str, str]:
    """Return the path of the engine in `directory` (a package's), and "". If none there
    fits, return "" and why.
    """
    if not SUFFIX:
        return "", "this Python is free-threaded"
    place = f"{directory}/{_PLACE}"
    try:
        there = [name for name in listdir(place) if name.endswith(SUFFIX)]
    except OSError:
        there = []
    if not there:
        return "", "there is no compiled engine for this Python"
    try:
        stamp, latest = _stamp(directory)
        for name in there:
            if _content(f"{place}/{name}{_STAMP}") == stamp:
                return f"{place}/{name}", ""
        now = time()
        name = file_name(digest_of(directory))
    except OSError as error:
        return "", f"{error.filename}: {error.strerror}"
    if name not in there:
        return "", "the compiled engine was made of other source files"
    if latest + _GRAIN < now and not sys.dont_write_bytecode:
        _leave(f"{place}/{name}{_STAMP}", stamp)
    return f"{place}/{name}", ""


def _sources(directory: str) -> list[str]:
    return [
        f"{directory}/{name.partition('.')[2].replace('.', '/')}.py"
        for name in (*MODULES, *INLINED)
    ]


def _stamp(directory: str) -> tuple[bytes, float]:
    """Return what stat(2) says of the sources, and when the latest was changed (seconds
    since the epoch). Raise OSError.

    The time is that of the last change of any kind, which nobody can set.
    """
    lines, latest = [], 0
    for path in _sources(directory):
        found = stat(path)
        lines.append(f"{found.st_ino} {found.st_size} {found.st_ctime_ns}\n")
        latest = max(latest, found.st_ctime_ns)
    return "".join(lines).encode(), latest / 1e9


def _content(path: str) -> bytes | None:
    try:
        fd = open_file(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return read(fd, _LONGEST)
        finally:
            close(fd)
    except OSError:
        return None


def _leave(path: str, stamp: bytes) -> None:
    """Write `stamp` there, as Python leaves byte code: if it may."""
    part = f"{path}.{getpid()}"
    try:
        fd = open_file(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            write(fd, stamp)
            replace(part, path)
        except OSError:
            unlink(part)
        finally:
            close(fd)
    except OSError:
        pass


def file_name(digest: str) -> str:
    """Return the name of the engine that was made of the sources with this digest."""
    return f"{digest}{SUFFIX}"


def digest_of(directory: str) -> str:
    """Return the digest of the sources that the engine is made of, below the package's
    directory, in 16 hexadecimal digits. Raise OSError.

    It is the one of PEP 552, by which Python tells whether byte code fits its source.
    """
    texts = []
    for path in _sources(directory):
        fd = open_file(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            texts.append(read(fd, _LONGEST))
        finally:
            close(fd)
    return source_hash(len(texts), b"\0".join(texts)).hex()


def is_refused(environ: Mapping[str, str]) -> bool:
    """Return True if the environment asks for pure Python."""
    return environ.get(VARIABLE, "0") not in ("", "0")


def description() -> str:
    """Return which engine a server runs that is started like this process: "compiled",
    or "pure Python" and why.
    """
    if is_refused(os.environ):
        return f"pure Python: {VARIABLE} is set"
    path, why = find()
    return "compiled" if path else f"pure Python: {why}"


def install() -> None:
    """Ask the finder before all others, in this process and those forked from it,
    unless SPYGLASS_PURE is set.
    """
    if not is_refused(os.environ):
        sys.meta_path.insert(0, EngineFinder())
