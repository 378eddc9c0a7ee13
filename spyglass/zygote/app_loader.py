"""Load the app that `module:callable` names, or say what is wrong with it.

Runs in the zygote, or in each worker with `preload = false`. It never runs in the
Master: an import can crash, hang or exit.
"""

from __future__ import annotations

import os
import sys

from spyglass.errors import LoadError
from spyglass.printable import name_of, words_of
from spyglass.runtime.sd_daemon import byte_code_directory
from spyglass.zygote.app_files import WELCOME, candidates, is_path, sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType, TracebackType

    from spyglass.config.settings import Config
    from spyglass.gateway.wsgi import App

_ABSENT = object()
_DEFAULT_NAMES = ("application", "app")


def prepare(config: Config) -> None:
    """Set working directory, import path and byte-code cache for the app. Raise
    LoadError.
    """
    try:
        os.chdir(config.directory)
    except OSError as error:
        raise LoadError(
            f"directory {config.directory!r}: {error.strerror}", _advice(error)
        ) from None
    # The Master searched its path before there was an app to load, perhaps long ago.
    # sys.path_importer_cache remembers for ever what was no directory then. (A change
    # inside a directory is noticed by the import system itself.)
    for path, finder in list(sys.path_importer_cache.items()):
        if finder is None and os.path.isdir(path):
            del sys.path_importer_cache[path]
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    if config.venv:
        from spyglass.zygote import venv  # only apps that have one pay for it

        venv.enter(config.venv, _advice, failure)
    if sys.pycache_prefix is None and (cache := byte_code_directory()):
        # The app's own directory is read-only in the unit's sandbox: without a cache
        # each wake would compile the app again.
        from spyglass.zygote import byte_code_cache

        byte_code_cache.use(cache)


# CO_COROUTINE, CO_ASYNC_GENERATOR; `inspect`, which has the names, is slow to import.
_ASYNCHRONOUS = 0x80 | 0x200
CodeType = type((lambda: None).__code__)


def load(config: Config) -> App:
    """Return the app that `config.app` names. Raise LoadError whatever the app's code
    does, short of crashing or hanging.
    """
    where, name = _split(config)
    module = _load_file(where) if is_path(where) else _import(where, candidates(config))
    source = [path for path in [getattr(module, "__file__", None)] if path]
    app: object
    if name:
        app = _lookup(module, where, name, source)
    else:
        found = [
            value
            for each in _DEFAULT_NAMES
            if (value := _attribute(module, each, source)) is not _ABSENT
        ]
        if not found:
            raise LoadError(
                f"module {where!r} has neither 'application' nor 'app': name it as {where}:NAME",
                files=source,
            )
        app = found[0]
    if not callable(app):
        raise LoadError(
            f"{config.app!r} is not callable: it is of type {type(app).__name__!r}", files=source
        )
    if _is_asynchronous(app):
        raise LoadError(
            f"{config.app!r} is an ASGI app (async def): it needs an ASGI server, Spyglass serves WSGI",
            files=source,
        )
    return app


def _is_asynchronous(app: object) -> bool:
    """Return True for an `async def` function, and for an object whose __call__ is one:
    Starlette, FastAPI, Quart, Django.
    """
    try:
        code = getattr(app, "__code__", None) or getattr(type(app).__call__, "__code__", None)
        return isinstance(code, CodeType) and bool(code.co_flags & _ASYNCHRONOUS)
    except Exception:  # a proxy object may raise anything when it is inspected
        return False


def _split(config: Config) -> tuple[str, str]:
    """Return the module or file that `config.app` names, and the name in it or ""."""
    if config.app and ":" not in config.app:
        return config.app, ""
    where, _, name = (config.app or WELCOME).rpartition(":")
    return where, name


def module_of(config: Config) -> str:
    """Return the module or file that `config.app` names."""
    return _split(config)[0]


def post_fork(config: Config) -> Callable[[], object] | None:
    """Return the function post_fork() of the app's module, which has been loaded, or
    None. Each worker calls it before it accepts.

    Raise LoadError if the module has something of that name that cannot be called.
    """
    where = _split(config)[0]
    module = sys.modules.get(_stem(where) if is_path(where) else where)
    if module is None:  # it removed itself
        return None
    source = [path for path in [getattr(module, "__file__", None)] if path]
    found = _attribute(module, "post_fork", source)
    if found is _ABSENT or found is None:
        return None
    if not callable(found):
        raise LoadError(
            f"{where}: post_fork is not callable: it is of type {type(found).__name__!r}",
            files=source,
        )
    return found


def call(post_fork: Callable[[], object]) -> None:
    """Call the app's `post_fork`. Raise LoadError whatever it does, short of crashing
    or hanging.
    """
    try:
        result = post_fork()
    except BaseException as error:
        raise failure(error, doing="post_fork") from error
    if hasattr(result, "__await__"):
        if hasattr(result, "close"):
            result.close()  # or Python would warn that it was never awaited
        raise LoadError(
            "post_fork is a coroutine function, which nothing would run: make it a plain function"
        )


