"""What `make release` makes, as its users get it: from the APT repository, with the
signature verified, and by pip with `spyglass units install`.

The release is that of the working tree: copied, committed and tagged elsewhere. A
machine has no network, so a static file server of ours is on its loopback, and what pip
would fetch lies in /srv/wheels (packaging/root).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import shared_by_run
from machine import REPOSITORY, Machine, boot, root
from typed import Page, do

PORT = 8080
URL = f"http://127.0.0.1:{PORT}"
NEWER = "99.0.0"
SOURCES = "/etc/apt/sources.list.d/spyglass.sources"
KEYRING = "/etc/apt/keyrings/spyglass.asc"
APP = """\
import spyglass

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [spyglass.__version__.encode()]
"""

# The first test of a process makes the release.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Release:
    version: str
    tree: Path  # what it was made of
    files: Path  # dist/release

    def one(self, pattern: str) -> Path:
        [found] = self.files.glob(pattern)
        return found


def git(tree: Path, *words: str) -> None:
    identity = ["-c", "user.name=Tests", "-c", "user.email=tests@example.org"]
    subprocess.run(["git", "-C", tree, *identity, *words], check=True, capture_output=True)


def copy_tree(target: Path) -> None:
    """Copy the working tree, as it would be committed now."""
    words = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(
        ["git", "-C", REPOSITORY, *words], check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).exists():  # not deleted
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name, follow_symlinks=False)


def set_version(tree: Path, heading: str) -> str:
    """Write the first heading of CHANGELOG.md, and what follows from it. Return the
    version.
    """
    changelog = tree / "CHANGELOG.md"
    text = changelog.read_text("utf-8")
    changelog.write_text(re.sub(r"^## (.*)$", heading, text, count=1, flags=re.M), "utf-8")
    command = [sys.executable, tree / "packaging/release", "version"]
    subprocess.run(command, check=True, capture_output=True)
    found = re.search(r"^## (\S+)", changelog.read_text("utf-8"), re.M)
    assert found
    return found[1]


def make_key(home: Path) -> Path:
    """Make a key without a passphrase. Return the file of the secret key."""
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", ""]
    name = "Spyglass tests <tests@example.org>"
    subprocess.run([*gpg, "--quick-generate-key", name, "ed25519", "sign", "never"], check=True)
    secret = home / "secret.asc"
    subprocess.run([*gpg, "--armor", "--output", secret, "--export-secret-keys"], check=True)
    return secret


def make(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # Not as a part of the make that runs the tests.
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    environ["DEB_BUILD_OPTIONS"] = "noopt"  # how fast it is, none of these tests asks
    return subprocess.run(["make", *words], cwd=tree, env=environ, capture_output=True, text=True)


@pytest.fixture(scope="session")
def released() -> Iterator[Release]:
    """The release, made once in a run, however many processes share out its tests."""
    with shared_by_run("release") as base:
        tree, made = base / "tree", base / "version"
        with open(base / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                made.write_text(make_release(tree, base / "key"))
        yield Release(made.read_text(), tree, tree / "dist/release")


def make_release(tree: Path, home: Path) -> str:
    """Commit and tag a copy of the working tree, and make its release. Return its
    version.
    """
    copy_tree(tree)
    version = set_version(tree, r"## \1")
    set_version(tree, f"## {version} (2026-12-24)")
    git(tree, "init", "--quiet")
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "The tree that is tested")
    git(tree, "tag", f"v{version}")
    try:
        done = make(tree, "release", f"KEY={make_key(home)}", f"URL={URL}")
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return version


@pytest.fixture(scope="session")
def newer(released: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a later version."""
    base = tmp_path_factory.mktemp("newer")
    shutil.copytree(released.tree, base / "tree", ignore=shutil.ignore_patterns("dist", ".git"))
    set_version(base / "tree", f"## {NEWER} (2026-12-25)\n\n## {released.version} (2026-12-24)")
    build(base / "tree", base / "dist")
    [wheel] = (base / "dist").glob("*.whl")
    return wheel


def build(tree: Path, output: Path, **options: object) -> None:
    """Build sdist and wheel with what `make release` builds them with."""
    cache = os.environ.get("ROOTS_CACHE") or Path.home() / ".cache/spyglass"
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "import release_files; release_files.distributions(Path(sys.argv[2]), Path(sys.argv[3]))"
    )
    argv = [Path(cache, "release/bin/python"), "-c", script, tree / "packaging/release"]
    subprocess.run([*argv, tree, output], check=True, **options)


