"""What an app sees of a client that a proxy speaks for, and what it sees of one that
only claims to be a proxy.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.config.settings import X_FORWARDED, Config
from spyglass.gateway.environ import EnvironMaker, base_environ
from spyglass.http11.forwarded_headers import believe, forwarded
from spyglass.http11.request import FORWARDED_NAMES, PROXY_FIELDS, Request
from spyglass.policy.trusted_proxies import Trusted
from spyglass.runtime.addresses import packed_ip

DEFAULT = "127.0.0.1, ::1, unix"
EVERY = ", ".join(FORWARDED_NAMES)
CHAIN = "unix, 10.0.0.0/8, 2001:db8:7::/48"
UNIX = {"REMOTE_ADDR": "", "SERVER_NAME": "localhost", "SERVER_PORT": "80"}
LOOPBACK = {
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "40000",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8001",
}
STRANGER = LOOPBACK | {"REMOTE_ADDR": "192.0.2.66"}
CLIENT = "192.0.2.1"
LOOKED_AT = (
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "wsgi.url_scheme",
    "HTTPS",
    "HTTP_HOST",
    "SERVER_NAME",
    "SERVER_PORT",
)


def test_the_setting_takes_the_names_of_all_headers_that_a_proxy_may_set():
    assert {*FORWARDED_NAMES} == {*X_FORWARDED, "forwarded"}


def environ(peer, trusted=DEFAULT, /, named=EVERY, **fields):
    """What becomes of a request with these fields, e.g. FOR="a" for X-Forwarded-For,
    FORWARDED="..." for Forwarded.

    `named` is the setting forwarded_headers; all of them, unless it is what is asked
    about.
    """
    fields = {
        f"HTTP_{key}" if key in ("FORWARDED", "HOST") else f"HTTP_X_FORWARDED_{key}": value
        for key, value in fields.items()
    }
    fields["HTTP_HOST"] = fields.pop("HTTP_HOST", "a")
    if "HTTP_X_FORWARDED_XHOST" in fields:
        fields["HTTP_X_FORWARDED_HOST"] = fields.pop("HTTP_X_FORWARDED_XHOST")
    return EnvironMaker(base_environ() | peer, trusted, named).make(
        Request("GET", "/", (1, 1), fields)
    )


def changed(peer, trusted=DEFAULT, /, named=EVERY, **fields):
    """What differs from the same request without them."""
    host = {"HOST": fields["HOST"]} if "HOST" in fields else {}
    before, after = (
        environ(peer, trusted, named=named, **host),
        environ(peer, trusted, named=named, **fields),
    )
    return {key: after.get(key) for key in LOOKED_AT if before.get(key) != after.get(key)}


# The address


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (CLIENT, CLIENT),
        (f" {CLIENT}\t", CLIENT),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        (f"::ffff:{CLIENT}", CLIENT),
        # The rightmost is the proxy's word, the rest the client's own
        (f"6.6.6.6, {CLIENT}", CLIENT),
        (f"127.0.0.1,{CLIENT}", CLIENT),
        (f"unknown, nonsense, {CLIENT}", CLIENT),
        (f'", {CLIENT}', CLIENT),
        (f"{CLIENT}, ,", CLIENT),
        # Over hops that are trusted
        (f"6.6.6.6, {CLIENT}, 127.0.0.1", CLIENT),
        (f"{CLIENT}, ::1, 127.0.0.1, ::ffff:127.0.0.1", CLIENT),
        (f"{CLIENT}, [::1]:443, 127.0.0.1:80", CLIENT),
        ("127.0.0.1", "127.0.0.1"),
        ("::1, 127.0.0.1", "::1"),
        # As far as it can be understood
        ("unknown, 127.0.0.1", "127.0.0.1"),
        (f"{CLIENT}, nonsense, ::1", "::1"),
        (f"{CLIENT}, unknown", None),
        ("", None),
        (",", None),
        ("localhost", None),
        ("010.0.0.1", None),
        ("10.1", None),
        ("[10.0.0.1]", None),
        ("[2001:db8::1", None),
        ("[2001:db8::1]443", None),
        ("2001:db8::1]", None),
        ("fe80::1%eth0", None),
        ("1.2.3.4\x00", None),
        ("\xe9", None),
        ("1.2.3.4 5.6.7.8", None),
        ("1" * 5000, None),
        ("6.6.6.6, " * 1000 + CLIENT, CLIENT),
    ],
)
def test_x_forwarded_for(value, client):
    assert changed(UNIX, FOR=value) == ({} if client is None else {"REMOTE_ADDR": client})
    # The other kind of peer has an address itself, and a port that is not the client's.
    told = environ(LOOPBACK, FOR=value)
    assert (told["REMOTE_ADDR"], told.get("REMOTE_PORT")) == (
        ("127.0.0.1", "40000") if client is None else (client, None)
    )


def test_a_list_that_is_cut_does_not_make_up_an_address():
    """1.2.3.4 in the place of 11.2.3.4, where only the end of a very long list is
    looked at.
    """
    for length in range(4080, 4110):
        value = "111.111.111.111" + ",127.0.0.1" * (length // 10) + "," * (length % 10)
        assert changed(UNIX, FOR=value)["REMOTE_ADDR"] in ("111.111.111.111", "127.0.0.1")


@pytest.mark.parametrize(
    ("value", "port"),
    [
        (CLIENT, None),
        (f"{CLIENT}:55000", "55000"),
        (f"[2001:db8::1]:1, {CLIENT}:55000", "55000"),
        ("[2001:db8::1]:55000", "55000"),
        ("[2001:db8::1]:", None),
        (f"{CLIENT}:0", None),
        (f"{CLIENT}:65536", None),
        (f"{CLIENT}:_hidden", None),
        (f"{CLIENT}:²", None),
    ],
)
def test_the_port_is_the_client_s_or_not_there(value, port):
    after = environ(LOOPBACK, FOR=value)
    assert after["REMOTE_ADDR"] in (CLIENT, "2001:db8::1")
    assert after.get("REMOTE_PORT") == port


@pytest.mark.parametrize(
    ("trusted", "value", "client"),
    [
        (CHAIN, f"{CLIENT}, 10.0.0.1, 10.255.0.1", CLIENT),
        (CHAIN, f"{CLIENT}, 2001:db8:7::1", CLIENT),
        (CHAIN, f"{CLIENT}, 2001:db8:8::1", "2001:db8:8::1"),
        (CHAIN, f"{CLIENT}, 127.0.0.1", "127.0.0.1"),
        ("*", f"6.6.6.6, {CLIENT}", CLIENT),  # * is about the peer, not about hops
        ("*, 10.0.0.0/8", f"{CLIENT}, 10.0.0.1", CLIENT),
        ("unix, 0.0.0.0/0", f"6.6.6.6, {CLIENT}", "6.6.6.6"),
    ],
)
def test_how_far_a_chain_is_followed(trusted, value, client):
    assert environ(UNIX, trusted, FOR=value)["REMOTE_ADDR"] == client
    elements = ", ".join(
        f'for="[{each}]"' if ":" in each else f"for={each}" for each in value.split(", ")
    )
    assert environ(UNIX, trusted, FORWARDED=elements)["REMOTE_ADDR"] == client


# Scheme, host, port


HTTPS = {"wsgi.url_scheme": "https", "HTTPS": "on"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (dict(PROTO="https"), HTTPS | {"SERVER_PORT": "443"}),
        (dict(PROTO=" HTTPS "), HTTPS | {"SERVER_PORT": "443"}),
        (dict(PROTO="https", HOST="a:8443"), HTTPS | {"SERVER_PORT": "8443"}),
        (dict(PROTO="https", HOST="[::1]:8443"), HTTPS | {"SERVER_PORT": "8443"}),
        (dict(PROTO="https", HOST="[::1]"), HTTPS | {"SERVER_PORT": "443"}),
        (dict(PROTO="http"), {"SERVER_PORT": "80"}),
        *((dict(PROTO=value), {}) for value in ("", "ftp", "https:", "on", "wss", "http\u017f")),
        (
            dict(XHOST="b.example"),
            {"HTTP_HOST": "b.example", "SERVER_NAME": "b.example", "SERVER_PORT": "80"},
        ),
        (dict(XHOST="b:81"), {"HTTP_HOST": "b:81", "SERVER_NAME": "b", "SERVER_PORT": "81"}),
        (
            dict(XHOST="[::1]:81"),
            {"HTTP_HOST": "[::1]:81", "SERVER_NAME": "[::1]", "SERVER_PORT": "81"},
        ),
        (
            dict(XHOST="[::1]", PROTO="https"),
            HTTPS | {"HTTP_HOST": "[::1]", "SERVER_NAME": "[::1]", "SERVER_PORT": "443"},
        ),
        *(
            (dict(XHOST=value), {})
            for value in ("", "b c", "b/c", "u@b", "[::1", ":80", "b:x", "\xe9", ",", "b;c/")
        ),
        (dict(PORT="8443"), {"SERVER_PORT": "8443"}),
        (dict(PORT="8443", PROTO="https", HOST="a:1"), HTTPS | {"SERVER_PORT": "8443"}),
        (
            dict(PORT="8443", XHOST="b"),
            {"HTTP_HOST": "b:8443", "SERVER_NAME": "b", "SERVER_PORT": "8443"},
        ),
        (
            dict(PORT="8443", XHOST="[::1]"),
            {"HTTP_HOST": "[::1]:8443", "SERVER_NAME": "[::1]", "SERVER_PORT": "8443"},
        ),
        (
            dict(PORT="8443", XHOST="b:81"),
            {"HTTP_HOST": "b:81", "SERVER_NAME": "b", "SERVER_PORT": "8443"},
        ),
        (
            dict(PORT="443", XHOST="b", PROTO="https"),
            HTTPS | {"HTTP_HOST": "b", "SERVER_NAME": "b", "SERVER_PORT": "443"},
        ),
        (
            dict(PORT="80", XHOST="b", PROTO="https"),
            HTTPS | {"HTTP_HOST": "b", "SERVER_NAME": "b", "SERVER_PORT": "80"},
        ),
        *(
            (dict(PORT=value), {})
            for value in ("", "0", "65536", "-1", "8o", "123456", "²", "1" * 5000)
        ),
        # Where they are lists: what stands as far from the right as the client does
        (dict(PROTO="http, https"), HTTPS | {"SERVER_PORT": "443"}),
        (
            dict(PROTO="https, http", FOR=CLIENT),
            {"REMOTE_ADDR": CLIENT, "REMOTE_PORT": None, "SERVER_PORT": "80"},
        ),
        (
            dict(PROTO="https, http", FOR=f"{CLIENT}, ::1"),
            HTTPS | {"REMOTE_ADDR": CLIENT, "REMOTE_PORT": None, "SERVER_PORT": "443"},
        ),
        (
            dict(PROTO="https", FOR=f"{CLIENT}, ::1"),
            HTTPS | {"REMOTE_ADDR": CLIENT, "REMOTE_PORT": None, "SERVER_PORT": "443"},
        ),
        (
            dict(XHOST="evil, b, c", PORT="1, 2, 3", FOR=f"6.6.6.6, {CLIENT}, ::1"),
            {
                "REMOTE_ADDR": CLIENT,
                "REMOTE_PORT": None,
                "HTTP_HOST": "b:2",
                "SERVER_NAME": "b",
                "SERVER_PORT": "2",
            },
        ),
    ],
)
def test_x_forwarded_proto_host_and_port(fields, expected):
    peer = LOOPBACK | {"SERVER_PORT": "8001"}
    assert changed(peer, **fields) == expected


def test_without_a_host_field_the_proxy_s_is_the_only_one():
    told = base_environ() | LOOPBACK | {"HTTP_X_FORWARDED_PROTO": "https"}
    believe(told, DEFAULT, EVERY)
    assert (told.get("HTTP_HOST"), told["SERVER_NAME"], told["SERVER_PORT"]) == (
        None,
        "127.0.0.1",
        "443",
    )


def test_plain_http_to_a_proxy_that_was_reached_over_tls_by_another():
    told = environ(LOOPBACK | HTTPS, PROTO="http")
    assert (told["wsgi.url_scheme"], "HTTPS" in told) == ("http", False)


# Forwarded


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"for={CLIENT}", {"REMOTE_ADDR": CLIENT}),
        (f"For={CLIENT}", {"REMOTE_ADDR": CLIENT}),
        (f'for="{CLIENT}:47011"', {"REMOTE_ADDR": CLIENT, "REMOTE_PORT": "47011"}),
        ('for="[2001:db8::1]:47011"', {"REMOTE_ADDR": "2001:db8::1", "REMOTE_PORT": "47011"}),
        ('for="[2001:db8::1]"', {"REMOTE_ADDR": "2001:db8::1"}),
        ('for="\\1\\92.0.2.1"', {"REMOTE_ADDR": CLIENT}),
        (f'for="{CLIENT}:_gazonk"', {"REMOTE_ADDR": CLIENT}),
        (
            f"for={CLIENT};proto=https;by=203.0.113.43",
            HTTPS | {"REMOTE_ADDR": CLIENT, "SERVER_PORT": "443"},
        ),
        (f"proto=HTTPS; for={CLIENT}", HTTPS | {"REMOTE_ADDR": CLIENT, "SERVER_PORT": "443"}),
        (f";;for={CLIENT};", {"REMOTE_ADDR": CLIENT}),
        ('host="b:81"', {"HTTP_HOST": "b:81", "SERVER_NAME": "b", "SERVER_PORT": "81"}),
        (
            "host=b;proto=https",
            HTTPS | {"HTTP_HOST": "b", "SERVER_NAME": "b", "SERVER_PORT": "443"},
        ),
        # What is often sent without the quotes it needs
        (
            f"for={CLIENT}:47011;host=b:81",
            {
                "REMOTE_ADDR": CLIENT,
                "REMOTE_PORT": "47011",
                "HTTP_HOST": "b:81",
                "SERVER_NAME": "b",
                "SERVER_PORT": "81",
            },
        ),
        ("for=[2001:db8::1]:47011", {"REMOTE_ADDR": "2001:db8::1", "REMOTE_PORT": "47011"}),
        # From the right
        (f"for=6.6.6.6, for={CLIENT}", {"REMOTE_ADDR": CLIENT}),
        (
            f"for=6.6.6.6;host=evil;proto=https, for={CLIENT};proto=http",
            {"REMOTE_ADDR": CLIENT, "SERVER_PORT": "80"},
        ),
        (f"for=6.6.6.6;host=evil, for={CLIENT}", {"REMOTE_ADDR": CLIENT}),
        (
            f"for={CLIENT};proto=https, for=127.0.0.1;proto=http",
            HTTPS | {"REMOTE_ADDR": CLIENT, "SERVER_PORT": "443"},
        ),
        (
            f"for={CLIENT}, for=127.0.0.1;proto=https",
            HTTPS | {"REMOTE_ADDR": CLIENT, "SERVER_PORT": "443"},
        ),
        (f'for="::1", for={CLIENT},,', {"REMOTE_ADDR": CLIENT}),
        # A client's quotes do not reach into what was appended
        (f'for=", for={CLIENT}', {"REMOTE_ADDR": CLIENT}),
        (f'for="6.6.6.6, for={CLIENT};proto=http', {"REMOTE_ADDR": CLIENT, "SERVER_PORT": "80"}),
        (f'x="\\", for={CLIENT}', {"REMOTE_ADDR": CLIENT}),
        (f'for=", for="{CLIENT}"', {"REMOTE_ADDR": CLIENT}),
        ('x="a,for=6.6.6.6,b";proto=https', HTTPS | {"SERVER_PORT": "443"}),
        # Hidden, unknown, malformed: as far as it can be understood
        ("for=_hidden", {}),
        ("for=unknown;proto=https", HTTPS | {"SERVER_PORT": "443"}),
        ("for=6.6.6.6, for=_SEVKISEK", {}),
        ("for=6.6.6.6, for=unknown, for=127.0.0.1", {"REMOTE_ADDR": "127.0.0.1"}),
        ("by=1.2.3.4", {}),
        *(
            (value, {})
            for value in (
                "",
                ",",
                ";",
                "for",
                "for=",
                "=1.2.3.4",
                "1.2.3.4",
                "for 1.2.3.4",
                "for =1.2.3.4",
                "for= 1.2.3.4",
                'for=""',
            )
        ),
        *(
            (value, {})
            for value in (
                'for="1.2.3.4',
                'for=1.2.3.4"',
                'for="1.2.3.4"x',
                'for="1.2.3.4"x;proto=https',
                'for="1.2.3.4\\"',
                '"',
                '"""',
            )
        ),
        *(
            (value, {})
            for value in (
                "for=1.2.3.4;for=5.6.7.8",
                "for=1.2.3.4;FOR=1.2.3.4",
                "proto=ftp",
                'host="a b"',
                "for=1.2.3.4 proto=https",
            )
        ),
    ],
)
def test_forwarded(value, expected):
    assert changed(UNIX | {"SERVER_PORT": "8001"}, FORWARDED=value) == expected


