"""idle_ignore: which requests its entries match."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.http11.request import Request
from spyglass.policy.idle_ignore import Ignored, check_entry, unknown_listeners


def request(path="/", agent=None):
    made = Request(
        "GET", f"{path}?q=1", (1, 1), {} if agent is None else {"HTTP_USER_AGENT": agent}
    )
    made.path, made.query = path, "q=1"
    return made


def wire(text):
    """Text as PEP 3333 has the bytes that it is on the wire."""
    return text.encode().decode("latin-1")


@pytest.mark.parametrize(
    ("entry", "path", "ignored"),
    [
        ("/health", "/health", True),
        ("/health", "/health/", False),
        ("/health", "/healthy", False),
        ("/health", "/Health", False),
        ("/health", "/api/health", False),
        ("/health", "/%68ealth", True),
        ("/%68ealth", "/health", True),
        ("/", "/", True),
        ("/", "/health", False),
        ("/api/*", "/api/", True),
        ("/api/*", "/api/a/b", True),
        ("/api/*", "/api", False),
        ("/*/health", "/a/b/health", True),
        ("/*/health", "/health", False),
        ("/a*b*b", "/ab", False),
        ("/a*b*b", "/abb", True),
        ("/a*b*b", "/abxb", True),
        ("/a*bc*cd", "/abcd", False),
        ("/größe", wire("/größe"), True),
        ("/größe", "/gr%C3%B6%C3%9Fe", True),
        ("/gr%C3%B6*", "/gr%c3%b6%C3%9Fe", True),
        ("/a b".replace(" ", "%20"), "/a%20b", True),
        ("/metrics", "*", False),
    ],
)
def test_paths(entry, path, ignored):
    check_entry(entry)
    assert Ignored([entry]).request(request(path)) is ignored


@pytest.mark.parametrize(
    ("entry", "path", "upgrade", "ignored"),
    [
        ("websocket:/live/*", "/live/1", "websocket", True),
        ("websocket:/live/*", "/live/1", "h2c, WebSocket", True),
        ("websocket:/live/*", "/live/1", None, False),
        ("websocket:/live/*", "/live/1", "h2c", False),
        ("websocket:/live/*", "/other", "websocket", False),
        ("websocket: /live", "/l%69ve", "websocket", True),
        ("websocket:/*", "/any", "websocket", True),
        ("/live", "/live", "websocket", True),
    ],
)
def test_websockets(entry, path, upgrade, ignored):
    check_entry(entry)
    made = request(path)
    if upgrade is not None:
        made.fields["HTTP_UPGRADE"] = upgrade
    assert Ignored([entry]).request(made) is ignored


@pytest.mark.parametrize(
    ("entry", "agent", "ignored"),
    [
        ("agent:kube-probe", "kube-probe/1.29", True),
        ("agent:kube-probe", "kube-probe", True),
        ("agent:kube-probe", "Kube-Probe (a comment)", True),
        ("agent:kube-probe", "kube-probed/1", False),
        ("agent:kube-probe", "Mozilla/5.0 kube-probe/1", False),
        ("agent:kube-probe", "", False),
        ("agent:kube-probe", None, False),
        ("agent:check_http/v2.3", "check_http/v2.3 (monitoring-plugins 2.3)", True),
        ("agent:check_http/v2.3", "check_http/v2.3.1", False),
        (
            "agent:*UptimeRobot*",
            "Mozilla/5.0+(compatible; uptimerobot/2.0; http://www.uptimerobot.com/)",
            True,
        ),
        ("agent:Uptime*", "Uptime-Kuma/1.23", True),
        ("agent:Uptime*", "an Uptime-Kuma/1.23", False),
        ("agent:Prüfer", wire("prüfer/1"), True),
    ],
)
def test_agents(entry, agent, ignored):
    check_entry(entry)
    assert Ignored([entry]).request(request("/any", agent)) is ignored


def test_listeners():
    ignored = Ignored(["listener:metrics", "listener:probe-*", "/health"])
    assert [
        ignored.listener(name) for name in ("metrics", "probe-1", "http", "metrics2", "/health")
    ] == [True, True, False, False, False]
    assert not ignored.request(request("/metrics"))


def test_one_of_several_is_enough():
    ignored = Ignored(["/health", "/ready", "/api/*", "agent:curl"])
    assert ignored.request(request("/ready", "Firefox"))
    assert ignored.request(request("/", "curl/8"))
    assert not ignored.request(request("/", "Firefox"))


def test_a_listener_that_is_none_of_ours_is_told():
    entries = ["/health", "agent:metrics", "listener:metrics", "listener:met*", "listener:http"]
    assert unknown_listeners(entries, ["http", "unknown"]) == ["listener:metrics", "listener:met*"]


@given(
    st.text(), st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255))
)
def test_whatever_is_asked_for_gets_an_answer(entry, path, agent):
    try:
        check_entry(entry)
    except ValueError:
        return
    Ignored([entry]).request(request("/" + path, agent))


@given(
    st.lists(st.text("ab", max_size=3), min_size=2, max_size=4),
    st.lists(st.text("ab*", max_size=2), min_size=4, max_size=4),
)
def test_a_star_is_anything(parts, between):
    """Made of the parts and whatever stands between them, it always fits."""
    text = "".join(
        part + any_ for part, any_ in zip(parts, [*between[: len(parts) - 1], ""], strict=True)
    )
    assert Ignored(["/x" + "*".join(parts)]).request(request("/x" + text))
