"""Which requests become a WebSocket, and how the others are refused (RFC 6455 4.2)."""

import pytest
from http11.reading import reader

from spyglass.errors import RequestError
from spyglass.http11.response_head import check_fields
from spyglass.websocket.handshake import (
    VERSION_FIELDS,
    accept_head,
    read_handshake,
    wants_websocket,
)

FIELDS = {
    "Host": "a",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def request(*lines, method="GET", version="HTTP/1.1", body=b"", **fields):
    """The request with these headers instead, as it was read. None leaves one out."""
    given = FIELDS | {name.replace("_", "-"): value for name, value in fields.items()}
    kept = [f"{name}: {value}" for name, value in given.items() if value is not None]
    head = [f"{method} /chat {version}", *kept, *lines, "", ""]
    asked = reader().next("\r\n".join(head).encode("latin-1") + body)
    assert asked is not None
    return asked


def refused(*lines, **more):
    asked = request(*lines, **more)
    assert wants_websocket(asked)
    with pytest.raises(RequestError) as info:
        read_handshake(asked)
    if asked.body is not None:
        asked.body.close()
    return info.value.status


def test_the_examples_of_the_rfc():
    asked = request("Sec-WebSocket-Protocol: chat, superchat", "Origin: http://example.com")
    assert wants_websocket(asked)
    handshake = read_handshake(asked)
    assert handshake.accept == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert handshake.subprotocols == ["chat", "superchat"]
    assert handshake.extensions == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Connection": "upgrade"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "keep-alive ,, UPGRADE\t,"},
        {"Content_Length": "0"},
        {"Sec_WebSocket_Extensions": "permessage-deflate; client_max_window_bits"},
    ],
)
def test_valid(fields):
    asked = request(**fields)
    assert wants_websocket(asked)
    handshake = read_handshake(asked)
    assert handshake.extensions == fields.get("Sec_WebSocket_Extensions", "")


@pytest.mark.parametrize(
    "more",
    [
        {"Upgrade": None},
        {"Upgrade": ""},
        {"Upgrade": "h2c"},
        {"Upgrade": "websocket/13"},
        {"Upgrade": "websockets"},
        {"version": "HTTP/1.0"},  # where an upgrade must be ignored (RFC 9110 7.8)
    ],
)
def test_other_requests_want_none(more):
    assert not wants_websocket(request(**more))


@pytest.mark.parametrize(
    "more",
    [
        {"Connection": None},
        {"Connection": "keep-alive"},
        {"Connection": "upgraded"},
        {"method": "POST"},
        {"method": "HEAD"},
        {"body": b"hello", "Content_Length": "5"},
        {"body": b"1\r\nx\r\n0\r\n\r\n", "Transfer_Encoding": "chunked"},
        {"Sec_WebSocket_Key": None},
        {"Sec_WebSocket_Key": ""},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ"},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="[4:]},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==dGhl"},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25j ZQ=="},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZ*=="},
        {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZ\xe9=="},
        {"Sec_WebSocket_Protocol": "chat room"},
        {"Sec_WebSocket_Protocol": "chat, chat"},
        {"Sec_WebSocket_Protocol": "ch\xe4t"},
    ],
)
def test_invalid_ones_get_400(more):
    assert refused(**more) == 400


def test_two_keys_get_400():
    assert refused("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==") == 400


@pytest.mark.parametrize("version", [None, "", "8", "13, 8", "013", "13.0", "14"])
def test_another_version_gets_426_and_is_told_ours(version):
    assert refused(Sec_WebSocket_Version=version) == 426
    assert VERSION_FIELDS == (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    )


def test_two_versions_get_426():
    assert refused("Sec-WebSocket-Version: 13") == 426


def test_subprotocols_may_have_several_lines():
    asked = request("Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b,,c")
    assert read_handshake(asked).subprotocols == ["a", "b", "c"]


# The response


def accepted(fields=(), **more):
    asked = request(Sec_WebSocket_Protocol="chat, superchat")
    return accept_head(read_handshake(asked), check_fields(list(fields)), "now", **more)


def test_response_with_everything():
    head = accepted(
        [("Set-Cookie", "a=b"), ("Content-Length", "5"), ("Connection", "close"), ("X", "\xe9")],
        subprotocol="superchat",
        extension="permessage-deflate",
    )
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        b"Sec-WebSocket-Protocol: superchat",
        b"Sec-WebSocket-Extensions: permessage-deflate",
        b"Set-Cookie: a=b",
        b"X: \xe9",
        b"Date: now",
        b"Server: spyglass",
        b"",
        b"",
    ]


def test_response_has_the_apps_own_date_and_server():
    head = accepted([("Server", "mine"), ("Date", "then")])
    assert head.count(b"Server: ") == head.count(b"Date: ") == 1


@pytest.mark.parametrize("subprotocol", ["other", "", "CHAT", "chat, superchat", "chat\r\nX: y"])
def test_subprotocol_that_was_not_offered_is_refused(subprotocol):
    with pytest.raises(ValueError, match="has not offered the subprotocol .*: chat, superchat"):
        accepted(subprotocol=subprotocol)


@pytest.mark.parametrize("name", ["Sec-WebSocket-Protocol", "sec-websocket-extensions"])
@pytest.mark.parametrize("before", [[], [("X", "y")]])
def test_headers_of_the_handshake_are_not_the_apps(name, before):
    with pytest.raises(ValueError, match="for the server to send"):
        accepted([*before, (name, "x")])