def test_a_very_long_forwarded_is_read_from_the_right_and_soon():
    for stranger in (
        'for=6.6.6.6;x="a";' * 4000,
        '"' * 64000,
        "\\" * 64000,
        'x="' + "\\" * 64000,
        '\\"' * 32000,
        "," * 64000,
    ):
        assert changed(UNIX, FORWARDED=f"{stranger}, for={CLIENT}") == {"REMOTE_ADDR": CLIENT}


NODES = st.ip_addresses().map(
    lambda ip: f'"[{ip}]"' if ip.version == 6 else str(ip)
) | st.sampled_from(["unknown", "_x", '"_x:_y"'])
QUOTED = st.text("abc ,;=\\\"'[]", max_size=8).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
ELEMENTS = st.tuples(NODES, QUOTED, QUOTED).map(
    lambda each: f"secret={each[1]};for={each[0]};by={each[2]}"
)


@given(st.lists(ELEMENTS, min_size=1), st.text(" \t", max_size=2))
def test_commas_and_quotes_in_quoted_strings_divide_nothing(elements, blank):
    trust = Trusted("0.0.0.0/1")
    alone = ""
    for element in reversed(elements):
        told = forwarded(element, trust)
        alone = told.client or alone
        if not told.client or not trust.hop(packed_ip(told.client)):
            break
    assert forwarded(f"{blank},{blank}".join(elements), trust).client == alone


