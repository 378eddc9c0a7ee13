"""The compiled engine is what its sources are, or it is not used."""

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import spyglass
from spyglass.runtime import compiled_engine
from spyglass.runtime.compiled_engine import (
    INLINED,
    MODULES,
    EngineFinder,
    digest_of,
    file_name,
    find,
)

PACKAGE = Path(spyglass.__file__).parent
# Not in the engine: what must not, or what is not on the way of a request.
PURE = {
    "spyglass.gateway.asgi.gone": "has a class derived from OSError",
    "spyglass.gateway.asgi.interfaces": "for the type checker only",
    "spyglass.gateway.interfaces": "for the type checker only",
    "spyglass.worker.access_log": "a setting; has a Protocol for the type checker",
    "spyglass.worker.asgi.apps": "has the coroutines of an app run",
    "spyglass.worker.asgi.call": "has coroutines, which asyncio and debuggers look into",
    "spyglass.worker.asgi.event_loop": "has classes derived from asyncio's",
    "spyglass.worker.asgi.lifespan": "runs once, and has coroutines",
    "spyglass.worker.asgi.runner": "has coroutines, and runs once a turn",
    "spyglass.worker.asgi.websocket_call": "has coroutines, as call.py",
    "spyglass.worker.httptools_import": "runs once",
    "spyglass.worker.main": "runs once, and another module has this name",
    "spyglass.worker.proxy_header": "a setting; has a Protocol for the type checker",
    "spyglass.worker.sentinel": "for threads; has a Protocol for the type checker",
    "spyglass.worker.slow_clients": "for accidents; has a Protocol for the type checker",
    "spyglass.worker.warm_up": "runs once",
}


def source(name):
    return PACKAGE.parent / f"{name.replace('.', '/')}.py"


@pytest.fixture
def package(tmp_path):
    """A copy of the sources, in which an engine may be put."""
    for name in (*MODULES, *INLINED):
        copy = tmp_path / source(name).relative_to(PACKAGE)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(source(name), copy)
    (tmp_path / "_engine").mkdir()
    return tmp_path


def put(package, name):
    (package / "_engine" / name).write_bytes(b"")
    return f"{package}/_engine/{name}"


# Which one fits


def test_engine_of_these_sources_and_this_python_is_found(package):
    path = put(package, file_name(digest_of(str(package))))
    assert path.endswith(EXTENSION_SUFFIXES[0])
    assert find(str(package)) == (path, "")


@pytest.mark.parametrize("name", [*MODULES, *INLINED])
def test_engine_is_not_used_once_a_source_was_changed(package, name):
    put(package, file_name(digest_of(str(package))))
    changed = package / source(name).relative_to(PACKAGE)
    status = changed.stat()
    data = changed.read_bytes()
    # Of the same size, and as old as before
    changed.write_bytes(data[:-1] + b" ")
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert find(str(package)) == ("", "the compiled engine was made of other source files")
    changed.write_bytes(data)
    assert find(str(package))[0]


def test_engine_is_not_used_when_a_source_is_gone(package):
    put(package, file_name(digest_of(str(package))))
    (package / "http11/chunked.py").unlink()
    path, why = find(str(package))
    assert path == ""
    assert why.endswith("http11/chunked.py: No such file or directory")


@pytest.mark.parametrize(
    "suffix",
    [
        ".cpython-39-x86_64-linux-gnu.so",
        f".cpython-3{sys.version_info.minor}-riscv64-linux-gnu.so",
        f".cpython-3{sys.version_info.minor}t-x86_64-linux-gnu.so",
        ".abi3.so",
        ".so",
    ],
)
def test_engine_for_another_python_or_machine_is_not_looked_at(package, suffix):
    put(package, digest_of(str(package)) + suffix)
    assert find(str(package)) == ("", "there is no compiled engine for this Python")


def test_without_an_engine_no_source_is_read(tmp_path):
    assert find(str(tmp_path)) == ("", "there is no compiled engine for this Python")


def test_free_threaded_python_has_none(package, monkeypatch):
    put(package, file_name(digest_of(str(package))))
    monkeypatch.setattr(compiled_engine, "SUFFIX", "")
    assert find(str(package)) == ("", "this Python is free-threaded")


# Its stamp


@pytest.fixture
def stamped(package, monkeypatch):
    """A copy of the sources with an engine and its stamp."""
    put(package, file_name(digest_of(str(package))))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(compiled_engine, "time", lambda: time.time() + 1)
    assert find(str(package))[0]
    return package


def read_none(monkeypatch):
    monkeypatch.setattr(compiled_engine, "digest_of", None)


def test_sources_that_have_not_changed_since_are_not_read_again(stamped, monkeypatch):
    read_none(monkeypatch)
    assert find(str(stamped))[0]
    assert [each.suffix for each in sorted((stamped / "_engine").iterdir())] == [".so", ".stamp"]


def rewrite(path):
    data, status = path.read_bytes(), path.stat()
    path.write_bytes(data[:-1] + b" ")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def exchange(path):
    other = path.with_suffix(".new")
    shutil.copy2(path, other)
    rewrite(other)
    other.replace(path)


