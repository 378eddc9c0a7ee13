"""The bundles of byte code are what their sources are, or they are not used."""

import ast
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import spyglass
from spyglass.runtime import byte_code_bundles, compiled_engine, module_finder
from spyglass.runtime.byte_code_bundles import BUNDLES

PACKAGE = Path(spyglass.__file__).parent
ALL = sorted({name for names in BUNDLES.values() for name in names})
BEGINNING = "import spyglass.cli, spyglass.runtime.fork, spyglass.master.beginning"
MASTER = (
    f"{BEGINNING}; import spyglass.config.command_line, spyglass.config.settings, spyglass.config.plain_toml, "
    "spyglass.master.main, spyglass.master.first_answer, spyglass.master.status_line"
)
# By bundle: what has been imported before, and what is imported then.
IMPORTS = {
    "beginning": ("", BEGINNING),
    "zygote": (
        BEGINNING,
        "import spyglass.zygote.main; from spyglass.worker.httptools_import import import_worker; "
        "import spyglass.zygote.app_loader, spyglass.runtime.late_site, spyglass.config.sent_settings; import_worker()",
    ),
    "master": (BEGINNING, MASTER),
    "parts": (MASTER, "PARTS"),
}
# Read before there is a bundle; or together with what is compiled, if that is.
APART = ("spyglass.runtime", "spyglass.runtime.module_finder", "spyglass.worker.main")