# The files


def test_the_files_are_all_there_and_the_sums_are_signed(released: Release) -> None:
    names = {path.name for path in released.files.iterdir()}
    assert {re.sub(r"_[a-z0-9]+\.deb", ".deb", name) for name in names} == {
        *(f"spyglass_{released.version}.{suffix}.deb" for suffix in ("deb12u1", "deb13u1")),
        f"spyglass-{released.version}.tar.gz",
        f"spyglass-{released.version}-py3-none-any.whl",
        f"spyglass-apt-{released.version}.tar.gz",
        *("apt", "SHA256SUMS", "SHA256SUMS.asc", "spyglass.asc", "spyglass.gpg"),
    }
    sums = (released.files / "SHA256SUMS").read_text()
    assert len(sums.splitlines()) == 5
    for line in sums.splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((released.files / name).read_bytes()).hexdigest() == digest
    # As docs/install.md shows it.
    verify = ["gpgv", "--keyring", "./spyglass.gpg", "SHA256SUMS.asc", "SHA256SUMS"]
    subprocess.run(verify, cwd=released.files, check=True, capture_output=True)


def test_sdist_and_wheel_are_reproducible(released: Release, tmp_path: Path) -> None:
    """The same bytes from another directory, by another umask, in another time zone."""
    tree = tmp_path / "elsewhere"
    shutil.copytree(released.tree, tree, ignore=shutil.ignore_patterns("dist", ".git"))
    subprocess.run(["chmod", "-R", "g-rwx,o-rwx", tree], check=True)
    build(tree, tmp_path / "dist", umask=0o077, env=os.environ | {"TZ": "XYZ-13:37"})
    for path in (tmp_path / "dist").iterdir():
        assert path.read_bytes() == (released.files / path.name).read_bytes(), path.name


# The APT repository


