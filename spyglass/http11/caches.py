"""What is kept of earlier requests and responses, so that what is said again is not
judged again.

To parse and to check is most of the work for a small request, and clients repeat
themselves. A kept-alive client sends the same head again, all users of one browser send
the same lines, a health check sends the same bytes on each new connection, and an app
answers with the same headers. But the keys are chosen by clients, so a cache is a place
to attack. These rules hold for all of them:

1. The key is all of the input. An entry is what the code made of the same bytes before,
   so a cache changes the cost of an answer, never the answer. A key that left out a
   part of the input would let one client decide what another one's request means.
2. The number of entries is bounded, and the length of a key. A full cache is emptied: a
   client that invents keys makes us do the work that we would do without a cache, and
   no more. Idle connections cost little memory, whatever was said on them.
3. What several connections share holds nothing that belongs to one of them. Else an
   answer that comes a little earlier would tell a stranger what others have sent, and
   cookies and tokens would stay in memory long after their request.
4. A value does not change once it is kept.

Only one thread at a time reads requests (worker/leader_followers.py), but several start
responses. So a cache of responses is looked up in one step, because the entry may have
gone before a second one.

Measured compiled, each switched off alone (instructions for a request more): requests
on a kept connection need LAST_HEAD, LAST_SECTION, STATUSES and RESPONSE_FIELDS, 9,000
to 45,000 each. HEADS, LINES, HOSTS and ENVIRON_KEYS are for the first head on a
connection, which is each one where a proxy keeps none: 18,000 to 50,000, 36,000, 4,000
and 3,000.

    cache               keyed by                 entries  longest   kept in
    ENVIRON_KEYS        name of a header             512       64   the process
    LINES               line with a header           512      256   the process
    HEADS               head of a request             64     1024   HeadParser
    LAST_HEAD           head of a request              1     4096   the connection
    LAST_SECTION        headers of a request           1     4096   the connection
    HOSTS               Host, authority              256      255   the process
    FORWARDED           X-Forwarded-...              256      256   the process
    FORWARDED_UNNAMED   setting forwarded_headers      4     1000   the process
    STATUSES            the app's status             256      256   the process
    RESPONSE_NAMES      name of the app's header     512       64   the process
    RESPONSE_FIELDS     the app's headers            256      500   the process
    REQUEST_PAIRS       line with a header           512      256   the process
    RESPONSE_PAIRS      the app's headers            256      500   the process

The last two are for ASGI apps, in the place of LINES and RESPONSE_FIELDS. Two more
follow from these, as they are keyed by an object out of one of them:
CheckedFields.made (response_head.py), and EnvironMaker and ScopeMaker (gateway/).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final


class Bound:
    """How much a cache holds: `most` entries (int), with keys of at most `longest`
    (int) characters or bytes.
    """

    __slots__ = ("_longest", "longest", "most")

    def __init__(self, most: int, longest: int) -> None:
        self.most = most
        self.longest = self._longest = longest

    def switch(self, on: bool) -> None:
        """Keep nothing from now on, or keep as usual again."""
        self.longest = self._longest if on else -1


class Cache(Bound):
    """A bounded cache of this process. Look keys up in `entries`, a plain dict: an
    entry that is found costs no call.
    """

    __slots__ = ("entries",)

    def __init__(self, most: int, longest: int) -> None:
        super().__init__(most, longest)
        self.entries: dict[Any, Any] = {}

    def keep(self, key: object, value: object, length: int) -> None:
        """Keep `value` for `key`, whose length is `length` (int), unless it is too
        long.
        """
        if length <= self.longest:
            if len(self.entries) >= self.most:
                self.entries.clear()
            self.entries[key] = value

    def switch(self, on: bool) -> None:
        super().switch(on)
        self.entries.clear()


# From the name of a header to its key in the environ. A name tells nothing.
ENVIRON_KEYS: Final = Cache(512, 64)
# From a line to key and value. Only of HARMLESS headers: no cookie, no token, nothing
# that an app has made up.
LINES: Final = Cache(512, 256)
# From the first head on a connection to its Request, shared by all connections of a
# worker: monitors, and proxies that open a connection for each request, begin all of
# them alike. Only HARMLESS headers and no query, where apps have tokens. A path may be
# a secret, too; but to find out whether it is kept, one has to send all of it.
HEADS: Final = Bound(64, 1024)
# The last request without a body on this connection. It tells its client only what that
# has said itself, and goes with the connection.
LAST_HEAD: Final = Bound(1, 4096)
# The same for the headers alone: the next ones are read by what is different about them
# (last_section.py).
LAST_SECTION: Final = Bound(1, 4096)
# From a host to whether it is a valid one. No name in the DNS is longer than 255. The
# names of an app's sites are public.
HOSTS: Final = Cache(256, 255)
# From the X-Forwarded headers of a trusted proxy to what they tell. Holds addresses of
# clients, which only such a proxy can ask for, and it has them already.
FORWARDED: Final = Cache(256, 256)
# From the setting to the headers that it does not name. Not a client's.
FORWARDED_UNNAMED: Final = Cache(4, 1000)
# From a status line, the name of a header, all headers of a response, to what checking
# them gave. The app chooses the keys, no client can ask for them.
STATUSES: Final = Cache(256, 256)
RESPONSE_NAMES: Final = Cache(512, 64)
RESPONSE_FIELDS: Final = Cache(256, 500)
# The same for ASGI apps, which have pairs of bytes.
REQUEST_PAIRS: Final = Cache(512, 256)
RESPONSE_PAIRS: Final = Cache(256, 500)

# Headers that many clients send alike, and that identify none of them.
HARMLESS: Final = frozenset(
    (
        *("HTTP_ACCEPT", "HTTP_ACCEPT_ENCODING", "HTTP_ACCEPT_LANGUAGE", "HTTP_CACHE_CONTROL"),
        *("HTTP_CONNECTION", "HTTP_DNT", "HTTP_HOST", "HTTP_KEEP_ALIVE", "HTTP_PRAGMA"),
        *("HTTP_PRIORITY", "HTTP_SEC_FETCH_DEST", "HTTP_SEC_FETCH_MODE", "HTTP_SEC_FETCH_SITE"),
        *("HTTP_SEC_FETCH_USER", "HTTP_UPGRADE_INSECURE_REQUESTS", "HTTP_USER_AGENT"),
    )
)

ALL: Final[tuple[Bound, ...]] = (
    *(ENVIRON_KEYS, LINES, HEADS, LAST_HEAD, LAST_SECTION, HOSTS),
    *(FORWARDED, FORWARDED_UNNAMED, STATUSES, RESPONSE_NAMES, RESPONSE_FIELDS),
    *(REQUEST_PAIRS, RESPONSE_PAIRS),
)


def switch(on: bool) -> None:
    """Switch all caches off, or on again, for connections that begin afterwards. For
    tests: nothing but time may depend on them.
    """
    for each in ALL:
        each.switch(on)
