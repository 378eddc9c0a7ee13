"""Every wire case against a real server, each in several ways.

whole    in as few writes as the case allows
bytes    one byte at a time, each a read of its own for the server
split    cut at a few random places (the same in each run)
behind   pipelined behind a good request, whose answer must come first and whole
before   with a good request behind it in the same write, answered if and only if the connection was to stay open

The way must not change the outcome. `bytes` and `split` go over the unix listener, where a client can see what the server has read.
"""

import json
import random
import re
import time
from email.utils import parsedate_to_datetime
from itertools import pairwise

import pytest
from cases import ALL
from cases.case import (
    GATE,
    IMF_FIXDATE,
    TOKEN,
    Answer,
    Case,
    Kind,
    Received,
    Step,
    Then,
    Trickle,
    get,
)
from waiting import wait_until

from .client import DEADLINE, Client, Reset, Unstrict

MODES = ("whole", "bytes", "split", "behind", "before")
MODERATE = 2500  # bytes; what is larger is not sent byte by byte
GOOD_ANSWER = Answer(frozenset([200]), environ={"PATH_INFO": "/good", "HTTP_HOST": "good", "REQUEST_METHOD": "GET"}, seen=b"", head=False)
RUNS = random.Random()


def modes(case: Case):
    """The ways in which this case can be sent."""
    fits = dict.fromkeys(MODES, True)
    fits["bytes"] = fits["split"] = 1 < case.size <= MODERATE
    # Behind the last step of a client that has left nothing can follow.
    fits["before"] = isinstance(case.steps[-1], bytes)
    return [mode for mode in case.modes or MODES if fits[mode]]


CASES = [
    # A hasty server has 0.4 s of patience, with its clients and with a busy machine.
    pytest.param(case, id=f"{case.topic}: {case.name}", marks=[pytest.mark.quiet] * ("hasty" in case.server))
    for case in ALL
]


@pytest.mark.parametrize("case", CASES)
def test_wire(case, servers):
    """All ways of one case; what went wrong in each is told."""
    play(case, modes(case), servers(case.server))


@pytest.mark.parametrize("case", CASES)
def test_wire_without_caches(case, servers):
    """One way is enough: test_caches.py compares the reader's results for all rows."""
    play(case, modes(case)[:1], servers(case.server, caches=False))


# What is about PEP 3333 alone: there is nothing of it in ASGI, or another rule.
OF_WSGI = {"app_errors", "file_wrapper", "iterables", "start_response", "wsgi_input"}
OTHERWISE = {
    "environ: wsgi.file_wrapper": "no such thing",
    "long_calls: a file": "no such thing",
    "response_framing: a written piece is sent at once": "no write()",
    "target: absolute-form": "REQUEST_URI: raw_path is the path of it",
    "script_name: OPTIONS *": "no path, so nothing of it is root_path",
    **dict.fromkeys(
        (
            *("response_framing: too many bytes", "response_framing: too many bytes in a list of one"),
            *("response_framing: too many bytes from a generator", "response_framing: one piece too many"),
            *("response_framing: bytes where the length is zero", "response_framing: too many written bytes"),
            "response_framing: a request in the bytes that are too many",
        ),
        "the app gets an error, and nothing of the message is sent",
    ),
    **dict.fromkeys(
        (
            *("upgrade: websocket", "upgrade: h2c", "upgrade: the other options stay", "upgrade: TLS"),
            "upgrade: each request makes its own offer",
        ),
        "the offer stays visible: headers are as received",
    ),
    **dict.fromkeys(
        (
            *("upgrade: without the connection option", "upgrade: with a body", "upgrade: with a chunked body"),
            *("upgrade: with a body that looks like a request", "upgrade: HEAD", "upgrade: with close"),
            "upgrade: several in a row",
        ),
        "a WebSocket's handshake, or a broken one (tests/process/test_websocket.py)",
    ),
    **dict.fromkeys(
        ("response_fields: reason", "response_fields: unknown status", "response_fields: latin-1 in the reason"),
        "a status is a number, without a reason",
    ),
}


def is_for_asgi(case):
    name = f"{case.topic}: {case.name}"
    return case.topic not in OF_WSGI and name not in OTHERWISE and not name.startswith("response_fields: status ")


ASGI_CASES = [each for each in CASES if is_for_asgi(each.values[0])]


@pytest.mark.parametrize("case", ASGI_CASES)
def test_wire_asgi(case, servers):
    """The same verdicts through an ASGI app."""
    play(case, modes(case), servers(case.server, app="asgi_apps:app"))


