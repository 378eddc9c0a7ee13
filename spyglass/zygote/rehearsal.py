"""What a rehearsal, such as `spyglass check`, has a zygote and its worker do besides
serving, or instead of it.

A rehearsal runs the processes that the service has, so what it finds out is true of the
service. It is told of each stage, in the process that has reached it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from spyglass.zygote.import_effects import Watch


class Rehearsal(Protocol):
    """The stages of a zygote and its workers, in order."""

    def loading(self) -> None:
        """The app is about to be loaded."""

    def loaded(self, watch: Watch, *, has_post_fork: bool, is_asgi: bool) -> None:
        """The app was loaded; `watch` saw what it left behind. Raise LoadError to
        refuse it. The service's own warnings are left out.
        """

    def preparing(self) -> None:
        """A worker is about to load the app; then, to call its post_fork(); then, to
        have an ASGI app start.
        """

    def started(self, *, has_lifespan: bool) -> None:
        """An ASGI app has started: `lifespan.startup` is complete, if it has a
        lifespan. It is stopped next.
        """

    def ready(self, *, has_post_fork: bool) -> None:
        """A worker could serve now. It exits instead."""