class Server:
    """Serves a directory on the loopback of a machine."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self.directory = directory
        handler = functools.partial(_Handler, self)
        with machine.network():
            self._server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, server: Server, *words: object) -> None:
        super().__init__(*words, directory=str(server.directory))

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(machine: Machine, directory: Path) -> Iterator[Server]:
    server = Server(machine, directory)
    try:
        yield server
    finally:
        server.close()


def apt(machine: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {"DEBIAN_FRONTEND": "noninteractive"}
    return machine.run("apt-get", "--yes", *words, env=environ, check=False, timeout=120)


def update(machine: Machine) -> subprocess.CompletedProcess[str]:
    """`apt update` for our repository alone: that of Debian cannot be reached."""
    only = ("Dir::Etc::sourcelist=/dev/null", "APT::Get::List-Cleanup=0")
    options = [word for option in only for word in ("-o", option)]
    # Without this, a source that fails is a warning if there are others.
    return apt(machine, *options, "-o", "APT::Update::Error-Mode=any", "update")


def script(released: Release, machine: Machine) -> str:
    """What INSTALL.txt tells an administrator to type, for this release of Debian."""
    text = (released.files / "apt/INSTALL.txt").read_text()
    lines = [line.strip() for line in text.split("\n") if line.startswith("    ")]
    commands = [line for line in lines if not re.match(r"[0-9A-F]{40}$|gpg ", line)]
    return "\n".join(commands).replace("trixie", machine.release) + "\n"


def is_installed(machine: Machine) -> bool:
    return machine.run("test", "-e", "/usr/bin/spyglass", check=False).returncode == 0


def test_apt_installs_from_the_repository(clean_machine: Machine, released: Release) -> None:
    machine = clean_machine
    typed = script(released, machine)
    assert "apt install spyglass" in typed
    typed = typed.replace("apt install", "apt-get --yes install")
    with served(machine, released.files / "apt"):
        said = machine.run("bash", "-euc", typed, timeout=200)
    assert "authenticated" not in said.stdout + said.stderr
    assert f"Get:1 {URL} {machine.release}/main" in said.stdout
    shown = machine.run("apt-cache", "policy", "spyglass").stdout
    assert f"Installed: {released.version}~deb1" in shown
    machine.systemctl("start", "spyglass.socket")
    assert "Spyglass is awake" in machine.run("curl", "-s", "localhost:4222").stdout
    # It has its units, and only those.
    assert (
        machine.run("find", "/usr/lib/python3/dist-packages/spyglass/units", check=False).stdout
        == ""
    )
    refused = machine.run("spyglass", "units", "install", check=False)
    assert refused.returncode == 78
    assert "the Debian package is installed and has its own units" in refused.stderr


def tampered(released: Release, target: Path, kind: str, suite: str) -> Path:
    """A copy of the repository, changed without the key."""
    shutil.copytree(released.files / "apt", target)
    base = target / "dists" / suite
    if kind == "package":
        [deb] = (target / "pool" / suite).glob("spyglass_*.deb")
        data = bytearray(deb.read_bytes())
        data[-1] ^= 1
        deb.write_bytes(data)
    elif kind == "index":
        for path in base.rglob("*"):
            if path.is_file() and "binary-" in str(path):
                path.write_bytes(path.read_bytes()[::-1])
    elif kind == "release":
        text = (base / "InRelease").read_text()
        (base / "InRelease").write_text(text.replace("Label: Spyglass", "Label: spyglass"))
    else:
        # Not signed, or signed by another key.
        for name in ("InRelease", "Release.gpg"):
            (base / name).unlink()
        if kind == "key":
            home = target / "key"
            make_key(home)
            gpg = ["gpg", "--homedir", home, "--batch", "--quiet"]
            subprocess.run(
                [*gpg, "--output", base / "InRelease", "--clear-sign", base / "Release"], check=True
            )
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
    return target


def test_apt_refuses_what_was_tampered_with(
    clean_machine: Machine, released: Release, tmp_path: Path
) -> None:
    machine = clean_machine
    suite = machine.release
    machine.copy(released.files / "apt/spyglass.asc", KEYRING)
    machine.copy(released.files / f"apt/spyglass-{suite}.sources", SOURCES)
    with served(machine, tmp_path) as server:
        for kind in ("release", "unsigned", "key", "index"):
            server.directory = tampered(released, tmp_path / kind, kind, suite)
            said = update(machine)
            assert said.returncode != 0, (kind, said.stdout, said.stderr)
            said = apt(machine, "install", "spyglass")
            assert said.returncode != 0, (kind, said.stdout, said.stderr)
            assert not is_installed(machine)
        server.directory = tampered(released, tmp_path / "package", "package", suite)
        said = update(machine)
        assert said.returncode == 0, said.stdout + said.stderr
        said = apt(machine, "install", "spyglass")
        assert said.returncode != 0, said.stdout
        assert "Hash Sum mismatch" in said.stderr or "unexpected size" in said.stderr
        assert not is_installed(machine)
        # And nothing is refused that should not be.
        server.directory = released.files / "apt"
        assert update(machine).returncode == 0
        said = apt(machine, "install", "spyglass")
        assert said.returncode == 0, said.stdout + said.stderr
        assert is_installed(machine)


# pip


@pytest.fixture(scope="module")
def pip_machine(release: str, released: Release, newer: Path) -> Iterator[Machine]:
    """A machine without the package, but with Python and a compiler."""
    with boot(release, root("pip", release)) as machine:
        for path in (released.one("*.whl"), released.one("spyglass-[0-9]*.tar.gz"), newer):
            machine.copy(path, f"/root/{path.name}")
        yield machine


def make_venv(machine: Machine, venv: str, *options: str) -> None:
    machine.run("python3", "-m", "venv", *options, venv, timeout=200)


def pip_install(machine: Machine, venv: str, what: str, *options: str) -> None:
    offline = ("--quiet", "--no-index", "--find-links", "/srv/wheels")
    machine.run(f"{venv}/bin/pip", "install", *offline, *options, what, timeout=200)


def spyglass(machine: Machine, *words: str, check: bool = True) -> str:
    done = machine.run("spyglass", *words, check=check)
    return done.stdout + done.stderr


def stays_awake(machine: Machine, name: str) -> None:
    """What is done with a running app takes longer than the default idle_timeout."""
    machine.run("sh", "-c", f"echo idle_timeout = 600 >>/etc/spyglass/{name}.toml")


def get(machine: Machine, port: int) -> str:
    return machine.run("curl", "-s", "--max-time", "30", f"localhost:{port}").stdout


def files(machine: Machine) -> set[str]:
    places = ("/etc", "/usr", "/var", "/run")
    found = machine.run("find", *places, "-xdev", "-iname", "*spyglass*").stdout
    return {path for path in found.splitlines() if not path.startswith("/run/spyglass-admin")}


def test_pip_and_units(pip_machine: Machine, released: Release) -> None:
    """The README on it, an upgrade, a downgrade and the way back."""
    machine = pip_machine
    before = files(machine)
    wheel = f"/root/{released.one('*.whl').name}"
    make_venv(machine, "/opt/spyglass")
    pip_install(machine, "/opt/spyglass", wheel)
    said = machine.run("/opt/spyglass/bin/spyglass", "units", "install").stdout
    assert f"they run /opt/spyglass/bin/spyglass, Spyglass {released.version}" in said
    machine.run("ln", "-s", "/opt/spyglass/bin/spyglass", "/usr/local/bin/spyglass")
    assert "nothing to do" in spyglass(machine, "units", "install")
    spyglass(machine, "units", "show")

    make_venv(machine, "/srv/venv")
    pip_install(machine, "/srv/venv", "flask")
    readme = Page("README.md")
    assert "Spyglass is awake" in do(machine, readme.typed("An app under systemd"))
    assert "Hello from Flask\n" in do(machine, readme.typed("Flask"))
    assert "sandbox: spyglass@hello.service" in spyglass(machine, "check", "hello")
    assert machine.state("spyglass@hello.service")["MainPID"] != "0"
    machine.systemctl("reload", "spyglass@hello")
    machine.systemctl("disable", "--now", "spyglass.socket", "spyglass.service")
    machine.run("rm", "-rf", "/var/cache/private/spyglass/_default")
    assert "nothing wrong" in spyglass(machine, "doctor")

    machine.write("/srv/version/app.py", APP)
    spyglass(machine, "new", "version", "/srv/version", "--listen", "8002")
    stays_awake(machine, "version")
    spyglass(machine, "apply", "version")
    assert get(machine, 8002) == released.version
    for what, version in ((f"/root/{_wheel(NEWER)}", NEWER), (wheel, released.version)):
        pip_install(machine, "/opt/spyglass", what, "--no-deps", "--force-reinstall")
        assert "units install" in spyglass(machine, "doctor", check=False)
        said = spyglass(machine, "units", "install")
        assert "updated" in said
        assert "spyglass@version.service" in said
        machine.wait_until(
            lambda version=version: get(machine, 8002) == version, 30, f"it runs {version}"
        )
        assert machine.state("spyglass@version.socket")["ActiveState"] == "active"

    refused = spyglass(machine, "units", "remove", check=False)
    assert "these apps still need the units: hello, version" in refused
    spyglass(machine, "remove", "--purge", "hello", "version")
    assert "deleted from /etc/systemd/system" in spyglass(machine, "units", "remove")
    assert "nothing to do" in spyglass(machine, "units", "remove")
    assert machine.processes() == []
    assert machine.systemctl("list-units", "--plain", "--no-legend", "spyglass*") == ""
    machine.run("rm", "-r", "/opt/spyglass", "/usr/local/bin/spyglass")
    machine.run("rm", "-rf", "/var/lib/private/spyglass", "/var/cache/private/spyglass")
    left = files(machine) - before
    assert {path for path in left if path.count("/") > 3} == set(), left


def _wheel(version: str) -> str:
    return f"spyglass-{version}-py3-none-any.whl"


def test_pip_from_the_sdist(pip_machine: Machine, released: Release) -> None:
    machine = pip_machine
    make_venv(machine, "/opt/source")
    pip_install(machine, "/opt/source", f"/root/{released.one('spyglass-[0-9]*.tar.gz').name}")
    command = "/opt/source/bin/spyglass"
    machine.run(command, "units", "install")
    machine.systemctl("start", "spyglass.socket")
    assert "Spyglass is awake" in get(machine, 4222)
    machine.systemctl("stop", "spyglass.socket", "spyglass.service")
    machine.run(command, "units", "remove")


def test_an_environment_that_cannot_serve_is_refused(
    pip_machine: Machine, released: Release
) -> None:
    machine = pip_machine
    make_venv(machine, "/srv/maker")
    pip_install(machine, "/srv/maker", f"/root/{released.one('*.whl').name}")
    closed, opened = "/root/refused", "/opt/refused"
    for venv in (closed, opened):
        # Without pip, which takes long, and with what was compiled once.
        machine.run("cp", "-a", "/srv/maker", venv)
        machine.run("sed", "-i", f"1s,/srv/maker,{venv},", f"{venv}/bin/spyglass")

    def refused(venv: str) -> str:
        done = machine.run(f"{venv}/bin/spyglass", "units", "install", check=False)
        assert done.returncode == 78, done.stdout + done.stderr
        assert "spyglass" not in machine.run("ls", "/etc/systemd/system").stdout
        return done.stderr

    assert "(/root has mode 0700)" in refused(closed)
    lib = f"{opened}/lib"
    for change, undo, what in (
        (f"chmod 700 {opened}", f"chmod 755 {opened}", f"chmod -R go+rX {opened}"),
        (f"chown daemon {lib}", f"chown root {lib}", f"{lib} belongs to daemon"),
        (f"chmod o+w {lib}", f"chmod o-w {lib}", f"{lib} is writable by other users"),
    ):
        machine.run("sh", "-c", change)
        assert what in refused(opened)
        machine.run("sh", "-c", undo)
    # Nothing else was wrong with it.
    machine.run(f"{opened}/bin/spyglass", "units", "install")
    machine.run(f"{opened}/bin/spyglass", "units", "remove")


def test_from_pip_to_the_package(release: str, released: Release, bare_machine: Machine) -> None:
    """With Debian's python3-systemd nothing is compiled. An app goes on under the
    package's units.
    """
    machine = bare_machine
    httptools = next((root("pip", release) / "srv/wheels").glob("httptools-*.whl"))
    number = "12" if release == "bookworm" else "13"
    deb = released.one(f"*.deb{number}u1_*.deb")
    for path in (released.one("*.whl"), httptools, deb):
        machine.copy(path, f"/srv/wheels/{path.name}")
    make_venv(machine, "/opt/spyglass", "--system-site-packages")
    pip_install(machine, "/opt/spyglass", f"/srv/wheels/{released.one('*.whl').name}")
    command = "/opt/spyglass/bin/spyglass"
    machine.run(command, "units", "install")
    # Packages in the app's home, which it can write, must not run in its Master.
    assert f"/opt/spyglass/bin/python3 -s {command} serve" in machine.read(
        "/etc/systemd/system/spyglass@.service"
    )
    machine.write("/srv/app/app.py", APP)
    machine.run(command, "new", "moving", "/srv/app", "--listen", "8001")
    stays_awake(machine, "moving")
    machine.run(command, "apply", "moving")
    assert get(machine, 8001) == released.version
    before = machine.state("spyglass@moving.service")["MainPID"]
    machine.run("ln", "-s", command, "/usr/local/bin/spyglass")
    assert "successfully" in do(machine, Page("README.md").typed("Django"))
    for words in (["list"], ["status", "blog"], ["check", "blog"], ["reload", "blog"]):
        spyglass(machine, *words)
    assert "nothing wrong" in spyglass(machine, "doctor")
    spyglass(machine, "remove", "--purge", "blog")
    machine.run("rm", "/usr/local/bin/spyglass")

    machine.run("dpkg", "--install", f"/srv/wheels/{deb.name}")
    assert "hides the package's" in machine.run("/usr/bin/spyglass", "doctor").stdout
    said = machine.run("/usr/bin/spyglass", "units", "remove").stdout
    assert "restarted: spyglass@moving.service" in said

    def moved() -> bool:
        state = machine.state("spyglass@moving.service")
        return state["MainPID"] not in ("0", before) and "/usr/bin/spyglass" in state["ExecStart"]

    machine.wait_until(moved, 30, "the package's program runs")
    assert get(machine, 8001) == released.version
    refused = machine.run(command, "units", "install", check=False)
    assert "the Debian package is installed" in refused.stderr

    # And back.
    machine.run("dpkg", "--remove", "spyglass")
    machine.run(command, "units", "install")
    machine.run(command, "apply", "moving")
    assert get(machine, 8001) == released.version
    assert command in machine.state("spyglass@moving.service")["ExecStart"]
    assert "nothing wrong" in machine.run(command, "doctor").stdout