@given(st.text(st.characters(max_codepoint=255)) | st.text('for=proto"\\;, 1.:[]_', max_size=60))
def test_whatever_a_client_sends_the_proxy_s_word_stands(text):
    assert changed(UNIX, FORWARDED=f"{text}, for={CLIENT};proto=http") == {"REMOTE_ADDR": CLIENT}
    assert changed(UNIX, FOR=f"{text}, {CLIENT}") == {"REMOTE_ADDR": CLIENT}
    for name in ("FOR", "PROTO", "XHOST", "PORT", "FORWARDED"):
        environ(UNIX, **{name: text})


def test_where_there_are_x_forwarded_fields_forwarded_is_not_looked_at():
    assert changed(UNIX, FORWARDED="for=6.6.6.6;host=evil", FOR=CLIENT) == {"REMOTE_ADDR": CLIENT}
    assert changed(UNIX, FORWARDED="for=6.6.6.6", PROTO="http") == {}


# Whose word it is

ALL = dict(
    FORWARDED="for=6.6.6.6",
    FOR="6.6.6.6",
    PROTO="https",
    XHOST="evil",
    PORT="1",
    BY="x",
    PREFIX="/x",
    SCHEME="https",
    SERVER="x",
    SSL="on",
)


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        (STRANGER, DEFAULT),
        (LOOPBACK, ""),
        (UNIX, ""),
        (UNIX, "127.0.0.1, ::1"),
        (LOOPBACK, "unix, 127.0.0.2"),
        (STRANGER, CHAIN),
    ],
)
def test_nothing_is_changed_by_others_and_the_app_does_not_see_what_they_claim(peer, trusted):
    assert changed(peer, trusted, **ALL) == {}
    assert PROXY_FIELDS & environ(peer, trusted, **ALL).keys() == set()
    for name in ALL:
        assert PROXY_FIELDS & environ(peer, trusted, **{name: "1"}).keys() == set()


