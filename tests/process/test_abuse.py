"""Clients who mean harm, or know no better, beside one who does not: the regular goes
on at its usual pace, and nothing stays behind.

Each abuse is a generator: it is driven, a step now and then, while the regular asks on
the same single worker; it owns its sockets, and closes them when it is closed itself.
What it has cost the worker must then be given back: descriptors and threads to the last
one, memory within reason. That the worker counts no connection as open that has gone
shows when the server is stopped: it would wait for it longer than FakeSystemd does.

The regular's pace is held against bounds that a busy machine keeps, too, and that a
worker which waits for a slow client, or works on one flood to its end, does not.
"""

import contextlib
import itertools
import os
import re
import select
import socket
import statistics
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting import wait_until

from .processes import cpu_seconds, workers
from .visitor import Regulars, Visitor, visit

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset
THREADS = 4
LASTS = 1.0  # seconds of abuse, at least
# Seconds in which the regular gets nine answers out of ten, whatever goes on. A worker
# that is held up takes seconds; a machine that is busy with other things, and the one
# interpreter in which regular and abuser live, take tenths of one.
USUALLY = 1.0
AT_MOST = 3.0  # and the longest; the machine may be busy with something else
MEMORY = 96 << 20  # bytes a worker may have grown by: malloc(3) keeps some of what is freed

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def ask(target):
    return b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % target.encode()


# The worker, as seen from outside


class Footprint:
    """What the worker `pid` holds: descriptors and threads (counts), memory (bytes, of
    its own).
    """

    def __init__(self, pid):
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        self.threads = len(os.listdir(f"/proc/{pid}/task"))
        with open(f"/proc/{pid}/statm") as stream:
            self.memory = int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def no_more_than(self, other):
        return (
            self.descriptors <= other.descriptors
            and self.threads <= other.threads
            and self.memory <= other.memory + MEMORY
        )

    def __repr__(self):
        return f"{self.descriptors} descriptors, {self.threads} threads, {self.memory >> 20} MiB"


@pytest.fixture
def serve(systemd):
    """serve(**settings): a server with one worker that has all of its threads; gives
    life and worker.
    """

    def start(**settings):
        life = systemd(
            "abused:app",
            **(
                {"idle_timeout": 120, "workers": 1, "graceful_timeout": 60, "body_memory": "64K"}
                | settings
            ),
        )
        assert visit(life.address).status == 200
        [worker] = workers(life.run.pid)

        def all_there():
            busy = [Visitor(life.address) for _ in range(THREADS)]
            for visitor in busy:
                visitor.send("/sleep/0.1")
            assert [visitor.answer().status for visitor in busy] == [200] * THREADS
            for visitor in busy:
                visitor.sock.close()
            return Footprint(worker).threads == THREADS + 1  # and the sentinel

        life.until(all_there, "its threads were not started")
        return life, worker

    return start


def endure(life, worker, abuse):
    """The regular beside `abuse`, and what is left when it is over."""
    before = Footprint(worker)
    with Regulars(life.address, count=1, pause=0.003) as regular:
        life.until(lambda: len(regular.answers) > 20 or regular.lost, "the regular is not served")
        with contextlib.closing(abuse) as steps:
            next(steps)
            regular.answers.clear()
            ends = time.monotonic() + LASTS
            while time.monotonic() < ends and not regular.lost:
                next(steps, None)
                time.sleep(0.002)
            # One that began under the worst of it counts as well.
            enough = len(regular.answers) + 2
            life.until(
                lambda: len(regular.answers) >= enough or regular.lost,
                "the regular is not served beside it",
                30,
            )
    assert not regular.lost, (regular.lost, life.story())
    assert {answer.body for answer in regular.answers} == {b"hello"}
    assert not regular.told_to_close
    seconds = sorted(answer.seconds for answer in regular.answers)
    usually = statistics.quantiles(seconds, n=10)[-1]
    pace = f"{len(seconds)} answers, nine of ten in {usually * 1000:.1f} ms, all in {seconds[-1] * 1000:.1f} ms"
    assert usually < USUALLY, pace
    assert seconds[-1] < AT_MOST, pace
    unharmed(life, worker, before)


