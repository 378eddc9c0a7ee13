"""The finder of Spyglass's own modules: what it finds is what Python would have found."""

import importlib
import importlib.util
import os
import pkgutil
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

import spyglass
from spyglass.runtime.module_finder import ModuleFinder

DIRECTORY = Path(spyglass.__file__).parent
MODULES = [module.name for module in pkgutil.walk_packages([str(DIRECTORY)], "spyglass.")]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that makes a package of these files, found by the finder; in a
    directory of which Python knows nothing otherwise.
    """
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    directory = tmp_path / "parcel"

    def make(**files):
        for name, text in files.items():
            path = directory / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return ModuleFinder("parcel", str(directory))

    return make


def load(finder, name):
    spec = finder.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", MODULES)
def test_its_spec_is_that_of_python(name):
    path = [str(DIRECTORY.joinpath(*name.split(".")[1:-1]))]
    expected = PathFinder.find_spec(name, path)
    found = ModuleFinder("spyglass", str(DIRECTORY)).find_spec(name)
    for attribute in ("name", "origin", "has_location", "cached", "parent"):
        assert getattr(found, attribute) == getattr(expected, attribute)
    assert found.submodule_search_locations == expected.submodule_search_locations
    assert isinstance(found.loader, type(expected.loader))
    assert found.loader.path == expected.loader.path
    assert found.loader.get_source(name) == expected.loader.get_source(name)


@pytest.mark.parametrize(
    "name", ["os", "spyglass", "spyglassy.x", "spyglass.no", "spyglass.ops.no"]
)
def test_other_names_are_left_to_python(name):
    assert ModuleFinder("spyglass", str(DIRECTORY)).find_spec(name) is None


def test_a_module_is_loaded_from_its_byte_code(package):
    finder = package(a="value = 1")
    first = load(finder, "parcel.a")
    cached = Path(first.__cached__)
    assert cached.is_file()
    assert first.__file__ == str(cached.parents[1] / "a.py")
    # Other code of the same length, behind the same head: only who reads it runs it
    data = cached.read_bytes()
    assert data.count(b"value") == 1
    cached.write_bytes(data.replace(b"value", b"other"))
    assert load(finder, "parcel.a").other == 1


def test_a_changed_source_is_compiled_again(package):
    finder = package(a="value = 1")
    load(finder, "parcel.a")
    source = Path(finder.find_spec("parcel.a").origin)
    source.write_text("value = 22")
    assert load(finder, "parcel.a").value == 22
    # And so is one of the same size with another time
    source.write_text("value = 33")
    os.utime(source, (1_000_000, 1_000_000))
    assert load(finder, "parcel.a").value == 33


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:16],
        lambda data: data[:-5],
        lambda data: b"\0" * 16 + data[16:],
        lambda data: data[:4] + b"\1" + data[5:],
        lambda data: data[:16] + b"N",
        lambda data: data[:16] + b"\xff" * 40,
    ],
    ids=["empty", "head only", "cut", "another magic", "other flags", "no code", "garbage"],
)
def test_damaged_byte_code_is_left_to_python(package, damage):
    finder = package(a="value = 1")
    cached = Path(load(finder, "parcel.a").__cached__)
    whole = cached.read_bytes()
    cached.write_bytes(damage(whole))
    try:
        assert load(finder, "parcel.a").value == 1
    except (EOFError, ValueError, ImportError):
        # Python itself refuses byte code with a good head and a bad body
        with pytest.raises((EOFError, ValueError, ImportError)):
            PathFinder.find_spec("a", [str(cached.parents[1])]).loader.get_code("a")


def test_tracebacks_of_a_package_that_was_moved_name_its_new_place(package, tmp_path):
    finder = package(a="def f(): raise RuntimeError")
    load(finder, "parcel.a")
    (tmp_path / "parcel").rename(tmp_path / "moved")
    module = load(ModuleFinder("parcel", str(tmp_path / "moved")), "parcel.a")
    assert module.f.__code__.co_filename == str(tmp_path / "moved/a.py")


@pytest.mark.parametrize("options", [[], ["-O"], ["-X", "pycache_prefix=/nonexistent"]])
def test_it_is_installed_where_byte_code_is_in_its_usual_place(options):
    code = (
        "import sys; from spyglass.runtime import module_finder; module_finder.install(); "
        "import spyglass.cli; print(type(spyglass.cli.__loader__).__name__)"
    )
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == ("SourceFileLoader\n" if options else "ModuleLoader\n")


def test_what_is_not_there_raises_the_usual_error(monkeypatch):
    monkeypatch.setattr(
        sys, "meta_path", [ModuleFinder("spyglass", str(DIRECTORY)), *sys.meta_path]
    )
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'spyglass\.nothing'"):
        importlib.import_module("spyglass.nothing")
