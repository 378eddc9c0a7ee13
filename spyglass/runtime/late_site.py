"""Run Python's `site` late: for the app, and not for the Master.

The units start the interpreter with -S. `site` adds the directories of packages to the
path, runs the .pth files in them and sitecustomize, and enters the virtual environment
around the interpreter. That takes a tenth of a wake and more where there are many .pth
files, and runs code of the environment's. The Master needs none of it. The zygote does
it before it loads the app, which then finds all as if the interpreter had done it:
sys.path, sys.prefix, sys.flags, and builtins such as `exit`.

The command has appended the directory of Spyglass to sys.path (packaging/bin/spyglass,
__main__.py). Here it is taken back, and `site` adds it at its place.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run_site() -> None:
    """Do what the interpreter has left out, if it was started with -S. Raise whatever
    code of the environment raises.
    """
    if not sys.flags.no_site or "site" in sys.modules:
        return
    if sys.path[-1:] == [_PACKAGES]:
        del sys.path[-1]
    # multiprocessing starts its processes with the options that stand there, and they
    # need `site`, too. And its import asks them whether to run it.
    sys.flags = _with_site(sys.flags)
    import site  # noqa: F401


def _with_site(flags: Any) -> Any:
    """Return sys.flags as they are without -S."""
    try:
        return flags.__replace__(no_site=0)  # since Python 3.13
    except AttributeError:
        pass
    # Python makes no other object of that class, so this is one that looks the same.
    names = type(flags).__match_args__
    values = [0 if name == "no_site" else getattr(flags, name) for name in names]
    shown = ", ".join(f"{name}={value!r}" for name, value in zip(names, values, strict=True))
    members: dict[str, object] = {
        name: property(lambda flags, index=index: tuple.__getitem__(flags, index))  # type: ignore[misc]
        for index, name in enumerate(names)
    }
    members |= {name: getattr(flags, name) for name in dir(flags) if name.startswith("n_")}
    members |= {
        "__module__": "sys",
        "__slots__": (),
        "__match_args__": names,
        "__repr__": lambda _flags: f"sys.flags({shown})",
    }
    return type("flags", (tuple,), members)(values)
