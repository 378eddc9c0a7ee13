"""No client waits without bound while others are served. What is compared are counts
and waits of one run, never a wait and a clock.
"""

import contextlib
import signal
import statistics
import threading

import pytest

from .visitor import Lost, Visitor

pytestmark = pytest.mark.quiet

APP = """
import time

def pieces(pause):
    while True:
        time.sleep(pause)
        yield b"data: x\\n\\n"

def app(environ, start_response):
    _, kind, pause = environ["PATH_INFO"].split("/")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if kind == "events":
        return pieces(float(pause))
    time.sleep(float(pause))
    return [b"page"]
"""


@pytest.fixture
def serve(systemd, tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return lambda **settings: systemd(
        "app", directory=tmp_path, **{"idle_timeout": 60, "workers": 1} | settings
    )


class Listening:
    """So many event streams of `pause` seconds; `pieces` (list of int) counts what has
    come of each.
    """

    def __init__(self, life, count, pause):
        self.pieces = [0] * count
        self._ended = [False] * count
        self._visitors = [Visitor(life.address) for _ in range(count)]
        for visitor in self._visitors:
            visitor.send(f"/events/{pause}")
        self._threads = [
            threading.Thread(target=self._listen, args=(number,), daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _listen(self, number):
        sock = self._visitors[number].sock
        with contextlib.suppress(OSError):
            while data := sock.recv(1 << 16):
                self.pieces[number] += data.count(b"data: x")
        self._ended[number] = True

    @property
    def ended(self):
        return all(self._ended)

    def close(self):
        for visitor in self._visitors:
            with contextlib.suppress(OSError):  # it was cut
                visitor.sock.shutdown(2)
        for thread in self._threads:
            thread.join()
        for visitor in self._visitors:
            visitor.sock.close()


@pytest.fixture
def listen():
    made = []

    def make(*how):
        made.append(Listening(*how))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("threads", [1, 4])
def test_event_streams_and_newcomers_are_all_served(serve, listen, threads):
    """Twice as many streams as there are threads: all of these are always in a call."""
    life = serve(threads=threads)
    streams = listen(life, 2 * threads, 0.1)
    life.until(lambda: min(streams.pieces) > 1, "a stream gets nothing")
    for _ in range(10):
        before = max(streams.pieces)
        with Visitor(life.address) as newcomer:
            assert newcomer.ask("/page/0").text == "page"
        assert max(streams.pieces) - before <= 20
    life.until(
        lambda: min(streams.pieces) >= max(streams.pieces) / 3, "the streams are not served alike"
    )


@pytest.mark.parametrize("threads", [1, 4])
def test_deadlines_hold_beside_them(serve, listen, threads):
    life = serve(threads=threads, keepalive_timeout=0.3, header_timeout=0.3)
    streams = listen(life, 2 * threads, 0.1)
    life.until(lambda: min(streams.pieces) > 1, "a stream gets nothing")
    with Visitor(life.address) as idle, Visitor(life.address) as slow:
        idle.ask("/page/0", keep=True)
        slow.sock.sendall(b"GET /page/0 HTTP/1.1\r\n")
        assert idle.until_closed() == b""
        assert slow.until_closed().startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("threads", [1, 4])
def test_they_are_cut_when_their_time_is_up(serve, listen, threads):
    life = serve(threads=threads, graceful_timeout=0.5)
    streams = listen(life, 2 * threads, 0.2)
    life.until(lambda: min(streams.pieces) > 1, "a stream gets nothing")
    life.signal(signal.SIGTERM)
    life.until(lambda: streams.ended and life.asleep, "they are not cut")
    assert life.run.status == 0
    assert f"cutting {2 * threads} connections" in life.log


@pytest.mark.parametrize(("threads", "clients"), [(1, 16), (4, 64)])
def test_kept_alive_clients_and_newcomers_get_the_same(serve, threads, clients):
    """Many more clients than threads, each of which asks again at once."""
    life = serve(threads=threads, max_connections=200)
    answers, waits, newcomers = [0] * clients, [], []
    over = threading.Event()
    ready = threading.Barrier(clients + 2)

    def stay(number):
        with Visitor(life.address) as visitor:
            visitor.ask("/page/0", keep=True)
            ready.wait()
            while not over.is_set():
                answer = visitor.ask("/page/0.05", keep=True)
                answers[number] += 1
                waits.append(answer.seconds)

    def come():
        ready.wait()
        while not over.is_set():
            try:
                with Visitor(life.address) as visitor:
                    newcomers.append(visitor.ask("/page/0.05").seconds)
            except Lost as error:
                newcomers.append(float("inf"))
                raise AssertionError from error

    threads = [threading.Thread(target=stay, args=(number,)) for number in range(clients)] + [
        threading.Thread(target=come)
    ]
    for thread in threads:
        thread.start()
    ready.wait()
    life.until(
        lambda: sum(answers) >= clients * 6 and len(newcomers) >= 3, "they are not served", 60
    )
    over.set()
    for thread in threads:
        thread.join()
    mean = statistics.mean(answers)
    assert min(answers) >= mean / 2, answers
    assert statistics.median(newcomers) <= 2 * statistics.mean(waits), (
        newcomers,
        statistics.mean(waits),
    )