@pytest.mark.parametrize("peer", [UNIX, LOOPBACK])
def test_by_default_only_the_client_and_the_scheme_are_believed(peer):
    """Debian's nginx (proxy_params) sets these two and passes on what the client has
    written in the others.
    """
    default = Config().forwarded_headers
    got = environ(peer, named=default, **ALL)
    assert got["HTTP_HOST"] == "a"
    assert {key: got.get(key) for key in LOOKED_AT} == {
        key: environ(peer, named=default, FOR="6.6.6.6", PROTO="https").get(key)
        for key in LOOKED_AT
    }
    assert PROXY_FIELDS & got.keys() == {"HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO"}
    for name in ALL.keys() - {"FOR", "PROTO"}:
        assert changed(peer, named=default, **{name: ALL[name]}) == {}
        assert PROXY_FIELDS & environ(peer, named=default, **{name: ALL[name]}).keys() == set()


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("", {}),
        ("for", {"REMOTE_ADDR": "6.6.6.6"}),
        ("host", {"HTTP_HOST": "evil", "SERVER_NAME": "evil"}),
        ("host, port", {"HTTP_HOST": "evil:1", "SERVER_NAME": "evil", "SERVER_PORT": "1"}),
        ("port", {"SERVER_PORT": "1"}),
        (
            "proto, for",
            {
                "REMOTE_ADDR": "6.6.6.6",
                "wsgi.url_scheme": "https",
                "HTTPS": "on",
                "SERVER_PORT": "443",
            },
        ),
        (
            "forwarded",
            {"REMOTE_ADDR": "7.7.7.7", "HTTP_HOST": "forwarded", "SERVER_NAME": "forwarded"},
        ),
        ("forwarded, for", {"REMOTE_ADDR": "6.6.6.6"}),
        ("by, prefix, scheme, server, ssl", {}),
    ],
)
def test_what_is_named_counts_and_reaches_the_app_and_nothing_else_does(named, expected):
    fields = ALL | {"FORWARDED": "for=7.7.7.7;host=forwarded"}
    assert changed(UNIX, named=named, **fields) == expected
    keys = {FORWARDED_NAMES[name] for name in named.split(", ") if name}
    assert PROXY_FIELDS & environ(UNIX, named=named, **fields).keys() == keys


