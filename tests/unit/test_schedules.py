"""A crew under schedules nobody would think of: short and long calls, streams, posts
and files, clients who read as they like, and leave.

By default a few seconds of them; more with `--schedules`: pytest
tests/unit/test_schedules.py --schedules=5000.
"""

import pytest
from http11.reading import cut
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from spyglass.worker import leader_followers

from .threaded_worker import Crewed, Guest, Script, responses, serve

KINDS = ["list", "list", "parts", "parts", "large", "post", "file", "written", "fail"]
# Below, around and beyond what the sentinel takes for long: 5 to 10 ms.
requests = st.tuples(
    st.sampled_from(KINDS),
    st.sampled_from([0, 0, 0, 2, 7, 15]),
    st.sampled_from([0, 1, 900, 3000, 90_000]),
)
conversations = st.fixed_dictionaries(
    {
        "requests": st.lists(requests, min_size=1, max_size=4),
        "broken": st.booleans() | st.just(False),  # the last of them
        "places": st.lists(st.integers(0, 5000), max_size=5),
        "tcp": st.booleans(),
        "reading": st.sampled_from([1 << 20, 1 << 20, 30_000]),
        "since": st.sampled_from([0, 0, 0, 25]),
        "until": st.sampled_from([None, None, None, 0, 1, 300, 100_000]),
        "half_close": st.booleans(),
    }
)


@pytest.fixture(scope="module", params=[1, 2, 3, 4], ids="{} threads".format)
def crewed(request, tmp_path_factory):
    """One worker for all schedules of so many threads: what was before must be nothing
    to what comes after.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        exits = []
        monkeypatch.setattr(leader_followers, "_exit", exits.append)
        worker = Crewed(tmp_path_factory.mktemp("crew"), request.param, exits)
        yield worker
        worker.leave(monkeypatch)


def say(plan):
    """What is said in a conversation, and what is to be answered: a list of status and
    body (None: whatever it is).
    """
    data, expected = b"", []
    for number, (kind, pause, size) in enumerate(plan["requests"], start=1):
        body = b"x" * size
        last = number == len(plan["requests"])
        if last and plan["broken"]:
            kind = "broken"
        lines = [
            f"{'POST' if kind == 'post' else 'GET'} /{kind}/{pause}/{number} HTTP/1.1",
            "Host: a",
        ]
        if kind == "post":
            lines.append(f"Content-Length: {len(body)}")
        if last and not plan["half_close"]:
            lines.append("Connection: close")
        data += "".join(line + "\r\n" for line in (*lines, "")).encode() + (
            body if kind == "post" else b""
        )
        if kind != "broken":
            expected.append(
                (500, None) if kind == "fail" else (200, Script.answer(kind, str(number), body))
            )
    return data, expected


def test_all_is_answered_in_order_and_no_client_is_left(crewed, request):
    # What fails is not made smaller: threads do not do twice the same.
    @settings(
        max_examples=request.config.getoption("--schedules"),
        suppress_health_check=[HealthCheck.too_slow],
        phases=[Phase.generate],
    )
    @given(st.lists(conversations, min_size=1, max_size=6))
    def run(plans):
        crewed.begin()
        guests = []
        for plan in plans:
            how = {name: plan[name] for name in ("tcp", "reading", "since", "until", "half_close")}
            guests.append(Guest(crewed, cut(say(plan)[0], plan["places"]), **how))
        serve(guests)
        for guest, plan in zip(guests, plans, strict=True):
            if plan["until"] is None:
                expected = say(plan)[1]
                found = [(each.status, each.body) for each in responses(guest.heard, len(expected))]
                assert found == [
                    (status, heard if body is None else body)
                    for (status, body), (_, heard) in zip(expected, found, strict=True)
                ]
        crewed.check()

    run()
