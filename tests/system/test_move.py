"""An app that gets another name, goes to another machine and comes back, with all that
it has; and its journal, as `spyglass logs` shows it.

One machine for all, with the apps' data on a real disk.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from machine import Machine
from test_apply import curl, spyglass

NAMES = ("shop", "news", "copy")
# Stores what it is sent, and tells what it has; answers /slow once there is a file "go".
STORES = """\
import os, pathlib, time

state = pathlib.Path(os.environ["STATE_DIRECTORY"])

def app(environ, start_response):
    path = environ["PATH_INFO"]
    while path == "/slow" and not pathlib.Path("/srv/shop/go").exists():
        time.sleep(0.01)
    if path == "/put":
        for each in (state / "db", state / "sub/deep/file"):
            each.parent.mkdir(parents=True, exist_ok=True)
            with each.open("a") as stream:
                stream.write("x")
        (state / "db").chmod(0o640)
        if not (state / "link").is_symlink():
            (state / "link").symlink_to("sub/deep")
    print("asked for", path, "\\x1b[31mred", flush=True)
    # All of it must be the app's own, seen from inside.
    foreign = [each.name for each in state.rglob("*") if each.lstat().st_uid != os.getuid()]
    stored = (state / "db").read_text() if (state / "db").exists() else "nothing"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{state.name} {stored} {foreign}\\n".encode()]
