"""What the sandbox refuses in a request is explained as it is at import: by one line,
once for each kind, also where a framework catches it.

The refusals are made up; tests/system has real ones.
"""

import pytest

from .visitor import visit

APP = """
import errno, logging
def refuse(path):
    if path.startswith("/read-only"):
        raise OSError(errno.EROFS, "Read-only file system", "/srv/blog" + path)
    if path == "/privileged":
        raise PermissionError(errno.EPERM, "Operation not permitted")
    if path == "/own-fault":
        raise ZeroDivisionError
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/caught"):
        try:
            refuse(path.removeprefix("/caught"))
        except Exception as error:
            logging.getLogger("framework").error("Exception on %s", path, exc_info=%s)
            start_response("500 CAUGHT", [])
            return [b"caught"]
    refuse(path)
    start_response("200 OK", [])
    return [b"fine"]
"""
READ_ONLY = "(the file system is read-only in the sandbox: write to $STATE_DIRECTORY"
PRIVILEGED = "(the sandbox refuses calls that need privileges"


@pytest.fixture
def serve(systemd, tmp_path):
    def start(logged="error", unit="spyglass/blog"):
        (tmp_path / "state" / unit).mkdir(parents=True)
        (tmp_path / "app.py").write_text(APP.replace("exc_info=%s", f"exc_info={logged}"))
        return systemd(
            "app",
            directory=tmp_path,
            workers=1,
            idle_timeout=60,
            environ={"STATE_DIRECTORY": str(tmp_path / "state" / unit)},
        )

    return start


@pytest.mark.parametrize("caught", ["", "/caught"])
def test_each_kind_has_its_line_once(serve, caught):
    life = serve()
    for path in (
        "/read-only/a",
        "/read-only/b/c",
        "/own-fault",
        "/privileged",
        "/privileged",
        "/read-only/a",
    ):
        assert visit(life.address, caught + path).status == 500
    life.until(lambda: life.log.count("Traceback") == 6, "not logged")
    assert life.log.count(READ_ONLY) == 1
    assert 'or set writable = ["/srv/blog/read-only"]' in life.log
    assert life.log.count(PRIVILEGED) == 1
    assert life.log.count("error: (") == 2


def test_what_is_caught_without_a_word_is_the_app_s_own_affair(serve):
    life = serve(logged="None")
    assert visit(life.address, "/caught/read-only/a").text == "caught"
    assert "error: (" not in life.log


def test_outside_of_a_unit_there_is_no_sandbox_to_blame(serve):
    life = serve(unit="another")
    assert visit(life.address, "/read-only/a").status == 500
    assert visit(life.address, "/caught/read-only/a").status == 500
    assert "error: (" not in life.log