@pytest.mark.parametrize("change", [rewrite, exchange, Path.unlink])
def test_stamp_does_not_hide_a_change(stamped, change):
    time.sleep(0.02)  # a tick of the file system's clock
    change(stamped / "worker/loop.py")
    assert find(str(stamped))[0] == ""


def test_stamp_of_another_engine_does_not_count(stamped):
    (engine,) = (stamped / "_engine").glob("*.so")
    (stamp,) = (stamped / "_engine").glob("*.stamp")
    other = put(stamped, file_name("0" * 16))
    engine.unlink()
    assert find(str(stamped)) == ("", "the compiled engine was made of other source files")
    stamp.replace(f"{other}.stamp")
    assert find(str(stamped))[0] == other


@pytest.mark.parametrize("content", [b"", b"\0", b"1 2 3\n"])
def test_stamp_that_says_something_else_is_written_anew(stamped, content):
    (stamp,) = (stamped / "_engine").glob("*.stamp")
    whole = stamp.read_bytes()
    stamp.write_bytes(content)
    assert find(str(stamped))[0]
    assert stamp.read_bytes() == whole


def test_no_stamp_is_left_of_what_was_changed_a_moment_ago(package, monkeypatch):
    put(package, file_name(digest_of(str(package))))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    os.utime(package / "worker/loop.py")
    assert find(str(package))[0]
    assert not list((package / "_engine").glob("*.stamp*"))


def test_no_stamp_is_left_where_no_byte_code_is_to_be_written(package, monkeypatch):
    put(package, file_name(digest_of(str(package))))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(compiled_engine, "time", lambda: time.time() + 1)
    assert find(str(package))[0]
    assert not list((package / "_engine").glob("*.stamp*"))


def test_stamp_that_cannot_be_written_is_done_without(package, monkeypatch):
    path = put(package, file_name(digest_of(str(package))))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(compiled_engine, "time", lambda: time.time() + 1)
    stamp = Path(f"{path}.stamp")
    stamp.mkdir()
    assert find(str(package))[0] == path
    assert sorted((package / "_engine").iterdir()) == [Path(path), stamp]


@pytest.mark.parametrize(
    ("value", "refused"), [(None, False), ("", False), ("0", False), ("1", True), ("yes", True)]
)
def test_variable_asks_for_pure_python(value, refused):
    environ = {} if value is None else {"SPYGLASS_PURE": value}
    assert compiled_engine.is_refused(environ) is refused


def test_finder_leaves_other_modules_to_the_next(package):
    put(package, file_name(digest_of(str(package))))
    finder = EngineFinder(str(package))
    assert finder.find_spec("spyglass.http11") is None
    assert finder.find_spec("os") is None
    assert finder.find_spec(MODULES[0]).origin.startswith(str(package))


def test_finder_finds_none_when_none_fits(package):
    assert EngineFinder(str(package)).find_spec(MODULES[0]) is None


# What is in it


def test_each_module_of_a_hot_package_is_in_it_or_not_for_a_reason():
    there = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for package in ("gateway", "http11", "websocket", "worker")
        for path in (PACKAGE / package).rglob("[!_]*.py")
    }
    hot = {name for name in MODULES if name.split(".")[1] not in ("master", "runtime")}
    assert hot | set(PURE) == there
    assert not set(MODULES) & set(PURE)


def test_last_part_of_each_name_is_unique():
    """A library has one init function for it (PEP 489)."""
    last = [name.rpartition(".")[2] for name in MODULES]
    assert len(set(last)) == len(last)


@pytest.mark.parametrize("name", MODULES)
def test_no_bound_of_a_slice_has_an_effect(name):
    """mypyc evaluates it twice where the type of what is cut is not str, bytes, list or
    tuple.
    """
    harmless = {"len", "min", "max"}
    tree = ast.parse(source(name).read_text())
    bounds = [
        bound
        for node in ast.walk(tree)
        if isinstance(node, ast.Slice)
        for bound in (node.lower, node.upper)
        if bound is not None
    ]
    calls = [
        ast.unparse(call)
        for bound in bounds
        for call in ast.walk(bound)
        if isinstance(call, ast.Call | ast.NamedExpr | ast.Await)
        and not (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id in harmless
        )
    ]
    assert calls == []


@pytest.mark.parametrize("name", MODULES)
def test_no_constructor_passes_a_tuple_of_arguments_on(name):
    """mypyc passes the tuple itself to the __init__ of a native class."""
    calls = [
        each for each in ast.walk(ast.parse(source(name).read_text())) if isinstance(each, ast.Call)
    ]
    assert [
        ast.unparse(call)
        for call in calls
        if ast.unparse(call.func) == "super().__init__"
        and any(isinstance(each, ast.Starred) for each in call.args)
    ] == []


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_called_by_the_name_of_a_module_that_an_app_may_patch(name):
    """What is compiled holds a module itself, which no copy of it can replace (see
    import_effects.keep_modules()). A function that is imported by its name stays.
    """
    tree = ast.parse(source(name).read_text())
    called = {
        ast.unparse(each.func)
        for each in ast.walk(tree)
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute)
    }
    patched = {
        f"{module}.{word}"
        for module in ("gc", "os", "select", "time")
        for word in dir(sys.modules[module])
    }
    assert called & patched == set()


