"""The sandbox of the shipped units: what apps live on works in it, what it is for is
refused, and each door has a field that opens it.

benchmarks/sandbox/check.py tries more of both with a program of its own; here it is the
package and real apps.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from instance import Instance
from machine import Machine
from process.visitor import Visitor, visit

# What `systemd-analyze security` may say of a unit at most; docs/sandbox.md tells how
# the options were chosen.
EXPOSURE = 1.5
APPS = {"flask": "everything:app", "django": "site_of_django"}
UPLOAD = b"0123456789abcdef" * (3 << 16)


@pytest.fixture(scope="module")
def surroundings(machine: Machine) -> Iterator[Machine]:
    """What the apps want of the machine: Debian's PostgreSQL as it is installed, with a
    role for each of them, and another server.
    """
    machine.copy(Path(__file__).with_name("needs"), "/srv/needs")
    machine.run("find", "/srv/needs", "-name", "__pycache__", "-exec", "rm", "-r", "{}", "+")
    cluster = machine.run(
        "sh", "-c", "pg_lsclusters --no-header | cut -d' ' -f1,2 | tr ' ' -"
    ).stdout.strip()
    machine.systemctl("start", f"postgresql@{cluster}.service")
    roles = "".join(f'create role "spyglass-{name}" login; ' for name in APPS)
    script = f"{roles} create database needs;\n\\connect needs\ncreate table visits (who text); grant all on visits to public;"
    machine.run("psql", "--quiet", "--set", "ON_ERROR_STOP=1", user="postgres", input=script)
    machine.write("/srv/other/greeting", "hello")
    server = machine.popen(
        "python3", "-m", "http.server", "--directory", "/srv/other", "--bind", "127.0.0.1", "9901"
    )
    yield machine
    server.terminate()
    server.wait()
    machine.systemctl("stop", f"postgresql@{cluster}.service")


def upload(instance: Instance) -> dict[str, object]:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        + UPLOAD
        + b"\r\n--x--\r\n"
    )
    head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with Visitor(instance.unix) as visitor:
        visitor.sock.sendall(head.encode() + body)
        answer = visitor.answer()
    assert answer.status == 200, answer.text + "\n".join(instance.said("info"))
    told: dict[str, object] = json.loads(answer.text)
    return told


@pytest.mark.parametrize("name", APPS)
def test_an_app_with_all_that_apps_have(surroundings: Machine, name: str) -> None:
    """SQLite in the state directory, uploads, TCP, and PostgreSQL by its unix socket as
    whom the kernel says it is.
    """
    settings = {
        "app": APPS[name],
        "directory": "/srv/needs",
        "venv": "/srv/venv",
        "idle_timeout": 1,
    }
    instance = Instance(surroundings, name, "", settings=settings).start()
    assert exposure(surroundings, instance.service) <= EXPOSURE
    for wake in (1, 2):
        told = upload(instance)
        assert told.pop("digest") == hashlib.sha256(UPLOAD).hexdigest()
        assert told == {
            "spooled": "/var/tmp",
            "tmp": ["/var/tmp", []],
            "visits": wake,
            "role": f"spyglass-{name}",
            "elsewhere": "hello",
        }
        surroundings.wait_until(instance.asleep, what="it sleeps")
    assert instance.said("warning") == []
    rows = surroundings.run(
        "psql",
        "--tuples-only",
        "--no-align",
        "needs",
        user="postgres",
        input=f"select count(*) from visits where who = '{name}'",
    )
    assert rows.stdout == "2\n"
    surroundings.systemctl("stop", instance.socket)


def exposure(machine: Machine, unit: str) -> float:
    said = machine.run("systemd-analyze", "security", "--no-pager", unit).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said
    return float(found[1])


# Each door, and what stands in front of it.
TRIES = """\
import json, mmap, os, pathlib, pwd, socket, tempfile

def jit():
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)

def write():
    with tempfile.TemporaryFile(dir="/srv/media"):
        pass

def tcp():
    socket.create_connection(("127.0.0.1", 9901), 5).close()

def database():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("/run/postgresql/.s.PGSQL.5432")

