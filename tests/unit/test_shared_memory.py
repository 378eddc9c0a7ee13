"""What Master and workers share: the scoreboard, the bell, the poke and the life
line.
"""

import os
import select
import socket

import pytest

from spyglass.runtime import scoreboard, sd_daemon
from spyglass.runtime.fast_imports import Listening
from spyglass.runtime.scoreboard import ACTIVITY, ANSWER, OPEN, ORDER, SERVED, STATE, Scoreboard
from spyglass.runtime.sd_daemon import Listener
from spyglass.runtime.shared_memory import Shared


@pytest.fixture
def shared():
    made = Shared([], 2)
    yield made
    for fd in (made.bell, made.poke, made.lifeline, made._held):
        try:
            os.close(fd)
        except OSError:
            pass


def in_child(act):
    pid = os.fork()
    if not pid:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_full_eventfd_still_wakes(shared):
    """The app can write there, too. The bell is read by nobody, and each ring is an
    edge of its own.
    """
    for fd, wake in ((shared.bell, shared.ring), (shared.poke, shared.tell_master)):
        os.eventfd_write(fd, 2**64 - 2)
        with select.epoll() as poll:
            poll.register(fd, select.EPOLLIN | select.EPOLLET)
            assert poll.poll(0) != []
            assert poll.poll(0) == []
            wake()
            assert [ready for ready, _ in poll.poll(0)] == [fd]


def test_listeners_are_passed_on_to_a_process_that_was_forked_before(shared, tmp_path):
    """It has their descriptors, and learns their names and which woke the app."""
    waiting = Shared(None, 2)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far, socket.create_server(("127.0.0.1", 0)) as tcp:
        fd = os.dup2(tcp.fileno(), 200)  # as passed: inheritable, at a number of its own
        listener = Listener(Listening(fileno=fd), "web:1")
        shared.adopt([listener], 0)
        shared.pass_on(near)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sd_daemon, "FIRST_FD", fd)
            assert not waiting.adopted
            assert waiting.learn(far)
        assert waiting.adopted
        [learned] = waiting.listeners
        assert (learned.fd, learned.name, learned.is_unix) == (fd, "web:1", False)
        assert waiting.woken_by is learned
        assert not os.get_inheritable(fd)
        learned.sock.detach()
        near.close()
        assert not waiting.learn(far)  # the Master has exited
        listener.sock.close()
    for each in (waiting.bell, waiting.poke, waiting.lifeline, waiting._held):
        os.close(each)


def readable(fd):
    return bool(select.select([fd], [], [], 0)[0])


def test_what_a_child_writes_its_parent_reads():
    board = Scoreboard(2)

    def work():
        board.slot(1)[SERVED] = 3
        board.slot(1)[ACTIVITY] = 2**62  # centuries of nanoseconds

    in_child(work)
    assert (board.slot(1)[SERVED], board.slot(1)[ACTIVITY]) == (3, 2**62)
    assert not any(board.slot(0))


def test_slots_are_apart_each_in_cache_lines_of_its_own():
    board = Scoreboard(3)
    for number in range(3):
        slot = board.slot(number)
        assert slot.nbytes % 64 == 0
        for cell in range(len(slot)):
            slot[cell] = -number
    assert [set(board.slot(number)) for number in range(3)] == [{0}, {-1}, {-2}]


def test_a_slot_belongs_to_one_worker_at_a_time_and_is_clean_when_taken():
    board = Scoreboard(3)
    taken = [board.take() for _ in range(3)]
    assert sorted(taken) == [0, 1, 2]
    board.slot(taken[1])[SERVED] = 7
    board.give_back(taken[1])
    assert board.slot(taken[1])[SERVED] == 7  # its last words can still be read
    assert board.take() == taken[1]
    assert not any(board.slot(taken[1]))


def test_the_cells_of_a_slot_are_different_ones():
    cells = (STATE, OPEN, SERVED, ACTIVITY, scoreboard.CALL_SINCE, ANSWER, ORDER)
    assert len(set(cells)) == len(cells)
    assert max(cells) < len(Scoreboard(1).slot(0))


def test_the_bell_is_heard_by_a_child_and_the_poke_by_the_master(shared):
    shared.ring()
    in_child(
        lambda: (
            [shared.tell_master(), shared.tell_master()] if readable(shared.bell) else os._exit(2)
        )
    )
    assert readable(shared.poke)
    shared.hear()
    assert not readable(shared.poke)
    shared.hear()  # nobody has poked: nothing to hear, and no error


def test_the_life_line_ends_with_the_process_that_holds_it(shared):
    """Children hold copies of every descriptor: only when they have let go does the
    Master's end mean the end.
    """
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        shared.leave_the_line()
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    assert not readable(shared.lifeline)
    os.close(shared._held)  # as the Master's death does
    assert readable(shared.lifeline)
    os.write(go[1], b"x")
    os.waitpid(pid, 0)
    for fd in (*ready, *go):
        os.close(fd)
