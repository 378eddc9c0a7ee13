"""The access log as its readers get it, and what becomes of the clients when nobody
reads it.
"""

import contextlib
import fcntl
import json
import os
import re
import socket

import pytest

from .visitor import Visitor, visit


def lines(life, count, has=" B"):
    """The lines of the access log, when there are so many."""

    def found():
        return [line for line in life.log.splitlines() if has in line]

    life.until(lambda: len(found()) >= count, f"not {count} lines with {has!r}")
    assert len(found()) == count
    return found()


def in_the_journal(life):
    """Have the log of `life` taken for the journal (systemd.exec(5),
    JOURNAL_STREAM).
    """
    status = os.fstat(life._log)
    life._environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
    return life


def test_off_by_default(systemd):
    life = systemd(idle_timeout=0.3)
    visit(life.address, "/nobody-writes-this")
    life.until_asleep()
    assert "nobody-writes-this" not in life.log


def test_a_short_line_for_each_request(systemd):
    life = systemd(access_log="true")
    with Visitor(life.address) as visitor:
        visitor.ask("/a?", keep=True)
        visitor.ask("/large/100000", keep=True)
        visitor.ask("/stream/0.01", keep=True)
        visitor.ask("/b", method="HEAD")
    start = r"\d\d:\d\d:\d\d \[\d+ worker\] 127\.0\.0\.1 "
    for line, rest in zip(
        lines(life, 4),
        [
            '"GET /a?" 200 5 B',
            '"GET /large/100000" 200 100000 B',
            '"GET /stream/0.01" 200 20 B',
            '"HEAD /b" 200 0 B',
        ],
        strict=True,
    ):
        assert re.fullmatch(start + re.escape(rest) + r" \d+\.\d ms", line)


def test_in_the_journal_it_has_a_priority_and_the_role(systemd):
    life = in_the_journal(systemd(access_log="true"))
    visit(life.address, "/a")
    assert lines(life, 1)[0].startswith('<6>worker: 127.0.0.1 "GET /a" 200 5 B ')


def test_what_is_for_programs_has_nothing_else_in_front(systemd):
    life = in_the_journal(systemd(access_log="combined"))
    visit(life.address, "/a")
    assert re.fullmatch(
        r'<6>127\.0\.0\.1 - - \[[^]]+\] "GET /a HTTP/1\.1" 200 5 "-" "-"', lines(life, 1, "GET")[0]
    )
    life = systemd(access_log="json", listeners=("unix",))
    visit(life.address, "/a")
    told = json.loads(lines(life, 1, "GET")[0])
    assert (told["client"], told["target"], told["status"], told["bytes"]) == (None, "/a", 200, 5)
    assert told["listener"].endswith(life.address)


def test_a_mistake_is_refused_by_name(systemd):
    life = systemd(access_log="%h %Z")
    assert visit(life.address).status == 503
    (line,) = life.log.splitlines()
    assert "--access-log: access_log: expected %h" in line
    assert line.endswith("not '%Z'")


def send(life, data):
    with Visitor(life.address) as visitor:
        visitor.sock.sendall(data)
        return visitor.until_closed()


def test_what_a_client_says_stays_in_its_place(systemd):
    life = systemd(access_log='%s "%{User-Agent}i" %X')
    send(
        life,
        b'GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: x" 200\t\xff\\ <0>forged\r\nConnection: close\r\n\r\n',
    )
    assert lines(life, 1, "forged") == ['200 "x\\" 200\\x09\\xff\\\\ <0>forged" -']


def test_refusals_of_our_own(systemd):
    life = systemd(access_log="true", max_body=10, header_timeout=0.3)
    send(life, b"POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nConnection: close\r\n\r\n")
    send(life, b"GET /no-host HTTP/1.1\r\n\r\n")
    send(life, b"\x16\x03\x01\x1b[2J\n\r\n\r\n")
    send(life, b"GET /slow HTTP/1.1\r\nHo")
    found = [re.sub(r"^.*worker\] | \d+ B.*", "", line) for line in lines(life, 4)]
    assert found == [
        '127.0.0.1 "POST /big HTTP/1.1" 413',
        '127.0.0.1 "GET /no-host HTTP/1.1" 400',
        '127.0.0.1 "\\x16\\x03\\x01\\x1b[2J\\x0a" 400',
        '127.0.0.1 "GET /slow HTTP/1.1" 408',
    ]


def test_a_body_that_does_not_come(systemd):
    life = systemd(access_log="true", body_timeout=0.2)
    send(
        life,
        b"POST /slow HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\nContent-Length: 11\r\n\r\n",
    )
    assert '192.0.2.7 "POST /slow" 408 ' in lines(life, 1)[0]


