"""Make the bundles of byte code that a wake reads (module_finder.py).

A command of the administrator's makes them where it may write byte code and they do not
fit the sources any more; the Debian package runs one when it is configured. No wake
does: to compile these modules takes longer than a client should wait.

Docstrings are left out: they are a sixth of the byte code, and no code reads them.
"""

from __future__ import annotations

import marshal
import os
import sys
import time
from _frozen_importlib_external import MAGIC_NUMBER

from spyglass.runtime import module_finder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What each process imports, each module after those that it imports itself; below
# `spyglass`. tests/unit/test_byte_code_bundles.py compares it with what is imported.
BUNDLES = {
    # Before the fork of the first zygote
    "beginning": (
        *("runtime.compiled_engine", "cli", "runtime.fork", "master", "printable", "errors"),
        *("log", "runtime.fast_imports", "runtime.channel", "runtime.scoreboard"),
        *("runtime.addresses", "runtime.sd_daemon", "runtime.shared_memory", "runtime.signals"),
        "master.beginning",
    ),
    "zygote": (
        *("zygote", "api", "zygote.import_effects", "zygote.main", "worker"),
        *("worker.httptools_import", "zygote.app_files", "zygote.app_loader"),
        *("runtime.late_site", "config", "config.sent_settings", "http11", "runtime.poller"),
        *("gateway", "worker.sentinel", "worker.warm_up"),
    ),
    "master": (
        *("config", "config.setting_types", "config.settings", "config.command_line"),
        *("config.plain_toml", "config.sent_settings", "master.zygote_process"),
        *("master.launch", "runtime.poller", "master.main", "master.first_answer"),
        "master.status_line",
    ),
    # The Master's, after the first answer
    "parts": (
        *("policy", "policy.durations", "master.counter_record", "runtime.untrusted_files"),
        *("wake_record", "master.counters", "policy.respawn", "master.failed_loads"),
        *("master.failing", "master.byte_code_sweep", "policy.hung_workers"),
        *("master.hung_processes", "master.load_failures", "master.orphans"),
        *("policy.worker_slot", "master.worker_records", "policy.recycling"),
        *("master.worker_recycling", "master.generation", "master.generations", "policy.idle"),
        *("master.idle_exit", "master.listener_watch", "master.local_socket"),
        *("master.reload_socket", "master.report_socket", "master.settings_recorder"),
        *("master.status_notes", "master.systemd_watchdog", "zygote", "api"),
        *("zygote.import_effects", "zygote.main"),
    ),
}
_GRAIN = 0.1  # seconds, as in compiled_engine.py


def renew() -> None:
    """Make each bundle that does not fit the sources, where byte code may be written.
    Another process may do the same: the last one to be ready wins.
    """
    if sys.dont_write_bytecode or sys.flags.optimize or sys.pycache_prefix is not None:
        return
    for process in BUNDLES:
        path = module_finder.bundle_path(process)
        if os.access(os.path.dirname(path), os.W_OK) and not module_finder.read_bundle(process):
            try:
                _leave(path, process)
            except (OSError, SyntaxError):  # a source is being replaced
                pass


def _leave(path: str, process: str) -> None:
    now = time.time()
    entries = [_entry(f"spyglass.{name}") for name in BUNDLES[process]]
    latest = max(stamp[2] for _, _, stamp, _ in entries)
    if latest / 1e9 + _GRAIN >= now:
        return  # it could be written to once more within the same tick
    part = f"{path}.{os.getpid()}"
    try:
        with open(part, "xb") as stream:
            os.fchmod(stream.fileno(), 0o644)  # services read it, whatever root's umask is
            stream.write(MAGIC_NUMBER + marshal.dumps(entries))
        os.replace(part, path)
    except OSError:
        os.unlink(part)
        raise


def _entry(name: str) -> tuple[str, str, tuple[int, int, int], Any]:
    root = os.path.dirname(os.path.dirname(module_finder.bundle_path("")))
    tail = name.partition(".")[2].replace(".", "/")
    tail += "/__init__.py" if os.path.isdir(f"{root}/{tail}") else ".py"
    path = f"{root}/{tail}"
    stamp = module_finder.stamp_of(path)
    with open(path, "rb") as stream:
        return name, tail, stamp, compiled(stream.read(), path)


def compiled(source: bytes, path: str) -> Any:
    """Return the code of a module without docstrings."""
    import ast  # in here: the bundles nearly always fit

    tree = ast.parse(source, path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                del node.body[0]
                node.body = node.body or [ast.copy_location(ast.Pass(), first)]
    return compile(tree, path, "exec", dont_inherit=True)
