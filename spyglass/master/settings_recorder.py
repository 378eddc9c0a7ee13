"""When the Master writes down what is in force (settings_record.py): a while after
READY=1, when the first client has its answer, and again when a reload brings other
settings into force.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from spyglass.config.settings import Config
    from spyglass.log import Log

_FIRST_AFTER = 1.0  # seconds after READY=1
_AGAIN = 10.0  # seconds, where no descriptor was left
_NEVER = float("inf")


class SettingsRecorder:
    """Keeps the record up to date. `config()` is the configuration in force, `ready()`
    (bool) whether systemd has had READY=1.
    """

    def __init__(self, config: Callable[[], Config], ready: Callable[[], bool], log: Log) -> None:
        self._config = config
        self._ready = ready
        self._log = log
        self._fd = -1
        self._write_at = _NEVER
        self._written: Config | None = None
        self._units: dict[str, str] | None = None  # none have been read yet

    def due(self, _now: float) -> list[float]:
        return [] if self._config() is self._written else [self._write_at]

    def look(self, now: float) -> None:
        if self._write_at == _NEVER and self._ready():
            self._write_at = now + _FIRST_AFTER
        config = self._config()
        if now >= self._write_at and config is not self._written:
            try:
                self._write(config)
            except (OSError, ImportError) as error:
                # Without a descriptor, for example. Until then the commands compare
                # times of files.
                self._log.debug(f"the settings in force are not recorded: {error}")
                self._write_at = now + _AGAIN

    def _write(self, config: Config) -> None:
        settings_record = _record_module()
        if self._units is None:
            with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as stream:
                self._units = settings_record.read_units(settings_record.unit_of(stream.read()))
        fd = settings_record.write(config, self._units)
        if self._fd < 0:
            self._fd = fd
        else:
            # A reader sees the old one or the new one, and never both.
            os.dup2(fd, self._fd, inheritable=False)
            os.close(fd)
        self._written = config

    def abandon(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _record_module() -> ModuleType:
    """Return settings_record.py, imported here because no client waits for it. Raise
    ImportError.
    """
    try:
        from spyglass.master import settings_record
    except Exception as error:
        # Of whatever class: an upgrade has just replaced the files, and the module of
        # the other version does not fit. The service is about to be restarted.
        raise ImportError(f"cannot import what writes them: {error}") from error
    return settings_record
