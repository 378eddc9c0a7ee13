"""Compile the hot modules into the extension that spyglass/runtime/compiled_engine.py
loads. `make engine`, debian/rules and the wheels' build (hatch_build.py) run this.

usage: python packaging/engine [--tree TREE] [--debug] OUTPUT

mypyc makes C of the modules, and setuptools compiles that for the Python that runs
this, with CC, CFLAGS and LDFLAGS from the environment. OUTPUT is a directory; another
engine for the same Python is removed from it. The same sources and tools give the same
bytes. --debug leaves the debugging symbols in it, for Debian's own tools to take them.
With DEB_BUILD_OPTIONS=noopt (Debian policy 4.9.1) the compiler does not optimise, and
takes half the time: for tests that do not ask how fast the engine is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="engine", description=__doc__)
    parser.add_argument("--tree", type=Path, default=ROOT)
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--in-copy", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    if options.in_copy:
        return compile_here(options.output, debug=options.debug)
    try:
        print(build(options.tree.resolve(), options.output, debug=options.debug))
    except EngineError as error:
        print(f"engine: {error}", file=sys.stderr)
        return 1
    return 0


class EngineError(Exception):
    """There is no engine; the message has what the compiler said."""


def build(tree: Path, output: Path, *, debug: bool = False) -> Path:
    """Compile the modules of `tree`. Return the path of the engine, in `output`. Raise
    EngineError.
    """
    sys.path.insert(0, str(tree))
    try:
        from spyglass.runtime import compiled_engine
    finally:
        sys.path.remove(str(tree))
    if not compiled_engine.SUFFIX:
        raise EngineError("a free-threaded Python runs Spyglass as pure Python")
    with tempfile.TemporaryDirectory(prefix="spyglass-engine-") as directory:
        # Of a copy: no file of the tree is touched, and the paths that tracebacks show
        # do not depend on where the tree is.
        copy = Path(directory)
        shutil.copytree(
            tree / "spyglass",
            copy / "spyglass",
            ignore=shutil.ignore_patterns("__pycache__", "_engine", "ops", "units"),
        )
        digest = compiled_engine.digest_of(str(copy / "spyglass"))
        target = output / compiled_engine.file_name(digest)
        # A test's engine does not do for what comes after the tests.
        slow = output / f"{target.name}.noopt"
        if target.exists() and (is_unoptimised() or not slow.exists()):
            return target
        # mypy iterates over sets: their order must not be another one in each build.
        environ = os.environ | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        argv = [sys.executable, Path(__file__).resolve().parent, "--in-copy", copy / "built"]
        argv += ["--debug"] if debug else []
        done = subprocess.run(argv, cwd=copy, env=environ, capture_output=True, text=True)
        if done.returncode != 0:
            raise EngineError(f"the modules cannot be compiled:\n{done.stdout}{done.stderr}")
        (made,) = (copy / "built").rglob(f"*{compiled_engine.SUFFIX}")
        output.mkdir(parents=True, exist_ok=True)
        for older in output.glob(f"*{compiled_engine.SUFFIX}*"):  # with its stamp
            older.unlink()
        # Renamed into place: a process may have the older one mapped.
        shutil.copyfile(made, output / f"{target.name}.new")
        (output / f"{target.name}.new").rename(target)
        if is_unoptimised():
            slow.touch()
    return target


def is_unoptimised() -> bool:
    """Return True if DEB_BUILD_OPTIONS asks for a build without optimisation."""
    return "noopt" in os.environ.get("DEB_BUILD_OPTIONS", "").split()


def compile_here(output: Path, *, debug: bool) -> int:
    """Compile `spyglass` in the current directory, in a process of its own: setuptools
    and mypyc print, and end the process when something is wrong.
    """
    sys.path.insert(0, os.getcwd())
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    from spyglass.runtime.compiled_engine import GROUP, MODULES

    library, *shims = mypycify(
        [
            f"--python-version={sys.version_info.major}.{sys.version_info.minor}",
            "--ignore-missing-imports",
            "--no-native-parser",  # its Python counterpart needs no further package
            "--cache-dir=/dev/null",
            *(f"{name.replace('.', '/')}.py" for name in MODULES),
        ],
        opt_level="0" if is_unoptimised() else "3",
        group_name=GROUP,
    )
    # One library instead of one for each module: it exports the init function of each,
    # and compiled_engine.py says which it wants (PEP 489, "Multiple modules in one
    # library"). What a shim defines besides, for Windows, would be defined many times.
    doors = Path("build", "doors.c")
    doors.write_text(
        "".join(
            f"#define PyInit___init__ unused_{number}\n#include <{Path(*shim.sources).resolve()}>\n#undef PyInit___init__\n"
            for number, shim in enumerate(shims)
        )
    )
    library.sources.append(str(doors))
    library.extra_compile_args += ["-fvisibility=hidden", f"-ffile-prefix-map={os.getcwd()}=."]
    if not debug:
        library.extra_link_args.append("-Wl,--strip-all")

    class Build(build_ext):
        def build_extensions(self) -> None:
            # A Python outside of /usr has its own directory here, which is nothing to
            # other machines: an extension module is not linked with libpython.
            linker = self.compiler.linker_so
            self.compiler.linker_so = [word for word in linker if "-rpath" not in word]
            super().build_extensions()

    command = Build(Distribution({"name": "spyglass", "ext_modules": [library]}))
    command.build_lib, command.build_temp = str(output), "objects"
    command.ensure_finalized()
    command.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