"""
SETTINGS = """\
# Settings of the app shop: then `spyglass apply shop`.
app = "app"
directory = "/srv/shop"
listen = ["127.0.0.1:8096", "/run/spyglass/shop.sock"]
access_log = true
credentials = { password = "/etc/spyglass/shop.password" }
"""
DROP_IN = "/etc/systemd/system/spyglass@{}.service.d/own.conf"


@pytest.fixture
def shop(disk: Machine) -> Iterator[Machine]:
    """The app, which has stored something and is asleep. All of its names are removed
    afterwards.
    """
    disk.write("/srv/shop/app.py", STORES)
    disk.write("/etc/spyglass/shop.toml", SETTINGS)
    disk.write("/etc/spyglass/shop.env", "DB=/var/lib/spyglass/shop/db\n", 0o600)
    disk.write("/etc/spyglass/shop.password", "secret\n", 0o600)
    disk.write(DROP_IN.format("shop"), "[Service]\nEnvironment=OWN=/var/lib/spyglass/shop\n")
    spyglass(disk, "apply", "shop")
    assert curl(disk, "127.0.0.1:8096/put") == "shop x []\n"
    sleep(disk, "shop")
    yield disk
    signal_command(disk, "KILL", "export shop", check=False)  # of a test that has failed
    disk.run("sh", "-c", "touch /srv/shop/go; umount -q /var/cache/private/spyglass || true")
    for name in NAMES:
        disk.run("spyglass", "remove", "--purge", name, check=False)
    disk.run(
        "sh", "-c", "rm -rf /srv/shop/go /etc/systemd/system/spyglass@*.d /root/*.tar* /root/pipe"
    )
    disk.systemctl("daemon-reload")


def sleep(machine: Machine, name: str) -> None:
    machine.systemctl("stop", f"spyglass@{name}.service")


def visit(machine: Machine, path: str) -> subprocess.Popen[str]:
    """A client that may have to wait; its output is the answer."""
    return machine.popen(
        "curl", "--silent", "--show-error", f"127.0.0.1:8096{path}", stdout=subprocess.PIPE
    )


def answer(client: subprocess.Popen[str]) -> str:
    said, _ = client.communicate(timeout=60)
    assert client.returncode == 0
    return said


def connections(machine: Machine) -> int:
    """How many clients are connected, whether a worker has accepted them or not."""
    rows = machine.read("/proc/net/tcp").splitlines()
    return sum(row.split()[2].endswith(f":{8096:04X}") and row.split()[3] == "01" for row in rows)


def everything(machine: Machine, name: str) -> list[str]:
    """What there is of an app by this name, in any form."""
    script = """
        find /etc/spyglass /etc/systemd /run/spyglass /var/lib/spyglass /var/lib/private/spyglass \
            /var/cache/spyglass /var/cache/private/spyglass -maxdepth 3 -name "*$1*"
        find /var/lib/spyglass /var/lib/private/spyglass -name '.import-*'
        systemctl list-units --all --plain --no-legend "spyglass*$1*"
    """
    return sorted(machine.run("sh", "-c", script, "find", name).stdout.splitlines())


def name_user(machine: Machine) -> None:
    """Have the app run as a user with a name, to whom all that is stored belongs."""
    machine.run("sh", "-c", "id shop 2>/dev/null || adduser --quiet --system --group shop")
    machine.write("/etc/spyglass/shop.toml", f'{SETTINGS}user = "shop"\n')
    spyglass(machine, "apply", "shop")
    assert curl(machine, "127.0.0.1:8096").startswith("shop x [")
    sleep(machine, "shop")
    machine.run("chown", "-R", "shop:", "/var/lib/spyglass/shop/")


# rename


@pytest.mark.parametrize("user", ["", "shop"])
def test_a_renamed_app_has_all_it_had(shop: Machine, user: str) -> None:
    if user:
        name_user(shop)
    assert curl(shop, "127.0.0.1:8096/put") == "shop xx []\n"
    said = spyglass(shop, "rename", "shop", "news").stdout
    assert '-listen = ["127.0.0.1:8096", "/run/spyglass/shop.sock"]\n' in said
    assert '+listen = ["127.0.0.1:8096", "/run/spyglass/news.sock"]\n' in said
    assert "\nshop is now news:\n  /etc/spyglass/news.toml\n" in said
    assert "\nnews: the socket /run/spyglass/shop.sock is gone: change the web server" in said
    assert "secret" not in said
    assert everything(shop, "shop") == []
    # The same for those who look from outside.
    assert spyglass(shop, "apply").stdout == "nothing to do\n"
    assert shop.state("spyglass@news.socket")["UnitFileState"] == "enabled"
    assert curl(shop, "127.0.0.1:8096/put") == "news xxx []\n"
    with shop.http("/run/spyglass/news.sock") as client:
        client.request("GET", "/")
        assert client.getresponse().read() == b"news xxx []\n"
    environ = shop.state("spyglass@news.service")["Environment"]
    assert "OWN=/var/lib/spyglass/news" in environ
    assert shop.read("/etc/spyglass/news.env") == "DB=/var/lib/spyglass/news/db\n"
    modes = shop.run("stat", "-c", "%a %U", "/etc/spyglass/news.env", "/etc/spyglass/news.password")
    assert modes.stdout == "600 root\n600 root\n"
    spyglass(shop, "doctor", "news")
    spyglass(shop, "rename", "news", "shop")
    assert everything(shop, "news") == []
    assert shop.read("/etc/spyglass/shop.toml").startswith(SETTINGS)
    assert curl(shop, "127.0.0.1:8096") == "shop xxx []\n"


def test_requests_are_finished_first_and_clients_wait_meanwhile(shop: Machine) -> None:
    slow = visit(shop, "/slow")
    shop.wait_until(lambda: "1 connection" in status(shop, "shop"), what="it is asked")
    rename = shop.popen("spyglass", "rename", "shop", "news", stdout=subprocess.PIPE)
    shop.wait_until(
        lambda: shop.state("spyglass@shop.service")["ActiveState"] == "deactivating",
        what="the app is to stop",
    )
    waiting = visit(shop, "/")
    shop.wait_until(lambda: connections(shop) == 2, what="both are connected")
    shop.run("touch", "/srv/shop/go")
    assert answer(slow) == answer(waiting) == "shop x []\n"
    assert "shop is now news" in rename.communicate(timeout=60)[0]
    assert curl(shop, "127.0.0.1:8096") == "news x []\n"


def signal_command(machine: Machine, signal: str, words: str, *, check: bool = True) -> None:
    """Send a signal to the process that runs `spyglass` with these words."""
    script = """
        for each in /proc/[0-9]*; do
            case "$(tr '\\0' ' ' <$each/cmdline 2>/dev/null)" in
                *python3*"/spyglass $2 "*) kill -s "$1" "${each#/proc/}" && found=yes ;;
            esac
        done
        [ "$found" ]
    """
    machine.run("sh", "-c", script, "signal", signal, words, check=check)


def status(machine: Machine, name: str) -> str:
    return machine.state(f"spyglass@{name}.service")["StatusText"]


@pytest.mark.one_release
def test_a_rename_that_fails_undoes_all(shop: Machine) -> None:
    before = everything(shop, "shop")
    cache = "/var/cache/private/spyglass"
    shop.run("mount", "--bind", "--options", "ro", cache, cache)
    done = shop.run("spyglass", "rename", "shop", "news", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("Read-only file system; all changes were undone\n")
    shop.run("umount", cache)
    assert everything(shop, "news") == []
    assert everything(shop, "shop") == before
    assert spyglass(shop, "apply").stdout == "nothing to do\n"
    assert curl(shop, "127.0.0.1:8096") == "shop x []\n"


@pytest.mark.one_release
def test_a_rename_that_is_interrupted_undoes_all(shop: Machine) -> None:
    slow = visit(shop, "/slow")
    shop.wait_until(lambda: "1 connection" in status(shop, "shop"), what="it is asked")
    rename = shop.popen("spyglass", "rename", "shop", "news", stderr=subprocess.PIPE)
    shop.wait_until(
        lambda: shop.state("spyglass@shop.service")["ActiveState"] == "deactivating",
        what="the app is to stop",
    )
    signal_command(shop, "TERM", "rename shop news")
    shop.run("touch", "/srv/shop/go")
    assert "interrupted; all changes were undone\n" in rename.communicate(timeout=60)[1]
    assert answer(slow) == "shop x []\n"
    assert everything(shop, "news") == []
    assert spyglass(shop, "apply").stdout == "nothing to do\n"
    assert curl(shop, "127.0.0.1:8096") == "shop x []\n"


@pytest.mark.one_release
def test_an_app_that_is_off_stays_so_under_its_new_name(shop: Machine) -> None:
    spyglass(shop, "off", "shop")
    said = spyglass(shop, "rename", "shop", "news").stdout
    assert "\nnews: does not listen, as before; to start it: spyglass on news\n" in said
    assert everything(shop, "shop") == []
    assert shop.state("spyglass@news.socket")["LoadState"] == "masked"
    assert spyglass(shop, "apply").stdout == "nothing to do\n"
    spyglass(shop, "on", "news")
    assert curl(shop, "127.0.0.1:8096") == "news x []\n"
    # By systemctl, until the next boot.
    shop.systemctl("stop", "spyglass@news.socket")
    shop.systemctl("mask", "--runtime", "spyglass@news.socket")
    said = spyglass(shop, "rename", "news", "shop").stdout
    assert "\nshop: does not listen, as before; to start it: spyglass on shop\n" in said
    assert shop.systemctl("is-enabled", "spyglass@shop.socket", check=False) == "masked-runtime\n"
    assert everything(shop, "news") == []
    # `off` is for longer.
    assert "shop: off, clients are refused" in spyglass(shop, "off", "shop").stdout
    shop.systemctl("unmask", "--runtime", "spyglass@shop.socket")
    assert shop.state("spyglass@shop.socket")["LoadState"] == "masked"
    spyglass(shop, "on", "shop")
    spyglass(shop, "rename", "shop", "news")
    assert curl(shop, "127.0.0.1:8096") == "news x []\n"
    # Another link in the place of the mask is the administrator's.
    spyglass(shop, "off", "news")
    mask = "/etc/systemd/system/spyglass@news.socket"
    shop.run("ln", "-sf", "/usr/lib/systemd/system/spyglass@.socket", mask)
    assert "only drop-ins in" in spyglass(shop, "rename", "news", "shop", status=78).stderr
    shop.run("rm", mask)


REFUSED = [
    ("", ["shop", "shop"], "shop has this name already"),
    ("", ["shop", "News"], "not a valid app name: 'News'"),
    ("", ["shop", "../news"], "not a valid app name: '../news'"),
    ("", ["nope", "news"], "there is no app 'nope'"),
    ("", ["_default", "news"], "not a valid app name: '_default'"),
    ("touch /etc/spyglass/news.env", ["shop", "news"], "/etc/spyglass/news.env"),
    ("mkdir /var/lib/private/spyglass/news", ["shop", "news"], "/var/lib/private/spyglass/news"),
    ("mkdir /etc/systemd/system/spyglass@news.socket.d", ["shop", "news"], "spyglass@news.socket.d"),
    ("systemctl enable spyglass@news.socket", ["shop", "news"], "spyglass@news.socket (enabled)"),
    ("useradd spyglass-news", ["shop", "news"], "the user spyglass-news"),
    ("echo 'app = ' >/etc/spyglass/shop.toml", ["shop", "news"], "/etc/spyglass/shop.toml:1"),
    ("sed -i s/8096/8097/ /etc/spyglass/shop.toml", ["shop", "news"], "has changes that are not in force"),
    ("echo >>/etc/systemd/system/spyglass@shop.socket.d/10-spyglass.conf", ["shop", "news"], "has been edited since"),
    ("mkdir -p /run/systemd/system/spyglass@shop.service.d", ["shop", "news"], "only drop-ins in"),
]  # fmt: skip
UNDO = """
    systemctl disable spyglass@news.socket; userdel spyglass-news
    rm -rf /etc/spyglass/news.env /var/lib/private/spyglass/news /run/systemd/system/spyglass@*
    rm -rf /etc/systemd/system/spyglass@news.*
