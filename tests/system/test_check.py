"""`spyglass check NAME`: in the sandbox of the app's own unit, whatever the app itself
does meanwhile, and nothing is left of it.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest
from instance import Instance
from machine import Machine
from process.visitor import visit

WHO = """\
import os, pwd, sys
print("who:", pwd.getpwuid(os.getuid()).pw_name, os.getcwd(), os.environ.get("SECRET"), flush=True)
if "check" in sys.argv and os.path.exists("/srv/apps/hold"):
    import time
    print("held", flush=True)
    while os.path.exists("/srv/apps/hold"):
        time.sleep(0.05)
path = os.environ["STATE_DIRECTORY"] + "/kept"

def app(environ, start_response):
    with open(path, "a") as kept:  # by the user that it is, in the directory that it has
        kept.write("x")
    start_response("200 OK", [])
    return [f"{os.getuid()} {os.stat(path).st_uid} {len(open(path).read())} {sorted(os.listdir('/dev/shm'))} {os.getpid()}".encode()]
"""


Check = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def check(machine: Machine) -> Check:
    return lambda *words, **more: machine.run("spyglass", "check", *words, check=False, **more)


@pytest.fixture(autouse=True)
def nothing_is_left(machine: Machine) -> Iterator[None]:
    yield
    machine.run("rm", "-f", "/srv/apps/hold")
    assert traces(machine) == ""


def traces(machine: Machine) -> str:
    """Of a check: its unit, in a file or in systemd's memory, its pipes, its
    processes.
    """
    units = machine.systemctl("list-units", "--all", "--plain", "--no-legend", "spyglass-check*")
    files = machine.run("find", "/run", "/tmp", "-xdev", "-name", "*spyglass-check*").stdout
    return units + files + "".join(process.unit for process in machine.processes("spyglass-check*"))


@pytest.fixture(scope="module")
def who(machine: Machine) -> Iterator[Instance]:
    """Listens, and asleep."""
    instance = Instance(machine, "who", WHO, settings={"idle_timeout": 1})
    machine.write(
        f"/etc/systemd/system/{instance.service}.d/more.conf",
        "[Service]\nEnvironment=SECRET=%i-%N\n",
    )
    machine.write(f"/etc/spyglass/{instance.name}.env", "UNUSED=1\n", 0o600)
    yield instance.start()
    machine.systemctl("stop", instance.socket)


def test_as_the_services_user_in_its_sandbox_and_no_app_wakes(
    machine: Machine, who: Instance, check: Check
) -> None:
    before = who.state()
    done = check("who")
    assert (done.returncode, done.stderr) == (0, "")
    # Whether an import is worth a line depends on the machine.
    lines = [line for line in done.stdout.splitlines() if not line.startswith("imports: ")]
    assert lines[0] == "addresses: /run/spyglass/who.sock; spyglass@who.socket listens"
    assert lines[1].startswith(
        "sandbox: spyglass@who.service, as spyglass-who, with /etc/systemd/system/spyglass@who.service.d/more.conf"
    )
    # Specifiers of the drop-in are those of the service.
    assert "who: spyglass-who /srv/apps/who who-spyglass@who" in lines
    assert lines[-3].startswith("app: app:app, loaded in ")
    assert lines[-2:] == ["preload: on (no problems found)", "who: can be served"]
    assert who.asleep()
    after = who.state()
    assert [after[each] for each in ("InvocationID", "NRestarts", "Result")] == [
        before[each] for each in ("InvocationID", "NRestarts", "Result")
    ]


def test_while_the_app_is_awake(machine: Machine, who: Instance, check: Check) -> None:
    """They have one user and one state directory: what the check gives back when it
    ends is still the app's.
    """
    with machine.connect("/run/spyglass/who.sock"):  # keeps it awake
        uid, owner, length, *_ = visit(who.unix).text.split()
        assert uid == owner
        main, invocation = (who.state()[each] for each in ("MainPID", "InvocationID"))
        for _ in range(2):
            assert check("who").returncode == 0
        again = visit(who.unix).text.split()
        assert again[:3] == [uid, uid, str(int(length) + 1)]
        assert [who.state()[each] for each in ("MainPID", "InvocationID")] == [main, invocation]
    machine.wait_until(who.asleep, what="it sleeps")
    assert who.state()["Result"] == "success"


def test_an_app_that_wakes_and_leaves_while_it_is_checked(machine: Machine, who: Instance) -> None:
    machine.write("/srv/apps/hold", "")
    checking = machine.popen(
        "spyglass", "check", "who", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert checking.stdout is not None
    assert "held\n" in iter(checking.stdout.readline, "")
    uid, owner, *_ = visit(who.unix).text.split()
    assert uid == owner
    machine.wait_until(who.asleep, what="it sleeps")
    uid_again, owner_again, *_ = visit(who.unix).text.split()
    assert (uid_again, owner_again) == (uid, uid), "the check holds on to the user, who is the same"
    machine.run("rm", "/srv/apps/hold")
    said, _ = checking.communicate(timeout=30)
    assert checking.returncode == 0, said
    assert visit(who.unix).text.split()[0] == uid
    machine.wait_until(who.asleep, what="it sleeps")


def test_what_the_check_says_comes_at_once_and_an_interrupt_is_obeyed(
    machine: Machine, who: Instance
) -> None:
    for number, status in (
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 129),
        (signal.SIGKILL, None),
    ):
        machine.write("/srv/apps/hold", "")
        # Whoever runs us in the background has us ignore SIGINT, and everybody that we
        # start.
        run = "echo $$; exec env --default-signal=INT spyglass check who"
        checking = machine.popen("sh", "-c", run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert checking.stdout is not None
        pid = checking.stdout.readline().strip()
        assert "held\n" in iter(checking.stdout.readline, "")
        machine.run("kill", f"-{number:d}", pid)
        said, _ = checking.communicate(timeout=30)
        assert "Traceback" not in said
        if status is not None:
            assert checking.returncode == status, said
            assert traces(machine) == ""
    # Whoever was killed has left everything behind. The next one clears it away, and is
    # not disturbed by it.
    assert traces(machine) != ""
    machine.run("rm", "/srv/apps/hold")
    assert machine.run("spyglass", "check", "who").returncode == 0


BROKEN = {
    "a read-only disk": ("open('/srv/apps/broken/x', 'w')\n", {}, 'or set writable = ["/srv/apps/broken"]'),
    "code made at run time": ("import mmap\nmmap.mmap(-1, 4096, prot=7)\n", {}, "allow_jit = true"),
    "an address family": ("import socket\nsocket.if_nameindex()\n", {}, "RestrictAddressFamilies="),
    "a privilege": ("import os\nos.nice(1)\n", {}, "see the table in docs/sandbox.md"),
    "a variable": ("import os\nos.environ['SECRET_KEY']\n", {}, "SECRET_KEY is not in the service's environment"),
    "a home directory": (
        "", {"directory": "/home/ada/blog"},
        "directory: /home/ada/blog cannot be reached, /home/ada is not accessible to the app's dynamic user (mode 0700): move it somewhere else",
    ),
    "an environment": ("", {"venv": "/home/ada/venv"}, "venv: "),
    "a setting": ("", {"workers": 0}, "workers: expected a whole number from 1 to 256, not 0"),
    "a crash": ("import os\nos.kill(os.getpid(), 11)\n", {}, "the app's process was killed by SIGSEGV while it was being loaded"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_the_sandbox_would_refuse(machine: Machine, check: Check, name: str) -> None:
    machine.run("install", "-d", "-m", "700", "-o", "daemon", "/home/ada")
    machine.run("mkdir", "-p", "/home/ada/blog")
    source, settings, said = BROKEN[name]
    Instance(machine, "broken", source, settings=settings).write()
    done = check("broken")
    assert (done.returncode, done.stderr.count(said)) == (78, 1), done.stderr
    assert done.stderr.splitlines()[-1].startswith("broken: cannot be served: ")
    assert "can be served" not in done.stdout
    if name != "a setting":
        assert done.stdout.startswith(
            "addresses: /run/spyglass/broken.sock, free; spyglass@broken.socket does not listen yet"
        )


@pytest.mark.one_release
def test_an_app_that_stops_all_that_would_end_it(machine: Machine, check: Check) -> None:
    """All of it is one user, so kill(2) lets it."""
    Instance(
        machine,
        "broken",
        "import os, signal\nos.kill(-1, signal.SIGSTOP)\nos.kill(0, signal.SIGSTOP)\n",
    ).write()
    done = check("broken", "--start-timeout", "1")
    assert done.returncode == 78
    assert "the check could not be started or did not finish: timeout" in done.stderr


# What systemd stumbles over before there is a process to say anything.
UNITS = {
    "a credential": ("LoadCredential=key:/etc/missing", ["cannot be given its credentials", "credential key: there is no /etc/missing"]),
    "a path": ("ReadWritePaths=/srv/missing", ["cannot be given its view of the file system", "ReadWritePaths: there is no /srv/missing"]),
    "a user": ("DynamicUser=no\nUser=missing", ["cannot become its user"]),
    "a program": ("ExecStart=\nExecStart=/usr/bin/missing serve --name %i", ["cannot run its program"]),
    "an environment file": ("EnvironmentFile=/etc/missing", ["environment_file: there is no /etc/missing"]),
    "another program": ("ExecStart=\nExecStart=/bin/true", ["does not run Spyglass: ExecStart=/bin/true"]),
}  # fmt: skip


@pytest.mark.parametrize("name", UNITS)
def test_what_systemd_would_stumble_over(machine: Machine, check: Check, name: str) -> None:
    line, expected = UNITS[name]
    instance = Instance(machine, "broken", "def app(environ, start_response): ...\n").write()
    machine.write(f"/etc/systemd/system/{instance.service}.d/more.conf", f"[Service]\n{line}\n")
    machine.systemctl("daemon-reload")
    done = check("broken")
    machine.run("rm", "-r", f"/etc/systemd/system/{instance.service}.d")
    machine.systemctl("daemon-reload")
    assert done.returncode == 78
    for each in expected:
        assert each in done.stderr


@pytest.mark.one_release
def test_addresses(machine: Machine, who: Instance, check: Check) -> None:
    # Two apps with one port: the one that listens, and wakes nobody by being asked.
    first = Instance(machine, "first", WHO, port=8071).write()
    second = Instance(machine, "second", WHO, port=8071).write()
    machine.systemctl("daemon-reload")
    assert (
        "addresses: /run/spyglass/second.sock, 127.0.0.1:8071, free; spyglass@second.socket does not listen yet"
        in check("second").stdout
    )
    machine.systemctl("start", first.socket)
    done = check("second")
    assert done.returncode == 78
    in_use = "address 127.0.0.1:8071: in use by spyglass@first.socket"
    assert done.stderr == f"second: cannot be served: {in_use}\n"
    # With a fault of the app itself, each is listed once.
    machine.write("/srv/apps/second/app.py", "import blgo\n")
    assert check("second").stderr.splitlines()[-3:] == [
        "second: cannot be served:",
        f"  {in_use}",
        "  ModuleNotFoundError: No module named 'blgo'",
    ]
    machine.write("/srv/apps/second/app.py", WHO)
    assert first.asleep()
    visit(first.unix)
    assert re.search(
        r"8071: in use by \S+ \(pid \d+, spyglass@first\.service\)", check("second").stderr
    )
    assert check("first").returncode == 0
    machine.systemctl("stop", first.socket)
    assert not second.processes()


@pytest.mark.one_release
def test_status_names_the_packages_that_the_import_is_spent_in(
    machine: Machine, check: Check
) -> None:
    source = "import slow\ndef app(environ, start_response):\n    start_response('200 OK', [])\n    return []\n"
    Instance(machine, "dear", source).write()
    machine.write("/srv/apps/dear/slow.py", "import time\ntime.sleep(0.05)\n")
    machine.systemctl("daemon-reload")

    def status(*words: str, user: str | None = None) -> str:
        return machine.run("spyglass", "status", *words, "dear", check=False, user=user).stdout

    assert json.loads(status("--json"))["imports"] is None
    # A trial of other settings is not what a wake would be.
    assert check("dear", "--no-preload").returncode == 0
    assert json.loads(status("--json"))["imports"] is None
    assert check("dear").returncode == 0
    dearest = json.loads(status("--json"))["imports"][0]
    assert dearest.pop("ms") >= 50
    assert dearest == {"package": "slow", "modules": 1, "by": "app"}
    assert re.search(r"^  imports   slow \d+ ms \(1 module, by app\)", status(), re.MULTILINE)
    assert "imports " not in status(user="www-data")
    assert machine.run("spyglass", "remove", "dear").returncode == 0
    assert machine.run("ls", "/run/spyglass-admin/imports-dear", check=False).returncode != 0


@pytest.mark.one_release
def test_user_without_the_right_is_told_what_is_checked_instead(
    machine: Machine, who: Instance, check: Check
) -> None:
    done = check("who", user="www-data", env={"STATE_DIRECTORY": "/tmp"})
    assert (
        done.stdout.splitlines()[0]
        == "check: runs as www-data, outside of the sandbox of the service; to check in it, run this as root"
    )
    assert "who: www-data /srv/apps/who None" in done.stdout
    assert done.stdout.endswith("\nwho: can be served\n")
    assert done.returncode == 0


@pytest.mark.one_release
def test_a_word_that_names_no_app_is_an_error_for_root(
    machine: Machine, who: Instance, check: Check
) -> None:
    for words in (
        ["whoo"],
        ["--app", "whoo"],
        ["who:app", "--directory", "/srv/apps/who"],
        ["/srv/apps/who/app.py"],
        [],
    ):
        done = check(*words)
        assert done.returncode == 78
        assert (
            "root checks an app only in its unit's sandbox, by its NAME: there are " in done.stderr
        )
        assert "who: " not in done.stdout, "its code has been run"
    assert "check: 'whoo' is not the name of an app, did you mean 'who'?" in check("whoo").stderr
    assert (
        check("--name", "whoo").stderr
        == "spyglass: check: there is no /etc/spyglass/whoo.toml, did you mean 'who'?\n"
    )
    assert (
        check("who", "--workers", "0").stderr
        == "who: cannot be served: --workers: workers: expected a whole number from 1 to 256, not '0'\n"
    )
    assert check("who", "--no-such").returncode == 2
    shown = check("who", '--app=app:who and "$HOME" %i').stdout
    assert 'app = "app:who and \\"$HOME\\" %i"' in shown
    assert "who: spyglass-who /srv/apps/who who-spyglass@who" in check("--name", "who").stdout, (
        "as root, it is the unit's by any option"
    )
    # A module of that name is meant by an app in it.
    assert check("who:app", "--directory", "/srv/apps/who", user="www-data").stdout.startswith(
        'configuration: no file\n  app = "who:app"'
    )


SHOP = """
from flask import Flask

