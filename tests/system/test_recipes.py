"""The recipes of docs/recipes.md, typed on a machine, one after the other: the app that
the first one deploys is that of the others, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from machine import Machine, boot
from typed import Page, do

pytestmark = pytest.mark.slow  # each deployment makes a virtual environment

RECIPES = Page("docs/recipes.md")
APP = """\
import os
import sys
import time

KEPT = os.environ["STATE_DIRECTORY"] + "/kept"


def app(environ, start_response):
    start_response("200 OK", [])
    match environ["PATH_INFO"]:
        case "/late":
            import late

            return [late.WORDS.encode()]
        case "/keep":
            with open(KEPT, "w") as kept:
                kept.write(environ["QUERY_STRING"])
        case "/kept":
            return [open(KEPT, "rb").read()]
        case "/slow":
            time.sleep(1.1)
    return [f"{VERSION} {environ['SCRIPT_NAME']} {os.path.realpath(os.getcwd())}".encode()]


"""
REPORT = """\
import os

with open(os.environ["STATE_DIRECTORY"] + "/report", "w") as report:
    report.write(os.getcwd())
"""
# Fails as a service, and not when it is checked.
TREACHEROUS = 'if "serve" in sys.argv:\n    raise RuntimeError("not today")\n'
COMMIT = """
mkdir -p /srv/upstream && cd /srv/upstream
[ -d .git ] || git init --quiet --initial-branch=main
cat >blog.py
printf 'WORDS = "late in %s"\\n' "$1" >late.py
printf '%s' "$2" >report.py
touch requirements.txt
git add .
git -c user.name=ada -c user.email=ada@blog.example commit --quiet --message "$1"
git tag "$1"
"""


def commit(machine: Machine, version: str, more: str = "") -> None:
    """Another version upstream, with a tag of its name."""
    source = APP + f'VERSION = "{version}"\n' + more
    machine.run("bash", "-euc", COMMIT, "commit", version, REPORT, input=source)


def ask(machine: Machine, target: str, status: int = 200) -> str:
    with machine.http(8001) as client:
        client.request("GET", target)
        response = client.getresponse()
        text = response.read().decode()
        assert response.status == status, text
        return text


def deploy(machine: Machine, revision: str) -> tuple[int, str]:
    done = machine.run("deploy-blog", revision, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def blog(machine: Machine) -> Machine:
    """Deployed in its first version, and applied."""
    url = ["url.file:///srv/upstream.insteadOf", "https://git.example/blog.git"]
    machine.run("git", "config", "--global", *url)
    commit(machine, "v1")
    said = do(machine, RECIPES.script("Set up"))
    assert said.splitlines()[-1].startswith("v1  /srv/blog/releases/2")
    commit(machine, "v2")
    return machine


@pytest.fixture(scope="module")
def mails(machine: Machine) -> Callable[[], list[str]]:
    """What was sent to root, after the recipe has been followed."""
    machine.write("/usr/sbin/sendmail", "#!/bin/sh\ncat >>/root/mails\n", 0o755)
    machine.write("/root/mails", "")
    do(machine, RECIPES.script("Notification on failure"))
    return lambda: machine.read("/root/mails").split("To: root\n")[1:]


@pytest.mark.one_release
def test_old_generation_loads_from_its_release_until_a_reload(blog: Machine) -> None:
    assert ask(blog, "/").startswith("v1")
    status, said = deploy(blog, "v2")
    assert status == 0, said
    # Loaded before the switch, and again after one back to v1 that nothing has noticed.
    assert ask(blog, "/").startswith("v2")
    first = blog.run("sh", "-c", "ls -d /srv/blog/releases/* | head -n 1").stdout.strip()
    blog.run("ln", "-sfn", first, "/srv/blog/current")
    assert ask(blog, "/late") == "late in v2"
    blog.run("spyglass", "reload", "blog")
    assert ask(blog, "/late") == "late in v1"


@pytest.mark.one_release
def test_roll_back_and_deploy_again(blog: Machine) -> None:
    assert deploy(blog, "v2")[0] == 0
    assert ask(blog, "/").startswith("v2")
    releases = blog.run("ls", "/srv/blog/releases").stdout.split()
    do(blog, RECIPES.typed("Roll back"))
    assert ask(blog, "/").endswith(releases[-2])
    assert deploy(blog, "v2")[0] == 0


@pytest.mark.one_release
def test_release_that_cannot_be_loaded_is_not_served(blog: Machine) -> None:
    served = blog.run("readlink", "/srv/blog/current").stdout
    commit(blog, "v3", "syntax error\n")
    status, said = deploy(blog, "v3")
    assert (status, "SyntaxError" in said) == (78, True), said
    assert blog.run("readlink", "/srv/blog/current").stdout == served

    assert ask(blog, "/").startswith("v2")
    commit(blog, "v4", TREACHEROUS)
    status, said = deploy(blog, "v4")
    assert (status, "not today" in said) == (1, True), said
    assert blog.run("readlink", "/srv/blog/current").stdout == served
    assert ask(blog, "/").startswith("v2")
    newest = blog.run("sh", "-c", "ls -d /srv/blog/releases/* | tail -n 1").stdout
    assert newest == served


@pytest.mark.one_release
def test_five_releases_are_kept(blog: Machine) -> None:
    for version in ("v5", "v6"):
        commit(blog, version)
        assert deploy(blog, version)[0] == 0
    assert len(blog.run("ls", "/srv/blog/releases").stdout.split()) == 5
    assert ask(blog, "/").startswith("v6")


@pytest.mark.one_release
def test_migration_of_the_new_release_before_the_switch(blog: Machine) -> None:
    script = RECIPES.typed("Migrations").replace("manage.py migrate --no-input", "report.py")
    do(blog, f"new=$(ls -d /srv/blog/releases/* | head -n 1)\n{script}")
    report = blog.run("spyglass", "run", "blog", "sh", "-c", "cat $STATE_DIRECTORY/report").stdout
    assert report.startswith("/srv/blog/releases/2")
    assert report != blog.run("readlink", "-f", "/srv/blog/current").stdout.strip()


@pytest.mark.one_release
def test_below_a_path(blog: Machine) -> None:
    # Without the location, which is nginx's.
    settings, apply, _ = RECIPES.below("Below a path")
    said = do(blog, settings.script + apply.script)
    assert said.splitlines()[-1].startswith("v6 /blog /srv")
    assert "404" in ask(blog, "/", 404)
    blog.run("sed", "-i", "/^script_name/d", "/etc/spyglass/blog.toml")
    blog.run("spyglass", "apply", "blog")


@pytest.mark.one_release
def test_slow_requests(blog: Machine) -> None:
    settings, apply, look = RECIPES.below("Slow requests")
    do(blog, settings.script + apply.script)
    blog.systemctl("try-restart", "spyglass@blog.service")
    ask(blog, "/slow")
    ask(blog, "/")
    blog.run("journalctl", "--sync")
    command, shown = look.text.splitlines()
    said = do(blog, command.removeprefix("# ") + " -o cat")
    assert said.count('slow: 127.0.0.1 "GET /slow" 200') == 1
    assert '"GET /"' not in said
    assert shown.startswith("slow: ")
    assert shown.endswith(" of it in the app")
    assert said.strip().endswith(" of it in the app")
    logged = blog.run("spyglass", "logs", "blog", "--access").stdout
    assert '"GET /slow" 200' in logged


def subjects(mails: list[str]) -> list[str]:
    """The units that they are about."""
    return [mail.removeprefix("Subject: ").partition(" has failed on ")[0] for mail in mails]


@pytest.mark.one_release
def test_notification_when_an_app_fails_and_not_when_it_goes_on(
    blog: Machine, mails: Callable[[], list[str]]
) -> None:
    ask(blog, "/")
    blog.systemctl("kill", "--signal=KILL", "--kill-whom=main", "spyglass@blog.service")
    blog.wait_until(
        lambda: blog.state("spyglass@blog.service")["NRestarts"] == "1", what="started again"
    )
    ask(blog, "/")
    # systemd 254 and later call a failure what is followed by a restart.
    expected = [] if blog.release == "bookworm" else ["spyglass@blog.service"]
    blog.wait_until(lambda: subjects(mails()) == expected, what="told of the restart, or not")
    blog.write("/srv/broken/app.py", "import nothing_of_that_name\n")
    blog.write(
        "/etc/spyglass/broken.toml",
        'app = "app"\ndirectory = "/srv/broken"\nidle_timeout = 1\nkeepalive_timeout = 0.5\n',
    )
    assert blog.run("spyglass", "check", "broken", check=False).returncode == 78
    blog.systemctl("enable", "--now", "spyglass@broken.socket")
    with blog.http("/run/spyglass/broken.sock") as client:
        client.request("GET", "/")
        assert client.getresponse().status == 503
        assert subjects(mails()) == expected
    blog.wait_until(lambda: mails()[-1:] and "status=78" in mails()[-1], what="a message")
    assert subjects(mails()) == [*expected, "spyglass@broken.service"]


@pytest.mark.one_release
def test_notification_of_what_doctor_finds(blog: Machine, mails: Callable[[], list[str]]) -> None:
    assert blog.state("spyglass-doctor.timer")["ActiveState"] == "active"
    blog.run("systemctl", "start", "spyglass-doctor.service", check=False)
    blog.wait_until(lambda: "broken: " in mails()[-1], what="a message with the report")
    assert subjects(mails())[-1] == "spyglass-doctor.service"
    blog.run("spyglass", "remove", "broken")


@pytest.mark.one_release
def test_scheduled_job(blog: Machine, mails: Callable[[], list[str]]) -> None:
    blog.systemctl("stop", "spyglass@blog.service")
    assert "blog-report.service" in do(blog, RECIPES.script("Scheduled jobs"))
    report = blog.run("spyglass", "run", "blog", "sh", "-c", "cat $STATE_DIRECTORY/report").stdout
    assert report.startswith("/srv/blog/releases/2")
    assert blog.state("spyglass@blog.service")["ActiveState"] == "inactive"
    assert blog.state("blog-report.timer")["ActiveState"] == "active"


@pytest.mark.one_release
def test_back_up_and_restore(blog: Machine) -> None:
    ask(blog, "/keep?before")
    *make, restore = RECIPES.scripts("Back up and restore")
    assert do(blog, "".join(make)).endswith(".tar.gz\n")
    assert blog.state("spyglass-backup@blog.timer")["UnitFileState"] == "enabled"
    assert blog.run("stat", "-c", "%a", "/var/backups/spyglass").stdout == "700\n"
    ask(blog, "/keep?after")
    assert ask(blog, "/kept") == "after"
    blog.systemctl("stop", "spyglass@blog.service")
    do(blog, restore)
    assert ask(blog, "/kept") == "before"


@pytest.mark.one_release
def test_rename_and_move(blog: Machine) -> None:
    """From this machine to itself."""
    rename, there, here = RECIPES.scripts("Rename and move")
    do(blog, rename)
    assert ask(blog, "/kept") == "before"
    do(blog, there.replace("scp /root/news.tar.gz other:\n", ""))
    blog.run("spyglass", "remove", "--purge", "news")
    blog.run("rm", "-f", "/etc/spyglass/news.toml")
    do(blog, here)
    assert ask(blog, "/kept") == "before"
    names = [app["name"] for app in json.loads(blog.run("spyglass", "list", "--json").stdout)]
    assert "news" in names
    assert "blog" not in names


@pytest.fixture(scope="module")
def contained(release: str, deb_layers: Callable[[str], list[Path]]) -> Iterator[Machine]:
    """A container whose root has no rights outside, as an unprivileged one of LXC."""
    users = ("--private-users=524288:65536", "--private-users-ownership=auto")
    with boot(release, *deb_layers(release), options=users) as booted:
        yield booted


def test_sandbox_works_in_a_container_with_a_user_namespace(contained: Machine) -> None:
    assert contained.read("/proc/self/uid_map").split() == ["0", "524288", "65536"]
    contained.write("/srv/here/app.py", 'VERSION = "v1"\n' + APP)
    contained.run("spyglass", "new", "blog", "/srv/here", "--listen", "127.0.0.1:8001")
    contained.run("spyglass", "check", "blog")
    contained.run("spyglass", "apply", "blog")
    assert ask(contained, "/").startswith("v1")
    contained.run("spyglass", "reload", "blog")
    assert contained.run("spyglass", "run", "blog", "id", "-un").stdout == "spyglass-blog\n"
    assert contained.run("spyglass", "doctor").returncode == 0


LOOKOUT = ["spyglass", "lookout", "blog:app", "--bind", "127.0.0.1:8001"]


def listens(machine: Machine) -> bool:
    with suppress(ConnectionRefusedError):
        machine.connect(8001).close()
        return True
    return False


def test_lookout_as_process_1(contained: Machine) -> None:
    """As in Docker: PID 1 of a namespace, which gets no signal that it does not
    handle.
    """
    contained.systemctl("stop", "spyglass@blog.socket")
    contained.write("/app/blog.py", 'import os\nos.environ["STATE_DIRECTORY"] = "/tmp"\n' + APP)
    contained.run("sh", "-c", "echo 'VERSION = \"v1\"' >>/app/blog.py")
    namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--wd=/app"]
    outer = contained.popen(*namespace, *LOOKOUT)

    def signal(name: str) -> None:
        contained.run("sh", "-c", f"kill -{name} $(pgrep -f '^[^ ]*python3 .*spyglass lookout')")

    contained.wait_until(lambda: listens(contained), what="it listens")
    assert ask(contained, "/").startswith("v1")
    contained.run("sed", "-i", "s/v1/v1.1/", "/app/blog.py")
    signal("HUP")
    contained.wait_until(lambda: ask(contained, "/").startswith("v1.1"), what="reloaded")
    signal("TERM")
    assert outer.wait(30) == 0
