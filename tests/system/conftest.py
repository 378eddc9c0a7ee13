"""Fixtures that boot machines (machine.py says what one can do). Every test runs on
each release in $RELEASES, or with the marker `one_release` on the last of them.

What they boot is made before the first test and outside of any test's time limit: the
roots, and with `make deb` the packages, so that nobody tests yesterday's. Where a
machine cannot be booted at all the run stops with a sentence: skipping would hide it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

# For machine.py, and for what the other tests have made, in whichever way pytest
# imports this file.
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from machine import PREFIX, REPOSITORY, Machine, boot, installed, root

RELEASES = os.environ.get("RELEASES", "bookworm trixie").split()
HERE = Path(__file__).parent

Boot = Callable[..., Machine]


def pytest_configure(config: pytest.Config) -> None:
    # Fixtures end their machines however a run ends, if it is told in a way that Python
    # turns into an exception.
    signal.signal(signal.SIGTERM, _terminated)


def _terminated(signum: int, frame: object) -> None:
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # timeout(1) sends it twice; the second would cut the clearing away short
    pytest.exit("terminated", 143)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "release" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("one_release")
        metafunc.parametrize("release", RELEASES[-1:] if only else RELEASES, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.system)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Makes what the chosen tests boot, when all that is missing is time."""
    wanted = {
        name
        for item in session.items
        if item.path.is_relative_to(HERE)
        for name in getattr(item, "fixturenames", ())
    }
    if session.config.option.collectonly or not wanted & {"release"}:
        return
    if os.geteuid() != 0:
        _stop("tests/system boots machines, which only root can: make test asks sudo")
    for program in ("systemd-nspawn", "mmdebstrap"):
        if not shutil.which(program):
            _stop(f"tests/system boots machines and needs {program}: make test installs it")
    try:
        with _one_at_a_time():  # another process of the same run finds everything made
            _make(wanted)
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        _stop(f"what tests/system boots could not be made: {error}")


def _stop(why: str) -> NoReturn:
    # What another process (pytest-xdist) ends with is not shown, but that it has ended.
    if "PYTEST_XDIST_WORKER" in os.environ:
        print(why, file=sys.stderr)
    pytest.exit(why, 1)


def _make(wanted: set[str]) -> None:
    judges = {"judges", "judges_machine"}
    if wanted & {"deb_layers", "clean_machine", "installed_machine", *judges}:
        command = ["make", "--silent", "-C", str(REPOSITORY), "deb"]
        subprocess.run([*command, f"RELEASES={' '.join(RELEASES)}"], check=True)
    for release in RELEASES:
        root("tests", release)
        if "clean_machine" in wanted:
            root("clean", release)
        if wanted & judges:
            root("judges", release)
        if "pip_machine" in wanted:
            root("pip", release)


@pytest.fixture(scope="session")
def deb_layers() -> Iterator[Callable[[str], list[Path]]]:
    """The layers of a machine with the package installed, by release; dpkg runs once in
    a run, however many processes share out its tests.
    """
    with shared_by_run("layers") as directory:

        def layers(release: str) -> list[Path]:
            layer, made = directory / release, directory / f"{release}.made"
            with open(directory / f"{release}.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if made.exists():
                    return [layer, root("tests", release)]
                layer.mkdir()
                found = installed(release, layer)
                made.touch()
                return found

        yield layers


@contextmanager
def shared_by_run(name: str) -> Iterator[Path]:
    """A directory that all processes of a run share; the last one removes it. What is
    left by a run that was killed is swept up by the next boot, by the pid in its name.
    """
    run = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    directory = Path(tempfile.gettempdir(), f"{PREFIX}-{run}-{name}")
    with _one_at_a_time():
        directory.mkdir(mode=0o755, exist_ok=True)
        users = open(directory / "users", "w")
        fcntl.flock(users, fcntl.LOCK_SH)
    try:
        yield directory
    finally:
        with users, _one_at_a_time(), suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with open(__file__) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def machine(release: str, deb_layers: Callable[[str], list[Path]]) -> Iterator[Machine]:
    """The package installed, Flask and Django in /srv/venv; shared by the tests of the
    module.
    """
    with boot(release, *deb_layers(release)) as booted:
        yield booted


_MOUNT = """
    mkdir -p /run/disk && mknod /dev/disk-of-a-test b $1 $2 && mount -t ext4 /dev/disk-of-a-test /run/disk
    for each in lib cache; do mkdir /run/disk/$each; cp -a /var/$each/. /run/disk/$each/; mount --bind /run/disk/$each /var/$each; done
"""


@pytest.fixture(scope="module")
def disk(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The machine, with /var/lib and /var/cache on ext4, on which systemd maps the
    owners of a dynamic user's directories where it can.

    The kernel unmounts it, and lets go of the file, when the machine ends.
    """
    image = tmp_path_factory.mktemp("disk") / "image"
    with image.open("wb") as stream:
        stream.truncate(200 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    loop = subprocess.run(
        ["losetup", "--find", "--show", image], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        number = Path(loop).stat().st_rdev
        device = [str(os.major(number)), str(os.minor(number))]
        enter = ["nsenter", "--mount", "--target", str(machine.leader)]
        subprocess.run([*enter, "sh", "-euc", _MOUNT, "mount", *device], check=True)
    finally:
        # With its last mount, from here on.
        subprocess.run(["losetup", "--detach", loop], check=True)
    assert machine.run("stat", "-f", "-c", "%T", "/var/lib").stdout == "ext2/ext3\n"
    return machine


@pytest.fixture
def clean_machine(release: str) -> Iterator[Machine]:
    """A bare Debian, booted for this test alone: no python3, no package; what the
    package needs is in apt's cache.
    """
    with boot(release, root("clean", release)) as booted:
        yield booted


@pytest.fixture(scope="module")
def bare_machine(release: str) -> Iterator[Machine]:
    """No package, but what it depends on, and /srv/venv; shared by the tests of the
    module.
    """
    with boot(release, root("tests", release)) as booted:
        yield booted


@pytest.fixture
def boot_layers(release: str) -> Iterator[Boot]:
    """Boots any number of machines in one test: `boot_layers(*layers)`; all end with
    it.
    """
    with ExitStack() as stack:
        yield lambda *layers: stack.enter_context(boot(release, *layers))
