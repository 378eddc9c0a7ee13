"""What is imported before the first answer: each module there is paid for by every
visitor who wakes an app.
"""

import subprocess
import sys

# What each of them takes is a large part of a bare interpreter's start, and what it
# does for us the C modules beneath do.
DEAR = {
    *(
        "argparse",
        "asyncio",
        "collections",
        "contextlib",
        "dataclasses",
        "enum",
        "functools",
        "importlib.metadata",
        "inspect",
        "json",
    ),
    *(
        "logging",
        "pathlib",
        "re",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "subprocess",
        "tempfile",
        "threading",
        "tomllib",
        "traceback",
    ),
    *("types", "typing", "urllib", "warnings", "weakref"),
}
# Before the fork of the first zygote, and then in each of the two processes.
BEGINNING = "import spyglass.cli, spyglass.runtime.fork, spyglass.master.beginning"
MASTER = (
    f"{BEGINNING}; import spyglass.config.command_line, spyglass.config.settings, spyglass.master.main, "
    "spyglass.master.first_answer, spyglass.master.status_line"
)
WORKER = (
    f"{BEGINNING}; import spyglass.zygote.main; from spyglass.worker.httptools_import import import_worker; "
    "import_worker(); import spyglass.zygote.app_loader, spyglass.config.sent_settings, spyglass.welcome"
)
SERVER_ONLY = {
    *(
        "httptools",
        "spyglass.worker",
        "spyglass.gateway.wsgi",
        "spyglass.http11",
        "spyglass.zygote.app_loader",
        "spyglass.master.unavailable",
        "systemd",
    ),
    *("spyglass.ops.commands.reload", "spyglass.master.reload_socket"),
}


def imported(code):
    """The modules that `code` brings along, beyond those with which the interpreter
    starts.
    """
    script = (
        f"import sys; before = set(sys.modules); {code}; print(*sorted(set(sys.modules) - before))"
    )
    # A .pth file may have imported anything before: all of that is turned out first,
    # but for what the interpreter itself needs.
    clean = (
        "import sys; [sys.modules.pop(name) for name in "
        + repr(sorted(DEAR))
        + " if name in sys.modules]; "
    )
    done = subprocess.run(
        [sys.executable, "-c", clean + script],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return set(done.stdout.split())


def ours(code):
    """The modules of Spyglass that `code` brings along, without their first part."""
    return {
        name.removeprefix("spyglass.") for name in imported(code) if name.startswith("spyglass.")
    }


def test_neither_master_nor_worker_imports_what_is_dear():
    assert imported(WORKER) & DEAR == set()
    assert imported(MASTER) & DEAR == set()


def test_no_wake_of_a_wsgi_app_imports_anything_for_asgi():
    """asyncio alone takes as long as the whole wake of a small app."""
    code = (
        f"{WORKER}; from spyglass.config.settings import Config; import spyglass.welcome; "
        "import sys; sys.modules['shop'] = module = type(sys)('shop'); "
        "module.app = spyglass.welcome.app; "
        "config = Config({'app': 'shop:app'}); app = spyglass.zygote.app_loader.load(config); "
        "assert not spyglass.zygote.app_loader.is_asgi(app, config)"
    )
    new = imported(code)
    assert not {"asyncio", "selectors", "spyglass.http11.stream_body"} & new
    assert not {name for name in new if "asgi" in name}


def test_a_wake_of_an_asgi_app_imports_asyncio_and_little_else():
    code = f"{WORKER}; import asyncio, selectors; before |= set(sys.modules); import spyglass.zygote.asgi_startup"
    new = {name for name in imported(code) if not name.startswith("spyglass.")}
    assert new == set()


def test_a_waiting_lookout_keeps_little():
    """It is there as long as its app may be visited, and is mostly what it imports."""
    code = (
        "from spyglass.ops.commands import lookout; lookout.Lookout.run = lambda self: 0; "
        "from spyglass import cli; cli.main(['lookout', '--bind', '127.0.0.1:0'])"
    )
    assert imported(code) & DEAR == set()


def test_the_master_imports_nothing_of_a_worker():
    assert imported(MASTER) & SERVER_ONLY == set()


def test_the_master_has_what_the_first_answer_needs_and_no_more():
    """Its parts come after it (master/first_answer.py)."""
    ours = {name for name in imported(MASTER) if name.startswith("spyglass.master.")}
    needed = ("beginning", "first_answer", "launch", "main", "status_line", "zygote_process")
    assert ours == {f"spyglass.master.{name}" for name in needed}


def test_what_comes_before_the_fork_is_needed_on_both_sides():
    """Or else the other side's client would wait for it."""
    begun = ours(BEGINNING)
    assert begun == {
        *("cli", "errors", "log", "printable", "master", "master.beginning", "runtime"),
        *(f"runtime.{name}" for name in ("addresses", "channel", "fast_imports", "fork")),
        *(f"runtime.{name}" for name in ("module_finder", "scoreboard", "sd_daemon")),
        *(f"runtime.{name}" for name in ("shared_memory", "signals")),
    }


def test_the_first_zygote_imports_nothing_that_reads_settings():
    packages = ("cli", "config", "config.sent_settings", "master", "master.beginning")
    found = {name for name in ours(WORKER) if name.partition(".")[0] in ("cli", "config", "master")}
    assert found == set(packages)


def test_the_settings_are_recorded_by_what_comes_later_still():
    parts = "import spyglass.master.settings_recorder, spyglass.master.report_socket"
    assert not {"spyglass.master.settings_record", "fcntl"} & imported(f"{MASTER}; {parts}")


def test_what_only_some_apps_ask_for_comes_when_they_do():
    assert not {"spyglass.hold", "spyglass.wake_record"} & imported(WORKER)


def test_settings_for_the_units_are_passed_by(tmp_path):
    file = tmp_path / "blog.toml"
    file.write_text(
        'app = "blog"\nlisten = [8001, { path = "/run/blog.sock" }]\nmemory_max = "1G"\nuser = "blog"\n'
    )
    new = ours(
        "from spyglass.config import command_line, settings; "
        "arguments = command_line.parse(['serve', '--name', 'blog']); "
        f"settings.load({str(file)!r}, {{}}, arguments.options)"
    )
    assert new == {
        "config",
        "config.command_line",
        "config.plain_toml",
        "config.setting_types",
        "config.settings",
        "errors",
        "printable",
    }


def test_a_plain_settings_file_is_read_without_tomllib(tmp_path):
    file = tmp_path / "blog.toml"
    file.write_text('# Blog\napp = "blog:app"  # what\nworkers = 4\ntrusted_proxies = ["unix"]\n')
    code = f"from spyglass.config import settings; settings.load({str(file)!r}, {{}}, {{}})"
    assert not {"tomllib", "re"} & imported(code)
    file.write_text('[environment]\nA = "b"\n')
    assert "tomllib" in imported(code)


def test_an_app_that_imports_httptools_gets_a_whole_one():
    """Ours is brought in without what surrounds it; a C module is initialized once in a
    process, so theirs shares it and its errors.
    """
    code = """
from spyglass.worker.httptools_import import import_worker
import_worker()
import httptools
assert httptools.parse_url(b"http://a/b").path == b"/b"
try:
    httptools.HttpRequestParser(None).feed_data(b"nonsense")
except httptools.HttpParserError:
    print("told")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "told\n"
