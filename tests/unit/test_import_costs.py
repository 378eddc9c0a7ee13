"""What an import costs, by package: what is measured, and what is taken from a line that
an app may have written.
"""

import importlib
import sys
import traceback

import pytest

from spyglass.ops.check import import_costs
from spyglass.ops.check.import_costs import PackageCost
from spyglass.ops.guards import locks


class Clock:
    """Time passes only when a module of the test says so."""

    now = 0.0

    @classmethod
    def read(cls):
        return cls.now


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """imported(name, **sources) -> the line about the import of a module, whose source
    may say `spend(seconds)`.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(import_costs.time, "perf_counter", Clock.read)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def run(name, /, **sources):
        for module, source in sources.items():
            path = tmp_path / f"{module.replace('.', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"from test_import_costs import spend\n{source}")
        importlib.invalidate_caches()
        timer = import_costs.ImportTimer()
        timer.start()
        try:
            importlib.import_module(name)
        finally:
            timer.stop()
        return timer.line()

    sys.modules["test_import_costs"] = sys.modules[__name__]
    yield run
    for name in set(sys.modules) - before:
        del sys.modules[name]


def spend(seconds):
    Clock.now += seconds


def test_a_package_has_the_time_of_its_own_modules_only(imported):
    line = imported(
        "costly",
        costly="spend(0.010)\nimport costly_other\nspend(0.005)\n",
        costly_other="spend(0.070)\nimport costly_third\n",
        costly_third="spend(0.002)\n",
    )
    assert import_costs.parse(line) == [
        PackageCost("costly_other", 70, 1, "costly"),
        PackageCost("costly", 15, 1, ""),
        PackageCost("costly_third", 2, 1, "costly_other"),
    ]
    assert line.endswith("; 3 modules compiled")


def test_the_modules_of_a_package_are_one(imported):
    sources = {
        "user": "import package.a\n",
        "package.__init__": "spend(0.003)\n",
        "package.a": "from . import b\nspend(0.020)\n",
        "package.b": "spend(0.001)\n",
    }
    line = imported("user", **sources)
    assert import_costs.parse(line)[0] == PackageCost("package", 24, 3, "user")


def test_ten_are_named_and_the_others_counted(imported):
    many = {f"many{number}": f"spend({number / 1000})\n" for number in range(15)}
    line = imported("many", many="".join(f"import {name}\n" for name in many), **many)
    names = [each.package for each in import_costs.parse(line)]
    assert names == [f"many{number}" for number in range(14, 4, -1)]
    assert "; 6 more: 10 ms" in line


def test_nothing_is_said_of_an_import_that_costs_nothing(imported):
    assert imported("cheap", cheap="spend(0.0009)\n") == ""


def test_a_failed_import_shows_no_frame_of_ours(imported):
    with pytest.raises(ZeroDivisionError) as failed:
        imported("broken", broken="import broken_inside\n", broken_inside="1 / 0\n")
    frames = traceback.extract_tb(failed.value.__traceback__)
    files = [frame.filename.rpartition("/")[2] for frame in frames]
    assert files[-2:] == ["broken.py", "broken_inside.py"]
    assert "import_costs.py" not in files


def test_imports_are_python_s_own_again_afterwards(imported):
    bootstrap = sys.modules["_frozen_importlib"]
    find, loader = bootstrap._find_and_load_unlocked, importlib.machinery.SourceFileLoader
    compile_ = loader.source_to_code
    imported("plain", plain="")
    assert bootstrap._find_and_load_unlocked is find
    assert loader.source_to_code is compile_


@pytest.mark.parametrize(
    "line",
    [
        "",
        "app: x 5 ms (1 module)",
        "imports: \x1b[31mx 5 ms (1 module",
        "imports: a b",
        "imports: x -1 ms (1 module)",
        "imports: ; x 5 ms (1 module)",
    ],
)
def test_nothing_else_is_taken_from_a_line(line):
    assert import_costs.parse(line) == []


def test_a_forged_line_is_bounded():
    line = import_costs.TITLE + ", ".join(["x" * 50 + " 5 ms (1 module)"] * 1000)
    found = import_costs.parse(line)
    assert len(found) == 10
    assert all(len(each.package) == 40 for each in found)


def test_status_shows_what_the_last_check_found(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "DIRECTORY", str(tmp_path))
    assert import_costs.recorded("blog") is None
    assert import_costs.facts(None) is None
    line = "imports: numpy 85 ms (151 modules, by blog), blog 3 ms (1 module); 9 more: 4 ms; 2 modules compiled"
    import_costs.record("blog", line)
    found = import_costs.recorded("blog")
    assert import_costs.sentence(found).startswith(
        "numpy 85 ms (151 modules, by blog), blog 3 ms (1 module); 2 modules compiled; measured by the check of "
    )
    assert import_costs.facts(found)[0] == {
        "package": "numpy",
        "ms": 85,
        "modules": 151,
        "by": "blog",
    }
    (record,) = tmp_path.iterdir()
    assert record.stat().st_mode & 0o777 == 0o600
    (tmp_path / "check-blog").touch()  # a lock
    import_costs.record("blog", "")
    assert import_costs.recorded("blog") is None


def test_a_note_that_cannot_be_written_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(locks, "DIRECTORY", str(tmp_path / "file"))
    import_costs.record("blog", "imports: blog 3 ms (1 module)")
    assert import_costs.recorded("blog") is None
