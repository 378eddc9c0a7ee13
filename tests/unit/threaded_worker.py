"""A worker with all its threads, in this process: its loop runs in a thread of its own,
and the test is its clients.

For whatever may happen to a crew (leader_followers.py) when calls are short and long,
bodies are pulled slowly and clients leave: the app notices when two threads are in one
body, or another than the one that began it, and counts how often each is closed.
Afterwards nobody may be left.
"""

import gc
import os
import tempfile
import threading
import time
import zlib
from _thread import get_ident
from collections import deque
from queue import SimpleQueue

from process.wire.client import Unstrict
from waiting import wait_until

from spyglass.runtime.scoreboard import CALL_SINCE, OPEN
from spyglass.worker import sentinel as sentinel_module

from .fake_clients import Transcript, descriptors
from .stepped_worker import Worker

PATIENCE = 20  # seconds for anything at all
LARGE = 90_000  # bytes of a piece; several are more than a socket holds


def breathe():
    """What is waited for takes a millisecond, and is waited for thousands of times."""
    time.sleep(0.001)


class Body:
    """What an app returns; belongs to the thread that made it, and is closed once."""

    def __init__(self, app, pieces):
        self._app, self._pieces, self._thread = app, pieces, get_ident()
        self._busy = False
        self.closed = 0
        app.bodies.append(self)

    def __iter__(self):
        return self

    def __next__(self):
        self._enter()
        try:
            return next(self._pieces)
        finally:
            self._busy = False

    def close(self):
        self._enter()
        self.closed += 1
        self._busy = False

    def _enter(self):
        if self._busy:
            self._app.wrong.append("two threads in one body")
        if get_ident() != self._thread:
            self._app.wrong.append("a body in another thread than it began in")
        self._busy = True


class Script:
    """An app that does what the path says: /KIND/MILLISECONDS/TAG, so many for each
    call or piece. `answer()` is what that gives.
    """

    def __init__(self):
        self.bodies = []
        self.wrong = []

    def __call__(self, environ, start_response):
        _, kind, pause, tag = environ["PATH_INFO"].split("/")
        pause, tag = int(pause) / 1000, tag.encode()
        if kind in ("list", "post", "written", "fail"):
            time.sleep(pause)
        if kind == "fail":
            raise RuntimeError("as it was told")
        write = start_response("200 OK", [])
        if kind == "post":
            return [b"%d" % zlib.crc32(environ["wsgi.input"].read())]
        if kind == "file":
            file = tempfile.TemporaryFile()
            file.write(tag * LARGE)
            file.seek(0)
            return environ["wsgi.file_wrapper"](file)
        if kind == "written":
            write(tag)
        return [tag] if kind in ("list", "written") else Body(self, self.pieces(kind, pause, tag))

    def pieces(self, kind, pause, tag):
        for _ in range(3):
            time.sleep(pause)
            yield tag * LARGE if kind == "large" else tag
        if kind == "broken":
            raise RuntimeError("as it was told")

    @staticmethod
    def answer(kind, tag, body):
        tag = tag.encode()
        whole = {
            "list": tag,
            "post": b"%d" % zlib.crc32(body),
            "file": tag * LARGE,
            "written": tag * 2,
            "large": tag * LARGE * 3,
            "parts": tag * 3,
        }
        return whole.get(kind)


