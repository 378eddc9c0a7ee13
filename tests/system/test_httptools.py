"""Whose httptools an app gets: its own, or Debian's, or none. Spyglass's, which lies in
a directory of the package, never.

In one process there are two then, compiled from different sources, whose modules have
the same names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from instance import Instance
from machine import Machine, boot, installed
from process.visitor import visit

OURS = "/usr/lib/spyglass/"
SOURCE = """
import json, sys

try:
    import httptools
except ModuleNotFoundError:
    httptools = None


class Heard:
    def __init__(self):
        self.fields = {}

    def on_header(self, name, value):
        self.fields[name.decode()] = value.decode()


def tell():
    heard = Heard()
    httptools.HttpRequestParser(heard).feed_data(b"GET / HTTP/1.1\\r\\nHost: app\\r\\n\\r\\n")
    try:
        httptools.HttpRequestParser(heard).feed_data(b"GET / SMTP/1.1\\r\\n\\r\\n")
        error = None
    except httptools.HttpParserError as caught:
        error = type(caught).__module__
    url = httptools.parse_url(b"/blog?page=2")
    return {"fields": heard.fields, "error": error, "query": url.query.decode(), "modules": [
        module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "httptools"]}


def app(environ, start_response):
    with open("/proc/self/maps") as maps:
        mapped = sorted({line.split()[-1] for line in maps if "/httptools/" in line})
    body = json.dumps((tell() if httptools else {}) | {"mapped": mapped, "path": sys.path}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture(scope="module")
def judges_machine(release: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """With Debian's python3-httptools, and another in /srv/venv."""
    with boot(
        release, *installed(release, Path(tmp_path_factory.mktemp("layer")), "judges")
    ) as machine:
        yield machine


def told(machine: Machine, name: str, **settings: Any) -> Any:
    """What the app says at its second request, which the parser has read after the app
    has used its own.
    """
    instance = Instance(machine, name, SOURCE, settings=settings).start()
    visit(instance.unix)
    said = json.loads(visit(instance.unix).text)
    assert [path for path in said["mapped"] if path.startswith(OURS)], (
        "the request was read by another parser than the package's"
    )
    assert not [path for path in said["path"] if path.startswith(OURS)]
    return said


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "each"])
@pytest.mark.parametrize(
    ("venv", "where"),
    [("/srv/venv", "/srv/venv/"), ("", "/usr/lib/python3/dist-packages/")],
    ids=["venv", "debian"],
)
def test_an_app_gets_its_own(judges_machine: Machine, venv: str, where: str, preload: bool) -> None:
    name = f"{'venv' if venv else 'debian'}{preload:d}"
    said = told(judges_machine, name, preload=preload, **({"venv": venv} if venv else {}))
    assert said["fields"] == {"Host": "app"}
    assert said["error"] == "httptools.parser.errors"
    assert said["query"] == "page=2"
    assert all(path.startswith(where) for path in said["modules"]), said["modules"]
    assert len(said["modules"]) >= 4
    assert len({path for path in said["mapped"] if path.startswith(where)}) >= 1


def test_an_app_that_has_none_gets_none(machine: Machine) -> None:
    assert "modules" not in told(machine, "none")