def unharmed(life, worker, before):
    """The worker has given back whatever it took since `before` (Footprint), and is the
    one that it was.
    """
    assert workers(life.run.pid) == [worker], life.story()
    wait_until(
        lambda: Footprint(worker).no_more_than(before),
        20,
        lambda: f"{before} before, {Footprint(worker)} now",
    )
    assert "Traceback" not in life.log, life.story()


# Those who do harm


class Mob:
    """`count` connections that send `opening` at once; closed when the `with` ends.
    Nothing that happens to one of them is an error.
    """

    def __init__(self, address, count, opening=b"", *, buffer=0):
        self.socks = []
        for _ in range(count):
            sock = socket.socket()
            if buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            sock.connect(address)
            sock.setblocking(False)
            self.socks.append(sock)
        for sock in self.socks:
            send(sock, opening)

    def __enter__(self):
        return self.socks

    def __exit__(self, *_):
        for sock in self.socks:
            sock.close()


def send(sock, data):
    """As much of `data` as goes now (int, bytes); a client that has been sent away does
    not mind.
    """
    try:
        return sock.send(data) if data else 0
    except OSError:
        return 0


def receive(sock, size=65536):
    try:
        return sock.recv(size)
    except OSError:
        return b""


def readable(sock, patience):
    poll = select.poll()  # select(2) ends at descriptor 1023
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(patience * 1000))


