"""Starts a zygote: reads the current configuration and forks.

Of the Master's parts this is the only one that must be there before the first answer.
All others come after it (first_answer.py).
"""

from __future__ import annotations

from spyglass.config.settings import Config
from spyglass.errors import ConfigError, LoadError
from spyglass.log import LEVELS
from spyglass.master.zygote_process import ZygoteProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spyglass.log import Log
    from spyglass.master.beginning import Fork
    from spyglass.runtime.poller import Poller
    from spyglass.runtime.shared_memory import Shared


class Launcher:
    """`config` (Config) is the one in force: that of the generation that serves, or
    else of the latest attempt. `read()` returns the configuration or raises
    ConfigError. `become_child()` is called in each process that it forks, and closes
    what is the Master's. `made` is a zygote that was forked before the settings were
    read; the first one that is started is that.
    """

    def __init__(
        self,
        read: Callable[[], Config],
        shared: Shared,
        poller: Poller,
        log: Log,
        become_child: Callable[[], None],
        made: Fork | None = None,
    ) -> None:
        self.config = Config()
        self._made = made
        self._read = read
        self._shared = shared
        self._poller = poller
        self._log = log
        self._become_child = become_child

    def read_config(self) -> Config:
        """Return the configuration, which may have changed. Raises LoadError."""
        try:
            config = self._read()
        except ConfigError as error:
            files = [error.file] if error.file else []
            raise LoadError(str(error), "\n".join(error.also), files) from None
        if self._shared.adopted:
            self.check_ignored(config)
        return config

    def follow(self, config: Config) -> None:
        """Have `config` in force."""
        self.config = config
        self._log.set_level(LEVELS[config.log_level])

    def start(self, config: Config, *, first: bool) -> ZygoteProcess:
        """Fork a zygote, or take the one that waits for the settings; see Zygote for
        `first`. Raises LoadError.
        """
        if (waiting := self._take_made()) is not None:
            if waiting.told(config):
                return waiting
            # The settings are too large for a message, or it has been killed. A process
            # that is forked now has them.
            waiting.discard()
        try:
            zygote = ZygoteProcess(self._shared, self._poller, self._log)
            zygote.start(config, self._become_child, first=first)
        # No descriptor, no process or no memory: as with an app that cannot be loaded,
        # later perhaps.
        except OSError as error:
            raise LoadError(f"cannot start a process for the app: {error.strerror}") from None
        return zygote

    def discard_made(self) -> None:
        """End the zygote that waits for the settings: there are none to tell it."""
        if (waiting := self._take_made()) is not None:
            waiting.discard()

    def _take_made(self) -> ZygoteProcess | None:
        made, self._made = self._made, None
        return None if made is None else ZygoteProcess(self._shared, self._poller, self._log, made)

    def check_ignored(self, config: Config) -> None:
        """Warn of listeners in `idle_ignore` that do not exist. To be called when it is
        known which do.
        """
        if not config.idle_ignore:
            return
        # Here, so that only apps with this setting pay for the import.
        from spyglass.policy.idle_ignore import unknown_listeners

        names = [listener.name for listener in self._shared.listeners]
        for entry in unknown_listeners(config.idle_ignore, names):
            self._log.warning(
                f"idle_ignore: no listener is named {entry!r}; FileDescriptorName= is {', '.join(sorted(set(names)))}"
            )
