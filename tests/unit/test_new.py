"""`spyglass new`: what it detects, writes and rejects."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.config import settings
from spyglass.config.settings import load
from spyglass.ops import command_table
from spyglass.ops.app import app_detection
from spyglass.ops.commands import new

FLASK = "from flask import Flask\n\napp = Flask(__name__)\n"
FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"
MANAGE = 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "blog.settings")\n'


def lay(directory, files):
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("files", "apps"),
    [
        ({}, []),
        ({"app.py": FLASK}, ["app:app"]),
        ({"wsgi.py": "from blog import application\n", "app.py": FLASK}, ["wsgi:application"]),
        ({"wsgi.py": "import os\n", "app.py": FLASK}, ["app:app"]),
        ({"app.py": "def create_app():\n    pass\n"}, ["app:create_app()"]),
        (
            {"app.py": "class app:\n    pass\n", "main.py": "app: object = 1\n"},
            ["app:app", "main:app"],
        ),
        ({"app.py": "app = (\n"}, []),
        (
            {"blog/wsgi.py": FLASK, "$(reboot)/wsgi.py": FLASK, "a\nb/__init__.py": FLASK},
            ["blog.wsgi:app"],
        ),
        ({"app.py": "def f():\n    app = 1\n"}, []),
        (
            {"manage.py": MANAGE, "blog/wsgi.py": "application = 1\n", "app.py": FLASK},
            ["blog.wsgi:application"],
        ),
        ({"manage.py": MANAGE, "app.py": FLASK}, ["app:app"]),
        (
            {"blog/__init__.py": "def create_app(): ...\n", "tests/__init__.py": ""},
            ["blog:create_app()"],
        ),
        ({"blog/wsgi.py": "import x as application\n"}, ["blog.wsgi:application"]),
        ({"asgi.py": FASTAPI, "main.py": FASTAPI}, ["asgi:app"]),
        ({"wsgi.py": FLASK, "asgi.py": FASTAPI}, ["wsgi:app"]),
        ({"main.py": "from fastapi import FastAPI\napi = FastAPI()\n"}, ["main:api"]),
        ({"main.py": "api = 1\n"}, []),
        # As FastAPI's own documentation has "bigger applications".
        ({"app/__init__.py": "", "app/main.py": FASTAPI}, ["app.main:app"]),
        ({"app/__init__.py": "", "app/main.py": "app = 1\n"}, []),
        ({"blog/wsgi.py": FLASK, "blog/asgi.py": FASTAPI}, ["blog.wsgi:app"]),
    ],
)
def test_app_is_found_in_a_directory(tmp_path, files, apps):
    lay(tmp_path, files)
    assert [found.app for found in app_detection.detect(str(tmp_path)).found] == apps


DEMO = "def app(environ, start_response): ...\n"


@pytest.mark.parametrize(
    ("files", "app", "why"),
    [
        ({"app.py": FLASK}, "app:app", "made by Flask() in app.py, line 3"),
        ({"app.py": "app = 1\n"}, "app:app", "set in app.py, line 1"),
        (
            {"app.py": "\ndef create_app(): ...\n"},
            "app:create_app()",
            "a factory in app.py, line 2",
        ),
        # In a file of any name, only what is plainly one.
        ({"hello.py": DEMO, "x.py": "app = 1\n"}, "hello:app", "a function in hello.py, line 1"),
        (
            {
                "app.py": "from fastapi import FastAPI\ndef create_app():\n    api = FastAPI()\n    api = wrap(api)\n    return api\n"
            },
            "app:create_app()",
            "a factory in app.py, line 2",
        ),
        (
            {"manage.py": MANAGE, "blog/wsgi.py": "", "blog/asgi.py": ""},
            "blog.wsgi:application",
            "the WSGI app of the Django project of manage.py",
        ),
        (
            {"manage.py": MANAGE, "blog/asgi.py": ""},
            "blog.asgi:application",
            "the ASGI app of the Django project of manage.py",
        ),
        *(
            (
                {"manage.py": MANAGE, "blog/wsgi.py": "", "blog/asgi.py": "", file: installed},
                "blog.asgi:application",
                f"the ASGI app of the Django project of manage.py, which has {app} in INSTALLED_APPS",
            )
            for file, installed, app in (
                ("blog/settings.py", "INSTALLED_APPS = ['daphne', 'x']\n", "daphne"),
                ("blog/settings.py", "INSTALLED_APPS: list = ['channels.apps.X']\n", "channels"),
                (
                    "blog/settings/base.py",
                    "OTHER_APPS = []\nOTHER_APPS += ['channels']\n",
                    "channels",
                ),
            )
        ),
        (
            {
                "manage.py": MANAGE,
                "blog/wsgi.py": "",
                "blog/asgi.py": "",
                "blog/settings.py": "INSTALLED_APPS = ['x']\nTOPICS = ['channels']\n",
            },
            "blog.wsgi:application",
            "the WSGI app of the Django project of manage.py",
        ),
        ({"main.py": FASTAPI}, "main:app", "made by FastAPI() in main.py, line 2"),
        (
            {"hello.py": "async def app(scope, receive, send): ...\n"},
            "hello:app",
            "an ASGI function in hello.py, line 1",
        ),
        (
            {
                "server.py": "from mcp.server.fastmcp import FastMCP\nmcp = FastMCP()\napp = mcp.streamable_http_app()\n"
            },
            "server:app",
            "made by streamable_http_app() in server.py, line 3",
        ),
    ],
)
def test_what_was_found_is_said(tmp_path, files, app, why):
    lay(tmp_path, files)
    assert app_detection.detect(str(tmp_path)).found == [app_detection.Found(app, why)]


@pytest.mark.parametrize(
    ("source", "app"),
    [
        (FASTAPI, "main:app"),
        ("import fastapi as f\napp: object = f.FastAPI(title='x')\n", "main:app"),
        (
            "from fastapi import FastAPI\ndef create_app():\n    app = FastAPI()\n    def view(): return 1\n    return app\n",
            "main:create_app()",
        ),
        ("async def app(scope, receive, send): ...\n", "main:app"),
    ],
)
def test_asgi_apps_are_found_as_others_are(tmp_path, source, app):
    lay(tmp_path, {"main.py": source})
    assert [each.app for each in app_detection.detect(str(tmp_path)).found] == [app]


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        (
            "def app(scope): ...\n",
            "'main:app' is an app of ASGI 2 (a double callable), and Spyglass serves ASGI 3: wrap it in asgiref.compatibility.guarantee_single_callable()",
        ),
        (
            "async def create_app(): ...\n",
            "'main:create_app()' would return a coroutine, not an app: make the factory a plain function (def)",
        ),
        (
            "def create_app(config, *, debug): ...\n",
            "'main:create_app()' lacks the argument config: write app = \"main:create_app(...)\", with its arguments",
        ),
        (
            "from aiohttp import web\napp = web.Application()\n",
            "'main:app' is an app of aiohttp, which is neither WSGI nor ASGI: run it with the server of aiohttp",
        ),
    ],
)
def test_a_directory_of_apps_that_can_never_answer_is_refused(here, capsys, source, refused):
    lay(here / "srv", {"main.py": source})
    assert command_table.run(["new", "blog"]) == 2
    assert capsys.readouterr().err == f"spyglass: {refused}\n"
    assert list((here / "etc").iterdir()) == []


SHOP = """
import functools, os
from fastapi import FastAPI
from flask import Flask
from werkzeug import Request
flask, fast, wrapped, late = Flask(__name__), 1, 2, None
app = Flask(__name__)
api = FastAPI()
rebound = FastAPI()
rebound = functools.partial(rebound)
def create_app(config=None): return app
def needs(config, debug=False): return app
def view(): ...
@Request.application
def decorated(request): ...
def three(a, b, c): ...
def sets():
    global elsewhere
    elsewhere = app
