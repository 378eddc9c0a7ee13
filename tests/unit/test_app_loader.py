"""From what `app` says to an app, or to what is wrong with it. Each load is a process of
its own: an import leaves traces everywhere.
"""

import json
import os
import subprocess
import sys

import pytest

from spyglass.config.settings import Config
from spyglass.zygote.app_files import candidates

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"lib/python{VERSION}/site-packages"

# Prints what came of it; the loaded "apps" of these tests give their name when they are
# called.
CHILD = """
import json, os, sys
from spyglass.zygote import app_loader as loader
from spyglass.config.settings import Config
from spyglass.errors import LoadError

def attempt(values):
    try:
        config = Config(values)
        loader.prepare(config)
        app = loader.load(config)
        post_fork = loader.post_fork(config)
        if post_fork is not None:
            loader.call(post_fork)
    except LoadError as error:
        return {"summary": error.summary, "details": error.details, "files": error.files}
    return {"app": app({}, None) if values.get("app") else app.__module__, "path": sys.path, "cwd": os.getcwd(), "venv": os.environ.get("VIRTUAL_ENV"),
            "modules": sorted(sys.modules), "cache": sys.pycache_prefix, "write": not sys.dont_write_bytecode}

result = attempt(json.loads(sys.argv[1]))
print(json.dumps(result))
"""

FILES = {
    "exact.py": "def app(environ, start_response): return 'exact'",
    "plain.py": "def app(environ, start_response): ...",
    "factory.py": "def make_app(): ...",
    "both.py": "app = lambda *_: 'app'\napplication = lambda *_: 'application'",
    "only.py": "app = lambda *_: 'app'\nother = lambda *_: 'other'\nnumber = 7\nnothing = None",
    "asgi.py": """
        async def function(environ, start_response): return [b'']
        async def streaming(environ, start_response): yield b''
        class Starlette:
            async def __call__(self, scope, receive, send): pass
            async def handle(self, scope, receive, send): pass
        app = Starlette()
        bound = app.handle
        """,
    "odd.py": """
        class Proxy:
            def __getattr__(self, name): raise RuntimeError('working outside of context')
            def __call__(self, *_): return 'proxy'
        class Anything:
            def __getattr__(self, name): return self
            def __call__(self, *_): return 'anything'
        proxy, anything = Proxy(), Anything()
        """,
    "pkg/__init__.py": "",
    "pkg/sub.py": "app = lambda *_: __name__",
    "project/__init__.py": "",
    "project/wsgi.py": "application = lambda *_: __name__",
    "nest.py": """
        class Site:
            @staticmethod
            def app(*_): return 'nested'
            @classmethod
            def make(cls): return cls.app
        def make(): return Site.app
        def greet(name, *, times=1): return lambda *_: name * times
        def needs(config): return Site.app
        def create_app(): return Site.app
        def forgets(): Site.app
        async def waits(): return Site.app
        def inner(): return needs()
        def number(): return 7
        def breaks(): raise KeyError('key')""",
    "site.wsgi": "import neighbour\napplication = lambda *_: neighbour.name",
    "neighbour.py": "name = 'neighbour'",
    "deep/er/app.py": "app = lambda *_: 'deep'\nimport beside",
    "deep/er/beside.py": "",
    "colorsys.py": "app = lambda *_: 'mine, not the library'",
    "neither.py": "",
    "empty.py": "",
    "raises.py": "import helper",
    "helper.py": "def f():\n    raise ValueError('boom')\nf()",
    "needs.py": "\nimport blgo",
    "syntax.py": "x = 1\ndef f(:\n    pass",
    "exits.py": "import sys\nsys.exit(3)",
    "interrupted.py": "raise KeyboardInterrupt",
    "lines.py": "raise ValueError('the settings are wrong:\\n- SECRET_KEY is missing')",
    "noted.py": "error = ValueError('boom')\nerror.add_note('see the manual')\nraise error",
    "forks.py": "told = 'not called'\ndef app(*_): return told\ndef post_fork():\n    global told\n    told = 'called'",
    "fork.wsgi": "import forks\napp = forks.app\nfrom forks import post_fork",
    "hook/none.py": "post_fork = None\napp = lambda *_: 'none'",
    "hook/seven.py": "post_fork = 7\napp = lambda *_: ''",
    "hook/takes.py": "def post_fork(server, worker): pass\napp = lambda *_: ''",
    "hook/exits.py": "def post_fork(): raise SystemExit(3)\napp = lambda *_: ''",
    "hook/awaits.py": "async def post_fork(): pass\napp = lambda *_: ''",
    "hook/breaks.py": "app = lambda *_: ''\ndef post_fork():\n    open_pool()\ndef open_pool():\n    raise OSError('no database')",
    "lazy.py": "def __getattr__(name):\n    raise ImportError('the driver is not installed')",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.removeprefix(" " * 8) for line in text.split("\n")))
    return root


