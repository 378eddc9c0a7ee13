"""Finds the case tables, and starts each server configuration once, when the first case asks for it."""

import json
import pathlib
import sys

import pytest

from .server import Server

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "http11"))


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """server(name, caches=True, app="apps:app") -> a running Server. When all is done it must have closed each iterable once at most, and leave in peace."""
    running = {}

    def server(name, caches=True, app="apps:app"):
        key = f"{name} of {app}" if caches else f"{name} of {app} without caches"
        if key not in running:
            running[key] = Server(name, tmp_path_factory.mktemp(name), caches, app)
        return running[key]

    yield server
    complaints = [f"{name}: {complaint}" for name, each in running.items() for complaint in farewell(each)]
    assert not complaints, "\n".join(complaints)


def farewell(server):
    """Ends a server; what is wrong with what it leaves behind."""
    complaints = []
    try:
        twice = json.loads(server.ask(b"/twice"))
    except (OSError, ValueError) as error:
        complaints.append(f"does not answer any more: {error}")
    else:
        if twice:
            complaints.append(f"iterables were closed more than once: {twice}")
    if "garbage collected without being closed" in server.log():
        complaints.append("an iterable was never closed (PEP 3333)")
    status = server.stop()
    if status:
        complaints.append(f"exit status {status}")
    return complaints
