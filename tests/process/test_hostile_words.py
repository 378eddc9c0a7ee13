"""An app's words reach systemd, the journal and visitors: whatever they are, they end
no Master, and say nothing in another's name.

Each case is an app that cannot be loaded. Its Master must answer 503, tell systemd why,
take the mended file, and never have been started again for any of that.
"""

import contextlib

import pytest

from .visitor import Lost, visit

MENDED = (
    "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'mended']\n"
)
# name: source, what STATUS= says of it
APPS = {
    "line ends": (r"raise RuntimeError('a\rSTOPPING=1\vb\x85c\u2028Id=x\u2029d')", "failing: RuntimeError: a STOPPING=1 b c Id=x d"),
    "escapes": (r"raise RuntimeError('\x1b[2J\x9b31m\u202e')", r"failing: RuntimeError: \x1b[2J\x9b31m\u202e"),
    "a lone surrogate": (r"raise RuntimeError('\ud800\udc80')", r"failing: RuntimeError: \ud800\udc80"),
    "NUL": (r"raise RuntimeError('a\0b')", r"failing: RuntimeError: a\x00b"),
    "at length": ("raise RuntimeError('\\u4e00' * 10_000_000)", "failing: RuntimeError: " + "\u4e00" * 483 + "..."),
    "many lines": ("raise RuntimeError('x\\n' * 1_000_000)", "failing: RuntimeError: x"),
    "the name of a class": (r"raise type('A\rSTOPPING=1\u2028', (Exception,), {})('b')", "failing: A STOPPING=1 : b"),
    "the status of an exit": (r"raise SystemExit('a\ud800')", r"failing: the app called sys.exit('a\ud800') while it was being loaded"),
    "no words": ("class Mute(Exception):\n    def __str__(self):\n        1 / 0\nraise Mute", "failing: Mute"),
    "words that exit": ("class Mute(Exception):\n    def __str__(self):\n        raise SystemExit\nraise Mute", "failing: Mute"),
    "a status that raises": (
        "class Mute:\n    def __repr__(self):\n        1 / 0\nraise SystemExit(Mute())", "failing: SystemExit",
    ),
    "a metaclass": (
        "class Meta(type):\n    __name__ = property(lambda _: 1 / 0)\nclass Odd(Exception, metaclass=Meta):\n    pass\nraise Odd('b')",
        "failing: an exception: b",
    ),
    "an odd syntax error": ("raise SyntaxError('a', (7, 'x', b'', 3.5))", "failing: SyntaxError: a"),
    "the file of a syntax error": (
        r"raise SyntaxError('a\r', ('/tmp/\0\ud800', 1, 1, 'x'))", r"failing: SyntaxError: a  (/tmp/\x00\ud800, line 1)",
    ),
    "files of a traceback": (r"exec(compile('1/0', '/\ud800\udc80', 'exec'))", "failing: ZeroDivisionError: division by zero"),
    "a group": (
        r"raise ExceptionGroup('a\r', [ExceptionGroup('b\ud800', [ValueError('c\0')])])", "failing: ExceptionGroup: a  (1 sub-exception)",
    ),
    "recursion": ("def f():\n    g()\ndef g():\n    f()\nf()", "failing: RecursionError: maximum recursion depth exceeded"),
    "a module's name": (r"__import__('a\ud800\r')", r"failing: ModuleNotFoundError: No module named 'a\ud800\r'"),
}  # fmt: skip


@pytest.fixture
def app(tmp_path):
    (tmp_path / "app").mkdir()
    return tmp_path / "app" / "app.py"


