"""The table of a connection's states."""

import pytest

from spyglass.worker import connection_states as states
from spyglass.worker.connection import Connection


def test_each_state_has_two_methods_of_a_connection():
    for state in states.STATES:
        assert getattr(Connection, state.on_turn.__name__) is state.on_turn
        assert getattr(Connection, state.on_deadline.__name__) is state.on_deadline


@pytest.mark.pure
def test_each_state_has_its_name_and_its_line_in_the_story():
    for state in states.STATES:
        assert getattr(states, repr(state)) is state
        assert f"\n    {state!r} " in states.__doc__


@pytest.mark.parametrize("name", ["YIELDING", "DETACHED", "STALLED", "EVICTED", "CLOSED"])
def test_a_deadline_means_nothing_where_none_is_set(name):
    assert getattr(states, name).on_deadline is Connection.ignore


@pytest.mark.parametrize("name", ["DETACHED", "CLOSED"])
def test_nor_does_a_turn_where_nothing_can_be_done(name):
    assert getattr(states, name).on_turn is Connection.ignore
