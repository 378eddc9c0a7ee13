"""What all tests share: the engine that runs, how several processes divide them, and
figures that are worth a line at the end of a run.

`make test` runs the tests in several processes (pytest-xdist). Without it (Debian's
autopkgtest, `make test PROCESSES=0`) they run in one, in order, and nothing here
matters but the figures.
"""

import fcntl
import os
import re
import signal
from pathlib import Path

import pytest

from spyglass.runtime import compiled_engine

TESTS = Path(__file__).parent
WIRE = "tests/process/wire/test_wire.py"  # thousands, with nothing in common but servers
_EDGES, _FLOOR = pytest.StashKey(), pytest.StashKey()


# pytest-xdist tells its processes how wide the terminal is. What we test would wrap its
# lines at that, which a pipe does not have.
os.environ.pop("COLUMNS", None)


# Ignored in the background of a shell, and so it would be in all that we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Before anything else of Spyglass is imported: the tests run on pure Python, or with
# ENGINE=compiled (`make test ENGINE=compiled`) on the compiled modules; so do the
# processes that they start.
ENGINE = os.environ.get("ENGINE") or "pure"
if ENGINE == "pure":
    os.environ[compiled_engine.VARIABLE] = "1"
else:
    os.environ.pop(compiled_engine.VARIABLE, None)
    compiled_engine.install()
    if compiled_engine.description() != ENGINE:
        pytest.exit(f"no {ENGINE} engine ({compiled_engine.description()}): make engine", 2)


def pytest_report_header():
    return f"engine: {compiled_engine.description()}"


def pytest_collection_modifyitems(config, items):
    """Leave out the tests of the other engine (markers `pure`, `compiled`)."""
    other = "compiled" if ENGINE == "pure" else "pure"
    left_out = [item for item in items if item.get_closest_marker(other)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker(other)]


def pytest_addoption(parser):
    parser.addoption(
        "--schedules",
        type=int,
        default=40,
        help="so many for each crew of tests/unit/test_schedules.py",
    )


# Which process runs what


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand out the tests of a file together, for they share its fixtures (a booted
    machine, the built site); and those of tests/system by release, each a machine. The
    files with the most tests come first, and last the wire cases one by one.
    """
    from xdist.scheduler import LoadScopeScheduling

    releases = os.environ.get("RELEASES", "bookworm trixie").split()
    release = re.compile(rf"[\[-]({'|'.join(releases)})[\]-]")

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, name = nodeid.partition("::")
            if file == WIRE:
                return WIRE if "[timeouts: " in name else nodeid  # those are alone
            found = release.search(name) if file.startswith("tests/system/") else None
            return f"{file} {found[1]}" if found else file

    return ByFile(config, log)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)  # the time to wait is not the test's
def pytest_runtest_protocol(item, nextitem):
    """Run a test that measures (marker `alone`) while the other processes wait: until
    the end of a row of such tests, for each beginning waits for what the others run.
    """
    if not hasattr(item.config, "workerinput"):
        yield
        return
    floor = item.config.stash.setdefault(_FLOOR, _Floor())
    floor.take(alone=_is_alone(item))
    yield
    if not (_is_alone(item) and nextitem is not None and _is_alone(nextitem)):
        floor.leave()


def _is_alone(item):
    return item.get_closest_marker("alone") is not None


class _Floor:
    """The lock that tests share, and that one which runs alone has for itself.

    flock(2) is not fair: it lets new sharers in while another process waits for them
    all to leave. So each process takes the door first, and one that is to run alone
    keeps it closed while waiting. Existing files are locked, to leave none behind.
    """

    def __init__(self):
        self._fds = ()

    def take(self, *, alone):
        if self._fds:
            return  # kept since the test before
        self._fds = door, floor = os.open(__file__, os.O_RDONLY), os.open(TESTS, os.O_RDONLY)
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(floor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)

    def leave(self):
        # Not only closed: what the test has forked may have them, too.
        for fd in self._fds:
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)
        self._fds = ()


# Figures


@pytest.fixture(scope="session")
def edges(request):
    """Lines to be told at the end of the run."""
    return request.config.stash.setdefault(_EDGES, [])


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["edges"] = session.config.stash.get(_EDGES, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Collect the lines of another process, unless it was killed."""
    lines = getattr(node, "workeroutput", {}).get("edges", [])
    node.config.stash.setdefault(_EDGES, []).extend(lines)


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(_EDGES, []):
        terminalreporter.write_line(line)