def attempt(directory, *, cwd=None, environ=None, **values):
    outer = {
        name: value
        for name, value in os.environ.items()
        if name not in ("VIRTUAL_ENV", "CACHE_DIRECTORY")
    }
    # As the unit sets it: what one test left beside the code, another would find.
    environ = outer | {"PYTHONDONTWRITEBYTECODE": "1"} | (environ or {})
    command = [
        sys.executable,
        "-P",
        "-c",
        CHILD,
        json.dumps({"directory": str(directory)} | values),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd or "/", env=environ, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# Found


@pytest.mark.parametrize(
    ("app", "answers"),
    [
        ("only:app", "app"),
        ("only:other", "other"),
        ("only", "app"),
        ("only:", "app"),
        ("both", "application"),  # mod_wsgi's name before Flask's
        ("pkg.sub:app", "pkg.sub"),
        ("odd:proxy", "proxy"),
        ("odd:anything", "anything"),
        ("nest:Site.app", "nested"),
        ("nest:make()", "nested"),
        ("nest:Site.make()", "nested"),
        ("nest:greet('a')", "a"),
        ('nest:greet("a:b()", times=2)', "a:b()a:b()"),
        ("nest:greet(name=(1, -2.5, None, {'x': [True]}))", [1, -2.5, None, {"x": [True]}]),
        ("./nest.py:greet( 'a' )", "a"),
        ("only.py", "app"),
        ("./only.py:other", "other"),
        ("site.wsgi", "neighbour"),
        ("project.wsgi", "project.wsgi"),  # Django's module, which only looks like a file
        ("project.wsgi:application", "project.wsgi"),
        ("deep/er/app.py", "deep"),
        ("deep/er/app.py:app", "deep"),
        ("colorsys:app", "mine, not the library"),
    ],
)
def test_found(tree, app, answers):
    assert attempt(tree, app=app)["app"] == answers


def test_no_app_is_the_welcome_page(tree):
    assert attempt(tree)["app"] == "spyglass.welcome"


def test_an_absolute_path_needs_no_directory(tree):
    assert attempt(".", cwd="/", app=f"{tree}/deep/er/app.py")["app"] == "deep"


def test_directory_is_where_the_app_lives_and_imports_from_first(tree):
    got = attempt("deep/er", cwd=tree, app="app")
    assert (got["app"], got["cwd"], got["path"][0]) == (
        "deep",
        f"{tree}/deep/er",
        f"{tree}/deep/er",
    )


@pytest.mark.parametrize(
    ("app", "imported"),
    [
        ("exact", []),
        ("only:app", ["app_judge"]),
        ("nest:make()", ["app_judge"]),
        ("nest:greet('a')", ["app_factory", "app_judge"]),
    ],
)
def test_few_apps_pay_for_being_judged(tree, app, imported):
    """A wake waits for each import; `inspect` alone takes as long as all of ours."""
    got = attempt(tree, app=app)["modules"]
    judging = ("app_factory", "app_judge", "similar_names")
    assert [name for name in judging if f"spyglass.zygote.{name}" in got] == imported
    assert {"inspect", "difflib"}.isdisjoint(got)


# What each worker calls first


@pytest.mark.parametrize("app", ["forks", "forks:app", "forks.py", "fork.wsgi"])
def test_post_fork_is_found_in_the_module_of_the_app(tree, app):
    assert attempt(tree, app=app)["app"] == "called"


def test_no_post_fork_is_none(tree):
    assert attempt(tree, app="hook/none.py")["app"] == "none"


@pytest.mark.parametrize(
    ("app", "summary"),
    [
        ("hook/seven.py", "hook/seven.py: post_fork is not callable: it is of type 'int'"),
        ("hook.seven", "hook.seven: post_fork is not callable: it is of type 'int'"),
        (
            "hook.takes",
            "post_fork: TypeError: post_fork() missing 2 required positional arguments: 'server' and 'worker'",
        ),
        ("hook.exits", "post_fork: the app called sys.exit(3)"),
        (
            "hook.awaits",
            "post_fork is a coroutine function, which nothing would run: make it a plain function",
        ),
        ("hook.breaks", "post_fork: OSError: no database"),
    ],
)
def test_a_post_fork_that_does_not_work(tree, app, summary):
    assert attempt(tree, app=app)["summary"] == summary


def test_the_traceback_of_post_fork_begins_with_the_app(tree):
    got = attempt(tree, app="hook.breaks")
    lines = [line.strip() for line in got["details"].splitlines()]
    # Python 3.13 points at the call, with a line of these.
    assert [line for line in lines if line.strip("~^")] == [
        "Traceback (most recent call last):",
        f'File "{tree}/hook/breaks.py", line 3, in post_fork',
        "open_pool()",
        f'File "{tree}/hook/breaks.py", line 5, in open_pool',
        "raise OSError('no database')",
        "OSError: no database",
    ]
    assert got["files"] == [f"{tree}/hook/breaks.py"]


# Not found, or broken

LITERALS = (
    "arguments are text, numbers, True, False, None, and lists, tuples, sets and dicts of these; "
    "for anything else, call the factory in a module of your own, such as wsgi.py"
)


def in_tree(tree, names):
    return [str(tree / name) for name in names]


@pytest.mark.parametrize(
    ("app", "summary", "files"),
    [
        # Mistyped
        (
            "blgo:app",
            "ModuleNotFoundError: No module named 'blgo'",
            ["blgo.py", "blgo/__init__.py"],
        ),
        (
            "pkg.blgo:app",
            "ModuleNotFoundError: No module named 'pkg.blgo'",
            ["pkg.py", "pkg/__init__.py", "pkg/blgo.py", "pkg/blgo/__init__.py"],
        ),
        (
            "gone.wsgi",
            "ModuleNotFoundError: No module named 'gone'",
            ["gone.wsgi", "gone.py", "gone/__init__.py", "gone/wsgi.py"],
        ),
        (
            "gone.py",
            "FileNotFoundError: [Errno 2] No such file or directory: '{tree}/gone.py'",
            ["gone.py"],
        ),
        (
            "neither",
            "module 'neither' has neither 'application' nor 'app': name it as neither:NAME",
            ["neither.py"],
        ),
        (
            "neither.py",
            "module 'neither.py' has neither 'application' nor 'app': name it as neither.py:NAME",
            ["neither.py"],
        ),
        ("only:nope", "'only' has no 'nope', did you mean 'only:app'?", ["only.py"]),
        ("only:ap", "'only' has no 'ap', did you mean 'only:app'?", ["only.py"]),
        ("only:Other", "'only' has no 'Other', did you mean 'only:other'?", ["only.py"]),
        ("neither:nope", "'neither' has no 'nope'", ["neither.py"]),
        ("nest:Site.nope", "'nest' has no 'Site.nope'", ["nest.py"]),
        (
            "nest:Site.mak()",
            "'nest' has no 'Site.mak', did you mean 'nest:Site.make'?",
            ["nest.py"],
        ),
        ("nest:nope()", "'nest' has no 'nope'", ["nest.py"]),
        (
            "onyl:app",
            "ModuleNotFoundError: No module named 'onyl', did you mean 'only'?",
            ["onyl.py"],
        ),
        (
            "pgk.sub:app",
            "ModuleNotFoundError: No module named 'pgk', did you mean 'pkg.sub'?",
            ["pgk.py"],
        ),
        (
            "wsgi:application",
            "ModuleNotFoundError: No module named 'wsgi', did you mean 'project.wsgi'?",
            ["wsgi.py"],
        ),
        (
            "pkg.sup:app",
            "ModuleNotFoundError: No module named 'pkg.sup', did you mean 'pkg.sub'?",
            ["pkg/sup.py"],
        ),
        (
            "deep/er/ap.py",
            "FileNotFoundError: [Errno 2] No such file or directory: '{tree}/deep/er/ap.py', "
            "did you mean '{tree}/deep/er/app.py'?",
            ["deep/er/ap.py"],
        ),
        # Never an app
        ("only:number", "'only:number' is not callable: it is of type 'int'", ["only.py"]),
        (
            "only:nothing",
            "'only:nothing' is None, not an app: is it set later, or never?",
            ["only.py"],
        ),
        ("nest:number()", "'nest:number()' is not callable: it is of type 'int'", ["nest.py"]),
        ("only:number()", "'only:number()' is not callable: it is of type 'int'", ["only.py"]),
        *(
            (
                f"asgi:{name}",
                f"'asgi:{name}' is an async function (async def), which WSGI cannot call: "
                "make it a plain function (def)",
                ["asgi.py"],
            )
            for name in ("function", "streaming")
        ),
        # Factories
        (
            "nest:create_app",
            "'nest:create_app' is a factory, not an app: write app = \"nest:create_app()\"",
            ["nest.py"],
        ),
        (
            "factory",
            "module 'factory' has neither 'application' nor 'app': it has a factory, write "
            'app = "factory:make_app()"',
            ["factory.py"],
        ),
        (
            "nest:forgets()",
            "'nest:forgets()' returned None, not an app: is a `return` missing?",
            ["nest.py"],
        ),
        (
            "nest:waits()",
            "'nest:waits()' returned a coroutine, not an app: make the factory a plain function (def)",
            ["nest.py"],
        ),
        (
            "nest:needs()",
            "'nest:needs()' does not fit the factory: needs() missing 1 required positional "
            "argument: 'config'; its arguments go into the parentheses, as literals",
            ["nest.py"],
        ),
        (
            "nest:make('x')",
            "\"nest:make('x')\" does not fit the factory: make() takes 0 positional arguments but "
            "1 was given; its arguments go into the parentheses, as literals",
            ["nest.py"],
        ),
        (
            "plain:app()",
            "'plain:app()': app is the app itself, not a factory: write app = \"plain:app\"",
            ["plain.py"],
        ),
        (
            "nest:inner()",
            "TypeError: needs() missing 1 required positional argument: 'config'",
            ["nest.py"],
        ),
        *(
            (
                f"nest:greet({given})",
                f"{f'nest:greet({given})'!r}: {given} is not a literal: {LITERALS}",
                None,
            )
            for given in ("name", "print()", "*[1]", "**dict()", "1 + 'x'", "f''")
        ),
        (
            "nest:greet('a'",
            "\"nest:greet('a'\" is not a call that Python understands: '(' was never closed",
            None,
        ),
        (
            "nest:greet('a')('b')",
            "\"nest:greet('a')('b')\" is neither a name nor a call: write module:factory(arguments)",
            None,
        ),
        (":app", "ValueError: Empty module name", None),
        # The app breaks
        ("raises:app", "ValueError: boom", ["raises.py", "raises/__init__.py", "helper.py"]),
        ("raises.py", "ValueError: boom", ["raises.py", "helper.py"]),
        (
            "needs:app",
            "ModuleNotFoundError: No module named 'blgo'",
            ["needs.py", "needs/__init__.py"],
        ),
        (
            "syntax:app",
            "SyntaxError: invalid syntax ({tree}/syntax.py, line 2)",
            ["syntax.py", "syntax/__init__.py"],
        ),
        ("syntax.py", "SyntaxError: invalid syntax ({tree}/syntax.py, line 2)", ["syntax.py"]),
        (
            "exits:app",
            "the app called sys.exit(3) while it was being loaded",
            ["exits.py", "exits/__init__.py"],
        ),
        ("interrupted:app", "KeyboardInterrupt", ["interrupted.py", "interrupted/__init__.py"]),
        ("nest:breaks()", "KeyError: 'key'", ["nest.py"]),
        ("noted:app", "ValueError: boom", ["noted.py", "noted/__init__.py"]),
        # PEP 562: any attribute may be code.
        ("lazy:app", "ImportError: the driver is not installed", ["lazy.py"]),
        ("lazy", "ImportError: the driver is not installed", ["lazy.py"]),
    ],
)
def test_not_found_or_broken(tree, app, summary, files):
    """The summary says what to mend; a change of one of the files is a reason to try
    again.
    """
    got = attempt(tree, app=app)
    assert got["summary"] == summary.format(tree=tree)
    if files is not None:
        assert set(in_tree(tree, files)) <= set(got["files"])
        assert not [path for path in got["files"] if path.startswith("<")]


def test_the_summary_is_one_line(tree):
    """It goes into STATUS=, a line of a protocol of lines (sd_notify(3)): what an app
    raises must not add others.
    """
    got = attempt(tree, app="lines:app")
    assert got["summary"].startswith("ValueError: the settings are wrong:")
    assert "\n" not in got["summary"]
    assert "SECRET_KEY is missing" in got["details"]


def test_the_traceback_begins_with_the_app(tree):
    details = attempt(tree, app="raises:app")["details"].splitlines()
    assert details[0] == "Traceback (most recent call last):"
    assert details[1].strip() == f'File "{tree}/raises.py", line 1, in <module>'
    assert details[-1] == "ValueError: boom"
    assert "loader.py" not in "".join(details)
    assert "importlib" not in "".join(details)


@pytest.mark.parametrize("app", ["neither", "only:nope", "only:number"])
def test_a_wrong_name_needs_no_traceback(tree, app):
    assert attempt(tree, app=app)["details"] == ""


def test_a_directory_that_is_not_there():
    assert (
        attempt("/proc/nonexistent", app="a")["summary"]
        == "directory '/proc/nonexistent': No such file or directory"
    )


@pytest.mark.parametrize(
    ("app", "watched"),
    [
        ("blog:app", ["blog.py", "blog/__init__.py"]),
        ("blog", ["blog.py", "blog/__init__.py"]),
        ("a.b:app.x", ["a.py", "a/__init__.py", "a/b.py", "a/b/__init__.py"]),
        (
            "blog.wsgi",
            ["blog.wsgi", "blog.py", "blog/__init__.py", "blog/wsgi.py", "blog/wsgi/__init__.py"],
        ),
        ("./x/site.wsgi", ["./x/site.wsgi"]),
        ("x/app.py:app", ["x/app.py"]),
        ("/abs/app.py", ["/abs/app.py"]),
    ],
)
def test_candidates(app, watched):
    """Where the app would be, also when it is not there yet, nor its directory."""
    got = candidates(Config({"app": app, "directory": "/srv/x"}))
    assert got == [os.path.join("/srv/x", path) for path in watched]


# Virtual environments


@pytest.fixture
def venv(tmp_path):
    def make(settings=f"home = /usr/bin\nversion = {VERSION}.1\n"):
        site = tmp_path / "env" / SITE
        (site / "json").mkdir(parents=True)
        (site / "json/__init__.py").write_text("from_venv = True")
        (site / "dep.py").write_text("")
        (site / "more.pth").write_text(f"{tmp_path}/more\n")
        (tmp_path / "more").mkdir()
        (tmp_path / "more/added.py").write_text("")
        (tmp_path / "dep_app.py").write_text("import dep, added\napp = lambda *_: dep.__file__")
        if settings is not None:
            (tmp_path / "env/pyvenv.cfg").write_text(settings)
        return tmp_path

    return make


@pytest.mark.parametrize(
    "settings",
    [
        f"version = {VERSION}.1",
        f"version_info = {VERSION}.0.final.0",
        f"home=/x\nversion={VERSION}",
    ],
)
def test_a_venv_of_this_python(venv, settings):
    root = venv(settings)
    got = attempt(root, app="dep_app", venv="env")  # relative to the directory
    assert got["app"] == str(root / "env" / SITE / "dep.py")
    assert got["venv"] == str(root / "env")


@pytest.mark.parametrize("shared", [True, False])
def test_first_the_app_then_the_library_then_the_venv_then_the_system_if_it_is_shared(venv, shared):
    """Where Python's own start has it: a package that is called like a module of the
    library does not take its place.
    """
    root = venv(f"version = {VERSION}.1\ninclude-system-site-packages = {str(shared).lower()}\n")
    path = attempt(root, app="dep_app", venv=str(root / "env"))["path"]
    theirs = [str(root / "env" / SITE), str(root / "more")]
    assert path[0] == str(root)
    at = path.index(theirs[0])
    assert path[at : at + 2] == theirs
    assert os.path.dirname(os.__file__) in path[:at]
    assert [each for each in path[:at] if "-packages" in each] == []
    assert any("-packages" in each for each in path[at + 2 :]) == shared


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        ("version = 3.6.15", "3.6"),
        ("version_info = 2.7.18.final.0", "2.7"),
        ("home = /usr/bin", "?"),
        ("", "?"),
    ],
)
def test_a_venv_of_another_python(venv, settings, theirs):
    root = venv(settings)
    got = attempt(root, app="dep_app", venv="env")
    assert got["summary"] == (
        f"venv 'env' is for Python {theirs}, this Spyglass runs on Python {VERSION}: "
        "create the environment again with this Python, or install Spyglass into it"
    )
    assert [os.path.join(root, path) for path in got["files"]] == [str(root / "env/pyvenv.cfg")]


