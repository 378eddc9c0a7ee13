"""`spyglass lookout` as a process of its own, in a session of its own, with the
addresses that a test gave it.
"""

import contextlib
import os
import re
import signal
import socket

from waiting import wait_until

from .fake_systemd import APPS, options, server_environ, spyglass, start
from .processes import members


def free_port(host="127.0.0.1"):
    with socket.create_server(
        (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET
    ) as sock:
        return sock.getsockname()[1]


class Lookout:
    """A running lookout, or one that refused to; `place` (an empty directory) is for
    its log and its sockets.
    """

    def __init__(
        self, place, pycache, app="plain:app", *, binds=None, arguments=(), environ=None, **settings
    ):
        if app == "plain:app":
            settings["directory"] = APPS
        self.place = place
        self.log_path = place / "log"
        self.address = ("127.0.0.1", free_port())
        binds = binds or [f"127.0.0.1:{self.address[1]}"]
        words = [word for bind in binds for word in ("--bind", bind)]
        argv = spyglass("lookout", *([app] if app else []), *words, *arguments, *options(settings))
        log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self.pid = start(argv, [], server_environ(pycache) | (environ or {}), log)
        os.close(log)
        self.status = None

    @property
    def log(self):
        return self.log_path.read_text("utf-8", "replace")

    @property
    def masters(self):
        """The pids of all Masters it has started, the latest last."""
        return [int(pid) for pid in re.findall(r"starting the Master, pid (\d+)", self.log)]

    def until(self, condition, what, timeout=10.0):
        wait_until(condition, timeout, lambda: f"{what}\n{self.log[-4000:]}")

    def until_logged(self, text, times=1, timeout=10.0):
        self.until(
            lambda: self.log.count(text) >= times, f"not logged {times} times: {text!r}", timeout
        )

    def until_listening(self):
        self.until(lambda: " is asleep; " in self.log or self.ended(), "it does not listen")
        assert self.status is None, self.log

    def until_asleep(self, times=1, timeout=15.0):
        self.until_logged("asleep again", times, timeout)
        assert self.others() == []

    def others(self):
        """What lives beside it in its session."""
        return members(self.pid, but=self.pid)

    def signal(self, number):
        os.kill(self.pid, number)

    def ended(self):
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def until_ended(self, timeout=10.0):
        self.until(self.ended, "it has not ended", timeout)
        return self.status

    def close(self):
        """End it if it still runs, and complain of what it leaves behind."""
        if not self.ended():
            self.signal(signal.SIGTERM)
            try:
                self.until_ended()
            finally:
                left = members(self.pid)
                for process in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
        else:
            left = members(self.pid)
        assert not left, f"left behind: {left}\n{self.log}"
