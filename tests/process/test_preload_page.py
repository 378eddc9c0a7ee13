"""The examples of docs/preload.md, each served as it stands there."""

import concurrent.futures
import pathlib
import re
import signal

import pytest
from code_blocks import code_blocks

from .fake_systemd import ROOT
from .processes import workers
from .visitor import visit

PAGE = (ROOT / "docs" / "preload.md").read_text("utf-8")
EXAMPLES = {
    named[1]: block.text
    for block in code_blocks(PAGE)
    if (named := re.match(r"# (\w+)\.py\n", block.text))
}
# What each answers, all workers together.
ANSWERS = {
    "pool": {r"PostgreSQL \d.*\n"},
    "pool_registered": {r"PostgreSQL \d.*\n"},
    "alchemy": {r"\d+ notes\n"},
    "lite": {r"\d+ notes\n"},
    "schedule": {"running\n", "another worker's turn\n"},
    "loop": {"answered by the loop\n"},
    "dice": {r"0\.\d+\n"},
}


def test_all_examples_are_known():
    assert set(EXAMPLES) == set(ANSWERS)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_example_works_and_is_warned_of_nothing(systemd, tmp_path, request, name):
    source = EXAMPLES[name]
    (tmp_path / f"{name}.py").write_text(source)
    environ = {"STATE_DIRECTORY": str(tmp_path)}
    if "DATABASE_URL" in source:
        driver = "postgresql+psycopg" if "sqlalchemy" in source else "postgresql"
        environ["DATABASE_URL"] = (
            f"{driver}://tests@/postgres?host={request.getfixturevalue('postgres').directory}"
        )
    life = systemd(f"{name}:app", directory=tmp_path, environ=environ, idle_timeout=60, workers=2)
    heard = []

    def complete():
        with concurrent.futures.ThreadPoolExecutor(4) as visitors:
            answers = list(visitors.map(lambda _: visit(life.address), range(20)))
        assert {answer.status for answer in answers} == {200}
        heard.extend(answer.text for answer in answers)
        return all(any(re.fullmatch(pattern, text) for text in heard) for pattern in ANSWERS[name])

    assert visit(life.address).status == 200
    life.until(lambda: len(workers(life.run.pid)) == 2, "they are not there")
    life.until(complete, "not all that it may answer was heard")
    assert all(any(re.fullmatch(pattern, text) for pattern in ANSWERS[name]) for text in heard)
    if name == "dice":
        assert len(set(heard)) == len(heard), "two workers drew the same number"
    life.signal(signal.SIGTERM)
    life.until(lambda: life.asleep, "it has not left")
    assert "warning" not in life.log
    assert "Traceback" not in life.log


def test_what_it_shows_of_the_journal_is_what_is_said():
    for text in (
        "created by the app's import: ",
        "all workers would send on it, and get each other's answers",
        "no worker has it",
    ):
        assert text in PAGE
        assert any(
            text in path.read_text("utf-8") for path in pathlib.Path(ROOT, "spyglass").rglob("*.py")
        )