"""


@pytest.mark.one_release
def test_what_is_not_renamed(shop: Machine) -> None:
    drop_in = "/etc/systemd/system/spyglass@shop.socket.d/10-spyglass.conf"
    ours = shop.read(drop_in)
    for prepare, words, why in REFUSED:
        shop.run("sh", "-euc", prepare)
        before = everything(shop, "shop")
        done = shop.run("spyglass", "rename", *words, check=False)
        assert (done.returncode, done.stdout) == (4 if words[0] == "nope" else 78, "")
        assert why in done.stderr
        assert everything(shop, "shop") == before
        assert shop.state("spyglass@shop.socket")["ActiveState"] == "active"
        shop.run("sh", "-c", UNDO)
        shop.write("/etc/spyglass/shop.toml", SETTINGS)
        shop.write(drop_in, ours)
    shop.systemctl("daemon-reload")
    # The settings were written anew: with a wake, they are in force.
    assert curl(shop, "127.0.0.1:8096") == "shop x []\n"
    sleep(shop, "shop")
    assert spyglass(shop, "apply").stdout == "nothing to do\n"


# export and import


@pytest.mark.parametrize(("user", "file"), [("", "shop.tar.gz"), ("shop", "shop.tar")])
def test_a_moved_app_has_all_it_had(shop: Machine, user: str, file: str) -> None:
    if user:
        name_user(shop)
    before = [curl(shop, "127.0.0.1:8096"), stored(shop), shop.read("/etc/spyglass/shop.toml")]
    sleep(shop, "shop")
    said = spyglass(shop, "export", "shop", "-o", f"/root/{file}").stdout
    assert f"shop: exported to /root/{file} (mode 0600); stored data: 6 files" in said
    assert "secrets in plain text: /etc/spyglass/shop.env, /etc/spyglass/shop.password" in said
    assert "not in it: the code, /srv/shop\n" in said
    assert shop.run("stat", "-c", "%a %U", f"/root/{file}").stdout == "600 root\n"
    assert curl(shop, "127.0.0.1:8096") == before[0]  # it may wake again
    spyglass(shop, "remove", "--purge", "shop")
    shop.run("rm", "-r", "/etc/systemd/system/spyglass@shop.service.d")
    assert everything(shop, "shop") == []

    said = spyglass(shop, "import", f"/root/{file}", "--drop-ins").stdout
    assert "shop: imported, from shop on " in said
    assert "\nNext: install its code, read /etc/spyglass/shop.toml" in said
    assert "Before it can run here" not in said
    modes = shop.run("stat", "-c", "%a %U", "/etc/spyglass/shop.env", "/etc/spyglass/shop.password")
    assert modes.stdout == "600 root\n600 root\n"
    assert shop.systemctl("is-active", "spyglass@shop.socket", check=False) == "inactive\n"
    spyglass(shop, "apply", "shop")
    after = [curl(shop, "127.0.0.1:8096"), stored(shop), shop.read("/etc/spyglass/shop.toml")]
    assert after == before
    if user:
        assert shop.run("stat", "-c", "%U", "/var/lib/spyglass/shop/db").stdout == "shop\n"
    spyglass(shop, "doctor", "shop")
    assert curl(shop, "127.0.0.1:8096/put").endswith("x []\n")


def stored(machine: Machine) -> str:
    """Names, modes and targets of what is stored, without what is written at each
    wake.
    """
    script = "cd /var/lib/spyglass/shop/ && find . -not -name '.spyglass-*' -printf '%p %M %l\\n'"
    return machine.run("sh", "-c", f"{script} | sort").stdout


def export_into_pipe(machine: Machine) -> subprocess.Popen[str]:
    """Begin an export that is larger than its pipe, /root/pipe: so it lasts until there
    is a reader.
    """
    big = "/var/lib/spyglass/shop/big"
    script = f"""
        head -c 300000 /dev/urandom >{big} && chown --reference=/var/lib/spyglass/shop/ {big}
        mkfifo /root/pipe
    """
    machine.run("sh", "-euc", script)
    return machine.popen("sh", "-c", "exec spyglass export shop --stop 1<>/root/pipe")


def test_an_awake_app_is_stopped_only_if_wanted_and_clients_wait(shop: Machine) -> None:
    slow = visit(shop, "/slow")
    shop.wait_until(lambda: "1 connection" in status(shop, "shop"), what="it is asked")
    done = shop.run("spyglass", "export", "shop", "-o", "/root/shop.tar", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "shop is awake, and may change its files" in done.stderr
    assert shop.run("ls", "/root/shop.tar", check=False).returncode != 0

    export = export_into_pipe(shop)
    shop.wait_until(
        lambda: shop.state("spyglass@shop.service")["ActiveState"] == "deactivating",
        what="the app is to stop",
    )
    shop.run("touch", "/srv/shop/go")
    assert answer(slow) == "shop x []\n"
    waiting = visit(shop, "/put")
    shop.wait_until(
        lambda: (
            "spyglass@shop.service start waiting" in " ".join(shop.systemctl("list-jobs").split())
        ),
        what="the start of the app waits",
    )
    assert waiting.poll() is None
    said = spyglass(shop, "import", "/dev/stdin", status=78).stderr
    assert "not a regular file" in said
    done = shop.run("sh", "-c", "spyglass import - --name copy --no-drop-ins </root/pipe")
    assert (
        "/etc/spyglass/copy.toml:4: listen: 127.0.0.1:8096 is in use by the app shop" in done.stdout
    )
    assert export.wait(60) == 0
    assert answer(waiting) == "shop xx []\n"

    # The copy has the old state, and paths of its own.
    shop.run("sed", "-i", "s/8096/8097/", "/etc/spyglass/copy.toml")
    spyglass(shop, "apply", "copy")
    assert curl(shop, "127.0.0.1:8097/put") == "copy xx []\n"
    assert curl(shop, "127.0.0.1:8096") == "shop xx []\n"
    assert "/var/lib/spyglass/copy/db" in shop.read("/etc/spyglass/copy.env")


@pytest.mark.one_release
def test_an_export_that_is_killed_lets_clients_go(shop: Machine) -> None:
    export_into_pipe(shop)
    shop.wait_until(
        lambda: (
            shop.systemctl("is-active", "spyglass-hold-shop.service", check=False) == "activating\n"
        ),
        what="the app is held back",
    )
    waiting = visit(shop, "/")
    shop.wait_until(
        lambda: (
            "spyglass@shop.service start waiting" in " ".join(shop.systemctl("list-jobs").split())
        ),
        what="the start of the app waits",
    )
    signal_command(shop, "KILL", "export shop")
    assert answer(waiting) == "shop x []\n"


@pytest.mark.one_release
def test_an_import_that_fails_leaves_nothing(shop: Machine) -> None:
    spyglass(shop, "export", "shop", "-o", "/root/shop.tar.gz")
    before = everything(shop, "shop")
    for words, why, code in [
        (["/root/shop.tar.gz"], "there is something of an app 'shop' already", 78),
        (["/root/shop.tar.gz", "--name", "copy"], "the archive has drop-ins", 78),
        (["/root/shop.tar.gz", "--name", "../copy"], "not a valid app name", 78),
        (["/root/cut.tar.gz", "--name", "copy", "--drop-ins"], "damaged", 1),
        (["/root/shop.tar.gz", "--drop-ins", "--no-drop-ins"], "exclude each other", 2),
        (["/etc/passwd"], "not an archive", 1),
        (["/dev/zero"], "not a regular file", 78),
    ]:
        shop.run("sh", "-c", "head -c 700 /root/shop.tar.gz >/root/cut.tar.gz")
        assert why in spyglass(shop, "import", *words, status=code).stderr
        assert everything(shop, "copy") == []
        assert everything(shop, "shop") == before
    done = shop.run("spyglass", "import", "/root/shop.tar.gz", user="nobody", check=False)
    assert (done.returncode, done.stderr) == (
        78,
        "spyglass: only root may import apps: sudo spyglass import /root/shop.tar.gz\n",
    )


# commands of the app meanwhile


@pytest.mark.one_release
def test_data_stays_while_a_command_of_the_app_uses_it(shop: Machine) -> None:
    script = "echo begun; read end; echo $end >> $STATE_DIRECTORY/db; cat $STATE_DIRECTORY/db"
    command = shop.popen(
        *("spyglass", "run", "shop", "sh", "-c", script),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert command.stdout is not None
    assert command.stdout.readline() == "begun\n"
    before = everything(shop, "shop")
    for words in (
        ("export", "shop", "-o", "/root/shop.tar"),
        ("rename", "shop", "news"),
        ("remove", "--purge", "shop"),
    ):
        done = spyglass(shop, *words, status=78)
        assert done.stdout == ""
        assert "a command runs as shop and may change its data" in done.stderr
        assert everything(shop, "shop") == before
    assert command.communicate("end\n", timeout=60)[0] == "xend\n"
    spyglass(shop, "export", "shop", "-o", "/root/shop.tar")


@pytest.mark.one_release
def test_a_command_of_the_app_waits_while_its_data_is_copied(shop: Machine) -> None:
    export = export_into_pipe(shop)
    shop.wait_until(
        lambda: (
            shop.systemctl("is-active", "spyglass-hold-shop.service", check=False) == "activating\n"
        ),
        what="the data is locked",
    )
    command = shop.popen(
        *("spyglass", "run", "shop", "sh", "-c", "cat $STATE_DIRECTORY/db"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert command.stderr is not None
    assert command.stderr.readline() == "waiting: another command is using the data of shop\n"
    shop.run("sh", "-c", "cat /root/pipe >/root/shop.tar.gz")
    assert export.wait(60) == 0
    assert command.communicate(timeout=60) == ("x", "")


@pytest.mark.one_release
def test_names_of_an_apps_files_forge_no_lines(shop: Machine) -> None:
    script = r"""
