"""The other end of a connection: asks, and tells exactly what became of it.

Nothing is tried again and nothing is overlooked: a refused connection, a reset, an end
before the answer was whole or no answer at all is an exception with that in its name.
"""

import http.client
import itertools
import socket
import threading
import time

PATIENCE = 20.0  # seconds until a request counts as unanswered


class Lost(AssertionError):
    """A request that got no whole answer, on a connection that `began` (monotonic) then
    and `ended` then.

    `silence` (seconds) is what the visitor let pass before it was sent: since before it
    connected, or since the answer before, by the app's own clock where it tells: a
    machine may let a visitor lie for long before he hears of his answer, and the server
    cannot know. `sent` (bool) tells whether all of it was, `after` (Answer or None) is
    what had been answered on the same connection before it.
    """

    def __init__(self, what, began, silence, sent, after):
        self.began = began
        self.ended = time.monotonic()
        self.silence = silence
        self.sent = sent
        self.after = after
        last = (
            f", after an answer {after.seconds:.3f} s after it had been asked for" if after else ""
        )
        super().__init__(
            f"{what}; {self.ended - began:.3f} s after it came, and it was silent for {silence:.3f} s before it asked{last}"
        )


class Answer:
    """`seconds` to the last byte from `began` (monotonic): before the connect, or
    before the request where another had been answered.
    """

    def __init__(self, response, body, began):
        self.began = began
        self.ended = time.monotonic()
        self.seconds = self.ended - began
        self.status = response.status
        self.fields = {name.lower(): value for name, value in response.getheaders()}
        self.body = body

    @property
    def text(self):
        return self.body.decode()

    @property
    def closing(self):
        return self.fields.get("connection", "").lower() == "close"


class Visitor:
    """A connection to `address`: a path for a unix socket, else host and port."""

    host = "test"

    def __init__(self, address, patience=PATIENCE):
        self._began = self._asked = self._heard = time.monotonic()
        self._silence = 0.0
        self._sent = False
        self._last = None
        self.sock = socket.socket(_family(address))
        self._patience = patience
        self.sock.settimeout(patience)
        try:
            self.connect(address)
        except ConnectionRefusedError as error:
            self._lost("refused", error)
        except OSError as error:
            self._lost("not connected", error)

    def connect(self, address):
        """For whoever has more to do before the first request: TLS, say."""
        self.sock.connect(address)

    def _lost(self, how, error):
        self.sock.close()
        raise Lost(
            f"{how}: {error!r}", self._began, self._silence, self._sent, self._last
        ) from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def ask(self, target="/", *, method="GET", keep=False):
        """Send a request and wait for its answer."""
        self.send(target, method=method, keep=keep)
        return self.answer(method)

    def send(self, target="/", *, method="GET", keep=False, body=(), chunked=False, pause=0.0):
        """`body` (list of bytes) is sent piece by piece, with so many seconds before
        each.
        """
        fields = "" if keep else "Connection: close\r\n"
        if chunked:
            fields += "Transfer-Encoding: chunked\r\n"
            body = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*body, b""]]
        elif body:
            fields += f"Content-Length: {sum(map(len, body))}\r\n"
        if self._heard > self._began:
            self._asked = time.monotonic()
        self._sent = False
        try:
            self.sock.sendall(
                f"{method} {target} HTTP/1.1\r\nHost: {self.host}\r\n{fields}\r\n".encode()
            )
            self._silence = time.monotonic() - self._heard
            for piece in body:
                time.sleep(pause)
                self.sock.sendall(piece)
        except OSError as error:
            self._silence = time.monotonic() - self._heard
            self._lost("not sent", error)
        self._sent = True

    def answer(self, method="GET", *, pause=0.0):
        """`pause` (seconds): before each piece that is read."""
        response = http.client.HTTPResponse(self.sock, method=method)
        try:
            response.begin()
            body = b"".join(self._pieces(response, pause)) if pause else response.read()
        except TimeoutError as error:
            self._lost("unanswered", error)
        except http.client.RemoteDisconnected as error:
            self._lost("closed without an answer", error)
        except ConnectionError as error:
            self._lost("reset", error)
        except http.client.HTTPException as error:
            self._lost("cut", error)
        finally:
            response.close()
        self._last = Answer(response, body, self._asked)
        self._heard = float(self._last.fields.get("x-answered", self._last.ended))
        return self._last

    def _pieces(self, response, pause):
        time.sleep(pause)
        while piece := response.read(1 << 16):
            yield piece
            time.sleep(pause)

    @property
    def silent_for(self):
        """Seconds since the last answer, at most."""
        return time.monotonic() - self._heard

    @property
    def ended(self):
        """Whether the other side has closed the connection, as far as we have been
        told.
        """
        self.sock.setblocking(False)
        try:
            return self.sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.sock.settimeout(self._patience)

    def until_closed(self):
        """Wait for the other side's end; returns what came before it."""
        return b"".join(iter(lambda: self.sock.recv(65536), b""))


def _family(address):
    if isinstance(address, str):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def visit(address, target="/", *, method="GET", patience=PATIENCE):
    """One request on a connection of its own."""
    with Visitor(address, patience) as visitor:
        return visitor.ask(target, method=method)


class Crowd:
    """`count` visitors at a time, who come again and again, `pause` seconds (float)
    apart, until told to go home; keeps what they got.
    """

    visitor = Visitor

    def __init__(self, address, target="/", count=4, pause=0.0):
        self.answers = []
        self.lost = []
        self.address, self.target, self.count, self.pause = address, target, count, pause
        self.home = threading.Event()
        self._threads = [
            threading.Thread(target=self._come_and_go, daemon=True) for _ in range(count)
        ]

    def _come_and_go(self):
        while not self.home.wait(self.pause):
            try:
                self.come()
            except Lost as error:
                self.lost.append(error)

    def come(self):
        """One of them, once: here on a connection for one request."""
        with self.visitor(self.address) as visitor:
            self.answers.append(visitor.ask(self.target))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.home.set()
        for thread in self._threads:
            thread.join()

    def statuses(self):
        return {answer.status for answer in self.answers}


class Regulars(Crowd):
    """They keep their connections, and come on another when they were told to close,
    `told_to_close` times; any other end is a loss.
    """

    told_to_close = 0

    def targets(self):
        return itertools.repeat(self.target)

    def come(self):
        with self.visitor(self.address) as visitor:
            for target in self.targets():
                answer = visitor.ask(target, keep=True)
                self.answers.append(answer)
                if answer.closing:
                    self.told_to_close += 1
                    assert visitor.until_closed() == b""
                    return
                if self.home.wait(self.pause):
                    return
