"""What a worker's loop does not do itself, as it depends on how the app is called."""

from __future__ import annotations

from spyglass.worker.connection import Connection
from spyglass.worker.leader_followers import Crew

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.log import Log
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.connection_base import ConnectionBase, Visit
    from spyglass.worker.host import Host
    from spyglass.worker.server import Server
    from spyglass.worker.solo import Solo


class Interface:
    """What serves a client, and which threads call the app. This one is WSGI's; that
    of ASGI is in worker/asgi/.
    """

    def crew(self, threads: int, slot: memoryview[int], log: Log) -> Crew | Solo:
        """Return the threads."""
        return _crew(threads, slot, log)

    def meet(
        self,
        host: Host,
        server: Server,
        client: ClientSocket,
        address: Any,
        listener: Listener,
        visit: Visit | None,
    ) -> ConnectionBase:
        """Return the connection that serves `client`, which was accepted."""
        return Connection(host, server, client, address, listener, visit)


def _crew(threads: int, slot: memoryview[int], log: Log) -> Crew | Solo:
    if threads > 1:
        return Crew(threads, slot, log)
    from spyglass.worker.solo import Solo  # in here: only a worker of one thread needs it

    return Solo(slot)
