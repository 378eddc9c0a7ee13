"""A line of the access log: what stands in it, and that nothing a client says can get
out of its place.
"""

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.http11.request import Request
from spyglass.policy.access_log_format import COMBINED, DIRECTIVES, LONGEST, Entry, formatter

WHEN = 1_795_538_435.678  # 2026-11-24 16:40:35 UTC


def entry(target="/a?b=c", *, version=(1, 1), fields=None, **facts):
    request = None if target is None else Request("GET", target, version, fields or {})
    if request is not None:
        request.path, _, request.query = target.partition("?")
    made = Entry(
        when=WHEN,
        calendar=time,
        pid=4711,
        listener="127.0.0.1:8001",
        client=facts.pop("client", "192.0.2.1"),
        request=request,
        line=facts.pop("line", ""),
    )
    made.status, made.sent, made.taken = "200", 5123, 0.012345
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def refused(line="", **facts):
    return entry(None, line=line, status="400", sent=17, taken=None, **facts)


@pytest.fixture
def zone(monkeypatch):
    def change(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    change("UTC")
    yield change
    monkeypatch.undo()
    time.tzset()


BROWSER = {
    "HTTP_REFERER": "http://a/",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11)",
    "HTTP_HOST": "b.example",
    "CONTENT_TYPE": "text/plain",
}


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (entry(), '192.0.2.1 "GET /a?b=c" 200 5123 B 12.3 ms'),
        (entry(client=""), '- "GET /a?b=c" 200 5123 B 12.3 ms'),
        (entry(cut=True), '192.0.2.1 "GET /a?b=c" 200 5123 B 12.3 ms, cut'),
        (entry(cut=True, status="", sent=0), '192.0.2.1 "GET /a?b=c" - 0 B 12.3 ms, cut'),
        (refused(), '192.0.2.1 "-" 400 17 B'),
        (refused("GET\x00\n"), '192.0.2.1 "GET\\x00\\x0a" 400 17 B'),
    ],
)
def test_the_short_one(facts, line):
    assert formatter(True)(facts) == line


def test_combined(zone):
    line = formatter("combined")(entry(fields=BROWSER))
    assert (
        line
        == '192.0.2.1 - - [24/Nov/2026:16:40:35 +0000] "GET /a?b=c HTTP/1.1" 200 5123 "http://a/" "Mozilla/5.0 (X11)"'
    )
    assert (
        formatter("combined")(refused())
        == '192.0.2.1 - - [24/Nov/2026:16:40:35 +0000] "-" 400 17 "-" "-"'
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("UTC", "[24/Nov/2026:16:40:35 +0000]"),
        ("Europe/Berlin", "[24/Nov/2026:17:40:35 +0100]"),
        ("Asia/Kathmandu", "[24/Nov/2026:22:25:35 +0545]"),
        ("America/St_Johns", "[24/Nov/2026:13:10:35 -0330]"),
    ],
)
def test_the_time_is_that_of_the_machine_s_zone(zone, name, text):
    zone(name)
    assert formatter("%t")(entry()) == text


def test_the_months_are_english_in_any_locale(zone):
    starts = [time.mktime((2026, month, 1, 12, 0, 0, 0, 0, 0)) for month in range(1, 13)]
    lines = [formatter("%t")(entry(when=when)) for when in starts]
    assert [line[4:7] for line in lines] == [
        "Jan",
        "Feb",
        "Mar",
        "Apr",
        "May",
        "Jun",
        "Jul",
        "Aug",
        "Sep",
        "Oct",
        "Nov",
        "Dec",
    ]


def test_json():
    line = formatter("json")(entry(fields=BROWSER))
    assert json.loads(line) == {
        **dict(
            time="2026-11-24T16:40:35.678Z",
            client="192.0.2.1",
            method="GET",
            target="/a?b=c",
            protocol="HTTP/1.1",
            status=200,
        ),
        **dict(
            bytes=5123,
            seconds=0.012345,
            cut=False,
            host="b.example",
            referer="http://a/",
            user_agent="Mozilla/5.0 (X11)",
        ),
        **dict(line=None, listener="127.0.0.1:8001", pid=4711),
    }
    told = json.loads(formatter("json")(refused("\x16\x03", client="")))
    assert told["line"] == "\x16\x03"
    assert (told["client"], told["method"], told["target"], told["seconds"], told["host"]) == (
        None,
        None,
        None,
        None,
        None,
    )


def test_json_has_the_text_that_the_bytes_were_meant_to_be():
    def agent(data):
        return json.loads(
            formatter("json")(entry(fields={"HTTP_USER_AGENT": data.decode("latin-1")}))
        )["user_agent"]

    assert agent("Füße €".encode()) == "Füße €"
    assert agent(b"F\xfc\xdfe") == "F\\xfc\\xdfe"


@pytest.mark.parametrize(
    ("directive", "text"),
    [
        ("%h", "192.0.2.1"), ("%a", "192.0.2.1"), ("%l", "-"), ("%u", "-"), ("%r", "GET /a?b=c HTTP/1.1"), ("%m", "GET"), ("%U", "/a"),
        ("%q", "?b=c"), ("%H", "HTTP/1.1"), ("%s", "200"), ("%>s", "200"), ("%b", "5123"), ("%B", "5123"), ("%D", "12345"), ("%T", "0"),
        ("%X", "-"), ("%P", "4711"), ("%A", "127.0.0.1:8001"), ("%{Referer}i", "http://a/"), ("%{user-agent}i", "Mozilla/5.0 (X11)"),
        ("%{Content-Type}i", "text/plain"), ("%{Cookie}i", "-"), ("%h%%%h", "192.0.2.1%192.0.2.1"), ("é\t%m", "é\tGET"),
    ],
)  # fmt: skip
def test_directives(directive, text):
    assert formatter(directive)(entry(fields=BROWSER)) == text


