"""Which peers are trusted: addresses, networks, unix and *."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spyglass.policy.trusted_proxies import Trusted
from spyglass.runtime.addresses import ip_text, packed_ip

UNIX = ""  # the address of a peer that has none


@pytest.mark.parametrize(
    ("text", "believed", "not_believed"),
    [
        (
            "127.0.0.1, ::1, unix",
            ["127.0.0.1", "::1", UNIX, "::ffff:127.0.0.1"],
            ["127.0.0.2", "::2", "10.0.0.1", "::7f00:1"],
        ),
        ("", [], ["127.0.0.1", "::1", UNIX]),
        ("unix", [UNIX], ["127.0.0.1", "::1"]),
        ("*", [UNIX, "127.0.0.1", "2001:db8::1", "fe80::1%eth0"], []),
        (
            "10.0.0.0/8",
            ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
            ["9.255.255.255", "11.0.0.0", UNIX, "::a00:0"],
        ),
        ("10.1.2.3/32", ["10.1.2.3"], ["10.1.2.2", "10.1.2.4"]),
        ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::1", "2001:db8::1", UNIX]),
        ("::/0", ["::1", "2001:db8::1"], ["127.0.0.1", UNIX]),
        ("::ffff:10.0.0.0/104", ["10.7.7.7", "::ffff:10.7.7.7"], ["11.0.0.0"]),
        (
            "2001:db8::/32, 192.0.2.1",
            ["2001:db8:ffff::1", "192.0.2.1"],
            ["2001:db9::", "192.0.2.2"],
        ),
        ("fe80::/10", ["fe80::1%eth0", "fe80::1"], ["fec0::1"]),
        ("  unix ,10.0.0.1  ", [UNIX, "10.0.0.1"], ["10.0.0.2"]),
    ],
)
def test_which_peers_are_trusted(text, believed, not_believed):
    trusted = Trusted(text)
    assert [each for each in believed if not trusted.peer(each)] == []
    assert [each for each in not_believed if trusted.peer(each)] == []


@pytest.mark.parametrize("text", ["*", "unix"])
def test_unix_and_star_do_not_make_a_hop_trusted(text):
    assert not Trusted(text).hop(packed_ip("10.0.0.1"))


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        *(
            (entry, entry)
            for entry in (
                "localhost",
                "10.0.0",
                "10.0.0.256",
                "010.0.0.1",
                "::g",
                "[::1]",
                "fe80::1%eth0",
                "10.0.0.1:80",
            )
        ),
        *(
            (entry, entry)
            for entry in (
                "10.0.0.0/33",
                "::/129",
                "10.0.0.0/",
                "10.0.0.0/-1",
                "10.0.0.0/x",
                "10.0.0.0/255.0.0.0",
                "/8",
            )
        ),
        *(
            (entry, entry)
            for entry in (
                "Unix",
                "unix:",
                "**",
                "é",
                "1" * 5000,
                "::ffff:10.0.0.0/95",
                "10.0.0.0/0008",
            )
        ),
        ("10.0.0.1, nginx, unix", "nginx"),
        ("127.0.0.1,, unix", ""),
        ("127.0.0.1,", ""),
    ],
)
def test_what_is_none_is_named(text, entry):
    with pytest.raises(ValueError, match="expected") as caught:
        Trusted(text)
    assert caught.value.args == ("expected addresses, networks (10.0.0.0/8), unix or *", entry)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "2001:db8::1/32", "::ffff:10.0.0.1/104"])
def test_an_address_with_a_prefix_is_no_network(text):
    with pytest.raises(ValueError, match="expected") as caught:
        Trusted(text)
    assert caught.value.args == (
        f"expected a network, with only zeros after its first {text.partition('/')[2]} bits",
        text,
    )


@given(st.text() | st.ip_addresses().map(str) | st.text("0123456789abcdef:.%", max_size=45))
def test_addresses_are_read_as_by_ipaddress(text):
    try:
        known = None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        known = None
    packed = packed_ip(text)
    plain = getattr(known, "ipv4_mapped", None) or known
    assert packed == (plain and plain.packed)
    if plain:
        assert packed_ip(ip_text(packed)) == packed


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 128))
def test_networks_hold_what_ipaddress_says(base, address, bits):
    network = ipaddress.ip_network((base, min(bits, base.max_prefixlen)), strict=False)
    if ":" in str(network) and network.overlaps(ipaddress.ip_network("::ffff:0:0/96")):
        return  # IPv4 is not a part of IPv6 here
    plain = getattr(address, "ipv4_mapped", None) or address
    assert Trusted(str(network)).peer(str(address)) == (plain in network)
