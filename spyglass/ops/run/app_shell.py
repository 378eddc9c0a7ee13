"""`spyglass app-shell ...`: a Python prompt with the app loaded, for `spyglass shell`.

enter_app.py executes it, in the app's sandbox and on the app's terminal. The app is
loaded as the zygote loads it, so its modules, and a framework's own set-up, are there.
What a pipe or a file has to say instead of a terminal is run as one script.

The other words are those of `serve`. It is not for people to type.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from spyglass.errors import LoadError, StartError
from spyglass.ops.run.enter_app import NOT_RUN, read_settings
from spyglass.zygote import app_loader
from spyglass.zygote.sandbox_hints import user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spyglass.config.settings import Config


def main(words: Sequence[str]) -> int:
    """Return the exit status of the shell, or of its script."""
    try:
        config = read_settings(words)
    except StartError as error:
        print("\n".join(f"spyglass: {line}" for line in error.lines), file=sys.stderr)
        return NOT_RUN
    names: dict[str, Any] = {"__name__": "__main__", "__doc__": None, "app": None}
    sys.argv[:] = [""]
    try:
        app_loader.prepare(config)
        names["app"] = app_loader.load(config)
    except LoadError as error:
        # At a prompt there may be a cause to find; a script would go wrong without it.
        print(error.details, file=sys.stderr, end="\n" if error.details else "")
        print(f"spyglass: the app cannot be loaded: {error.summary}", file=sys.stderr, flush=True)
        if not sys.stdin.isatty():
            return NOT_RUN
    if not sys.stdin.isatty():
        return _run_script(sys.stdin.read(), names)
    _interact(names, _banner(config, loaded=names["app"] is not None))
    return 0


def _run_script(text: str, names: dict[str, Any]) -> int:
    """Run a script as Python would; return its exit status. Raise SystemExit."""
    try:
        exec(compile(text, "<stdin>", "exec"), names)  # noqa: S102, it is a shell
    except Exception as error:
        import traceback

        ours = error.__traceback__
        traceback.print_exception(error.with_traceback(ours.tb_next if ours else None))
        return 1
    return 0


def _interact(names: dict[str, Any], banner: str) -> None:
    import code

    try:
        import readline
        import rlcompleter
    except ImportError:  # a Python that was built without it
        pass
    else:
        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    code.interact(banner, local=names, exitmsg="")


def _banner(config: Config, *, loaded: bool) -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    app = config.app or "the welcome page"
    return (
        f"Python {version} as {user()} in {os.getcwd()}\n"
        f"app is {f'{app}, loaded' if loaded else 'None'}; Ctrl-D ends this shell"
    )