def come_to(attempt):
    try:
        attempt()
    except Exception as error:
        return type(error).__name__
    return "ok"

def app(environ, start_response):
    start_response("200 OK", [])
    told = {attempt.__name__: come_to(attempt) for attempt in (jit, write, tcp, database)}
    told["user"] = pwd.getpwuid(os.getuid()).pw_name
    return [json.dumps(told).encode()]
"""
CLOSED = {
    "jit": "PermissionError",
    "write": "OSError",
    "tcp": "ok",
    "database": "ok",
    "user": "spyglass-tries",
}
FIELDS: dict[str, tuple[dict[str, object], dict[str, str]]] = {
    "none": ({}, {}),
    "allow_jit": ({"allow_jit": True}, {"jit": "ok"}),
    "writable": ({"writable": ["/srv/media"]}, {"write": "ok"}),
    "network": ({"network": False}, {"tcp": "ConnectionRefusedError"}),
    "user": ({"user": "games"}, {"user": "games"}),
}


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_opens_its_door_and_no_other(surroundings: Machine, field: str) -> None:
    settings, opened = FIELDS[field]
    instance = Instance(surroundings, "tries", TRIES, settings={"listen": 8070} | settings).write()
    surroundings.run("install", "-d", "-m", "1777", "/srv/media")
    surroundings.run("spyglass", "apply", "tries")
    # By the port, which an app without a network of its own is visited on all the same.
    with surroundings.http(8070) as client:
        client.request("GET", "/")
        assert json.loads(client.getresponse().read()) == CLOSED | opened
    assert exposure(surroundings, instance.service) <= EXPOSURE
    surroundings.run("spyglass", "remove", "tries")
    assert instance.said("warning") == []


# What filters and RestrictAddressFamilies= would otherwise not hold, by number: the C
# library has no function for some (syscalls(2), x86-64).
BYPASSES = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "userfaultfd": 323, "process_vm_readv": 310,
    "process_vm_writev": 311, "process_madvise": 440, "pidfd_getfd": 438, "kcmp": 312, "ptrace": 101, "perf_event_open": 298,
}  # fmt: skip
CALLS = f"""\
import ctypes, errno, json

libc = ctypes.CDLL(None, use_errno=True)

def call(number):
    return "ok" if libc.syscall(number, 0, 0, 0, 0, 0, 0) >= 0 else errno.errorcode[ctypes.get_errno()]

def app(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps({{name: call(number) for name, number in {BYPASSES}.items()}}).encode()]
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
def test_there_is_no_way_around_the_filter(machine: Machine) -> None:
    instance = Instance(machine, "calls", CALLS).start()
    assert json.loads(visit(instance.unix).text) == dict.fromkeys(BYPASSES, "EPERM")
    machine.systemctl("stop", instance.socket)


SECRETIVE = """\
import json, os, pwd, flask

def app(environ, start_response):
    with open(os.environ["CREDENTIALS_DIRECTORY"] + "/key") as file:
        key = file.read()
    told = {"key": key, "user": pwd.getpwuid(os.getuid()).pw_name, "environment": sorted(os.environ)}
    start_response("200 OK", [])
    return [json.dumps(told).encode()]
"""


def secretive(machine: Machine, name: str) -> Instance:
    settings = {
        "venv": "/srv/venv",
        "idle_timeout": 1,
        "credentials": [f"key=/etc/spyglass/{name}.key"],
    }
    return Instance(machine, name, SECRETIVE, settings=settings).write()


# What systemd sets for each service, and what the unit does.
ENVIRONMENT = {
    *(
        "CACHE_DIRECTORY",
        "CREDENTIALS_DIRECTORY",
        "HOME",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "LANG",
        "LC_CTYPE",
        "LOGNAME",
    ),
    *(
        "MEMORY_PRESSURE_WATCH",
        "MEMORY_PRESSURE_WRITE",
        "PATH",
        "SHELL",
        "STATE_DIRECTORY",
        "SYSTEMD_EXEC_PID",
        "TMPDIR",
        "USER",
        "VIRTUAL_ENV",
    ),
}


