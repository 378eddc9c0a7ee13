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
from spyglass.zygote.app_files import candidates, is_path, sources, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType, TracebackType
    from typing import Any

    from spyglass.config.settings import Config
    from spyglass.gateway.wsgi import App

_ABSENT = object()
_DEFAULT_NAMES = ("application", "app")


def run_site() -> None:
    """Do what the interpreter has left out for the Master. Raise LoadError."""
    if sys.flags.no_site:
        from spyglass.runtime import late_site  # the units use it, a command line does not

        try:
            late_site.run_site()
        except BaseException as error:  # .pth files contain code, which may do anything
            raise failure(error, doing="site") from error


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
FunctionType = type(lambda: None)


def load(config: Config) -> App:
    """Return the app that `config.app` names. Raise LoadError whatever the app's code
    does, short of crashing or hanging, and for an app that can never answer.

    Each process that calls the app, or forks one that does, has it from here.
    """
    where, name = split(config.app)
    module = _load_file(where) if is_path(where) else _import(where, config)
    source = [path for path in [getattr(module, "__file__", None)] if path]
    if not name:
        name, app = _by_default(module, where, source)
    else:
        app = _lookup(module, where, name, source)
    if not _is_plain(app) or config.interface == "asgi":
        from spyglass.zygote import app_judge  # few apps are anything else

        if why := app_judge.refusal(app, where, name, config.interface):
            raise LoadError(why, files=source)
    return app  # type: ignore[return-value]


def is_asgi(app: object, config: Config) -> bool:
    """Return True if `app`, from load(), is to be called as an ASGI app."""
    if config.interface != "auto" or not config.app:
        return config.interface == "asgi" and bool(config.app)
    if _is_plain(app):
        return False
    from spyglass.zygote import app_judge  # as in load()

    return app_judge.is_asgi(app)


def _is_plain(app: object) -> bool:
    """Return True if `app` is a function of two arguments, or an object whose
    `__call__` is one. Nearly all apps are.
    """
    kind: Any = type(app)
    try:
        function: Any = app if kind is FunctionType else kind.__call__
        if type(function) is not FunctionType:
            return False
    except Exception:  # a metaclass of the app's may raise anything
        return False
    code = function.__code__
    return (
        code.co_argcount == (2 if kind is FunctionType else 3)
        and not code.co_kwonlyargcount
        and not code.co_flags & _ASYNCHRONOUS
        and not function.__defaults__
    )


def _by_default(module: ModuleType, where: str, source: list[str]) -> tuple[str, object]:
    """Return the name and the app of a module for which none is named."""
    for name in _DEFAULT_NAMES:
        app = _attribute(module, name, source)
        if app is not _ABSENT:
            return name, app
    from spyglass.zygote import similar_names  # only failures pay for it

    hint = similar_names.instead_of_a_default(module, where)
    raise LoadError(f"module {where!r} has neither 'application' nor 'app': {hint}", files=source)


def module_of(config: Config) -> str:
    """Return the module or file that `config.app` names."""
    return split(config.app)[0]


def post_fork(config: Config) -> Callable[[], object] | None:
    """Return the function post_fork() of the app's module, which has been loaded, or
    None. Each worker calls it before it accepts.

    Raise LoadError if the module has something of that name that cannot be called.
    """
    where = split(config.app)[0]
    module = _loaded_module(where)
    if module is None:  # it removed itself
        return None
    source = source_of(config)
    found = _attribute(module, "post_fork", source)
    if found is _ABSENT or found is None:
        return None
    if not callable(found):
        raise LoadError(
            f"{where}: post_fork is not callable: it is of type {type(found).__name__!r}",
            files=source,
        )
    return found


def _loaded_module(where: str) -> ModuleType | None:
    return sys.modules.get(_stem(where) if is_path(where) else where)


def source_of(config: Config) -> list[str]:
    """Return the file of the app's module, which has been loaded, if it is known."""
    module = _loaded_module(split(config.app)[0])
    return [path for path in [getattr(module, "__file__", None)] if path]


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


def _import(name: str, config: Config) -> ModuleType:
    try:
        __import__(name)
    except BaseException as error:
        raise failure(error, candidates(config), where=name) from error
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
        raise failure(error, [path], where=path) from error
    return module


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _lookup(module: ModuleType, where: str, name: str, source: list[str]) -> object:
    dotted, bracket, _ = name.partition("(")
    found: object = module
    for part in dotted.split("."):
        owner, found = found, _attribute(found, part, source)
        if found is _ABSENT:
            from spyglass.zygote import similar_names  # only failures pay for it

            hint = similar_names.attribute_hint(owner, where, dotted, part)
            raise LoadError(f"{where!r} has no {dotted!r}{hint}", files=source)
    if not bracket:
        return found
    return _make(found, where, name, source) if callable(found) else found


def _make(factory: Callable[..., object], where: str, name: str, source: list[str]) -> object:
    """Return the app that `factory` makes, called with the arguments in `name`."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    if not name.endswith("()"):
        from spyglass.zygote import app_factory  # few factories get arguments

        positional, named = app_factory.arguments(where, name)
    try:
        return factory(*positional, **named)
    except BaseException as error:
        # Without a frame below ours, the factory was not entered.
        if isinstance(error, TypeError) and error.__traceback__.tb_next is None:  # type: ignore[union-attr]
            from spyglass.zygote import app_factory

            why = app_factory.cannot_be_called(factory, where, name, error)
            raise LoadError(why, files=source) from None
        raise failure(error, source) from error


def _attribute(owner: object, name: str, source: list[str]) -> object:
    """Return the attribute, or _ABSENT. A module's __getattr__ (PEP 562) may raise
    anything.
    """
    try:
        return getattr(owner, name, _ABSENT)
    except BaseException as error:
        raise failure(error, source) from error


def failure(
    error: BaseException, files: Iterable[str] = (), doing: str = "", where: str = ""
) -> LoadError:
    """Return the LoadError that explains `error`, which the app's code raised.

    `files` are worth watching for a change. `doing` says what it did, if it was not
    being loaded. `where` is the module or file that was being loaded.
    """
    try:
        found = _failure(error, files, doing)
        return _with_hint(found, error, where) if where else found
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


def _with_hint(found: LoadError, error: BaseException, where: str) -> LoadError:
    """Return `found`, and which module or file may have been meant if there is none
    that is called `where`.
    """
    if not isinstance(error, ModuleNotFoundError | FileNotFoundError):
        return found
    from spyglass.zygote import similar_names  # only failures pay for it

    hint = ""
    if isinstance(error, FileNotFoundError):
        if error.filename == where:
            hint = similar_names.file_hint(where)
    elif error.name and f"{where}.".startswith(f"{error.name}."):
        hint = similar_names.module_hint(os.getcwd(), where, error.name)
    return LoadError(found.summary + hint, found.details, found.files) if hint else found


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
    # The first frames are ours, of this package or of what calls a lifespan, and those
    # of the import system: the app's author has no use for them.
    here = os.path.dirname(__file__)
    ours = f"{here}/", f"{os.path.dirname(here)}/worker/asgi/", "<frozen importlib"
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(ours):
            break
        trace = trace.tb_next
    return trace
