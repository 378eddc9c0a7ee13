"""Which byte code is read, where what is missing is written, and what becomes of that
of code that is gone.
"""

import os
import py_compile
import subprocess
import sys
import time

import pytest

from spyglass.zygote import byte_code_cache

TAG = sys.implementation.cache_tag
# Imports `module` as the zygote does, and prints what it has become; of an app that has
# another finder the import system's own is the last.
CHILD = """
import sys
from spyglass.zygote import app_loader
from spyglass.config.settings import Config
app_loader.prepare(Config({"directory": sys.argv[1]}))
import module
print(module.WORD, module.word.__code__.co_filename)
"""
SOURCE = "WORD = 'one'\ndef word(): return WORD\n"


@pytest.fixture
def code(tmp_path):
    (tmp_path / "app").mkdir()
    source = tmp_path / "app" / "module.py"
    source.write_text(SOURCE)
    return source


def imported(code, tmp_path):
    environ = os.environ | {
        "CACHE_DIRECTORY": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environ.pop("PYTHONPYCACHEPREFIX", None)
    command = [sys.executable, "-P", "-c", CHILD, str(code.parent)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=30)
    assert done.stderr == ""
    word, _, path = done.stdout.strip().partition(" ")
    assert path == str(code)
    return word


def cached(code, tmp_path):
    """Which file holds the byte code of `code` in the cache, or None."""
    path = tmp_path / "cache" / "pycache" / str(code.parent)[1:] / f"module.{TAG}.pyc"
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


def compiled(code, word="of pip", mode=py_compile.PycInvalidationMode.TIMESTAMP):
    """Byte code beside `code` that says of itself that it is of that source, and is of
    another of that size and time.
    """
    times = code.stat()
    code.write_text(SOURCE.replace("one", word))
    os.utime(code, ns=(times.st_atime_ns, times.st_mtime_ns))
    made = py_compile.compile(str(code), invalidation_mode=mode)
    beside = code.parent / "__pycache__" / f"module.{TAG}.pyc"
    os.replace(made, beside) if made != str(beside) else None
    code.write_text(SOURCE)
    os.utime(code, ns=(times.st_atime_ns, times.st_mtime_ns))
    return beside


def test_what_pip_or_debian_has_compiled_is_read_and_nothing_is_written(code, tmp_path):
    compiled(code, "two")
    assert imported(code, tmp_path) == "two"
    assert cached(code, tmp_path) is None


def test_so_is_byte_code_that_is_never_compared(code, tmp_path):
    compiled(code, "unchecked", py_compile.PycInvalidationMode.UNCHECKED_HASH)
    assert imported(code, tmp_path) == "unchecked"
    assert cached(code, tmp_path) is None


def spoil(beside, data):
    beside.write_bytes(data(beside.read_bytes()))


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda data: data[:-5],
        lambda data: data[:16] + b"\xff" * 50,
        lambda data: data[:16],
        lambda data: data[:7],
        lambda data: b"",
        lambda data: b"\0\0\0\0" + data[4:],
        lambda data: data[:8] + b"\0\0\0\0" + data[12:],
        lambda data: data[:12] + b"\0\0\0\0" + data[16:],
        lambda data: data[:4] + b"\3\0\0\0" + data[8:],
        lambda data: data[:4] + b"\x77\0\0\0" + data[8:],
        lambda data: data[:16] + b"N",
    ],
)
def test_what_is_damaged_or_of_another_source_is_compiled_once_into_the_cache(
    code, tmp_path, spoilt
):
    beside = compiled(code, "two")
    spoil(beside, spoilt)
    before = beside.read_bytes()
    assert imported(code, tmp_path) == "one"
    written = cached(code, tmp_path)
    assert written is not None
    assert imported(code, tmp_path) == "one"
    assert cached(code, tmp_path) == written
    assert beside.read_bytes() == before


def test_byte_code_that_cannot_be_read_is_none(code, tmp_path):
    (code.parent / "__pycache__").mkdir()
    (code.parent / "__pycache__" / f"module.{TAG}.pyc").mkdir()
    assert imported(code, tmp_path) == "one"
    assert cached(code, tmp_path) is not None


