"""An app of one's own on a machine, as its administrator sets it up: spyglass@NAME, its
settings and its code.

Whoever visits it from here does so in the machine's network: threads started within
`machine.network()` stay there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import Machine

TELL = Path(__file__).with_name("tell.py").read_text()
# What must not change of a socket unit while everything else happens: it is the one
# that was started, and it has listened since.
UNBROKEN = ("InvocationID", "ActiveEnterTimestampMonotonic", "ActiveState", "Result")


@dataclass
class Instance:
    """spyglass@`name` on `machine`, with `source` as its app. `port`: listens there
    too, beside its unix socket.
    """

    machine: Machine
    name: str
    source: str = TELL
    port: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def service(self) -> str:
        return f"spyglass@{self.name}.service"

    @property
    def socket(self) -> str:
        return f"spyglass@{self.name}.socket"

    @property
    def code(self) -> str:
        return f"/srv/apps/{self.name}/app.py"

    @property
    def configuration(self) -> str:
        return f"/etc/spyglass/{self.name}.toml"

    @property
    def unix(self) -> str:
        """The path of its socket, as we see it."""
        return self.machine.path(f"/run/spyglass/{self.name}.sock")

    @property
    def addresses(self) -> list[Any]:
        return [self.unix, *([("127.0.0.1", self.port)] if self.port else [])]

    def toml(self) -> str:
        settings = {"app": "app:app", "directory": f"/srv/apps/{self.name}"} | self.settings
        # What JSON says of a text, a number or a truth value, TOML says the same way.
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())

    def write(self) -> Instance:
        """Puts its files in place; units that are new are read at the first start of
        the socket.
        """
        self.machine.write(self.code, self.source)
        self.machine.write(self.configuration, self.toml())
        if self.port:
            self.machine.write(
                f"/etc/systemd/system/{self.socket}.d/tcp.conf",
                f"[Socket]\nListenStream=127.0.0.1:{self.port}\n",
            )
        return self

    def start(self) -> Instance:
        """Writes it, and has its socket listen."""
        self.write()
        self.machine.systemctl("start", self.socket)
        return self

    def state(self) -> dict[str, str]:
        return self.machine.state(self.service)

    def unbroken(self) -> list[str]:
        """Of the socket unit: equal at any two moments if it has listened without a
        break between them.
        """
        state = self.machine.state(self.socket)
        assert (state["ActiveState"], state["Result"]) == ("active", "success"), state["Result"]
        assert state["SubState"] in ("listening", "running")
        return [state[name] for name in UNBROKEN]

    def asleep(self) -> bool:
        return self.machine.state(self.socket)["SubState"] == "listening" and not self.processes()

    def processes(self) -> set[int]:
        """Their pids, as we count."""
        return {
            process.host_pid
            for process in self.machine.processes(self.service.removesuffix(".service"))
        }

    def said(self, priority: str) -> list[str]:
        """What stands in the journal of it, as grave as `priority` or graver."""
        return self.machine.journal(self.service, f"--priority={priority}")


def life(answer: Any) -> str:
    """Which life of the unit an answer of the app `tell` is from."""
    return answer.text.split()[0]


def worker(answer: Any) -> int:
    return int(answer.text.split()[1])


def lives(answers: Iterable[Any]) -> set[str]:
    return {life(answer) for answer in list(answers)}
