"""The numbers with which a WebSocket ends (RFC 6455 7.4, and the registry of IANA), and
the error that carries one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

NORMAL: Final = 1000
GOING_AWAY: Final = 1001  # the server stops, or goes to sleep
PROTOCOL_ERROR: Final = 1002
NO_CODE: Final = 1005  # there was a Close frame without a code; never sent
ABNORMAL: Final = 1006  # there was no Close frame; never sent
INVALID_DATA: Final = 1007
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
SERVICE_RESTART: Final = 1012  # come again: another process serves already

# 1004, 1005, 1006 and 1015 are reserved, and never in a frame. The range up to 2999 is
# for later versions of the protocol, 3000 to 4999 for libraries and applications.
_REGISTERED: Final = frozenset((1000, 1001, 1002, 1003, *range(1007, 1015)))


def may_be_sent(code: int) -> bool:
    """Return True if a Close frame may have this code, from either side."""
    return code in _REGISTERED or 3000 <= code <= 4999


class FrameError(Exception):
    """The WebSocket fails (RFC 6455 7.1.7): `code` (int) is that of the Close frame to
    send, and the text its reason.
    """

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code
