"""What all tests share: the engine that runs, how several processes divide them, and
figures that are worth a line at the end of a run.

`make test` runs the tests in several processes (pytest-xdist). Without it (Debian's
autopkgtest, `make test PROCESSES=0`) they run in one, in order, and nothing here
matters but the figures.
"""

import collections
import fcntl
import os
import re
import signal
from pathlib import Path

import pytest

from spyglass.runtime import compiled_engine

TESTS = Path(__file__).parent
WIRE = "tests/process/wire/test_wire.py"  # thousands, with nothing in common but servers
_RELEASES = os.environ.get("RELEASES", "bookworm trixie").split()
_RELEASE = re.compile(rf"[\[-]({'|'.join(_RELEASES)})[\]-]")
_LAST = len(_RELEASES) + 1
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
    if hasattr(config, "workerinput"):
        _in_turn(items)


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
    """Hand out the tests of a chunk together, in the order of _in_turn()."""
    from xdist.scheduler import LoadScopeScheduling

    class ByChunk(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _chunk(nodeid)

    config.option.loadscopereorder = False
    return ByChunk(config, log)


def _chunk(nodeid):
    """Return the name of what runs in one process: tests of a file, for they share its
    fixtures (a booted machine, the built site). Those of tests/system are divided by
    release, each a machine, and the thousands of the wire by topic.
    """
    file, _, name = nodeid.partition("::")
    if file == WIRE:
        return f"{file} {name.partition(': ')[0]}"
    found = _RELEASE.search(name) if file.startswith("tests/system/") else None
    return f"{file} {found[1]}" if found else file


def _in_turn(items):
    """Sort tests for several processes. First those that need a quiet machine, so that
    these do not wait for long ones to end. Of the others the largest chunk comes first,
    or the last minutes would have one process at work and the others without.

    A file of tests/system begins on another release when each has begun on one: what
    both need, such as the release, is made by then.
    """
    chunks = {item.nodeid: _chunk(item.nodeid) for item in items}
    sizes = collections.Counter()
    for item in items:
        sizes[chunks[item.nodeid]] += _seconds(item)
    rounds, begun = {}, collections.Counter()
    for chunk in sorted(sizes, key=lambda chunk: (-sizes[chunk], chunk)):
        file = chunk.partition(" ")[0]
        rounds[chunk] = begun[file] if file.startswith("tests/system/") else _LAST
        begun[file] += 1

    def key(item):
        chunk = chunks[item.nodeid]
        return -_room(item), rounds[chunk], -sizes[chunk], chunk

    items.sort(key=key)  # stable: the order within a file stays


def _seconds(item):
    """Return roughly what a test takes: enough to tell large chunks from small ones."""
    layer = item.nodeid.split("/")[1]
    if item.get_closest_marker("slow"):
        return 40 if layer == "system" else 10
    if item.nodeid.startswith(WIRE):
        return 0.03
    return {"system": 4, "process": 0.4, "apps": 1}.get(layer, 0.05)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)  # the time to wait is not the test's
def pytest_runtest_protocol(item, nextitem):
    """Run a test while the other processes run only tests that may run beside it, until
    the end of a row of such tests: each beginning waits for what the others run.
    """
    if not hasattr(item.config, "workerinput"):
        yield
        return
    floor = item.config.stash.setdefault(_FLOOR, _Floor())
    floor.take(_room(item))
    yield
    if _room(item) == ORDINARY or nextitem is None or _room(nextitem) != _room(item):
        floor.leave()


ORDINARY, QUIET, ALONE = range(3)


def _room(item):
    """Return what else may run meanwhile: other ordinary tests; other quiet ones, which
    compute little and wait for moments; or none.
    """
    if item.get_closest_marker("alone"):
        return ALONE
    return QUIET if item.get_closest_marker("quiet") else ORDINARY


class _Floor:
    """Two locks, one that ordinary tests share and one that quiet tests share. Each kind
    waits until the other is gone, and a test that runs alone has both for itself.

    flock(2) is not fair: it lets new sharers in while another process waits for them
    all to leave. So each process takes the door first, and keeps it closed while it
    waits. Existing files are locked, to leave none behind.
    """

    def __init__(self):
        self._fds = ()

    def take(self, room):
        if self._fds:
            return  # kept since the test before
        door, ordinary, quiet = self._fds = [
            os.open(path, os.O_RDONLY) for path in (__file__, TESTS, TESTS / "waiting.py")
        ]
        fcntl.flock(door, fcntl.LOCK_EX)
        for fd, shared_by in ((ordinary, ORDINARY), (quiet, QUIET)):
            if room != shared_by:
                fcntl.flock(fd, fcntl.LOCK_EX)  # until none of that kind runs
            if room != ALONE:
                fcntl.flock(fd, fcntl.LOCK_SH if room == shared_by else fcntl.LOCK_UN)
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
