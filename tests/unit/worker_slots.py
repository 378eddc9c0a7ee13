"""Workers as the policies see them, for the tests of policies."""

from hypothesis import strategies as st

from spyglass.policy.worker_slot import Slot

NOW = 1000.0


def slot(
    number=0, *, open=0, activity=0.0, call_since=0.0, answer=0, holds=0, reason="", websockets=0
):
    return Slot(
        number,
        2,
        open,
        served=0,
        activity=activity,
        call_since=call_since,
        answer=answer,
        holds=holds,
        reason=reason,
        websockets=websockets,
    )


def heard(slot):
    slot.heard = NOW
    return slot


# Whole seconds, so that no sum is rounded.
times = st.integers(0, 10**6).map(float)
few = st.integers(0, 2)
slots = st.lists(
    st.builds(
        slot, open=few, holds=few, activity=times, call_since=times, answer=st.integers(0, 3)
    ),
    max_size=4,
)
