"""What all tests share: figures that are worth a line at the end of a run."""

import pytest

_EDGES = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption(
        "--schedules",
        type=int,
        default=40,
        help="so many for each crew of tests/unit/test_schedules.py",
    )


@pytest.fixture(scope="session")
def edges(request):
    """Lines to be told at the end of the run."""
    return request.config.stash.setdefault(_EDGES, [])


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(_EDGES, []):
        terminalreporter.write_line(line)