def test_a_response_that_was_cut(systemd):
    life = systemd(access_log="true", write_timeout=0.3)
    with Visitor(life.address) as visitor:
        visitor.send("/large/20000000")
        (line,) = lines(life, 1)
    found = re.search(r'"GET /large/20000000" 200 (\d+) B \d+\.\d ms, cut$', line)
    assert found
    assert 0 < int(found[1]) < 20_000_000


def test_a_slow_request_does_not_hold_up_the_lines_of_others(systemd):
    life = systemd(access_log="true", workers=1)
    with life.visitor_under_way("/sleep/1") as slow:
        visit(life.address, "/fast")
        assert "/fast" in lines(life, 1)[0]
        assert slow.answer().status == 200
    assert re.search(r'"GET /sleep/1\S+" 200 5 B \d{4}\.\d ms', lines(life, 2)[1])


# Slow requests


def test_a_slow_request_is_told_with_its_time(systemd):
    life = systemd(log_slow="0.2", workers=1)
    with life.visitor_under_way("/sleep/0.3") as slow:
        visit(life.address, "/fast")
        assert slow.answer().status == 200
    with Visitor(life.address) as visitor:
        visitor.ask("/stream/0.3?a=%1b", keep=True)
    start = r"\d\d:\d\d:\d\d \[\d+ worker\] warning: slow: 127\.0\.0\.1 "
    took = r" B, [\d.]+ s, ([\d.]+) s of it in the app"
    one, two = lines(life, 2)
    assert (found := re.fullmatch(start + r'"GET /sleep/0\.3\S+" 200 5' + took, one))
    assert float(found[1]) >= 0.3
    assert re.fullmatch(start + r'"GET /stream/0\.3\?a=%1b" 200 20' + took, two)
    assert "/fast" not in life.log


def test_slow_requests_stand_beside_the_access_log(systemd):
    life = in_the_journal(systemd(log_slow="200ms", access_log="json", write_timeout=0.5))
    visit(life.address, "/fast")
    with Visitor(life.address) as visitor:
        visitor.send("/large/20000000")
        (line,) = lines(life, 1)
    assert re.fullmatch(
        r'<4>worker: slow: 127\.0\.0\.1 "GET /large/20000000" 200 \d+ B, [\d.]+ s, '
        r"[\d.e-]+ s of it in the app, cut",
        line,
    )
    assert len([line for line in life.log.splitlines() if '"target"' in line]) == 2


def test_no_request_is_slow_by_default(systemd):
    life = systemd(access_log="true")
    visit(life.address, "/sleep/0.3")
    assert len(lines(life, 1)) == 1
    assert "slow:" not in life.log


# A reader that stands still


@contextlib.contextmanager
def nobody_reads(life, kind):
    """Stderr becomes a pipe, or a socket; gives the reading end."""
    if kind == "pipe":
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 8192)
    else:
        ends = socket.socketpair()
        ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        reader, writer = (end.detach() for end in ends)
    os.dup2(writer, life._log)  # before the first visitor, for whom the Master is started with it
    os.close(writer)
    try:
        yield reader
    finally:
        os.close(reader)  # or the last words of all others would wait


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_clients_are_served_however_the_log_is_read(systemd, kind):
    life = systemd(access_log="true", workers=2)
    target = "/" + "a" * 3000
    got = b""
    with nobody_reads(life, kind) as reader, Visitor(life.address) as visitor:
        for _ in range(150):  # more than the buffer and what is kept together
            assert visitor.ask(target, keep=True).status == 200
        os.set_blocking(reader, False)

        def has_come(text):
            nonlocal got
            with contextlib.suppress(BlockingIOError):
                got += os.read(reader, 1 << 16)
            return text in got

        # As soon as somebody reads, all that was kept comes, and how much was not.
        life.until(
            lambda: has_come(b"lost: its reader was too slow\n"),
            "nobody told of the lines that were lost",
        )
        visitor.ask("/after", keep=True)
        life.until(lambda: has_come(b'"GET /after" 200 5 B'), "nothing came after it")
        life.until(lambda: has_come(b" ms\n") and got.endswith(b"\n"), "the last line has no end")
    text = got.decode()
    (lost,) = re.findall(r"warning: (\d+) lines of the access log lost", text)
    written = [line for line in text.splitlines() if '"GET /a' in line]
    assert all(
        re.fullmatch(
            r'\S+ \[\d+ worker\] 127\.0\.0\.1 "GET /(a{3000}|after)" 200 5 B \d+\.\d ms', line
        )
        for line in written
    )
    assert len(written) + int(lost) == 151


def test_when_the_reader_has_gone_no_client_notices(systemd):
    life = systemd(access_log="true")
    with nobody_reads(life, "pipe"):
        visit(life.address)
    for _ in range(5):
        assert visit(life.address, "/" + "a" * 3000).status == 200