def test_no_constant_is_taken_from_a_module_that_may_change_alone():
    """mypyc copies a Final of another module into the code: that is in INLINED then, and
    the digest is of it, too.
    """
    others = set(PACKAGE.rglob("*.py")) - {source(name) for name in (*MODULES, *INLINED)}
    assert [path.name for path in others if re.search(r":\s*Final\b", path.read_text())] == []


# How it behaves


def run(code, *options, **environ):
    environ = {key: value for key, value in os.environ.items() if key != "SPYGLASS_PURE"} | environ
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True, text=True, timeout=60, env=environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


ALL = (
    "import sys, gc; from spyglass.runtime import module_finder; module_finder.install(); "
    "import httptools; before = set(sys.modules); import importlib as i; "
    "[__import__(name) for name in {names!r}]; "
)


@pytest.mark.compiled
@pytest.mark.parametrize("options", [(), ("-O",), ("-W", "error", "-X", "dev")])
def test_all_its_modules_come_from_one_file(options):
    code = ALL.format(names=MODULES) + (
        "from spyglass.runtime import compiled_engine as e; import spyglass.http11.request; "
        "maps = [line.split()[-1] for line in open('/proc/self/maps') if '/_engine/' in line]; "
        "print(set(maps) == {e.find()[0]}, {type(sys.modules[n].__loader__).__name__ for n in e.MODULES})"
    )
    text = run(code, *options)
    assert text.startswith("True {")
    assert "Source" not in text
    assert "ModuleLoader" not in text


@pytest.mark.compiled
def test_variable_keeps_it_out():
    code = ALL.format(names=MODULES) + "print('/_engine/' in open('/proc/self/maps').read())"
    assert run(code, SPYGLASS_PURE="1") == "False\n"
    assert run(code) == "True\n"


@pytest.mark.compiled
def test_it_brings_no_module_along_that_the_sources_do_not():
    code = ALL.replace("import importlib as i; ", "").format(names=MODULES) + (
        "print(*sorted(set(sys.modules) - before))"
    )
    pure, compiled = (set(run(code, SPYGLASS_PURE=value).split()) for value in ("1", "0"))
    assert compiled - pure == {compiled_engine.LIBRARY}
    assert not {name for name in compiled if name.startswith(("mypy", "librt", "importlib"))}


@pytest.mark.compiled
def test_an_app_gets_the_whole_importlib():
    code = ALL.replace("import importlib as i; ", "").format(names=MODULES) + (
        "import importlib.machinery, importlib.util, importlib._bootstrap, _frozen_importlib; "
        "assert importlib._bootstrap is _frozen_importlib; "
        "print(importlib.machinery.SourceFileLoader.__name__, importlib.import_module('json').__name__)"
    )
    assert run(code) == "SourceFileLoader json\n"


@pytest.mark.compiled
def test_traceback_names_file_and_line():
    code = ALL.format(names=MODULES) + (
        "import traceback; from spyglass.http11.response_head import check_status\n"
        "try: check_status('twenty')\n"
        "except ValueError as error: print(*traceback.extract_tb(error.__traceback__)[-1], sep='|')"
    )
    file, line, function, text = run(code).strip().split("|")
    lines = source("spyglass.http11.response_head").read_text().splitlines()
    assert file == "spyglass/http11/response_head.py"
    assert function == "check_status"
    assert "raise ValueError(" in lines[int(line) - 1]
    assert text == lines[int(line) - 1].strip()


@pytest.mark.compiled
def test_it_is_read_only_and_shared_but_for_its_data():
    """Pages of code are one copy for all processes of the machine."""
    code = ALL.format(names=MODULES) + (
        "lines = open('/proc/self/smaps').read().split('\\n'); total = shared = 0; ours = False\n"
        "for line in lines:\n"
        "    if '-' in line.split(' ')[0]: ours = '/_engine/' in line\n"
        "    elif ours and line.startswith('Rss:'): total += int(line.split()[1])\n"
        "    elif ours and line.startswith('Private_Dirty:'): shared += int(line.split()[1])\n"
        "print(total, shared)"
    )
    total, dirty = map(int, run(code).split())
    assert 0 < dirty < total / 4


@pytest.mark.compiled
def test_it_exports_what_the_loader_asks_for_and_is_stripped():
    path = find()[0]
    listed = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True)
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    assert {f"PyInit_{name.rpartition('.')[2]}" for name in MODULES} <= names
    assert "no symbols" in subprocess.run(["nm", path], capture_output=True, text=True).stderr


@pytest.mark.compiled
def test_modules_can_be_imported_after_the_app_has_replaced_what_it_likes():
    code = (
        "import sys; from spyglass.runtime import module_finder; module_finder.install(); "
        "import httptools, os, posix, builtins; os.listdir = posix.listdir = os.open = None; "
        "import spyglass.http11.request_reader as r; print(r.__name__)"
    )
    assert run(code) == "spyglass.http11.request_reader\n"
