"""asyncio's event loop, and the selector that it asks for events: the worker's loop.

An event loop of asyncio's asks one object which descriptors are ready, a selector. Ours
makes one turn of the worker's loop (worker/loop.py), on one epoll. That does all that
is the worker's: it accepts, reads, calls the app, sends, looks at deadlines, orders and
signals. What is left are the descriptors that asyncio has registered for the app. So
nothing of the worker's own ever waits in asyncio's queues, and what holds for the idle
exit of a WSGI app (ARCHITECTURE 6) holds here by the same code.
"""

from __future__ import annotations

import selectors
import signal
import sys
from asyncio import SelectorEventLoop
from collections.abc import Mapping
from select import EPOLLIN, EPOLLOUT, epoll

from spyglass.runtime.signals import nothing

if sys.version_info < (3, 14):
    from asyncio import AbstractEventLoopPolicy, ThreadedChildWatcher, get_event_loop_policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Events = list[tuple[int, int]]
    Keys = dict[int, selectors.SelectorKey]


class EventLoop(SelectorEventLoop):
    """The event loop of a worker."""

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """Call `callback` in the loop when the signal has come.

        asyncio's own would take away the descriptor by which signals wake us
        (signals.py). With this one both hear of the signal: a worker drains on SIGTERM
        whatever the app does about it.
        """
        self._check_closed()  # type: ignore[attr-defined]
        signal.signal(sig, lambda *_: self.call_soon_threadsafe(callback, *args))
        signal.siginterrupt(sig, False)

    def remove_signal_handler(self, sig: int) -> bool:
        """Undo add_signal_handler(). Return False if there was none."""
        handler = signal.getsignal(sig)
        if handler is nothing or not callable(handler):
            return False
        signal.signal(sig, nothing)
        return True


def provide_child_watcher() -> None:
    """Have programs run under a policy for event loops that has no watcher for them.

    Before Python 3.14 asyncio takes that from the policy. An app may have set one that
    goes with other loops, as uvloop's.
    """
    if sys.version_info >= (3, 14):
        return
    policy = get_event_loop_policy()
    if type(policy).get_child_watcher is AbstractEventLoopPolicy.get_child_watcher:
        watcher = ThreadedChildWatcher()
        policy.get_child_watcher = lambda: watcher  # type: ignore[method-assign]


class Selector(selectors.BaseSelector):
    """Registers descriptors for asyncio in the worker's own `poll`. `turn(timeout)`
    waits there, and returns all that was ready.
    """

    def __init__(self, poll: epoll, turn: Callable[[float | None], Events]) -> None:
        self._epoll = poll
        self._turn = turn
        self._keys: Keys = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, _number(fileobj), events, data)
        if key.fd in self._keys:
            raise KeyError(f"{fileobj!r} is already registered")
        self._epoll.register(key.fd, _mask(events))
        self._keys[key.fd] = key
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self.get_key(fileobj)
        if key.events != events:
            self._epoll.modify(key.fd, _mask(events))
        key = self._keys[key.fd] = key._replace(events=events, data=data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = self.get_key(fileobj)
        del self._keys[key.fd]
        try:
            self._epoll.unregister(key.fd)
        except OSError:
            pass  # it was closed before, and an epoll forgets what is closed
        return key

    def forget(self, fd: int) -> None:
        """The kernel has given the number `fd` to a client of the worker's: what the
        app had registered under it is closed. That must not be unregistered later,
        which would hit the client.
        """
        self._keys.pop(fd, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._turn(timeout)
        # After the turn: it may have called what registers and unregisters.
        keys = self._keys
        ready = []
        for fd, mask in events:
            key = keys.get(fd)
            if key is not None:
                # As selectors.EpollSelector: errors make both ready.
                found = (selectors.EVENT_WRITE if mask & ~EPOLLIN else 0) | (
                    selectors.EVENT_READ if mask & ~EPOLLOUT else 0
                )
                if found & key.events:
                    ready.append((key, found & key.events))
        return ready

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return _Map(self._keys)

    def close(self) -> None:
        self._keys.clear()


class _Map(Mapping[object, selectors.SelectorKey]):
    """The keys, also by the objects that have the descriptors."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def __getitem__(self, fileobj: object) -> selectors.SelectorKey:
        try:
            return self._keys[_number(fileobj)]
        except ValueError as error:
            raise KeyError(f"{fileobj!r} is not registered") from error

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _number(fileobj: Any) -> int:
    try:
        fd = fileobj if isinstance(fileobj, int) else int(fileobj.fileno())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"invalid file object: {fileobj!r}") from None
    if fd < 0:
        raise ValueError(f"invalid file descriptor: {fd}")
    return fd


def _mask(events: int) -> int:
    return (EPOLLIN if events & selectors.EVENT_READ else 0) | (
        EPOLLOUT if events & selectors.EVENT_WRITE else 0
    )