def play(case, ways, server):
    complaints = []
    for mode in ways:
        complaint = attempt(case, mode, server)
        if complaint and (trouble := server.trouble()):
            complaints.append(f"[{mode}] {complaint}\n  {trouble}")
            break
        if complaint:
            complaints.append(f"[{mode}] {complaint}")
    if trouble := server.trouble():
        complaints.append(trouble)
    if complaints:
        pytest.fail("\n".join([case.rule, *complaints]), pytrace=False)


def attempt(case, mode, server):
    """Send a case in one way; returns what is wrong with the outcome, or None."""
    log_size = server.log_size
    run = Run(case, mode, server)
    try:
        run.play()
        run.client.close()
        if case.probe:
            target, wanted = (run.fill_in(each) for each in case.probe)
            until(lambda: server.ask(target), wanted)
        if case.logged:
            until(lambda: case.logged in server.log(log_size), True)
    except (Unstrict, OSError) as error:
        return f"{error}\n  sent: {run.sent[:300]!r}\n  seen: {run.seen}"
    finally:
        run.client.close()
    return None


def until(look, wanted):
    seen = []
    try:
        wait_until(lambda: seen.append(look()) or seen[-1] == wanted, DEADLINE)
    except AssertionError:
        raise Unstrict(f"{seen[-1]!r}, not {wanted!r}") from None


def test_names_are_unique():
    names = [f"{case.topic}: {case.name}" for case in ALL]
    assert len(names) == len(set(names))
    assert set(names) >= set(OTHERWISE)


