"""Who is notified of what stores do: nobody, until `taskctx_sql.telemetry` is enabled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Queue(Protocol):
    """The saves of one database that wait for a transaction."""

    database_url: str
    schema: str | None

    @property
    def waiting(self) -> int:
        """How many wait now. Callable from any thread."""


class Observer:
    """What is notified. This one does nothing.

    It is called on whichever loop and thread does the work, and must not raise.
    """

    def store_opened(self, store: Any, schema: str | None, others: Sequence[str]) -> None:
        """Note a new store, and the names of the calls that it has beside those of `Store`."""

    def queue_created(self, queue: Queue) -> None:
        """Note a new queue; it lives as long as somebody else refers to it."""

    def attempt_failed(self, database_url: str, schema: str | None, error: BaseException) -> None:
        """Note an attempt that is going to be repeated."""

    def outage_began(self, database_url: str, schema: str | None) -> None:
        """Note that the first of a store's attempts failed, after one that did not."""

    def outage_ended(self, database_url: str, schema: str | None, seconds: float) -> None:
        """Note that an attempt succeeded again, so long after the outage began."""


NOBODY = Observer()

_observer: Observer = NOBODY


def observer() -> Observer:
    """Return who is notified."""
    return _observer


def notify(new: Observer) -> None:
    """Notify this observer, and no other, from now on."""
    global _observer
    _observer = new
