"""The servers are those of the process tests."""

from process.conftest import lookout, pycache, systemd

__all__ = ["lookout", "pycache", "systemd"]
