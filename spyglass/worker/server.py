"""What all connections of a worker share: the app, the settings that bound a request,
the Date of this second.

It is the `Server` of gateway/interfaces.py, too: what an exchange may ask of the
worker in which it runs.
"""

from __future__ import annotations

from time import gmtime, time

from spyglass.gateway.environ import Contexts, base_environ
from spyglass.http11.error_response import http_date
from spyglass.http11.request import Limits
from spyglass.http11.request_head import HeadParser
from spyglass.runtime import scoreboard
from spyglass.worker.meter import Meter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.config.settings import Config
    from spyglass.gateway.script_name import EnvironMakerBelow
    from spyglass.gateway.wsgi import App
    from spyglass.http11.request_body import Bodies
    from spyglass.log import Log
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.access_log import AccessLog
    from spyglass.worker.proxy_header import Greeting

_ANY = ("0.0.0.0", "::")  # noqa: S104, of what is bound already


class Server:
    """More than 15 attributes: most are settings, one each, bound here so that a
    request finds them without a further look-up.

    `served` is the number of requests answered, which `meter` has by kinds, `draining`
    (bool) whether the worker is leaving, `access` the access log or None, `greeting`
    what reads a PROXY header, or None, `environs_below` what makes the environs of an
    app with a `script_name` (decoded), or None.
    """

    def __init__(
        self, config: Config, app: App, slot: memoryview[int], bodies: Bodies, log: Log
    ) -> None:
        self.app = app
        self.log = log
        self.limits = Limits(
            max_head=config.max_head,
            max_fields=config.max_fields,
            max_body=config.max_body,
            body_memory=config.body_memory,
            bodies=bodies,
        )
        self.heads = HeadParser()
        self.debug = config.debug
        self.body_timeout = config.body_timeout
        self.body_min_rate = config.body_min_rate
        self.write_timeout = config.write_timeout
        self.keepalive_timeout = config.keepalive_timeout
        self.trusted_proxies = config.trusted_proxies
        self.forwarded_headers = config.forwarded_headers
        self.base = base_environ(config.threads)
        # Made here, in the thread that has called post_fork(): see Contexts
        self.fresh_context = Contexts().fresh
        self.greeting: type[Greeting] | None = None
        if config.proxy_protocol:
            # Here, and not with the first header: an import takes a descriptor, and its
            # connection may have taken the last.
            from spyglass.worker.proxy_header import Greeting

            self.greeting = Greeting
        self.script_name = ""
        self.environs_below: type[EnvironMakerBelow] | None = None
        if config.script_name:
            from spyglass.gateway.script_name import EnvironMakerBelow
            from spyglass.policy import url_prefix

            self.script_name = url_prefix.parse(config.script_name)
            self.environs_below = EnvironMakerBelow
        self.access: AccessLog | None = None
        self.date = ""
        self.next_second = 0.0  # monotonic: when `date` is out of date
        self.served = 0
        self.meter = Meter(slot)
        self.draining = False
        self._slot = slot
        self._bases: dict[int, dict[str, Any]] = {}
        self._warned: set[str] = set()

    def would_keep(self) -> bool:
        """Return True if a connection may be kept alive: not while the worker drains,
        or has been told to while the app was running.
        """
        return not self.draining and self._slot[scoreboard.ORDER] >= scoreboard.SERVE

    def is_parting(self) -> bool:
        """Return True while nothing that is open keeps the app awake."""
        return self._slot[scoreboard.ORDER] == scoreboard.PART

    def is_replaced(self) -> bool:
        """Return True if others take over from this worker, which drains."""
        return self._slot[scoreboard.ORDER] == scoreboard.RETIRE

    def count_error(self) -> None:
        """Count a response that failed: by its status (5xx), or because it was cut."""
        self._slot[scoreboard.ERRORS] += 1

    def count_websockets(self, number: int) -> None:
        """Note how many are open."""
        self._slot[scoreboard.WEBSOCKETS] = number

    def base_of(self, listener: Listener) -> dict[str, Any]:
        """Return the part of the environ that all requests at `listener` share."""
        base = self._bases.get(listener.fd)
        if base is None:
            base = self._bases[listener.fd] = self.base.copy()
            if listener.is_unix:
                # PEP 3333 wants name and port never empty; a unix socket has neither,
                # and its peer no address.
                base.update(REMOTE_ADDR="", SERVER_NAME="localhost", SERVER_PORT="80")
            else:
                host, port = listener.sock.getsockname()[:2]
                # A socket bound to all addresses: only each connection knows to which
                # of them it came.
                base.update(
                    SERVER_NAME="" if host in _ANY else server_name(host), SERVER_PORT=str(port)
                )
        return base

    def warn_once(self, about: object, what: str) -> None:
        """Log what is probably a mistake in a configuration, for the first connection
        `about` which it is said, and not for each.
        """
        if what not in self._warned:
            self._warned.add(what)
            self.log.warning(f"{about}: {what}")

    def tell_the_time(self, now: float) -> None:
        """Render the Date of the responses; once a second. `now` is monotonic."""
        seconds = time()
        self.date = http_date(gmtime(seconds))
        self.next_second = now + 1 - seconds % 1


def server_name(host: str) -> str:
    """Return the address `host` as SERVER_NAME has it: as it stands in a URL (RFC 3875
    4.1.14).
    """
    host = host.removeprefix("::ffff:")
    return f"[{host}]" if ":" in host else host
