"""The states of a connection of an ASGI app, as a table (see connection_states.py). The
methods are those of duplex_connection.py.

    READING    waits for the head of a request, or for the rest of a body whose response
               is out and which the app did not want
    EXCHANGING the app works on a request. More of the body may arrive, room for more of
               the response, the next request, or the end of the client.
    YIELDING   could go on with any of that, but lets the others have their turn

GREETING, LINGERING and CLOSED are those of every connection.
"""

from __future__ import annotations

from spyglass.worker.connection_states import State

STATES = (
    #     state          its turn has come   its deadline has passed
    State("READING",     "read",             "leave_late"),
    State("EXCHANGING",  "attend",           "judge_client"),
    State("YIELDING",    "go_on",            "ignore"),
)  # fmt: skip
READING, EXCHANGING, YIELDING = STATES

# Of a call (call_timer.py)
CALLING = State("CALLING", "ignore", "late")
