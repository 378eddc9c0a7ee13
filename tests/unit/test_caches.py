"""A whole worker answers the wire cases alike with the caches of http11/caches.py on and
off.
"""

import pytest

from spyglass.http11 import caches

from .fake_clients import SETTINGS, Talking, timeless, wire_conversations


@pytest.fixture
def switch():
    yield caches.switch
    caches.switch(True)


def answers(path, kind):
    """What a worker answers to each conversation, the second time that it is said, and
    what its app was asked then.
    """
    with_preface = [b"PROXY UNKNOWN\r\n"] if kind == "proxied" else []
    worker = Talking(path, **SETTINGS[kind])
    found = []
    try:
        for data in wire_conversations(4000):
            for _ in range(2):
                worker.app.seen.clear()
                (heard,) = worker.talk([*with_preface, data])
            found.append((data, timeless(heard), list(worker.app.seen)))
    finally:
        worker.close()
    return found


@pytest.mark.parametrize("kind", SETTINGS)
def test_wire_cases_are_answered_alike_with_caches_on_and_off(switch, tmp_path_factory, kind):
    on = answers(tmp_path_factory.mktemp("on"), kind)
    switch(False)
    off = answers(tmp_path_factory.mktemp("off"), kind)
    for with_caches, without in zip(on, off, strict=True):
        assert with_caches == without