class Run:
    """One case sent in one way."""

    def __init__(self, case, mode, server):
        self.case = case
        self.mode = mode
        self.token = "".join(RUNS.choices("abcdefghijklmnopqrstuvwxyz", k=12)).encode()
        self.server = server
        self.good = get(f"{server.below.decode()}/good", host="good")
        self.gate = server.gates / f"gate-{self.token.decode()}"
        self.client = Client(server.unix if mode in ("bytes", "split") else server.tcp)
        self.sent = b""
        self.seen = []  # of the responses, for the report
        self.answers = list(case.outcome.answers)
        self.request_is_head = isinstance(case.steps[0], bytes) and case.steps[0].lstrip(b"\r\n").startswith(b"HEAD ")

    def fill_in(self, data):
        return data.replace(TOKEN, self.token).replace(GATE.encode(), str(self.gate).encode())

    def play(self):
        steps = list(self.case.steps)
        if self.mode == "behind":
            first = steps.pop(0) if isinstance(steps[0], bytes) else b""
            self.send(self.good + first)
            self.check(GOOD_ANSWER, self.next_response(head=False))
        if self.mode == "before":
            steps[-1] += self.good
        for step in steps:
            self.take(step)
        if self.case.outcome.then is Then.GONE:
            return
        last = None
        while self.answers:
            last = self.expect_answer()
        self.check_end(last)

    def take(self, step):
        if isinstance(step, bytes):
            self.send(step)
        elif isinstance(step, Received):
            self.client.await_bytes(step.data)
        elif isinstance(step, Trickle):
            self.client.trickle(step.data)
        elif step is Step.CONTINUE:
            response = self.client.response()
            self.note(response)
            if response is None or response.status != 100:
                raise Unstrict("no 100 Continue")
        elif step is Step.ANSWER:
            self.expect_answer()
        elif step is Step.OPEN_GATE:
            until(self.gate.exists, False)
            self.gate.touch()
        elif step is Step.SERVED_MEANWHILE:
            until(self.gate.exists, False)  # the app has gone through, should it have been opened before
            for _ in range(3):
                self.server.ask(b"/pid")
        elif step is Step.END:
            self.client.end()
        elif step is Step.ABORT:
            self.client.abort()

    def send(self, data):
        data = self.fill_in(data)
        self.sent += data
        *pieces, last = self.pieces(data)
        for piece in pieces:
            self.client.send(piece, one_by_one=self.mode in ("bytes", "split"))
        self.client.send(last, one_by_one=self.mode in ("bytes", "split"), is_last=b" HTTP/1.0\r\n" in self.sent)

    def pieces(self, data):
        if self.mode == "bytes":
            return [data[at : at + 1] for at in range(len(data))]
        if self.mode == "split" and len(data) > 1:
            cuts = sorted(random.Random(self.case.name).sample(range(1, len(data)), min(3, len(data) - 1)))
            return [data[left:right] for left, right in pairwise([0, *cuts, len(data)])]
        return [data]

    def note(self, response):
        self.seen.append(response and (response.status, response.reason, response.fields, response.body[:60]))

    def next_response(self, head):
        """The next final response; an interim one only where the case allows it."""
        response = self.client.response(head)
        self.note(response)
        if response and response.status == 100 and self.case.early_continue and self.mode in ("bytes", "split"):
            return self.next_response(head)
        return response

    def expect_answer(self):
        wanted = self.answers.pop(0)
        head = self.request_is_head if wanted.head is None else wanted.head
        response = self.next_response(head)
        if response is None and wanted.optional:
            return None
        self.check(wanted, response)
        return response

    def check(self, wanted, response):
        if response is None:
            raise Reset("reset without an answer") if self.client.reset else Unstrict("closed without an answer")
        if response.status not in wanted.status:
            raise Unstrict(f"status {response.status}, not {sorted(wanted.status)}")
        if wanted.reason is not None and response.reason != wanted.reason:
            raise Unstrict(f"reason {response.reason!r}, not {wanted.reason!r}")
        if not response.complete and self.case.outcome.then not in (Then.CUT, Then.EOF):
            raise Unstrict("the body is cut")
        if wanted.body is not None and response.body != wanted.body:
            raise Unstrict(f"body {response.body[:200]!r}, not {wanted.body[:200]!r}")
        check_fields(wanted, response)
        check_mirror(wanted, response)

    def check_end(self, last):
        then = self.case.outcome.then
        if then is Then.CUT and last.complete and last.status == 500:
            then = Then.ANY  # the server had sent nothing yet, and could say what it thinks
        if then is Then.ANY:
            then = Then.CLOSE if last.closing or last.framing == "close" else Then.OPEN
            if last.framing == "close":
                then = Then.EOF
        if then is Then.EITHER:
            self.expect_good_or_end()
            return
        if then is Then.OPEN:
            if last and (last.closing or last.framing == "close"):
                raise Unstrict("the answer announces a close")
            if self.mode != "before":
                self.client.send(self.good)
            self.check(GOOD_ANSWER, self.next_response(head=False))
            if self.client.received:
                raise Unstrict(f"bytes after the last answer: {self.client.received[:200]!r}")
            return
        if then is Then.CLOSE and not last.closing:
            raise Unstrict("closed without `Connection: close` (RFC 9112 9.6)")
        if rest := self.client.rest():
            raise Unstrict(f"bytes after the last answer: {rest[:200]!r}")
        if then is Then.CUT:
            # A unix socket cannot be reset on purpose, so there the end of a body that ends with the connection tells nothing.
            if last.complete and (last.framing != "close" or self.mode not in ("bytes", "split")):
                raise Unstrict("the client can't tell that the body is cut")
        elif self.client.reset:
            raise Reset("reset instead of closed")

    def expect_good_or_end(self):
        if self.mode != "before":
            self.client.send(self.good)
        response = self.next_response(head=False)
        if response is not None:
            self.check(GOOD_ANSWER, response)


def check_fields(wanted, response):
    for name, value in ({"date": IMF_FIXDATE} | wanted.fields).items():
        found = response.get(name)
        if isinstance(value, list):
            good = response.fields.get(name) == value
        elif isinstance(value, re.Pattern):
            good = found is not None and value.fullmatch(found)
        else:
            good = found == value
        if not good:
            raise Unstrict(f"field {name}: {found!r}, not {value!r}")
    if "date" not in wanted.fields:
        age = abs(parsedate_to_datetime(response.get("date")).timestamp() - time.time())
        if age > 3:
            raise Unstrict(f"Date is {age:.0f} s off")


def check_mirror(wanted, response):
    if not (wanted.environ or wanted.seen is not None) or response.status != 200:
        return
    mirror = json.loads(response.body)
    if wanted.seen is not None and mirror["input"].encode("latin-1") != wanted.seen:
        raise Unstrict(f"the app has read {mirror['input'][:200]!r}, not {wanted.seen[:200]!r}")
    for key, value in wanted.environ.items():
        found = mirror["environ"].get(key)
        good = not found if value is Kind.EMPTY else bool(found) if value is Kind.SOME else found == value
        if isinstance(value, re.Pattern):
            good = found is not None and value.fullmatch(found)
        if not good:
            raise Unstrict(f"environ {key}: {found!r}, not {value!r}")
