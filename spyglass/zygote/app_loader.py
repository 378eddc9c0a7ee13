"""From `module:callable` to an app, saying whose fault it is when there is none.

Runs in the zygote (or in each worker with `preload = false`), never in the Master: an
import can crash, hang or exit.
"""

from __future__ import annotations

import os
import sys

from spyglass.errors import LoadError
from spyglass.runtime.printable import name_of, words_of
from spyglass.runtime.sd_daemon import cache_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType, TracebackType

    from spyglass.config.settings import Config

    App = Callable[..., Iterable[bytes]]

WELCOME = "spyglass.welcome:app"
_ABSENT = object()
_DEFAULT_NAMES = ("application", "app")


def prepare(config: Config) -> None:
    """Make this process the app's: working directory, import path, byte-code cache.
    Raises LoadError.
    """
    try:
        os.chdir(config.directory)
    except OSError as error:
        raise LoadError(
            f"directory {config.directory!r}: {error.strerror}", _advice(error)
        ) from None
    # The Master has looked into its path before there was an app to load, perhaps long
    # ago; what was no directory then is remembered as such (sys.path_importer_cache),
    # while for one the import system sees by itself that it has changed.
    for path, finder in list(sys.path_importer_cache.items()):
        if finder is None and os.path.isdir(path):
            del sys.path_importer_cache[path]
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    if config.venv:
        from spyglass.zygote import venv  # an app without one does not pay for it

        venv.enter(config.venv, _advice)
    if sys.pycache_prefix is None and (cache := byte_code_cache()):
        # In the unit's sandbox the app's own directory is read-only: without a cache
        # each wake would compile it again.
        from spyglass.zygote import byte_code_cache as byte_code

        byte_code.use(cache)


def byte_code_cache() -> str:
    """Where byte code goes, "" where systemd gives us no directory for it."""
    directory = cache_directory()
    return os.path.join(directory, "pycache") if directory else ""


_ASYNCHRONOUS = (
    0x80 | 0x200
)  # CO_COROUTINE, CO_ASYNC_GENERATOR; `inspect`, which has the names, is slow to import
CodeType = type((lambda: None).__code__)


def load(config: Config) -> App:
    """The app that `config.app` names. Raises LoadError whatever the app's code does,
    short of crashing or hanging.
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
    """True for what `async def` has made, and for objects that are called by such:
    Starlette, FastAPI, Quart, Django.
    """
    try:
        code = getattr(app, "__code__", None) or getattr(type(app).__call__, "__code__", None)
        return isinstance(code, CodeType) and bool(code.co_flags & _ASYNCHRONOUS)
    except Exception:  # what a proxy object makes of being looked at is its own affair
        return False


def _split(config: Config) -> tuple[str, str]:
    """The module or file that `config.app` names, and the name in it, which may be
    "".
    """
    if config.app and ":" not in config.app:
        return config.app, ""
    where, _, name = (config.app or WELCOME).rpartition(":")
    return where, name


def module_of(config: Config) -> str:
    """The module or file that `config.app` names."""
    return _split(config)[0]


def post_fork(config: Config) -> Callable[[], object] | None:
    """What each worker is to call before it accepts: the function post_fork() of the
    app's module, which has been loaded, if it has one.

    Raises LoadError when there is something of that name that cannot be called.
    """
    where = _split(config)[0]
    module = sys.modules.get(_stem(where) if is_path(where) else where)
    if module is None:  # it has taken itself out
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
    """Raises LoadError whatever the app's function does, short of crashing or
    hanging.
    """
    try:
        result = post_fork()
    except BaseException as error:
        raise failure(error, doing="post_fork") from error
    if hasattr(result, "__await__"):
        if hasattr(result, "close"):
            result.close()  # or Python would warn of it, too
        raise LoadError(
            "post_fork is a coroutine function, which nothing would run: make it a plain function"
        )


def is_path(where: str, base: str = ".") -> bool:
    """True when `where` names a file (relative to the directory `base`), not a module.

    "blog.wsgi" may be either, and is the module in every Django project: it is a file
    where there is one of that name.
    """
    if "/" in where or where.endswith(".py"):
        return True
    return where.endswith(".wsgi") and os.path.isfile(os.path.join(base, where))


def candidates(config: Config) -> list[str]:
    """The files that would decide what `config.app` is, whether they exist or not: what
    to watch when it cannot be loaded.
    """
    where = (config.app or WELCOME).rpartition(":")[0] or config.app
    base = os.path.abspath(config.directory)
    file = [os.path.join(base, where)]
    if is_path(where, base):
        return file
    return [*(file if where.endswith(".wsgi") else []), *_sources(base, where)]


def _sources(base: str, module: str) -> list[str]:
    """Where `module`, and the packages around it, would lie below `base`."""
    parts = module.split(".")
    stems = [os.path.join(base, *parts[:depth]) for depth in range(1, len(parts) + 1)]
    return [path for stem in stems for path in (stem + ".py", os.path.join(stem, "__init__.py"))]


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
        # The loader is named because .wsgi says nothing to the import system.
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
    """The attribute, or _ABSENT; a module's __getattr__ (PEP 562) may raise
    anything.
    """
    try:
        return getattr(owner, name, _ABSENT)
    except BaseException as error:
        raise failure(error, source) from error


def failure(error: BaseException, files: Iterable[str] = (), doing: str = "") -> LoadError:
    """What `error`, raised by the app's code while it was `doing` something else than
    being loaded, means for those who have to mend it.
    """
    try:
        return _failure(error, files, doing)
    except BaseException:  # the app's again: looking at an error runs its code
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
    # Without a frame of the app's (nothing of that name to import) the summary says it
    # all, but for where a syntax error stands.
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
        named += _sources(os.getcwd(), error.name)
    watched = [path for path in (*files, *named) if not path.startswith("<")]
    line = f"{doing}: {line}" if doing else line
    if error.__traceback__ is not None and _is_damaged(error.__traceback__):
        line = f"{line}: byte code was damaged; {_forget_byte_code()}"
    details = f"{details}\n{_advice(error)}".strip("\n")
    return LoadError(line, details, list(dict.fromkeys(os.path.abspath(path) for path in watched)))


def _is_damaged(trace: TracebackType) -> bool:
    """Whether the error is one of reading byte code. Python looks at the head of such a
    file, and believes the rest.
    """
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return code.co_name == "_compile_bytecode" and code.co_filename.startswith("<frozen importlib")


def _forget_byte_code() -> str:
    # A crash of the machine can leave such a file, and nobody would ever write it anew,
    # for its head is right.
    if sys.pycache_prefix is None or sys.pycache_prefix != byte_code_cache():
        return "remove the __pycache__ of that module"
    import shutil

    shutil.rmtree(sys.pycache_prefix, ignore_errors=True)
    return f"{sys.pycache_prefix} was removed, and the next attempt compiles it again"


def _advice(error: BaseException) -> str:
    from spyglass.zygote.sandbox_hints import advice  # only who has failed pays for it

    try:
        found = advice(error)
    except Exception:  # an error of the app's may raise others when it is looked at
        return ""
    return f"({found})" if found else ""


def _without_us(trace: TracebackType | None) -> TracebackType | None:
    # The first frames are this file's and the import system's: they tell the app's
    # author nothing.
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        if filename != __file__ and not filename.startswith("<frozen importlib"):
            break
        trace = trace.tb_next
    return trace