# Sweeping


@pytest.fixture
def cache(tmp_path):
    """cache(source, made=True, age=0, tag=TAG) -> the byte code of `source`, which
    exists if `made`, `age` days old.
    """

    def make(source, made=True, age=0.0, tag=TAG):
        source = tmp_path / source
        source.parent.mkdir(parents=True, exist_ok=True)
        if made:
            source.write_text("")
        path = tmp_path / "pycache" / str(source.parent)[1:] / f"{source.stem}.{tag}.pyc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        then = time.time() - age * 86400
        os.utime(path, (then, then))
        return path

    return make


def test_byte_code_of_what_is_gone_or_long_unused_is_swept(cache, tmp_path):
    kept = [
        cache("releases/2/app.py", age=90),
        cache("releases/2/site.wsgi", age=90),
        cache("releases/2/app.py", age=90, tag=f"{TAG}.opt-1"),
        cache("venv/lib/flask.py", age=90),
        cache("shared/used.py", age=1),
    ]
    swept = [
        cache("releases/1/app.py", age=4),
        cache("releases/0/pkg/app.py", made=False),
        cache("releases/2/gone.py", made=False),
        cache("releases/2/app.py", tag="cpython-39"),
        cache("shared/unused.py", age=4),
    ]
    (tmp_path / "current").symlink_to("releases/2")
    (tmp_path / "pycache" / "link").symlink_to(tmp_path / "releases")
    byte_code_cache.sweep(
        str(tmp_path / "pycache"), [str(tmp_path / "current"), "", str(tmp_path / "venv")]
    )
    assert [path for path in kept if not path.exists()] == []
    assert [path for path in swept if path.exists()] == []
    assert not (tmp_path / "pycache" / str(tmp_path)[1:] / "releases" / "0").exists(), (
        "nor what has become empty"
    )
    assert (tmp_path / "releases" / "1" / "app.py").exists(), "nothing but byte code is touched"


def test_it_is_swept_once_a_day(cache, tmp_path):
    place = str(tmp_path / "pycache")
    cache("first.py")
    byte_code_cache.sweep(place, [])
    gone = cache("gone.py", made=False)
    byte_code_cache.sweep(place, [])
    assert gone.exists()
    yesterday = time.time() - 86400 - 1
    os.utime(tmp_path / "pycache" / ".swept", (yesterday, yesterday))
    byte_code_cache.sweep(place, [])
    assert not gone.exists()


def test_sweeping_never_raises(tmp_path):
    byte_code_cache.sweep(str(tmp_path / "none"), [])
    (tmp_path / "file").write_text("")
    byte_code_cache.sweep(str(tmp_path / "file"), [])
    deep = tmp_path / "deep"
    for _ in range(300):
        deep = deep / "dddddd"
    deep.mkdir(parents=True)
    byte_code_cache.sweep(str(tmp_path / "deep"), [])
    assert os.listdir(tmp_path / "deep") == [".swept"]


@pytest.mark.parametrize("what", ["pipe", "link"])
def test_what_an_app_has_put_in_the_place_of_the_stamp(tmp_path, what):
    """The Master sweeps: it must neither wait for a named pipe nor empty the file to
    which a link leads.
    """
    cache, other = tmp_path / "pycache", tmp_path / "other"
    cache.mkdir()
    other.write_text("precious")
    stamp = cache / ".swept"
    os.mkfifo(stamp) if what == "pipe" else stamp.symlink_to(other)
    os.utime(stamp, (0, 0), follow_symlinks=False)
    os.utime(other, (0, 0))
    swept = "import sys\nfrom spyglass.zygote import byte_code_cache\nbyte_code_cache.sweep(sys.argv[1], [])"
    subprocess.run([sys.executable, "-c", swept, str(cache)], check=True, timeout=30)
    assert other.read_text() == "precious"
    assert stamp.is_file()
    assert not stamp.is_symlink()
    assert stamp.stat().st_mtime > time.time() - 3600