with open(os.devnull) as opened: ...
"""
CALLED = "but a WSGI app is called with two, (environ, start_response)"


@pytest.mark.parametrize(
    ("app", "refused"),
    [
        *(
            (f"shop:{name}", "")
            for name in (
                "app",
                "api",
                "app.wsgi_app",
                "flask",
                "rebound",
                "decorated",
                "elsewhere",
                "opened",
            )
        ),
        *((app, "") for app in ("shop", "shop.py", "./shop.py:app", "shop:create_app({'a': 1})")),
        *((app, "") for app in ("star:ap", "lazy:ap", "broken:ap", "pkg.wsgi:application", "pkg")),
        ("shop:needs('prod', debug=True)", ""),
        ("os.path:join", ""),  # installed: not in the directory
        ("shop:ap", "'shop' has no 'ap', did you mean 'shop:app'?"),
        ("shop:application", "'shop' has no 'application', did you mean 'shop:app'?"),
        ("shop:create_ap()", "'shop' has no 'create_ap', did you mean 'shop:create_app'?"),
        ("shpo:app", "there is no module 'shpo' in {}, did you mean 'shop'?"),
        ("shpo.py:app", "there is no file {0}/shpo.py, did you mean '{0}/shop.py'?"),
        ("pkg.wsgj:app", "there is no module 'pkg.wsgj' in {}, did you mean 'pkg.wsgi'?"),
        (
            "shop:create_app",
            "'shop:create_app' is a factory, not an app: write app = \"shop:create_app()\"",
        ),
        (
            "shop:view",
            f"'shop:view' takes no arguments, {CALLED}: if it makes the app, write app = \"shop:view()\"",
        ),
        ("shop:three", f"'shop:three' takes 3 arguments (a, b, c), {CALLED}"),
        (
            "shop:needs()",
            "'shop:needs()' lacks the argument config: write app = \"shop:needs(...)\", with its arguments",
        ),
        (
            "a-b:app",
            "'a-b' is neither the name of a module nor the path of a .py or .wsgi file",
        ),
    ],
)
def test_an_app_that_is_named_is_judged_by_its_source(here, capsys, app, refused):
    lay(
        here / "srv",
        {
            "shop.py": SHOP,
            "star.py": "from shop import *\n",
            "lazy.py": "def __getattr__(name): ...\n",
            "broken.py": "app = (\n",
            "pkg/__init__.py": FLASK,
            "pkg/wsgi.py": "from pkg import app as application\n",
        },
    )
    assert command_table.run(["new", "blog", "--app", app]) == (2 if refused else 0)
    expected = f"spyglass: --app: {refused.format(here / 'srv')}\n" if refused else ""
    said = capsys.readouterr()
    assert said.err == expected
    assert "warning" not in said.out
    assert (here / "etc" / "blog.toml").exists() == (not refused)


def test_a_module_that_may_be_installed_is_a_doubt(here, capsys):
    site = "v/lib/python3.13/site-packages"
    lay(here / "srv", {"shop.py": FLASK, "v/pyvenv.cfg": "", f"{site}/inst/__init__.py": ""})
    lay(here / "srv", {f"{site}/distutils-precedence.pth": "import os; os.environ\n"})
    new_app = ["new", "blog", "--venv", "v", "--app"]
    assert command_table.run([*new_app, "shpo:app"]) == 2
    lay(here / "srv", {f"{site}/more.pth": "/srv/more\n"})
    assert command_table.run([*new_app, "shpo:app"]) == 0
    assert capsys.readouterr().out.startswith(
        f"warning: there is no module 'shpo' in {here}/srv, did you mean 'shop'?\nwrote "
    )
    (here / "etc" / "blog.toml").unlink()
    assert command_table.run([*new_app, "inst:app"]) == 0
    assert capsys.readouterr().out.startswith("wrote ")


@pytest.mark.parametrize(
    ("files", "venv"),
    [
        ({}, ""),
        ({"venv/x": ""}, ""),
        ({".venv/pyvenv.cfg": ""}, ".venv"),
        ({"venv/pyvenv.cfg": "", ".venv/pyvenv.cfg": ""}, "venv"),
    ],
)
def test_virtualenv_is_found(tmp_path, files, venv):
    lay(tmp_path, files)
    assert app_detection.venv_in(str(tmp_path)) == venv


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "etc").mkdir()
    (tmp_path / "srv").mkdir()
    monkeypatch.setattr(settings, "DIRECTORY", str(tmp_path / "etc"))
    monkeypatch.chdir(tmp_path / "srv")
    return tmp_path


def test_new_app(here, capsys):
    lay(here / "srv", {"app.py": FLASK, "blog/wsgi.py": FLASK, "venv/pyvenv.cfg": ""})
    file = here / "etc" / "blog.toml"
    assert (
        command_table.run(
            [
                "new",
                "blog",
                str(here / "srv"),
                "--app",
                "blog.wsgi",
                "--listen",
                "8001",
                "--listen",
                "unix:/run/b.sock",
                "--user",
                "blog",
            ]
        )
        == 0
    )
    said = capsys.readouterr()
    assert said.out == (
        f"wrote {file}: the app is blog.wsgi, its environment venv\n"
        'port 8001 is open to the network; for this machine only: listen = "127.0.0.1:8001"\n'
        "Next: spyglass check blog, then spyglass apply blog\n"
    )
    values = {
        "app": "blog.wsgi",
        "directory": str(here / "srv"),
        "venv": "venv",
        "listen": [8001, "/run/b.sock"],
        "user": "blog",
    }
    assert tomllib.loads(file.read_text()) == values
    load(str(file), {}, {}, units=True)


def test_current_directory_is_the_default(here, capsys):
    lay(here / "srv", {"app.py": FLASK})
    assert command_table.run(["new", "blog"]) == 0
    assert tomllib.loads((here / "etc" / "blog.toml").read_text()) == {
        "app": "app:app",
        "directory": str(here / "srv"),
    }


@pytest.mark.parametrize(
    ("source", "app"),
    [
        (FASTAPI, "main:app"),
        (FASTAPI, "main"),
        (FASTAPI, "main.py"),
        ("from starlette.applications import Starlette\napp = Starlette()\n", "main:app"),
        ("from quart import Quart\napp = Quart(__name__)\n", "main:app"),
        ("from litestar import Litestar\napp = Litestar([])\n", "main:app"),
        ("from fastapi import FastAPI\ndef create_app(): return FastAPI()\n", "main:create_app()"),
        (
            "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n",
            "main:application",
        ),
        (FLASK, ""),
        ("from asgi import app\n", ""),
    ],
)
def test_an_asgi_app_is_called_one(here, capsys, source, app):
    """Its file does not suggest settings that have no effect on it."""
    lay(here / "srv", {"main.py": source})
    assert command_table.run(["new", "blog", "--app", app or "main:app"]) == 0
    file = here / "etc" / "blog.toml"
    kind = " (ASGI)" if app else ""
    assert f"wrote {file}: the app is {app or 'main:app'}{kind}\n" in capsys.readouterr().out
    assert ("# threads" in file.read_text()) == (not app)


def test_uncommented_settings_are_valid(here, tmp_path):
    """A user who removes the # gets a valid setting."""
    text = new.text("blog", {"app": "a", "directory": "/srv/blog"})
    lines = [
        line.removeprefix("# ")
        if line.partition(" = ")[0].removeprefix("# ") in settings.SETTINGS
        else line
        for line in text.splitlines()
    ]
    file = tmp_path / "blog.toml"
    file.write_text("\n".join(lines))
    got = load(str(file), {}, {}, units=True)
    assert got.user == "blog"
    assert got.memory_max == 500 << 20
    assert {
        "listen",
        "workers",
        "environment",
        "credentials",
        "memory_max",
        "user",
        "writable",
    } < set(tomllib.loads(file.read_text()))
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("argv", "status", "says"),
    [
        (
            ["Blog"],
            2,
            "'Blog' cannot be an app's name: expected 1 to 22 of a-z, 0-9, - and _, the first a letter or digit",
        ),
        (
            ["b" * 23],
            2,
            f"'{'b' * 23}' cannot be an app's name: expected 1 to 22 of a-z, 0-9, - and _, the first a letter or digit",
        ),
        (
            ["old", "--app", "a"],
            78,
            "{}/etc/old.toml already exists: edit it, then: spyglass apply old; or remove the app and its data: spyglass remove --purge old; or choose another name",
        ),
        (["blog", "/proc/nonexistent", "--app", "a"], 78, "/proc/nonexistent is not a directory"),
        (
            ["blog", "--app", "a", "--listen", "localhost:80"],
            2,
            "--listen: expected a numeric address before the port, in brackets if it is IPv6, not 'localhost:80'",
        ),
        (
            ["blog", "--app", "a", "--user", "a b"],
            2,
            "--user: expected the name of a user, not 'a b'",
        ),
        (
            ["blog"],
            2,
            "no wsgi.py, asgi.py, app.py, main.py or manage.py in {}/srv contains an app: name it with --app MODULE:CALLABLE",
        ),
        (
            ["blog", "odd\udcff"],
            2,
            "directory: must not contain '\\udcff', which a unit file cannot hold",
        ),
        (["blog", "two", "--app", "a\udcff"], 2, "--app: expected text, not 'a\\udcff'"),
        (
            ["blog", "--app", "a", "--venv", "v\n"],
            2,
            "--venv: must not contain '\\n', which a unit file cannot hold",
        ),
        (["blog", "two"], 2, "several apps found: use --app app:app or --app main:app"),
        ([], 2, "the following arguments are required: NAME; see 'spyglass new --help'"),
        (
            ["blog", "--worker", "3"],
            2,
            "unknown option '--worker'; see 'spyglass new --help'",
        ),
    ],
)
def test_invalid_arguments_are_rejected(here, capsys, argv, status, says):
    lay(
        here,
        {
            "etc/old.toml": "",
            "srv/two/app.py": FLASK,
            "srv/two/main.py": FLASK,
            "srv/odd\udcff/app.py": FLASK,
        },
    )
    assert command_table.run(["new", *argv]) == status
    assert capsys.readouterr().err == f"spyglass: {says.format(here)}\n"
    assert [entry.name for entry in (here / "etc").iterdir()] == ["old.toml"]


@given(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.integers()
    | st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2)
)
def test_toml_values_round_trip(value):
    assert tomllib.loads(f"a = {new.toml(value)}") == {"a": value}