def _import(name: str, files: list[str]) -> ModuleType:
    try:
        __import__(name)
    except BaseException as error:
        raise failure(error, files) from error
    return sys.modules[name]


def _load_file(path: str) -> ModuleType:
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_file_location

    path = os.path.abspath(path)
    stem = _stem(path)
    folder = os.path.dirname(path)
    if folder not in sys.path:
        sys.path.insert(1, folder)
    try:
        # The import system has no loader for .wsgi, so name one.
        spec = spec_from_file_location(stem, path, loader=SourceFileLoader(stem, path))
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[stem] = module_from_spec(spec)
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(stem, None)
        raise failure(error, [path]) from error
    return module


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _lookup(module: ModuleType, where: str, name: str, source: list[str]) -> object:
    is_factory = name.endswith("()")
    found: object = module
    for part in name.removesuffix("()").split("."):
        found = _attribute(found, part, source)
        if found is _ABSENT:
            raise LoadError(f"{where!r} has no {name.removesuffix('()')!r}", files=source)
    if not is_factory:
        return found
    try:
        return found() if callable(found) else found
    except BaseException as error:
        raise failure(error, source) from error


def _attribute(owner: object, name: str, source: list[str]) -> object:
    """Return the attribute, or _ABSENT. A module's __getattr__ (PEP 562) may raise
    anything.
    """
    try:
        return getattr(owner, name, _ABSENT)
    except BaseException as error:
        raise failure(error, source) from error


def failure(error: BaseException, files: Iterable[str] = (), doing: str = "") -> LoadError:
    """Return the LoadError that explains `error`, which the app's code raised.

    `files` are worth watching for a change. `doing` says what it did, if it was not
    being loaded.
    """
    try:
        return _failure(error, files, doing)
    except BaseException:  # formatting an error runs the app's code again
        line = f"{name_of(error)}: {words_of(error)}".removesuffix(": ")
        return LoadError(
            f"{doing}: {line}" if doing else line,
            "(no traceback: formatting this error raised another one)",
            list(files),
        )


def _failure(error: BaseException, files: Iterable[str], doing: str) -> LoadError:
    import traceback

    text = words_of(error).strip().partition("\n")[0]
    line = f"{name_of(error)}: {text}" if text else name_of(error)
    trace = _without_us(error.__traceback__)
    # Without a frame of the app's (no module of that name) the summary says it all. A
    # syntax error has a place in the source, though.
    details = ""
    if trace is not None or isinstance(error, SyntaxError):
        lines = traceback.format_exception(type(error), error, trace)
        details = "".join(
            lines if trace is not None else ["Traceback (most recent call last):\n", *lines]
        ).rstrip()
    named = [frame.filename for frame in traceback.extract_tb(trace)]
    if isinstance(error, SyntaxError) and error.filename:
        named.append(error.filename)
        line = f"{name_of(error)}: {error.msg} ({error.filename}, line {error.lineno})"
    if isinstance(error, SystemExit):
        line = f"the app called sys.exit({error.code!r})" + (
            "" if doing else " while it was being loaded"
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        named += sources(os.getcwd(), error.name)
    watched = [path for path in (*files, *named) if not path.startswith("<")]
    line = f"{doing}: {line}" if doing else line
    if error.__traceback__ is not None and _is_damaged(error.__traceback__):
        line = f"{line}: byte code was damaged; {_forget_byte_code()}"
    details = f"{details}\n{_advice(error)}".strip("\n")
    return LoadError(line, details, list(dict.fromkeys(os.path.abspath(path) for path in watched)))


def _is_damaged(trace: TracebackType) -> bool:
    """Return True if reading byte code raised the error. Python checks the head of such
    a file and trusts the rest.
    """
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return code.co_name == "_compile_bytecode" and code.co_filename.startswith("<frozen importlib")


def _forget_byte_code() -> str:
    # A crash of the machine can leave such a file. Its head is valid, so Python would
    # never write it again.
    if sys.pycache_prefix is None or sys.pycache_prefix != byte_code_directory():
        return "remove the __pycache__ of that module"
    import shutil

    shutil.rmtree(sys.pycache_prefix, ignore_errors=True)
    return f"{sys.pycache_prefix} was removed, and the next attempt compiles it again"


def _advice(error: BaseException) -> str:
    from spyglass.zygote.sandbox_hints import advice  # only failures pay for it

    try:
        found = advice(error)
    except Exception:  # inspecting an error of the app's may raise another
        return ""
    return f"({found})" if found else ""


def _without_us(trace: TracebackType | None) -> TracebackType | None:
    # The first frames are of this file and of the import system: the app's author has
    # no use for them.
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        if filename != __file__ and not filename.startswith("<frozen importlib"):
            break
        trace = trace.tb_next
    return trace