@pytest.mark.parametrize("preload", [True, False], ids=["preloaded", "in each worker"])
@pytest.mark.parametrize("name", APPS)
def test_an_app_that_fails_with_odd_words(systemd, app, name, preload):
    source, status = APPS[name]
    app.write_text(source)
    life = systemd(
        "app:app",
        directory=app.parent,
        workers=1,
        arguments=["--debug", *([] if preload else ["--no-preload"])],
    )
    answer = visit(life.address)
    assert answer.status == 503
    assert answer.text.endswith("</html>\n"), "not all of it has come"
    life.until(lambda: status in life.run.told("STATUS"), f"systemd was not told {status!r}")
    app.write_text(MENDED)
    life.until(lambda: visit(life.address).text == "mended", "the mended app is not served")
    [run] = life.runs
    assert run.told("STOPPING") == []
    assert {field for _, field, _ in run.notes} <= {"READY", "STATUS", "EXTEND_TIMEOUT_USEC"}
    # What is ours begins each line; so nothing of the app's does.
    lines = life.log_path.read_bytes().decode().split("\n")
    assert all(line == "" or "] " in line[:40] for line in lines), lines
    assert max(map(len, lines)) < 9000
    assert len(lines) < 300


def test_a_generation_that_serves_outlives_the_odd_words_of_the_next(systemd, app):
    app.write_text(MENDED)
    life = systemd("app:app", directory=app.parent, workers=1)
    assert visit(life.address).status == 200
    app.write_text(r"raise RuntimeError('a\rSTOPPING=1\ud800')")
    assert (
        life.reload()
        .communicate(timeout=20)[0]
        .endswith("failed: RuntimeError: a STOPPING=1\\ud800\n")
    )
    life.until(
        lambda: any(
            r"reload failed: RuntimeError: a STOPPING=1\ud800" in text
            for text in life.run.told("STATUS")
        ),
        "not told",
    )
    assert visit(life.address).text == "mended"
    assert len(life.runs) == 1
    assert life.run.told("STOPPING") == []


def test_a_request_that_fails_with_odd_words_costs_its_client_an_answer(systemd, app):
    app.write_text(
        "import threading\n"
        "class Odd(Exception):\n    def __str__(self):\n        raise SystemExit\n"
        "def app(environ, start_response):\n"
        "    threading.current_thread().name = 'a\\r\\ud800'\n"
        "    raise {'/1': Odd(), '/2': RuntimeError('a\\0<0>b\\ud800\\r<0>c'), '/3': type('A\\nB', (Exception,), {})()}[environ['PATH_INFO']]\n"
    )
    life = systemd("app:app", directory=app.parent, workers=1, arguments=["--debug"])
    for path in ("/1", "/2", "/3"):
        answer = visit(life.address, path)
        assert answer.status == 500
        assert answer.text.startswith("Internal Server Error")
    life.until_logged("GET /3: the app raised A B")
    assert r"RuntimeError: a\x00<0>b\ud800 <0>c" in life.log
    assert "killed" not in life.log
    assert "exited" not in life.log


BABBLE = """
import marshal, os, stat
OURS = ("anon_inode:[eventfd]", "socket:", "pipe:")
def babble():
    for name in os.listdir("/proc/self/fd"):
        try:
            what = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if int(name) < 3 or not what.startswith(OURS):
            continue
        for data in (b"", b"died", marshal.dumps(("died", 0, 1, 0)), b"\\xff" * 8, b"died\\0" + b"7\\0" * 3, (2**64 - 2).to_bytes(8, "little")):
            try:
                os.write(int(name), data)
            except OSError:
                pass
"""


@pytest.mark.parametrize("preload", [True, False], ids=["preloaded", "in each worker"])
def test_an_app_that_writes_to_whatever_it_finds_open_does_not_end_the_master(
    systemd, app, preload
):
    app.write_text(
        BABBLE
        + "babble()\n"
        + MENDED.replace(
            "start_response(", "environ['PATH_INFO'] == '/babble' and babble(); start_response(", 1
        )
    )
    life = systemd(
        "app:app",
        directory=app.parent,
        workers=2,
        idle_timeout=60,
        arguments=[] if preload else ["--no-preload"],
    )
    assert visit(life.address).text == "mended"
    life.until_logged("an invalid message")
    for _ in range(3):
        with contextlib.suppress(Lost):  # it may have written to its own client
            visit(life.address, "/babble")
        assert visit(life.address).text == "mended"
    [run] = life.runs
    assert run.status is None
    app.write_text(MENDED)
    assert life.reload().wait(timeout=20) == 0
    assert visit(life.address).text == "mended"