def source(name):
    path = PACKAGE / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def parts():
    """The imports of Master._build()."""
    tree = ast.parse((PACKAGE / "master/main.py").read_text())
    (build,) = (node for node in ast.walk(tree) if getattr(node, "name", "") == "_build")
    return "\n".join(ast.unparse(node) for node in build.body if isinstance(node, ast.ImportFrom))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the sources, whose bundles are asked for."""
    root = tmp_path / "spyglass"
    for name in ALL:
        copy = root / source(name).relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source(name), copy)
    (root / "__pycache__").mkdir()
    monkeypatch.setattr(module_finder, "_DIRECTORY", str(root))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.setattr(byte_code_bundles, "_GRAIN", -1.0)
    return root


@pytest.mark.parametrize("process", BUNDLES)
def test_bundle_has_what_is_imported_in_that_order(process):
    before, then = IMPORTS[process]
    script = (
        "import sys; from spyglass.runtime import module_finder; module_finder.install()\n"
        f"{before}\nbefore = set(sys.modules)\n{parts() if then == 'PARTS' else then}\n"
        "print(*[name for name in sys.modules if name.startswith('spyglass.') and name not in before])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"SPYGLASS_PURE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    names = [name for name in done.stdout.split() if name not in {*APART, *compiled_engine.MODULES}]
    if process == "beginning":
        names.insert(0, "spyglass.runtime.compiled_engine")  # by install()
    due = [name.removeprefix("spyglass.") for name in names]
    assert list(BUNDLES[process]) == due, f"BUNDLES[{process!r}] has to be {due}"


def test_what_is_made_is_read(package):
    byte_code_bundles.renew()
    for process, names in BUNDLES.items():
        found = module_finder.read_bundle(process)
        assert [name for name, *_ in found] == [f"spyglass.{name}" for name in names]
    times = {path: path.stat().st_mtime_ns for path in package.glob("__pycache__/*.bundle")}
    assert len(times) == len(BUNDLES)
    byte_code_bundles.renew()  # which finds them as they should be
    assert {path: path.stat().st_mtime_ns for path in package.glob("__pycache__/*")} == times


def edited(package):
    path = package / "log.py"
    text = path.read_text()
    path.write_text(text.replace("ERROR", "error", 1))


def with_its_times(package):
    path = package / "log.py"
    status = path.stat()
    edited(package)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def gone(package):
    (package / "log.py").unlink()


def moved(package):
    away = package.with_name("moved")
    package.rename(away)
    module_finder._DIRECTORY = str(away)


def shortened(package):
    path = Path(module_finder.bundle_path("beginning"))
    path.write_bytes(path.read_bytes()[:-100])


def of_another_python(package):
    path = Path(module_finder.bundle_path("beginning"))
    path.write_bytes(b"\0" + path.read_bytes()[1:])


@pytest.mark.parametrize(
    "change", [edited, with_its_times, gone, moved, shortened, of_another_python]
)
def test_bundle_is_not_used_once_something_has_changed(package, change):
    byte_code_bundles.renew()
    assert module_finder.read_bundle("beginning")
    change(package)
    assert module_finder.read_bundle("beginning") == []


def test_bundle_of_a_changed_source_is_made_again(package):
    byte_code_bundles.renew()
    edited(package)
    byte_code_bundles.renew()
    assert module_finder.read_bundle("beginning")


def test_no_bundle_is_made_of_what_was_changed_a_moment_ago(package, monkeypatch):
    monkeypatch.setattr(byte_code_bundles, "_GRAIN", 3600.0)
    byte_code_bundles.renew()
    assert not list(package.glob("__pycache__/*"))


@pytest.mark.parametrize("why", ["dont_write_bytecode", "pycache_prefix"])
def test_no_bundle_is_made_where_no_byte_code_is_written(package, monkeypatch, why):
    monkeypatch.setattr(sys, why, "/elsewhere" if why == "pycache_prefix" else True)
    byte_code_bundles.renew()
    assert not list(package.glob("__pycache__/*"))


def test_source_that_is_not_python_at_this_moment_is_left_alone(package):
    (package / "log.py").write_text("def (:\n")
    byte_code_bundles.renew()
    assert module_finder.read_bundle("beginning") == []
    assert module_finder.read_bundle("master")
    assert not [path for path in package.glob("__pycache__/*") if path.suffix != ".bundle"]


def codes(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


@pytest.mark.parametrize("name", ALL)
def test_code_has_no_docstrings_and_is_the_same_otherwise(name):
    path = source(name)
    stripped = list(codes(byte_code_bundles.compiled(path.read_bytes(), str(path))))
    whole = list(codes(compile(path.read_bytes(), str(path), "exec", dont_inherit=True)))
    assert [(each.co_name, each.co_filename) for each in stripped] == [
        (each.co_name, each.co_filename) for each in whole
    ]
    for mine, theirs in zip(stripped, whole, strict=True):
        assert mine.co_firstlineno == theirs.co_firstlineno
        assert [each for each in mine.co_names if each != "__doc__"] == [
            each for each in theirs.co_names if each != "__doc__"
        ]
    docs = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    }
    assert (
        not {each for code in stripped for each in code.co_consts if isinstance(each, str)} & docs
    )


def test_module_from_a_bundle_is_as_python_would_have_it(tmp_path):
    """In another process, with bundles of a copy of the package."""
    shutil.copytree(
        PACKAGE, tmp_path / "spyglass", ignore=shutil.ignore_patterns("_engine", "*.bundle")
    )
    script = """
import sys
sys.argv[1:] = ["serve"] if MODE else []
from spyglass.runtime import module_finder
module_finder.install()
import inspect, spyglass.log, spyglass.cli, spyglass.master
for module in (spyglass.log, spyglass.master):
    spec = module.__spec__
    print(module.__name__, module.__file__, module.__cached__, module.__package__, spec.name, spec.origin,
        spec.cached, spec.parent, spec.has_location, spec.submodule_search_locations, getattr(module, "__path__", None))
print(inspect.getsource(spyglass.log.Log.set_level), spyglass.log.Log.error.__code__.co_firstlineno)
print(spyglass.log.__doc__ is None, file=sys.stderr)
"""
    environ = os.environ | {"PYTHONPATH": str(tmp_path)}
    for variable in ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"):
        environ.pop(variable, None)
    make = "from spyglass.runtime import byte_code_bundles as b; b._GRAIN = -1.0; b.renew()"
    found = []
    for code in (make, script.replace("MODE", "False"), script.replace("MODE", "True")):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.append((done.stdout, done.stderr))
    assert found[1][0] == found[2][0]
    assert [errors for _, errors in found[1:]] == ["False\n", "True\n"]