def slow_heads(address):
    with Mob(address, 300, b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ") as mob:
        for sock in itertools.cycle(mob):
            send(sock, b"a")
            yield


def slow_bodies(address, opening=10):
    """One byte now and then; the bodies are in memory, or have been spooled."""
    with Mob(
        address,
        100,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + bytes(opening),
    ) as mob:
        for sock in itertools.cycle(mob):
            send(sock, b"a")
            yield


def slow_large_bodies(address):
    return slow_bodies(address, 100_000)


def slow_readers(address, target, count=40):
    with Mob(address, count, ask(target), buffer=4096) as mob:
        for sock in itertools.cycle(mob):
            receive(sock, 512)
            yield


def fast_reader(address, target):
    """Reads a gigabyte as fast as it comes: a socket that is always ready must not keep
    the worker from the others.
    """
    stop = threading.Event()

    def read(sock):
        place = bytearray(1 << 20)
        while not stop.is_set() and readable(sock, 1) and sock.recv_into(place):
            pass

    with Mob(address, 2, ask(target), buffer=4 << 20) as mob:
        threads = [threading.Thread(target=read, args=(sock,), daemon=True) for sock in mob]
        for thread in threads:
            thread.start()
        try:
            while True:
                yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def idle(address):
    with Mob(address, 2000, GET) as mob:
        for sock in mob:
            assert readable(sock, 20)
            assert receive(sock).endswith(b"hello")
        yield
        for sock in itertools.cycle(mob):
            send(sock, GET)
            yield
            receive(sock)


POST = b"POST /generator HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n" + bytes(20)


def vanishing(address, request=POST):
    """Gone after any byte, with a reset and without."""
    yield
    while True:
        for at, reset in itertools.product(range(len(request) + 1), (False, True)):
            with Mob(address, 1, request[:at]) as [sock]:
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            if at % 10 == 0:
                yield


def vanishing_readers(address):
    """Gone in the middle of an answer, or between two of them."""
    yield
    for target, reset in itertools.cycle(
        itertools.product(("list", "generator", "file", "", "write"), (False, True))
    ):
        with Mob(address, 1, GET + ask(target)) as [sock]:
            assert readable(sock, 20)
            receive(sock, 1000)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        yield


def silent(address):
    """Says nothing; others knock and are gone before anybody opens."""
    with Mob(address, 600):
        while True:
            yield
            with Mob(address, 20):
                pass


def pipelining(address):
    """Thousands of requests in one go from each, and none reads an answer."""
    with Mob(address, 20, GET * 5000, buffer=4096) as mob:
        for sock in itertools.cycle(mob):
            send(sock, GET * 5000)
            yield


def pipelining_reader(address):
    """The same, but the answers are read, so that it never has to wait."""
    with Mob(address, 4, GET * 5000) as mob:
        for sock in itertools.cycle(mob):
            send(sock, GET * 5000)
            receive(sock, 1 << 20)
            yield


def tiny_chunks(address):
    chunks = b"1\r\nx\r\n" * 200_000
    with Mob(
        address, 4, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    ) as mob:
        sent = [0] * len(mob)
        for number, sock in itertools.cycle(enumerate(mob)):
            sent[number] += send(sock, chunks[sent[number] % 6 :])
            yield


def tiny_fields(address):
    """As many fields as there may be, and one more; all with names that nobody has used
    before.
    """
    names = itertools.count()
    with Mob(address, 20) as mob:
        for number in itertools.count():
            fields = b"".join(b"n%d:\r\n" % next(names) for _ in range(99 + (number % 200 == 0)))
            sock = mob[number % 20]
            receive(sock)
            send(sock, b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % fields)
            yield


def large_heads(address):
    """Heads that are just not too large, of one field and of many, a few bytes at a
    time at the end.
    """
    yield
    for count in itertools.cycle((1, 98)):
        value = b"a" * (65_000 // count - 20)
        head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(
            b"n%d: %b\r\n" % (number, value) for number in range(count)
        )
        with Mob(address, 5, head) as mob:
            for _ in range(50):
                for sock in mob:
                    send(sock, b"a")
                yield


def endless_line(address):
    with Mob(address, 20, b"GET /") as mob:
        for number in itertools.count():
            sock = mob[number % 20]
            if not send(sock, b"a" * 10_000):
                sock.close()
                mob[number % 20] = sock = socket.create_connection(address)
                sock.setblocking(False)
                send(sock, b"GET /")
            yield


def half_closes(address):
    """The client sends no more, and its answers, if it is to get any, are on their
    way.
    """
    openings = [
        b"",
        b"GET / HT",
        GET,
        GET * 20,
        POST[:-5],
        POST,
        ask("list"),
        b"\r\n",
        b"nonsense\r\n\r\n",
    ]
    yield
    for opening in itertools.cycle(openings):
        with Mob(address, 10, opening) as mob:
            for sock in mob:
                sock.shutdown(socket.SHUT_WR)
                receive(sock)
            yield


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32)) * 15
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00"


def other_protocols(address):
    yield
    for opening in itertools.cycle(
        (
            HELLO,
            PREFACE,
            b"SSH-2.0-OpenSSH_9.9\r\n",
            bytes(1000),
            b"\x05\x01\x00",
            b"USER x\r\n",
            b"\xff" * 70_000,
        )
    ):
        with Mob(address, 10, opening) as mob:
            yield
            for sock in mob:
                receive(sock)


def no_body(address):
    """Waits for 100 Continue, and then does not."""
    with Mob(
        address,
        100,
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 70000\r\n\r\n",
    ) as mob:
        for sock in mob:
            assert readable(sock, 20)
            assert receive(sock).startswith(b"HTTP/1.1 100 ")
        while True:
            yield


def empty_lines(address):
    with Mob(address, 10) as mob:
        for sock in itertools.cycle(mob):
            send(sock, b"\r\n" * 50_000)
            yield


