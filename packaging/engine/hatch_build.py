"""Puts the compiled engine into a wheel, if SPYGLASS_COMPILE=1 is in the environment.

Without it a wheel is pure Python, and needs no compiler to be made: a machine that
cannot compile installs Spyglass as before. `make wheels` sets it, and so can whoever
types `SPYGLASS_COMPILE=1 pip install .`. Then pip fetches mypy for the build.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_NEEDED = ["mypy==2.4.1", "setuptools>=65"]
_OLDEST = (2, 17)  # no wheel may ask for an older glibc


class EngineHook(BuildHookInterface):  # type: ignore[type-arg]
    def dependencies(self) -> list[str]:
        return _NEEDED if _is_asked() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "standard" or not _is_asked():
            return
        root = Path(self.root)
        self._made = root / "build" / "engine"
        argv = [sys.executable, root / "packaging" / "engine", self._made]
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"SPYGLASS_COMPILE is set, but {done.stderr}")
        path = Path(done.stdout.strip())
        build_data["pure_python"] = False
        build_data["tag"] = tag(path.read_bytes())
        build_data["force_include"][str(path)] = f"spyglass/_engine/{path.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if not build_data["pure_python"]:
            shutil.rmtree(self._made)


def _is_asked() -> bool:
    return os.environ.get("SPYGLASS_COMPILE", "0") not in ("", "0")


def tag(engine: bytes) -> str:
    """Return the tag of a wheel with this engine (PEP 425). Its platform is the oldest
    glibc that has all symbols it asks for (PEP 600).
    """
    asked = [tuple(map(int, found)) for found in re.findall(rb"GLIBC_(\d+)\.(\d+)", engine)]
    major, minor = max([_OLDEST, *asked])
    machine = sysconfig.get_platform().rpartition("-")[2].replace("-", "_")
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return f"{python}-{python}-manylinux_{major}_{minor}_{machine}"
