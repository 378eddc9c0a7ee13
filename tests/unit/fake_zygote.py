"""A generation whose zygote and workers are played by the test: what the Master tells
them is read, what they report is made up.
"""

import os

from spyglass.config.settings import Config
from spyglass.master.generation import Generation
from spyglass.master.zygote_process import ZygoteProcess
from spyglass.runtime import channel
from spyglass.runtime.poller import Poller
from spyglass.runtime.scoreboard import ACCEPTING, LIMIT, ORDER, SERVE, SERVED, STATE
from spyglass.runtime.shared_memory import Shared

from .fake_log import FakeLog

NOW = 1000.0


class Played:
    """It has its workers, and they accept."""

    def __init__(self, **settings):
        self.journal = FakeLog()
        self.shared = Shared([], 8)
        self.poller = Poller()
        played = ZygoteProcess(self.shared, self.poller, self.journal)
        self.generation = Generation(
            Config({"max_requests": 100} | settings),
            played,
            self.shared,
            self.poller,
            self.journal,
            retry=False,
        )
        played.pid = 1
        self.channel = played._fork.far
        self.channel.setblocking(False)
        played._channel.setblocking(False)
        self.poller.watch(played.fd, played.hear)
        self.maintain()
        for number in self.spawned():
            self.born(number)

    def close(self):
        for sock in (self.channel, self.generation.zygote._channel):
            sock.close()
        for fd in (self.shared.bell, self.shared.poke, self.shared.lifeline, self.shared._held):
            os.close(fd)

    def maintain(self, order=SERVE, now=NOW):
        self.generation.maintain(now, order)

    def spawned(self):
        """The slots of the workers that the zygote was told to fork since it was last
        asked.
        """
        numbers = []
        while True:
            try:
                numbers.append(channel.receive(self.channel)[1])
            except BlockingIOError:
                return numbers

    def forked(self, number):
        channel.send(self.channel, channel.SPAWNED, number, 1000 + number)
        self.generation.zygote.hear()

    def born(self, number):
        self.forked(number)
        self.cells(number)[STATE] = ACCEPTING

    def ended(self, number, status=0):
        channel.send(self.channel, channel.DIED, number, 1000 + number, status)
        self.generation.zygote.hear()

    def refused(self, *numbers):
        for number in numbers:
            channel.send(self.channel, channel.CANNOT, number, "no room")
        self.generation.zygote.hear()

    def cells(self, number):
        return self.shared.board.slot(number)

    def wear_out(self, number):
        self.cells(number)[SERVED] = self.cells(number)[LIMIT]

    @property
    def orders(self):
        return {number: self.cells(number)[ORDER] for number in self.generation.workers}
