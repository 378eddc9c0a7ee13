"""What is kept of earlier requests changes what a request costs, never what it means;
and it is bounded, whatever clients send.
"""

from pathlib import Path

import pytest

import spyglass
from spyglass.http11 import caches
from spyglass.http11.caches import HEADS, LINES, Bound, Cache
from spyglass.http11.request_head import HeadParser
from spyglass.http11.request_reader import RequestReader
from spyglass.http11.response_head import check_fields, check_status

from .cases import ALL
from .reading import converse, limits_of

CONVERSATIONS = {
    case.name: b"".join(case.steps)
    for case in ALL
    if all(type(step) is bytes for step in case.steps) and 0 < case.size < 200_000
}
NAMES = [name for name, value in vars(caches).items() if isinstance(value, Bound)]


@pytest.fixture
def switch():
    yield caches.switch
    caches.switch(True)


def read(heads, data, repeat):
    """What each of three connections reads, when a client says `data` so many times."""
    limits = limits_of(max_head=4096, max_fields=20, max_body=65536, body_memory=1024)
    return [converse([data] * repeat, RequestReader(limits, heads)) for _ in range(3)]


@pytest.mark.parametrize("repeat", [1, 3])
@pytest.mark.parametrize("topic", sorted({case.topic for case in ALL}))
def test_every_wire_case_reads_alike_with_caches_on_and_off(switch, topic, repeat):
    rows = {
        case.name: CONVERSATIONS[case.name]
        for case in ALL
        if case.topic == topic and case.name in CONVERSATIONS
    }
    heads = HeadParser()
    on = {name: read(heads, data, repeat) for name, data in rows.items()}
    switch(False)
    off = {name: read(HeadParser(), data, repeat) for name, data in rows.items()}
    assert on == off


def test_all_of_them_can_be_switched_off(switch):
    switch(False)
    heads = HeadParser()
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    reader = RequestReader(limits_of(), heads)
    first, second = (reader.next(head) for _ in range(2))
    assert first is not second
    assert first.fields is not second.fields
    fields = [("X", "y")]
    check_status("200 OK")
    assert check_fields(fields) is not check_fields(fields)
    assert heads.known == {}
    assert all(each.entries == {} for each in caches.ALL if isinstance(each, Cache))
    switch(True)
    assert check_fields(fields) is check_fields(fields)
    first, second = (reader.next(head) for _ in range(2))
    assert first is second
    assert "Host: a" in LINES.entries


@pytest.mark.parametrize("name", NAMES)
def test_each_has_its_row_in_the_table_and_is_reached_by_the_switch(name):
    cache = getattr(caches, name)
    assert cache in caches.ALL
    # From the source: a compiled module has no __doc__.
    story = (Path(spyglass.__file__).parent / "http11" / "caches.py").read_text()
    (row,) = [line.split() for line in story.splitlines() if line.split()[:1] == [name]][:1]
    assert str(cache.most) in row
    assert str(cache.longest) in row


def test_a_cache_is_bounded_by_entries_and_by_the_length_of_a_key():
    cache = Cache(3, 5)
    for number in range(10):
        cache.keep(number, str(number), 5)
        assert cache.entries[number] == str(number)
        assert len(cache.entries) <= 3
    before = dict(cache.entries)
    cache.keep("longer", "", 6)
    assert cache.entries == before
    assert HEADS.longest > 0
