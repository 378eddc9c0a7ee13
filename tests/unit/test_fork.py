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
    here = os.getpid()
    status = 99
    try:
        status = fork.run(Parent(child).main)
    finally:
        if os.getpid() != here:
            os._exit(status)
    return status


def test_child_returns_its_own_status_through_the_entry_point():
    assert status_of(lambda parent: 7) == 7


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

    here = os.getpid()
    status = fork.run(main)
    if os.getpid() != here:
        os._exit(status)
    assert status == 3


def test_an_exit_passes():
    with pytest.raises(SystemExit):
        fork.run(lambda: sys.exit(5))