def test_from_strangers_nothing_counts_whatever_is_named():
    assert changed(STRANGER, **ALL) == {}
    assert PROXY_FIELDS & environ(STRANGER, **ALL).keys() == set()


def test_what_a_trusted_proxy_says_the_app_can_read_too():
    assert environ(UNIX, **ALL).keys() >= PROXY_FIELDS
    assert environ(UNIX, FOR=f"{CLIENT}, ::1")["HTTP_X_FORWARDED_FOR"] == f"{CLIENT}, ::1"


def test_each_request_of_a_connection_speaks_for_its_own_client():
    maker = EnvironMaker(base_environ() | LOOPBACK, DEFAULT, "for, proto")
    fields = {"HTTP_HOST": "a", "HTTP_X_FORWARDED_FOR": CLIENT, "HTTP_X_FORWARDED_PROTO": "https"}
    first = maker.make(Request("GET", "/", (1, 1), fields))
    again = maker.make(Request("GET", "/2", (1, 1), fields))
    other = maker.make(
        Request("GET", "/", (1, 1), {"HTTP_HOST": "a", "HTTP_X_FORWARDED_FOR": "192.0.2.2"})
    )
    none = maker.make(Request("GET", "/", (1, 1), {"HTTP_HOST": "a"}))
    assert [each["REMOTE_ADDR"] for each in (first, again, other, none)] == [
        CLIENT,
        CLIENT,
        "192.0.2.2",
        "127.0.0.1",
    ]
    assert [each["wsgi.url_scheme"] for each in (first, again, other, none)] == [
        "https",
        "https",
        "http",
        "http",
    ]
    assert [each.get("REMOTE_PORT") for each in (first, again, other, none)] == [
        None,
        None,
        None,
        "40000",
    ]
    assert fields == {
        "HTTP_HOST": "a",
        "HTTP_X_FORWARDED_FOR": CLIENT,
        "HTTP_X_FORWARDED_PROTO": "https",
    }