import os, socket
os.chdir(os.environ["STATE_DIRECTORY"])
socket.socket(socket.AF_UNIX).bind("s\nforged: \x1b[2J")
os.symlink("../../x\nforged", "l\nforged")
open(b"bytes\xff", "w").close()
os.makedirs("\n".join(["a", "forged"]) + "/b" * 110)
"""
    spyglass(shop, "run", "shop", "python3", "-c", script)
    deep = spyglass(shop, "export", "shop", "-o", "/root/shop.tar", status=1)
    assert deep.stderr.startswith("spyglass: a forged/b/b/b")
    assert len(deep.stderr.splitlines()) == 1
    spyglass(shop, "run", "shop", "sh", "-c", "rm -r $STATE_DIRECTORY/a*")
    moved = spyglass(shop, "export", "shop", "-o", "/root/shop.tar").stdout
    moved += spyglass(shop, "import", "--no-drop-ins", "--name", "copy", "/root/shop.tar").stdout
    assert "sockets and pipes are left out: s forged: \\x1b[2J\n" in moved
    assert "  state/l forged -> ../../x forged: a link that leads out of" in moved
    assert "\x1b" not in moved
    assert not [line for line in moved.splitlines() if line.startswith("forged")]
    names = shop.run("python3", "-c", "import os; print(os.listdir(b'/var/lib/private/spyglass/copy'))")  # fmt: skip
    assert "bytes\\xff" in names.stdout


# logs


def test_logs_of_all_wakes(shop: Machine) -> None:
    curl(shop, "127.0.0.1:8096/now")
    shop.run("journalctl", "--sync")
    said = spyglass(shop, "logs", "shop").stdout
    assert "\033" not in said
    assert "] asked for /put \N{REPLACEMENT CHARACTER}[31mred\n" in said
    assert "] asked for /now " in said
    assert "[1] systemd: Started spyglass@shop.service" in said
    assert "] master: awake after " in said
    assert '"GET /now"' not in said
    access = spyglass(shop, "logs", "shop", "--access").stdout
    assert '"GET /put" 200 ' in access
    assert "asked for" not in access
    last = spyglass(shop, "logs", "shop", "--access", "-n", "1").stdout
    assert last.count("\n") == 1
    assert '"GET /now" 200 ' in last
    assert spyglass(shop, "logs", "shop", "--since", "2d").stdout.endswith(said)
    assert (
        "'soon' is not a time" in spyglass(shop, "logs", "shop", "--since", "soon", status=2).stderr
    )
    assert "there is no app 'nope'" in spyglass(shop, "logs", "nope", status=4).stderr
    assert spyglass(shop, "logs", "_default").returncode == 0
    done = shop.run("spyglass", "logs", "shop", user="nobody", check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "spyglass: cannot read the journal: use sudo, or join the group systemd-journal or adm\n",
    )


@pytest.mark.one_release
def test_logs_follow_until_their_reader_goes(shop: Machine) -> None:
    follow = shop.popen(
        "spyglass", "logs", "-f", "-n", "1", "--access", "shop", stdout=subprocess.PIPE
    )
    assert follow.stdout is not None
    assert '"GET /put"' in follow.stdout.readline()
    curl(shop, "127.0.0.1:8096/new")
    assert '"GET /new"' in follow.stdout.readline()
    follow.stdout.close()
    assert follow.wait(30) == 0
    running = "cat /proc/[0-9]*/comm 2>/dev/null | grep -x journalctl"
    assert shop.run("sh", "-c", running, check=False).stdout == ""