def create_app(name, *, debug):
    app = Flask(name)
    app.get("/")(lambda: f"{name} {debug}")
    return app
"""


@pytest.mark.one_release
def test_from_a_directory_to_a_served_factory(machine: Machine, check: Check) -> None:
    machine.write("/srv/shop/shop.py", SHOP)
    machine.write("/srv/shop/main.py", "from aiohttp import web\napp = web.Application()\n")
    machine.run("ln", "-s", "/srv/venv", "/srv/shop/.venv")

    def new(*words: str) -> str:
        done = machine.run("spyglass", "new", "shop", "/srv/shop", *words, check=False)
        return done.stdout if done.returncode == 0 else done.stderr

    assert new() == (
        "spyglass: 'main:app' is an app of aiohttp, which is neither WSGI nor ASGI: "
        "run it with the server of aiohttp\n"
        "spyglass: 'shop:create_app()' lacks the argument name: write app = "
        '"shop:create_app(...)", with its arguments\n'
    )
    assert new("--app", "shpo:create_app()") == (
        "spyglass: --app: there is no module 'shpo' in /srv/shop, did you mean 'shop'?\n"
    )
    factory = 'is a factory, not an app: write app = "shop:create_app(..., debug=...)"'
    assert new("--app", "shop:create_app").startswith(
        f"spyglass: --app: 'shop:create_app' {factory}"
    )
    assert new("--app", "shop:create_app('a:b', debug=True)").startswith("wrote ")
    assert check("shop").stdout.endswith("\nshop: can be served\n")
    # What the source would say is said of what is loaded, too.
    machine.write(
        "/etc/spyglass/shop.toml",
        'app = "shop:create_app"\ndirectory = "/srv/shop"\nvenv = ".venv"\n',
    )
    done = check("shop")
    assert done.returncode == 78
    assert done.stderr.startswith(f"shop: cannot be served: 'shop:create_app' {factory}")
    machine.write(
        "/etc/spyglass/shop.toml",
        'app = "shop:create_app(\'a:b\', debug=True)"\ndirectory = "/srv/shop"\nvenv = ".venv"\n',
    )
    machine.run("spyglass", "apply", "shop")
    assert visit(machine.path("/run/spyglass/shop.sock")).text == "a:b True"
    machine.run("spyglass", "remove", "--purge", "shop")


TRAPS = """\
import sys
for name in {*sys.stdlib_module_names, "spyglass", "httptools", "systemd", "sitecustomize", "usercustomize", "who"}:
    with open(f"{name}.py", "w") as trap:
        trap.write(f"open('/tmp/sprung/{name}', 'w')\\n")
"""


@pytest.mark.one_release
def test_root_imports_nothing_from_where_it_stands(machine: Machine, who: Instance) -> None:
    machine.run(
        "sh", "-c", 'mkdir -p /tmp/traps /tmp/sprung && cd /tmp/traps && python3 -c "$0"', TRAPS
    )
    machine.run("chown", "-R", "daemon", "/tmp/traps")
    commands = (
        *(
            "check who",
            "check whoo",
            "check who:app",
            "check ./who.py",
            "check --name who",
            "check",
            "list",
            "status who",
            "doctor",
            "apply",
        ),
        *(
            "apply -n who",
            "reload who",
            "new --app who:app other .",
            "remove other",
            "new",
            "--help",
            "--version",
            "serve who",
            "nonsense",
        ),
    )
    for words in commands:
        done = machine.run("sh", "-c", f"cd /tmp/traps && spyglass {words}", check=False)
        assert "Traceback" not in done.stderr
        assert machine.run("ls", "/tmp/sprung").stdout == "", words
    machine.run("rm", "-rf", "/etc/spyglass/other.toml", "/tmp/traps", "/tmp/sprung")