def test_a_secret_is_the_apps_alone_and_none_is_in_its_environment(machine: Machine) -> None:
    instance = secretive(machine, "secretive")
    machine.write("/etc/spyglass/secretive.key", "open sesame", 0o600)
    machine.run("spyglass", "apply", "secretive")
    told = json.loads(visit(instance.unix).text)
    assert (told["key"], told["user"]) == ("open sesame", "spyglass-secretive")
    assert set(told["environment"]) - ENVIRONMENT == set()
    for user in ("nobody", "www-data"):
        assert (
            machine.run(
                "cat", "/run/credentials/spyglass@secretive.service/key", user=user, check=False
            ).returncode
            != 0
        )
    for process in machine.processes("spyglass@secretive"):
        assert "open sesame" not in machine.run("cat", f"/proc/{process.pid}/environ").stdout
    machine.run("spyglass", "remove", instance.name)


def test_a_secret_that_is_missing_keeps_visitors_waiting_until_it_is_there(
    machine: Machine,
) -> None:
    instance = secretive(machine, "missing")
    machine.write("/etc/spyglass/missing.key", "found", 0o600)
    machine.run("spyglass", "apply", "missing")
    machine.run("rm", "/etc/spyglass/missing.key")
    with Visitor(instance.unix) as visitor:
        visitor.send()

        def tried_again() -> bool:
            state = instance.state()
            return int(state["NRestarts"]) >= 1 and state["ExecMainStatus"] == "243"

        machine.wait_until(tried_again, 30, "it has been tried more than once")
        assert machine.state(instance.socket)["ActiveState"] == "active"
        assert any("CREDENTIALS" in line for line in instance.said("err"))
        said = machine.run("spyglass", "check", "missing", check=False)
        assert (said.returncode, "/etc/spyglass/missing.key" in said.stderr) == (78, True), (
            said.stderr
        )
        machine.write("/etc/spyglass/missing.key", "found", 0o600)
        assert json.loads(visitor.answer().text)["key"] == "found"
    machine.run("spyglass", "remove", instance.name)


CAUGHT = """\
import flask

app = flask.Flask(__name__)

@app.get("/<name>")
def write(name):
    with open(f"/srv/apps/caught/{name}", "w") as file:
        file.write(name)
    return "written"
"""


def test_what_a_request_is_refused_is_explained_once_though_flask_has_caught_it(
    machine: Machine,
) -> None:
    instance = Instance(
        machine, "caught", CAUGHT, settings={"venv": "/srv/venv", "idle_timeout": 60, "workers": 1}
    ).start()
    for name in ("a", "b", "c"):
        assert visit(instance.unix, f"/{name}").status == 500

    def logged() -> bool:
        return sum("Read-only file system" in line for line in instance.said("debug")) >= 3

    machine.wait_until(logged, what="it has been logged")
    [hint] = [
        line
        for line in instance.said("err")
        if "(the file system is read-only in the sandbox" in line
    ]
    assert 'or set writable = ["/srv/apps/caught"]' in hint
    machine.run("spyglass", "remove", instance.name)


LOOK = """\
import importlib.util, json, os, shutil, site, sys, sysconfig
def look():
    debian = [name for name in ("systemd", "spyglass_of_debian", "apt_pkg") if importlib.util.find_spec(name)]
    return [sys.executable, sys.prefix, sys.base_prefix, site.PREFIXES, site.getsitepackages(), sysconfig.get_paths(), debian]
"""
OWN = """\
import subprocess
def app(environ, start_response):
    start_response("200 OK", [])
    child = subprocess.run([sys.executable, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True)
    return [json.dumps([look(), sys.path, child.stdout + child.stderr, os.environ["PATH"]]).encode()]
"""


