"""Whole conversations with a worker in this process, whatever is said in them, and what
must be true when they are over.

For the short run (test_fuzz.py) and the long one (tests/fuzz): bytes in, answers out,
and nobody may be left behind: no connection, no descriptor, no deadline, no response of
the app's that was never closed, no line in the journal.
"""

import os
import re
import socket
import tempfile
import time
from itertools import zip_longest

from http11.cases import ALL
from http11.reading import cut
from process.wire.client import Client, Unstrict

from spyglass.runtime.scoreboard import IGNORED, OPEN

from .stepped_worker import ONE, RESET, Worker

# How a client leaves: it shuts down for writing and reads on, closes, resets, or says
# nothing more and stays.
HALF_CLOSE, CLOSE, ABORT, SILENCE = ENDINGS = ("half-close", "close", "reset", "silence")
# Everything happens in this process, so a connection that has not moved after so many
# turns never will.
PATIENCE = 2000  # turns
# Limits that any input can reach, and a worker behind a proxy, to whom not everybody
# counts.
TIGHT = {"max_head": 300, "max_fields": 8, "max_body": 200, "body_memory": 16}
SETTINGS = {
    "usual": {},
    "tight": TIGHT,
    "proxied": {"proxy_protocol": True, "body_memory": 16, "idle_ignore": ("/*/*",)},
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LARGE = 300_000  # bytes; more than a socket holds


class Mirror:
    """An app that answers with all that it was asked, in the form that the path names;
    what it opens it counts, until it is closed.
    """

    def __init__(self):
        self.seen = []
        self.open = 0

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read()
        assert environ["wsgi.input"].read() == b""
        asked = repr(
            (sorted((key, value) for key, value in environ.items() if type(value) is str), body)
        )
        self.seen.append(asked)
        text = asked.encode()
        fields = [("X-Method", environ["REQUEST_METHOD"])]
        form = environ["PATH_INFO"][1:].partition("/")[0]
        make = getattr(self, f"give_{form}", self.give_list) if form.isalpha() else self.give_list
        return make(text, environ, start_response, fields)

    def give_list(self, text, environ, start_response, fields):
        start_response("200 OK", [*fields, ("Content-Length", str(len(text)))])
        return [text]

    def give_parts(self, text, environ, start_response, fields):
        start_response("200 OK", fields)
        return Counted(self, iter([text[:7], b"", text[7:]]))

    def give_sized(self, text, environ, start_response, fields):
        start_response("200 OK", [*fields, ("Content-Length", str(len(text)))])
        return Counted(self, iter([b"", text[:7], text[7:]]))

    def give_large(self, text, environ, start_response, fields):
        start_response("200 OK", fields)
        return Counted(self, iter([text, b"x" * LARGE, text]))

    def give_nothing(self, text, environ, start_response, fields):
        start_response("204 No Content", fields)
        return Counted(self, iter([]))

    def give_unchanged(self, text, environ, start_response, fields):
        start_response("304 Not Modified", fields)
        return []

    def give_written(self, text, environ, start_response, fields):
        write = start_response("200 OK", fields)
        write(text[:7])
        return Counted(self, iter([text[7:]]))

    def give_file(self, text, environ, start_response, fields):
        start_response("200 OK", fields)
        file = tempfile.TemporaryFile()
        file.write(text)
        file.seek(3)
        return environ["wsgi.file_wrapper"](file)


class Counted:
    """An iterable that is open until it is closed, once."""

    def __init__(self, app, source):
        self.app, self.source = app, source
        app.open += 1

    def __iter__(self):
        return self.source

    def close(self):
        self.app.open -= 1


class Talking(Worker):
    """A worker that serves a Mirror."""

    def __init__(self, path, **settings):
        self.app = Mirror()
        self.sound = True  # nothing of an earlier conversation is left
        self._by_tcp = False  # a client that may be resetting
        self._descriptors = 0
        super().__init__(path, self.app, **settings)
        self.turns(1)
        self._preface = b"PROXY UNKNOWN\r\n" if settings.get("proxy_protocol") else b""
        self._serve_next()  # what is made for the first client, once
        self._settle()
        self.sound = True
        self.check()

    def talk(self, *conversations):
        """What each of these clients, each a list of pieces, gets to read until its
        connection ends; they send in turns.
        """
        self._begin()
        parties = [Party(self.client()) for _ in conversations]
        for pieces in zip_longest(*conversations, fillvalue=b""):
            for party, piece in zip(parties, pieces, strict=True):
                party.say(piece)
            self.turns(2)
            for party in parties:
                party.hear()
        for party in parties:
            party.half_close()
        self._until(lambda: all(party.hear() for party in parties), "a client waits for ever")
        for party in parties:
            party.sock.close()  # a test may have more of them than descriptors
        return [party.heard for party in parties]

    def leave(self, pieces, ending):
        """A client says this and leaves, in its way; nobody reads what it got but with
        HALF_CLOSE.
        """
        if ending == HALF_CLOSE:
            return self.talk(pieces)[0]
        self._begin()
        self._by_tcp = ending == ABORT
        party = Party(self.client(tcp=self._by_tcp))
        for piece in pieces:
            party.say(piece)
            self.turns(1)
        if ending == ABORT:
            party.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if ending == SILENCE:
            self._outlast(party)
        party.sock.close()
        return None

    def _begin(self):
        if self.sound:
            self.sound, self._descriptors = False, descriptors()
            self._by_tcp = False

    def _outlast(self, party):
        """All deadlines pass, one by one. A connection that has none would be there for
        ever.
        """
        for _ in range(5):
            self._until(lambda: party.hear() or self._waiting(), "neither read nor waited for")
            if not self.slot[OPEN]:
                return
            self.loop._expire(time.monotonic() + 3600)
        raise AssertionError("a connection outlives its deadlines")

    def _waiting(self):
        """Whether all that could be done is done: two turns change nothing."""
        before = self._state()
        self.turns(2)
        connections = list(self.loop._connections.values())
        if before != self._state() or self.loop.turns.ready:
            return False
        assert all(each.deadline is not None and each.watched for each in connections), (
            "a connection that nothing will end"
        )
        return True

    def _state(self):
        return [
            (
                each.fd,
                each.state,
                each.watched,
                len(each._responder.writer.pending),
                len(each._receiver.reader.buffer),
            )
            for each in self.loop._connections.values()
        ]

    def check(self):
        """Nobody and nothing is left, and the next client is served."""
        self._settle()
        self._serve_next()
        self._settle()
        assert self.loop._connections == {}
        assert not self.loop.turns.ready
        assert self.loop.deadlines.next() is None
        assert self.loop.deadlines._wheel == {}
        assert self.app.open == 0
        assert self.slot[IGNORED] == 0
        assert descriptors() == self._descriptors
        assert [line for line in self.journal.lines if "proxy_protocol is on" not in line] == []
        self.app.seen.clear()
        self.journal.debugged.clear()
        self.sound = True

    def _serve_next(self):
        (heard,) = self.talk([self._preface + ONE])
        assert [each.status for each in responses(heard)] == [200]

    def _settle(self):
        for client in self.clients:
            client.close()
        self.clients.clear()
        self._until(lambda: not self.slot[OPEN], "a connection is left")

    def _until(self, done, otherwise):
        for turn in range(PATIENCE):
            if done():
                return
            self.loop.turn()
            if turn > PATIENCE // 2 and self._by_tcp:
                time.sleep(0.001)  # a reset takes the kernel's time, however little
        raise AssertionError(otherwise)


class Party:
    """A client's side of one connection. `heard` (bytes) is what it has read, `over`
    (bool) that no more will come.
    """

    def __init__(self, sock):
        self.sock = sock
        self.heard, self.over = b"", False
        sock.setblocking(False)

    def say(self, piece):
        try:
            self.sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was told that the connection ends, or reads so now

    def half_close(self):
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def hear(self):
        while not self.over:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            self.heard += data
            self.over = not data
        return self.over


class Transcript(Client):
    """What a client has heard, to be read by the strict rules of the wire tests'
    client.
    """

    def __init__(self, heard):
        self.received, self.ended, self.reset = heard, True, False

    def responses(self):
        found = []
        while self.received:
            head = self.received.partition(b"\r\n\r\n")[0]
            response = self.response(head=b"\r\nX-Method: HEAD" in head)
            # The server's own answer to a bad HEAD has no body either, and is the last.
            if not response.complete and (
                response.body or not response.closing or response.get("x-method")
            ):
                raise Unstrict("a response is cut")
            if response.closing and self.received:
                raise Unstrict("an answer after the last one")
            found.append(response)
        return found


def hostile(worker, data, places, ending):
    """Say it whole and cut; the app must have been asked for the same, and all be as it
    was before.
    """
    heard = worker.leave([data], HALF_CLOSE)
    asked = list(worker.app.seen)
    found = responses(heard)
    assert sum(each.get("x-method") is not None for each in found) == len(asked)
    worker.check()
    heard = worker.leave(cut(data, places), ending)
    if ending == HALF_CLOSE:
        assert worker.app.seen == asked
        assert len(responses(heard)) == len(found)
    worker.check()


def wire_conversations(size):
    """What the wire cases say, up to so many bytes each."""
    return sorted(
        {
            b"".join(case.steps)
            for case in ALL
            if all(type(step) is bytes for step in case.steps) and 0 < case.size < size
        }
    )


def responses(heard):
    """The final responses in these bytes; raises Unstrict where anything in them is not
    as RFC 9112 has it.
    """
    return [each for each in Transcript(heard).responses() if each.status >= 200]


def timeless(heard):
    """Less what may differ: the date, and the 100 that only a client gets whose body is
    still to come.
    """
    return re.sub(rb"\r\nDate: [^\r]*", b"", heard).replace(CONTINUE, b"")


def descriptors():
    return len(os.listdir("/proc/self/fd"))