def test_each_directive_is_in_the_documentation():
    text = (Path(__file__).parents[2] / "packaging/manual/settings.md").read_text()
    assert [each for each in DIRECTIVES if f"`{each}`" not in text] == []


def test_each_directive_is_known_above_or_is_the_time():
    (mark,) = [mark for mark in test_directives.pytestmark if mark.name == "parametrize"]
    assert {directive for directive, _ in mark.args[1]} >= set(DIRECTIVES) - {"%t"}


@pytest.mark.parametrize(
    ("directive", "text"),
    [
        ("%r", "-"),
        ("%m", "-"),
        ("%U", "-"),
        ("%q", ""),
        ("%H", "-"),
        ("%D", "-"),
        ("%T", "-"),
        ("%{Referer}i", "-"),
        ("%s", "400"),
    ],
)
def test_of_what_was_not_understood_there_is_little_to_tell(directive, text):
    assert formatter(directive)(refused()) == text


def test_the_rest():
    assert formatter("%q")(entry("/a")) == ""
    assert formatter("%b %B")(entry(sent=0)) == "- 0"
    assert formatter("%X")(entry(kept=True)) == "+"
    assert formatter("%X")(entry(cut=True)) == "X"
    assert formatter("%r")(entry(version=(1, 0))) == "GET /a?b=c HTTP/1.0"
    assert formatter("%T %D")(entry(taken=61.5)) == "61 61500000"


# What a client may say

ESCAPE = re.compile(r'\\(?:x([0-9a-f]{2})|(["\\]))')
QUOTED = r'"((?:[^"\\]|\\.)*)"'
COMBINED_LINE = re.compile(rf"(\S+) - - \[[^\]]+\] {QUOTED} (\d+) (\d+|-) {QUOTED} {QUOTED}")
wire = st.text(st.characters(max_codepoint=0xFF), max_size=200)
nasty = st.one_of(
    wire,
    st.sampled_from(
        [
            '"',
            "\\",
            '\\"',
            "\n",
            "\r\n<0>forged: line",
            "\x1b[2J",
            "\x7f",
            "\x85",
            "\x9b31m",
            '" 200 0 "-" "-"\n10.0.0.1 - - [',
            "%h",
            "...",
        ]
    ),
)
long = st.builds(lambda text, times: text * times, nasty, st.integers(0, 3000))


def unescaped(text):
    return ESCAPE.sub(lambda match: match[2] or chr(int(match[1], 16)), text)


def clean(line, most=LONGEST):
    assert line.isascii()
    assert line.isprintable()  # no end of a line, no escape sequence of a terminal
    assert len(line) <= most


@given(nasty.filter(bool), nasty, nasty)
def test_combined_can_be_parsed_back(target, referer, agent):
    line = formatter("combined")(
        entry(target, fields={"HTTP_REFERER": referer, "HTTP_USER_AGENT": agent})
    )
    clean(line)
    match = COMBINED_LINE.fullmatch(line)
    assert match is not None
    assert [unescaped(each) for each in match.groups()] == [
        "192.0.2.1",
        f"GET {target} HTTP/1.1",
        "200",
        "5123",
        referer,
        agent,
    ]


@given(nasty)
def test_so_can_a_line_that_was_no_request(line):
    match = COMBINED_LINE.fullmatch(formatter("combined")(refused(line)))
    assert match is not None
    assert unescaped(match[2]) == (line or "-")


@given(nasty, nasty)
def test_json_can_be_parsed_back(target, agent):
    line = formatter("json")(entry(target, fields={"HTTP_USER_AGENT": agent}))
    clean(line)
    told = json.loads(line)
    expected = [
        each.encode("latin-1").decode("utf-8", "backslashreplace") for each in (target, agent)
    ]
    assert [told["target"], told["user_agent"]] == expected


@given(
    long,
    long,
    long,
    st.sampled_from(
        ["combined", "json", True, "%{Referer}i" * 40, "%r" + "é" * 400 + "%t" * 39, '"%r" ' * 3]
    ),
)
def test_no_line_is_longer_than_can_be_written_in_one_piece(target, referer, agent, setting):
    line = formatter(setting)(
        entry(target, fields={"HTTP_REFERER": referer, "HTTP_USER_AGENT": agent})
    )
    clean(line.replace("é", "ee"))
    if setting == "combined":
        assert COMBINED_LINE.fullmatch(line)
    if setting == "json":
        json.loads(line)


def test_a_long_value_is_cut_only_where_there_is_no_room():
    line = formatter("combined")(entry("/" + "a" * 3500))
    assert "a" * 3500 in line
    line = formatter("combined")(entry("/" + "a" * 4000, fields={"HTTP_USER_AGENT": "short"}))
    assert re.search(r'"GET /a{500,}\.\.\." 200 5123 "-" "short"$', line)


@given(st.text())
def test_whatever_is_said_to_be_the_client(client):
    clean(formatter(True)(entry(client=client)))


@given(
    st.text()
    | st.lists(st.sampled_from([*DIRECTIVES, "%", "{", "}", "i", "Referer", '"', " "])).map("".join)
)
def test_whatever_is_said_to_be_a_format_is_one_or_refused(text):
    try:
        line = formatter(text)
    except ValueError as error:
        assert str(error.args[0]).startswith("expected ")
        return
    assert "\n" not in line(entry())


def test_combined_is_what_its_directives_say():
    assert formatter(COMBINED)(entry(fields=BROWSER)) == formatter("combined")(
        entry(fields=BROWSER)
    )