ABUSES = {
    "slow heads": slow_heads,
    "slow bodies": slow_bodies,
    "slow large bodies": slow_large_bodies,
    "slow readers of a list": lambda address: slow_readers(address, "list"),
    "slow readers of a generator": lambda address: slow_readers(address, "generator"),
    "slow readers of a file": lambda address: slow_readers(address, "file"),
    "slow readers of write()": lambda address: slow_readers(address, "write", THREADS - 1),
    "fast reader of a file": lambda address: fast_reader(address, "huge"),
    "fast reader of large pieces": lambda address: fast_reader(address, "pieces"),
    "idle": idle,
    "vanishing": vanishing,
    "vanishing readers": vanishing_readers,
    "silent": silent,
    "pipelining": pipelining,
    "pipelining reader": pipelining_reader,
    "tiny chunks": tiny_chunks,
    "tiny fields": tiny_fields,
    "large heads": large_heads,
    "endless line": endless_line,
    "half-closes": half_closes,
    "other protocols": other_protocols,
    "no body": no_body,
    "empty lines": empty_lines,
}


@pytest.mark.parametrize("abuse", ABUSES.values(), ids=[name.replace(" ", "-") for name in ABUSES])
def test_client_served_beside_it_does_not_notice(serve, abuse):
    life, worker = serve(max_connections=2100, keepalive_timeout=60)
    endure(life, worker, abuse(life.address))


# Threads that all wait, descriptors and disk that have run out


def test_when_all_threads_of_a_worker_wait_the_other_serves(systemd):
    life = systemd("abused:app", idle_timeout=120, workers=2, threads=THREADS)
    assert visit(life.address).status == 200
    life.until(lambda: len(workers(life.run.pid)) == 2, "there are not two workers")
    # Whoever takes them: a worker with a thread to spare accepts, one without cannot.
    with Mob(life.address, THREADS, ask("sleep/3")) as blocked:
        began = time.monotonic()
        for _ in range(50):
            assert visit(life.address).seconds < AT_MOST
        assert time.monotonic() - began < 3
        for sock in blocked:
            assert readable(sock, 20)
            assert receive(sock).endswith(b"hello")


def test_when_all_threads_of_all_workers_wait_no_client_is_lost(systemd):
    life = systemd("abused:app", idle_timeout=120, workers=2, threads=THREADS)
    assert visit(life.address).status == 200
    life.until(lambda: len(workers(life.run.pid)) == 2, "there are not two workers")
    pids = workers(life.run.pid)
    with Mob(life.address, 4 * THREADS, ask("sleep/1")) as blocked:
        late = [Visitor(life.address) for _ in range(50)]
        for visitor in late:
            visitor.send()
        used = [cpu_seconds(pid) for pid in pids]
        for visitor in late:
            assert visitor.answer().status == 200
            visitor.sock.close()
        for sock in blocked:
            assert readable(sock, 20)
            assert receive(sock).endswith(b"hello")
        assert sum(cpu_seconds(pid) for pid in pids) - sum(used) < 1, "who waits for the app spins"
    assert workers(life.run.pid) == pids
    assert visit(life.address).seconds < AT_MOST
    assert "Traceback" not in life.log


@pytest.mark.parametrize(
    ("target", "status"), [("/%41", 503), ("/boom", 500), ("/sleep/0.2", 200), ("/generator", 200)]
)
def test_without_descriptors_a_worker_goes_on_with_those_it_has(systemd, target, status):
    """What is imported only by who needs it cannot be imported then."""
    life = systemd(
        "abused:app",
        idle_timeout=120,
        workers=1,
        keepalive_timeout=60,
        header_timeout=60,
        limits="ulimit -n 40",
    )
    with Visitor(life.address) as first:
        first.ask(keep=True)
        [worker] = workers(life.run.pid)
        with Mob(life.address, 60):
            life.until_logged("cannot accept on")
            assert first.ask(target, keep=True).status == status
        assert visit(life.address).status == 200
    assert visit(life.address, "/%41").status == 200
    assert workers(life.run.pid) == [worker], life.story()


