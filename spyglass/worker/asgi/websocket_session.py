"""One WebSocket: what its client says becomes events for the app, what the app sends
becomes frames, until one of the two, or the worker, ends it. Its states are those of
gateway/asgi/websocket_states.py.

Nothing waits in here. The app's coroutine does (websocket_call.py): it is woken when
there is an event, or room for what it sends.
"""

from __future__ import annotations

from spyglass.gateway.app_errors import explained
from spyglass.gateway.asgi.gone import tells_of_the_end
from spyglass.gateway.asgi.websocket_messages import close_of, data_of, disconnected, received
from spyglass.gateway.asgi.websocket_states import (
    ACCEPT,
    CLOSED,
    CLOSING,
    CONNECTING,
    DENYING,
    OPEN,
    SEND,
    check_turn,
)
from spyglass.gateway.asgi.websocket_states import CLOSE as CLOSE_MESSAGE
from spyglass.printable import name_of
from spyglass.runtime.timers import LINGER, SILENCE
from spyglass.websocket.close_codes import (
    ABNORMAL,
    INTERNAL_ERROR,
    NORMAL,
    FrameError,
)
from spyglass.websocket.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    FrameReader,
    close_frame,
    frame,
    frame_head,
)
from spyglass.worker.asgi.websocket_inbox import Inbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from spyglass.gateway.asgi.websocket_messages import Event
    from spyglass.websocket.deflate import Deflate
    from spyglass.worker.asgi.websocket_base import WebSocketBase
    from spyglass.worker.asgi.websocket_opening import Opening
    from spyglass.worker.asgi.websocket_shared import Shared

_EARLY: Final = 64 << 10  # bytes that a client may send before the app accepts