class Crewed(Worker):
    """A worker of so many `threads` at work; `leave()` ends it. `exits` is a list of
    what was given to os._exit().
    """

    def __init__(self, path, threads, exits):
        self.app = Script()
        self.exits = exits  # what the worker would have ended with
        super().__init__(path, self.app, threads=threads, body_memory=1000)
        self.loop.close_door(self.tick)
        self._questions = deque()
        self._order = os.eventfd(0)
        self.loop.open_door(self._order, self._answer)
        self._thread = threading.Thread(target=self.loop.run, name="spyglass-0", daemon=True)
        self._thread.start()
        self._descriptors = 0

    def _answer(self):
        os.eventfd_read(self._order)
        while self._questions:
            question, answers = self._questions.popleft()
            answers.put(question())

    def ask(self, question):
        """What `question()` gives in the leader. That there is an answer says that
        there is a leader.
        """
        answers = SimpleQueue()
        self._questions.append((question, answers))
        os.eventfd_write(self._order, 1)
        return answers.get(timeout=PATIENCE)

    def left(self):
        """In the leader: all that is not as it should be when nobody is there."""
        loop, crew = self.loop, self.loop.crew
        found = {
            "connections": loop._connections, "queued": loop.turns.ready, "held": loop.held.pending, "open": self.slot[OPEN],
            "returned": crew.returned, "deadlines": loop.deadlines.next() is not None, "a call": self.slot[CALL_SINCE],
            "descriptors": descriptors() - self._descriptors, "bodies": [body for body in self.app.bodies if body.closed != 1],
        }  # fmt: skip
        if crew.bell >= 0:
            with crew._lock:
                found["long"] = crew._long.running
                found["bound"] = [hand for hand in crew._hands if hand.bound or hand.todo]
                found["astray"] = len(crew._hands) - 1 - len(crew._free) - len(crew._bound)
                found["on the table"] = crew._table
        return {name: str(what) for name, what in found.items() if what}

    def begin(self):
        """What is there now may be there afterwards."""
        if not self._descriptors:
            # What an earlier test has left open goes now, and not while this one counts
            gc.collect()
            self._until_nothing_is_left(but="descriptors")
            self._descriptors = descriptors()

    def check(self):
        for client in self.clients:
            client.close()
        self.clients.clear()
        self._until_nothing_is_left()
        assert self.app.wrong == []
        assert self.exits == []
        assert len(self.threads()) == len(getattr(self.loop.crew, "_hands", "1")), (
            "a thread is lost"
        )
        assert [
            line for line in self.journal.lines if "the app raised RuntimeError" not in line
        ] == []
        self.journal.lines.clear()
        self.app.bodies.clear()

    def _until_nothing_is_left(self, but=None):
        found = {}

        def nothing_is_left():
            found.clear()
            found.update(self.ask(self.left))
            return not found.keys() - {but}

        wait_until(nothing_is_left, PATIENCE, lambda: f"left: {found}", between=breathe)

    def leave(self, monkeypatch):
        """Drain, and see all its threads off; the sentinel of a worker lives as long as
        its process, and is ended as nothing else can be.
        """
        crew = self.loop.crew
        self.ask(self.loop.drain)
        wait_until(lambda: not self.threads(), PATIENCE, "it does not leave", between=breathe)
        assert self.exits == []
        if crew.bell >= 0 and crew._sentinel.watching:
            monkeypatch.setattr(sentinel_module, "time", Over())
            crew._sentinel._alarm.put(None)
            wait_until(lambda: self.exits, PATIENCE, "its sentinel does not end", between=breathe)
        if crew.bell >= 0:
            os.close(crew.bell)
        os.close(self._order)
        self.close()

    def threads(self):
        return [thread for thread in threading.enumerate() if thread.name.startswith("spyglass-")]


class Over:
    """In the place of the time module: there is none left."""

    def __getattr__(self, name):
        raise SystemExit


class Guest:
    """A client with `pieces` (list of bytes) to say, one a step. It reads `reading`
    bytes a step, from step `since` on.

    It leaves when it has heard `until` bytes; with None, when all is said (and the end
    of that with `half_close`), and heard.
    """

    def __init__(self, worker, pieces, *, tcp, reading, since, until, half_close):
        self.sock = worker.client(tcp=tcp)
        self.sock.setblocking(False)
        self.heard, self.over = b"", False
        self._pieces = deque(piece for piece in pieces if piece)
        self._reading, self._since, self._until, self._half_close = (
            reading,
            since,
            until,
            half_close,
        )
        self._steps = 0

    def step(self):
        self._steps += 1
        self._say()
        if self._steps > self._since:
            self._hear()
        if self._until is not None and (
            self.over or len(self.heard) >= self._until or self._steps > 60
        ):
            self.over = True
            self.sock.close()

    def _say(self):
        try:
            if self._pieces:
                piece = self._pieces.popleft()
                rest = piece[self.sock.send(piece) :]
                if rest:
                    self._pieces.appendleft(rest)
            elif self._half_close:
                self._half_close = False
                self.sock.shutdown(1)
        except BlockingIOError:
            self._pieces.appendleft(piece)
        except OSError:
            # It was told that nobody listens any more; what was said before is to be
            # heard
            self._pieces.clear()

    def _hear(self):
        try:
            data = self.sock.recv(self._reading)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        self.heard += data
        self.over = not data


def serve(guests):
    """Until all have gone home."""

    def step():
        for guest in guests:
            if not guest.over:
                guest.step()
        time.sleep(0.0005)

    wait_until(
        lambda: all(guest.over for guest in guests),
        PATIENCE,
        "a client waits for ever",
        between=step,
    )


def responses(heard, count):
    """The first so many responses in these bytes."""
    transcript = Transcript(heard)
    found = []
    for _ in range(count):
        response = transcript.response()
        if response is None or not response.complete:
            raise Unstrict(f"an answer is missing after {len(found)} of {count}")
        found.append(response)
    return found