def test_bodies_that_find_no_descriptors_are_refused_and_nothing_else_is(systemd):
    life = systemd(
        "abused:app",
        idle_timeout=120,
        workers=1,
        keepalive_timeout=60,
        body_memory="1K",
        limits="ulimit -n 40",
    )
    with Visitor(life.address) as first:
        first.ask(keep=True)
        [worker] = workers(life.run.pid)
        before = Footprint(worker)
        with Mob(life.address, 25, GET) as mob:
            for sock in mob:
                assert readable(sock, 20)
                receive(sock)
                send(
                    sock,
                    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + bytes(2000),
                )
            answers = [receive(sock) for sock in mob if readable(sock, 0.2)]
            assert answers
            assert all(
                answer.startswith(b"HTTP/1.1 503 ") for answer in answers
            )  # the disk is not full, and it may pass
            assert first.ask(keep=True).body == b"hello"
        unharmed(life, worker, before)
        assert first.ask(keep=True).body == b"hello"


def test_bodies_that_find_no_room_on_the_disk_are_refused_and_nothing_else_is(systemd):
    """RLIMIT_FSIZE is a disk that anybody may fill: write(2) fails in the same place
    (setrlimit(2), EFBIG).
    """
    life = systemd(
        "abused:app",
        idle_timeout=120,
        workers=1,
        keepalive_timeout=60,
        body_memory="1K",
        limits="trap '' XFSZ; ulimit -f 100",
    )
    with Visitor(life.address) as first:
        first.ask(keep=True)
        [worker] = workers(life.run.pid)
        before = Footprint(worker)
        with Mob(
            life.address, 20, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n"
        ) as mob:
            for sock in mob:
                sock.setblocking(True)
                sock.settimeout(20)
                with contextlib.suppress(OSError):
                    sock.sendall(bytes(200_000))
            for sock in mob:
                assert readable(sock, 20)
                assert receive(sock).startswith(b"HTTP/1.1 507 ")
            assert first.ask(keep=True).body == b"hello"
        unharmed(life, worker, before)


def test_more_silent_clients_than_there_is_room_for_cost_time_and_no_client(systemd):
    life = systemd(
        "abused:app", idle_timeout=120, workers=1, max_connections=50, header_timeout=0.5
    )
    assert visit(life.address).status == 200
    with Mob(life.address, 200):
        assert visit(life.address).status == 200


PLACES = 8


def hold_all_places(address, opening, buffer=0):
    """As many slow clients as there are places, and a few more all the time, for those
    that are sent away.
    """
    with Mob(address, PLACES, opening, buffer=buffer) as mob:
        for step in itertools.count():
            if step % 25 == 0:
                mob += Mob(address, 1, opening, buffer=buffer).socks
            sock = mob[step % len(mob)]
            send(sock, b"a")
            receive(sock, 16)
            time.sleep(0.01)
            yield


BODY = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
SLOW = {
    "bodies": (BODY, 0),
    "large bodies": (BODY + bytes(100_000), 0),
    "chunked bodies": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2000\r\n",
        0,
    ),
    "readers of a list": (ask("list"), 4096),
    "readers of a generator": (ask("generator"), 4096),
    "readers of a file": (ask("file"), 4096),
}


@pytest.mark.slow
def test_slow_clients_that_hold_all_places_do_not_lock_out_others(serve):
    """No timeout ends them: they move a byte now and then. They are closed because
    others wait. All kinds at the same time, for it is time that it takes.
    """
    servers = {name: serve(max_connections=PLACES, body_min_rate=0) for name in SLOW}
    with ThreadPoolExecutor(len(SLOW)) as pool:
        held = {name: pool.submit(hold_against, *servers[name], *SLOW[name]) for name in SLOW}
    assert {name: each.exception() for name, each in held.items()} == dict.fromkeys(SLOW)


def hold_against(life, worker, opening, buffer):
    """Hold all places of `worker` while others visit it."""
    before = Footprint(worker)
    stop = threading.Event()

    def attack():
        with contextlib.closing(hold_all_places(life.address, opening, buffer)) as steps:
            for _ in steps:
                if stop.is_set():
                    return

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        life.until(lambda: len(descriptors_of_clients(worker)) >= PLACES, "they do not come")
        for _ in range(3):
            assert visit(life.address).status == 200
    finally:
        stop.set()
        attacker.join()
    unharmed(life, worker, before)