class WebSocketSession:
    """The WebSocket on `connection`, which `opening` may make one.

    For the access log: `status` (str) of the response to the handshake, `given` (int)
    bytes of payload that the app has sent, `received` and `sent` (int) messages, and
    `code` (int) with which it ended. `pending` (bool): some of what was sent is still
    on its way, and the next message has to wait. `running` (bool): the app's call has
    not returned.

    More attributes than a class should have: they are two directions that end each
    other, and an object for each would be memory in each of thousands.
    """

    __slots__ = (
        *("call", "connection", "given", "pending", "received", "running", "sent", "state"),
        *("status", "_closed_by_app", "_deaf", "_deflate", "_end", "_inbox", "_leaving"),
        *("_opening", "_paused", "_pinged", "_pong", "_reader", "_target", "_told", "_shared"),
    )

    def __init__(
        self,
        connection: WebSocketBase,
        shared: Shared,
        opening: Opening,
        deflate: Deflate | None,
        target: str,
    ) -> None:
        self.connection = connection
        self.call: Any = None  # set at once, see websocket_opener.py
        self.state = CONNECTING
        self.running = True
        self.status = ""
        self.given = self.received = self.sent = 0
        self._shared = shared
        self._opening: Opening | None = opening
        self._deflate = deflate
        self._target = target
        self._reader = FrameReader(shared.max_size, deflate)
        self._inbox = Inbox()
        self._inbox.put({"type": "websocket.connect"}, 0)
        # How it ends; whether the app has been told; whether it was the app's wish
        self._end: tuple[int, str] = (ABNORMAL, "")
        self._told = False
        self._closed_by_app = False
        self._leaving = 0  # the code to close it with as soon as it is accepted
        # Nothing is read for now, and nothing at all any more
        self._paused = False
        self._deaf = False
        self.pending = False
        self._pong: bytes | None = None  # to send when nothing is pending
        self._pinged = False  # since the last byte from the client

    @property
    def code(self) -> int:
        return self._end[0]

    # What the connection calls

    def on_readable(self) -> None:
        """The socket is ready."""
        connection = self.connection
        try:
            data = connection.receive()
        except BlockingIOError:
            return
        except OSError as error:
            connection.close(f"reading failed: {error.strerror}")
            return
        if not data:
            # Without a Close. No half of a WebSocket goes on alone (RFC 6455 7.1.1).
            connection.close("closed by the client")
            return
        self.take_in(data)

    def take_in(self, data: bytes) -> None:
        """This has come."""
        self._reader.feed(data)
        if self.state == OPEN or self.state == CLOSING:
            if self.state == OPEN:  # else its time is for its Close
                self._pinged = False
                self._wait()
            self._read()
        elif self._reader.unread >= _EARLY:
            self._pause()

    def on_writable(self) -> None:
        """All that was pending has been sent."""
        self.pending = False
        if self._pong is not None and self.state == OPEN:
            payload, self._pong = self._pong, None
            self._write(frame(PONG, payload))
        if not self.pending:
            self._wait()
            self.call.wake_sender()

    def on_deadline(self, kind: int) -> None:
        """The client has been silent for too long."""
        if self.state == CLOSING:
            self.connection.close("the client sent no Close frame")
        elif self.state != OPEN or kind != SILENCE:
            pass
        elif self._paused:
            self._wait()  # it may have said a lot that we have not read
        elif self._pinged:
            self._fail(INTERNAL_ERROR, "ping timeout")
        else:
            self._pinged = True
            self._write(frame(PING, b""))
            self._wait()

    def leave(self, code: int) -> None:
        """The worker leaves: close with this code, when it is this one's turn."""
        self._shared.in_turn(code, self.close)

    def close(self, code: int) -> None:
        """Close for the server."""
        if self.state == CONNECTING:
            self._leaving = code
        elif self.state == OPEN:
            self._start_closing(code, "")

    def lost(self) -> None:
        """The connection is closed."""
        if self._opening is None:
            self._shared.closed()
        self.state = CLOSED
        self.pending = False  # nothing is on its way any more
        self._tell()
        if self.running:
            self.call.wake_sender()
            if not self._closed_by_app:
                self.call.client_left()

    # What the client says

    def _read(self) -> None:
        """Read what has come, as far as the app keeps up with it."""
        reader, inbox = self._reader, self._inbox
        try:
            while not inbox.full:
                event = reader.next()
                if event is None:
                    self._resume()
                    return
                opcode, said = event
                if opcode <= BINARY:
                    self.received += 1
                    if self.running:
                        inbox.put(received(opcode, said), len(said))
                        self.call.wake_receiver()
                elif opcode == PING:
                    self._answer_ping(said)
                elif opcode == CLOSE:
                    self._stop_reading(self._close_heard, *said)
                    return
        except FrameError as error:
            self._stop_reading(self._fail, error.code, str(error))
            return
        self._pause()

    def _stop_reading(self, then: Callable[[int, str], None], code: int, reason: str) -> None:
        # Not at once, but in the loop's next round: the app has been given what came
        # before, and may answer that. Autobahn wants to see the answer.
        self._deaf = True
        self._pause()
        self._shared.soon(then, code, reason)

    def _close_heard(self, code: int, reason: str) -> None:
        if self.state == OPEN:
            self._end = code, reason
            self._write(close_frame(code))
        self._finish(announced=True)

    def _fail(self, code: int, why: str) -> None:
        """Fail the connection (RFC 6455 7.1.7)."""
        if self.state == OPEN:
            self._end = code, why
            self._write(close_frame(code, why))
        self._finish()

    def _answer_ping(self, payload: bytes) -> None:
        if self.state != OPEN:
            return
        if self.pending:
            # Only the last one needs an answer (5.5.3): a client that sends pings and
            # reads nothing would fill our memory with pongs.
            self._pong = payload
        else:
            self._write(frame(PONG, payload))

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            if self.state != CLOSED:
                self.connection.pause()

    def _resume(self) -> None:
        if self._paused and not self._deaf:
            self._paused = False
            if self.state != CLOSED:
                self.connection.resume()

    # What the app receives

    def take(self) -> Event | None:
        """Return the next event of the app's; None when there is none yet."""
        event = self._inbox.take()
        if event is None:
            return disconnected(*self._end) if self._told else None
        if self._paused and not self._deaf and self.state >= OPEN:
            self._read()  # a client that has gone has said this before
        return event

    # What the app sends

    def send(self, message: Any) -> bool:
        """Send `message`; return False when some of it is still pending. Raise Gone
        after the end, RuntimeError for a message that must not come now, TypeError or
        ValueError for one that cannot be sent.
        """
        kind, state = message["type"], self.state
        if kind == SEND and state == OPEN:
            self._send_data(message)
        elif kind == CLOSE_MESSAGE and state != DENYING and not self._closed_by_app:
            self._close(message)
        else:
            check_turn(kind, state, closed_by_app=self._closed_by_app)
            assert self._opening is not None
            if kind == ACCEPT:
                self._accept(self._opening, message)
            else:
                kind = kind.removeprefix("websocket.")
                self._respond(self._opening, self._opening.deny(kind, message))
                self._closed_by_app = True
        return not self.pending

    def _send_data(self, message: Any) -> None:
        opcode, data = data_of(message)
        self.sent += 1
        self.given += len(data)
        deflate = self._deflate
        packed = None if deflate is None else deflate.deflate(data)
        if packed is None:
            self._write(frame(opcode, data))
        else:
            self._write(frame_head(opcode, len(packed), compressed=True) + packed)

    def _accept(self, opening: Opening, message: Any) -> None:
        head = opening.accept(message)
        self._opening = None
        self.status = "101 Switching Protocols"
        self.state = OPEN
        self._shared.opened()
        self.call.accepted()
        self._write(head)
        if self._leaving:
            self.close(self._leaving)
        self._wait()
        self._read()  # what came early

    def _close(self, message: Any) -> None:
        """Close for the app. If it is closed already, the app may not know yet."""
        if self.state == OPEN:
            code, reason = close_of(message)
            self._closed_by_app = True
            self._start_closing(code, reason)
        elif self.state == CONNECTING:
            assert self._opening is not None
            self._closed_by_app = True
            self._respond(self._opening, self._opening.forbid())

    def _respond(self, opening: Opening, piece: bytes) -> None:
        """Send a piece of a response of HTTP."""
        denial = opening.denial
        assert denial is not None
        self.state = DENYING
        self.status, self.given = denial.status, denial.given
        if piece:
            self._write(piece)
        if denial.complete and self.state == DENYING:
            self._finish()

    # How it ends

    def returned(self, error: BaseException | None) -> None:
        """The app's call has ended, perhaps with `error`."""
        self.running = False
        if self.state == CONNECTING or self.state == DENYING:
            self._give_up(error)
        elif error is not None and not tells_of_the_end(error, self.code):
            server = self._shared.server
            server.log.exception(
                f"WebSocket {self._target}: the app raised {name_of(error)}", explained(error)
            )
            server.count_error()
        if self.state == OPEN:
            self._start_closing(NORMAL if error is None else INTERNAL_ERROR, "")
        self._inbox = Inbox()
        if self.state == CLOSING and self._paused and not self._deaf:
            self._read()  # the client's Close may be behind what the app did not take
        self.connection.returned(self.call.visit)

    def _give_up(self, error: BaseException | None) -> None:
        opening = self._opening
        assert opening is not None
        piece = opening.give_up(error, is_late=self.call.is_late)
        if piece is None:
            self.connection.close("the app failed in the middle of its response")
        else:
            self._respond(opening, piece)

    def _start_closing(self, code: int, reason: str) -> None:
        """Send a Close, and wait for the client's."""
        self.state = CLOSING
        self._end = code, reason
        self._write(close_frame(code, reason))
        self._wait()

    def _finish(self, *, announced: bool = False) -> None:
        """All is said; idempotent. If the client has `announced` that of itself, too,
        it sends no more.
        """
        if self.state != CLOSED:
            self.state = CLOSED
            self._tell()
            self.connection.say_goodbye(announced=announced)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self.call.wake_receiver()

    def _wait(self) -> None:
        """Wait for the client, for as long as it has time."""
        if self.state == CLOSING:
            self.connection.wait_for(LINGER)
        elif self.state == OPEN and self._shared.pings:
            self.connection.wait_for(SILENCE)

    def _write(self, data: bytes) -> None:
        if not self.connection.write(data):
            self.pending = self.connection.fd >= 0