def test_a_venv_that_is_none(venv):
    got = attempt(venv(None), app="dep_app", venv="env")
    assert (
        got["summary"]
        == "venv 'env' is not a virtual environment: env/pyvenv.cfg: No such file or directory"
    )


def test_a_venv_with_a_pth_file_that_exits(venv):
    """Or is of another encoding, depending on the locale: where such a file was the end
    of the zygote, nothing said why.
    """
    root = venv(f"version = {VERSION}.1\n")
    (root / "env" / SITE / "broken.pth").write_text("import sys; sys.exit(3)\n")
    assert (
        attempt(root, app="dep_app", venv="env")["summary"]
        == "venv 'env': the app called sys.exit(3)"
    )


def test_byte_code_goes_to_the_unit_s_cache_directory(tree, tmp_path):
    """The sandbox makes the app's own directory read-only, and the unit sets
    PYTHONDONTWRITEBYTECODE.
    """
    environ = {"CACHE_DIRECTORY": f"{tmp_path}:/other", "PYTHONDONTWRITEBYTECODE": "1"}
    got = attempt(tree, app="only", environ=environ)
    assert (got["cache"], got["write"]) == (str(tmp_path / "pycache"), True)
    assert list((tmp_path / "pycache").rglob("only.*.pyc"))


@pytest.mark.parametrize(
    "damage",
    [lambda code: code[:40], lambda code: code[:16] + bytes(len(code) - 16)],
    ids=["cut", "zeros"],
)
@pytest.mark.parametrize("victim", ["neighbour", "only"])
def test_byte_code_that_is_damaged_is_made_anew(tree, tmp_path, damage, victim):
    """Its head is right, so Python believes it, at each try."""
    environ = {"CACHE_DIRECTORY": str(tmp_path)}
    (tree / "uses.py").write_text("import neighbour\nfrom only import app\n")
    assert attempt(tree, environ=environ, app="uses")["app"] == "app"
    [file] = (tmp_path / "pycache").rglob(f"{victim}.*.pyc")
    file.write_bytes(damage(file.read_bytes()))
    summary = attempt(tree, environ=environ, app="uses")["summary"]
    assert summary.endswith(
        f": byte code was damaged; {tmp_path}/pycache was removed, and the next attempt compiles it again"
    ), summary
    assert attempt(tree, environ=environ, app="uses")["app"] == "app"


def test_damaged_byte_code_elsewhere_is_left_to_its_owner(tree, tmp_path):
    environ = {
        "PYTHONPYCACHEPREFIX": str(tmp_path / "mine"),
        "PYTHONDONTWRITEBYTECODE": "",
        "CACHE_DIRECTORY": str(tmp_path),
    }
    assert attempt(tree, environ=environ, app="only")["app"] == "app"
    [file] = (tmp_path / "mine").rglob("only.*.pyc")
    file.write_bytes(file.read_bytes()[:40])
    assert attempt(tree, environ=environ, app="only")["summary"].endswith(
        ": byte code was damaged; remove the __pycache__ of that module"
    )
    assert file.exists()
