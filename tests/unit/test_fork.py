"""Leaving the parent's stack after a fork: what a child still has of its parent, and
which exit status each gets.
"""

import os
import sys
import weakref

import pytest

from spyglass.runtime import fork


class Parent:
    """Forks, and waits for what becomes of the child."""

    def __init__(self, child):
        self.child = child

    def main(self):
        child, me = self.child, weakref.ref(self)
        pid = os.fork()
        if not pid:
            fork.enter(lambda: child(me))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def functions():
    """The names of the functions that are being run, the innermost first."""
    frame, names = sys._getframe(1), []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


def status_of(child):
    """What `child(parent)` returns in a child, as the exit status of that process."""
    return run(lambda: Parent(child).main())


def run(main):
    """fork.run(), in a child up to its end as a process of its own."""
    here = os.getpid()
    status = 99
    try:
        return fork.run(main)
    except SystemExit as end:
        status = end.code
        raise
    finally:
        if os.getpid() != here:
            os._exit(status)


def test_child_exits_with_its_own_status_at_the_entry_point():
    assert status_of(lambda parent: 7) == 7


def test_what_follows_the_entry_point_is_not_for_children():
    """A worker of `spyglass check` printed what the command has to say at its end."""
    here, after = os.getpid(), os.eventfd(0)
    try:
        fork.run(Parent(lambda _: Parent(lambda _: 0).main()).main)
        os.eventfd_write(after, 1)
    finally:
        if os.getpid() != here:
            os._exit(0)
    assert os.eventfd_read(after) == 1
    os.close(after)


def test_child_runs_without_the_frames_of_its_parent():
    assert status_of(lambda parent: "main" in functions()) == 0


def test_child_keeps_nothing_of_its_parent():
    assert status_of(lambda parent: parent() is not None) == 0


def test_child_of_a_child_starts_from_the_entry_point_as_well():
    def middle(_):
        return Parent(lambda _: len({"main", "middle"}.intersection(functions()))).main()

    assert status_of(middle) == 0


def test_no_handler_of_errors_on_the_way_stops_it():
    def main():
        pid = os.fork()
        try:
            if not pid:
                fork.enter(lambda: 3)
        except Exception:
            return 4
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert run(main) == 3


def test_an_exit_passes():
    with pytest.raises(SystemExit):
        fork.run(lambda: sys.exit(5))
