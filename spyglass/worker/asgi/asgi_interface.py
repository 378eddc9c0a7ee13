"""What a worker's loop does not do itself, where the app is an ASGI app."""

from __future__ import annotations

from spyglass.worker.asgi.duplex_connection import DuplexConnection
from spyglass.worker.interface import Interface
from spyglass.worker.solo import Solo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from spyglass.log import Log
    from spyglass.runtime.sd_daemon import Listener
    from spyglass.worker.client_socket import ClientSocket
    from spyglass.worker.connection_base import ConnectionBase, Visit
    from spyglass.worker.host import Host
    from spyglass.worker.leader_followers import Crew
    from spyglass.worker.server import Server


class AsgiInterface(Interface):
    """One thread, and connections that give their requests to `apps` (Apps)."""

    def __init__(self, apps: Any) -> None:
        self._apps = apps

    def crew(self, threads: int, slot: memoryview[int], log: Log) -> Crew | Solo:
        """The event loop calls the app itself."""
        return Solo(slot)

    def meet(
        self,
        host: Host,
        server: Server,
        client: ClientSocket,
        address: Any,
        listener: Listener,
        visit: Visit | None,
    ) -> ConnectionBase:
        """See Interface."""
        self._apps.forget(client.fd)
        return DuplexConnection(host, server, client, address, listener, visit, self._apps)