def descriptors_of_clients(pid):
    """Of connections that are established, among those of `pid`."""
    ours = {os.readlink(f"/proc/{pid}/fd/{fd}")[8:-1] for fd in os.listdir(f"/proc/{pid}/fd")}
    with open(f"/proc/{pid}/net/tcp") as stream:
        return [
            line for line in stream if (columns := line.split())[3] == "01" and columns[9] in ours
        ]


def test_a_slow_body_does_not_live_as_long_as_it_likes(serve):
    """A byte is there before each pause has become too long, and yet it is not
    enough.
    """
    life, _ = serve(body_timeout=0.5)
    with Mob(life.address, 1, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n") as [
        sock
    ]:
        life.until(lambda: (send(sock, b"a"), readable(sock, 0.1))[1], "it is not sent away")
        assert receive(sock).startswith(b"HTTP/1.1 408 ")


def test_bodies_lie_in_the_cache_directory_and_leave_nothing(systemd, tmp_path):
    """Not even when the worker is killed: they never had a name."""
    cache = tmp_path / "cache"
    cache.mkdir()
    life = systemd(
        "abused:app",
        idle_timeout=120,
        workers=1,
        body_memory="1K",
        environ={"CACHE_DIRECTORY": str(cache)},
    )
    assert visit(life.address).status == 200
    [worker] = workers(life.run.pid)
    with Mob(
        life.address,
        1,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + bytes(5000),
    ):

        def spooled():
            links = [
                os.readlink(f"/proc/{worker}/fd/{fd}") for fd in os.listdir(f"/proc/{worker}/fd")
            ]
            return [
                link
                for link in links
                if link.startswith(f"{cache}/") and link.endswith(" (deleted)")
            ]

        life.until(spooled, "it is not spooled there")
        assert os.listdir(cache) == []
    os.kill(worker, 9)
    assert visit(life.address).status == 200
    assert os.listdir(cache) == []


def test_a_cache_directory_that_cannot_be_written_is_told_and_gone_without(systemd, tmp_path):
    life = systemd(
        "abused:app",
        idle_timeout=120,
        workers=1,
        body_memory="1K",
        environ={"CACHE_DIRECTORY": str(tmp_path / "missing")},
    )
    for _ in range(2):
        with Visitor(life.address) as visitor:
            visitor.sock.sendall(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + bytes(5000)
            )
            assert visitor.answer("POST").status == 200
    assert life.log.count("no request body can be kept in") == 1


# And when nothing happens


@pytest.mark.parametrize("threads", [1, THREADS])
def test_idle_processes_do_nothing(systemd, threads):
    life = systemd("abused:app", idle_timeout=120, workers=1, threads=threads, keepalive_timeout=60)
    with Mob(life.address, 50, GET) as mob:
        for sock in mob:
            assert readable(sock, 20)
            assert receive(sock).endswith(b"hello")
        [worker] = workers(life.run.pid)
        with Visitor(life.address) as slow:
            slow.ask("/sleep/0.1")
        assert (
            Footprint(worker).threads == 1
            if threads == 1
            else 2 < Footprint(worker).threads <= 1 + threads
        )
        # The sentinel looks a few times more, and dozes off.
        life.until(
            lambda: switches(worker) == (time.sleep(0.3), switches(worker))[1],
            "somebody in it wakes again and again",
        )
        used, woken = cpu_seconds(worker), switches(worker)
        time.sleep(1.0)
        assert (cpu_seconds(worker), switches(worker)) == (used, woken)


def switches(pid):
    """How often the threads of `pid` have gone to sleep so far."""
    found = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status") as stream:
            found += int(
                re.search(r"^voluntary_ctxt_switches:\s+(\d+)", stream.read(), re.MULTILINE)[1]
            )
    return found