def test_an_environment_of_its_own_is_what_its_python_shows(machine: Machine) -> None:
    instance = Instance(
        machine, "inside", LOOK + OWN, settings={"venv": "/srv/venv", "idle_timeout": 60}
    ).start()
    seen, path, child, where = json.loads(visit(instance.unix).text)
    shown = machine.run("/srv/venv/bin/python3", "-c", f"{LOOK}\nprint(json.dumps(look()))").stdout
    assert seen == json.loads(shown)
    assert [each for each in path if "dist-packages" in each] == []
    assert child == "/srv/venv\n"
    assert where.startswith("/srv/venv/bin:")
    machine.run("spyglass", "remove", instance.name)


PLANT = r"""
import os, site

def app(environ, start_response):
    folder = site.getusersitepackages()
    os.makedirs(folder, exist_ok=True)
    for name, text in (("usercustomize.py", "import os\n{}"), ("planted.pth", "import os; {}\n")):
        with open(os.path.join(folder, name), "w") as stream:
            stream.write(text.format("open(os.path.join(os.environ['HOME'], 'ran'), 'w').close()"))
    start_response("200 OK", [])
    return [folder.encode()]
"""


def test_what_an_app_leaves_in_its_home_does_not_run_in_the_next_master(machine: Machine) -> None:
    instance = Instance(machine, "planted", PLANT, settings={"idle_timeout": 1}).start()
    for _ in range(2):
        assert visit(instance.unix).text.startswith("/var/lib/spyglass/planted/.local/lib/python3")
        machine.wait_until(instance.asleep, what="it sleeps")
    left = machine.run(
        "find", "/var/lib/private/spyglass/planted/", "-name", "planted.pth", "-o", "-name", "ran"
    ).stdout.split()
    assert [path.rpartition("/")[2] for path in left] == ["planted.pth"]
    machine.systemctl("stop", instance.socket)


@pytest.mark.one_release
def test_code_is_compiled_once_and_again_where_that_is_damaged(machine: Machine) -> None:
    """The app and its environment elsewhere are read-only. The files of the cache say
    whether they were written again.
    """
    instance = secretive(machine, "cached")
    machine.write("/etc/spyglass/cached.key", "x", 0o600)
    # What pip has compiled when it installed the environment, and Debian its Python, is
    # read where it is.
    assert machine.run("spyglass", "check", "cached").returncode == 0
    checked = byte_code(machine)
    assert [path for path in checked if "/pycache/srv/apps/cached/app." in path]
    assert [
        path for path in checked if "/pycache/srv/venv/" in path or "/pycache/usr/" in path
    ] == []
    machine.run(
        "find", "/srv/venv/", "-name", "__pycache__", "-prune", "-exec", "rm", "-r", "{}", "+"
    )
    # The administrator's check is the first to compile, and in the cache of the
    # service.
    assert machine.run("spyglass", "check", "cached").returncode == 0
    checked = byte_code(machine)
    assert [path for path in checked if "/pycache/srv/apps/cached/app." in path]
    assert (
        len([path for path in checked if "/pycache/srv/venv/lib/" in path and "/flask/" in path])
        > 10
    )
    machine.run("spyglass", "apply", "cached")
    for _ in range(2):
        assert visit(instance.unix).status == 200
        machine.wait_until(instance.asleep, what="it sleeps")
        written = byte_code(machine)
        assert {path: written[path] for path in checked} == checked, "none of it was written again"
    [victim] = [path for path in written if re.search(r"/flask/app\.[^/]*\.pyc$", path)]
    machine.run("truncate", "--size=100", victim)
    assert visit(instance.unix).status == 503
    assert any("byte code was damaged" in line for line in instance.said("err"))
    machine.wait_until(lambda: visit(instance.unix).status == 200, 30, "it is served")
    # What Spyglass itself has imported meanwhile may differ, for it has told of a
    # failure.
    assert {path for path in byte_code(machine) if "/srv/" in path} == {
        path for path in written if "/srv/" in path
    }
    machine.run("spyglass", "remove", instance.name)


def byte_code(machine: Machine) -> dict[str, str]:
    """Each file of the cache, and which file that is and when it was written."""
    found = machine.run(
        "find", "/var/cache/spyglass/cached/", "-name", "*.pyc", "-printf", "%p %i %T@\n"
    ).stdout
    return dict(line.split(" ", 1) for line in found.splitlines())
