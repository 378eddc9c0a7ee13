"""An exchange with a test in the place of its connection: asks for the next piece, or
closes, when the test says so.
"""

import os
from contextvars import copy_context

from spyglass.gateway.environ import EnvironMaker, base_environ
from spyglass.gateway.file_wrapper import FileSpan
from spyglass.gateway.wsgi import CutOff, Exchange
from spyglass.http11.request import Request

from .fake_log import FakeLog

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


class Result:
    """What an app returns: counts how often it is asked and closed."""

    def __init__(self, chunks, close_raises=None):
        self.chunks = iter(chunks)
        self.asked = self.closed = 0
        self.close_raises = close_raises

    def __iter__(self):
        return self

    def __next__(self):
        self.asked += 1
        chunk = next(self.chunks)
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    def close(self):
        self.closed += 1
        if self.close_raises:
            raise self.close_raises


class Played:
    """An exchange run to its end: `sent` is all that a client would have got, `pieces`
    as they came.
    """

    def __init__(self, app, method="GET", *, version=(1, 1), keep=True, willing=True, debug=False):
        self.request = Request(method, "/x", version, {})
        self.request.keep_alive = keep
        self.pieces, self.spans, self.journal, self.cut = [], [], FakeLog(), None
        self.app, self.log, self.debug, self.date, self.willing = (
            app,
            self.journal,
            debug,
            DATE,
            willing,
        )
        self.errors = 0
        self.exchange = Exchange(
            self, self.request, EnvironMaker(base_environ()).make(self.request), self
        )

    # What a worker, and a connection, do for an exchange

    fresh_context = staticmethod(copy_context)

    def would_keep(self):
        return self.willing

    def count_error(self):
        self.errors += 1

    def reset_unless_whole(self):
        self.open_ended = True

    def push(self, data):
        self.pieces.append(data)

    # What the test does

    def all(self):
        try:
            while not self.exchange.done:
                self._send(self.exchange.advance())
        except CutOff as error:
            self.cut = str(error)
        return self

    def take(self, count):
        for _ in range(count):
            self._send(self.exchange.advance())
        return self

    def _send(self, piece):
        if isinstance(piece, FileSpan):
            self.spans.append((piece.offset, piece.count))
            piece = os.pread(piece.fd, piece.count, piece.offset)
        elif isinstance(piece, tuple):
            piece = b"".join(piece)
        self.pieces.append(piece or b"")

    def leave(self):
        """The client has gone."""
        self.exchange.abandon()

    @property
    def sent(self):
        return b"".join(self.pieces)

    @property
    def status(self):
        return self.sent[9:12].decode()

    @property
    def head(self):
        return self.sent.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")

    @property
    def body(self):
        return self.sent.partition(b"\r\n\r\n")[2]


def play(app, *method, **how):
    return Played(app, *method, **how).all()


def answering(result, *fields, status="200 OK"):
    """An app that starts its response and returns `result`."""

    def app(environ, start_response):
        start_response(status, list(fields))
        return result

    return app


def coded(*chunks):
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def length(number):
    return ("Content-Length", str(number))
