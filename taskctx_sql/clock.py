"""The time that the library works with, which tests may set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_replacement: Callable[[], float] | None = None


def _precise() -> float:
    # Not `time.time`, which programs of the original replace for the timestamps of updates only.
    return time.time_ns() / 1e9


def now(system: Callable[[], float] = _precise) -> float:
    """Return the time in seconds since the epoch, UTC; the system's unless a test replaced it."""
    return (_replacement or system)()


@contextmanager
def replaced(source: Callable[[], float]) -> Iterator[None]:
    """Take the time from ``source`` in this process, in all threads, until the block ends."""
    global _replacement
    before, _replacement = _replacement, source
    try:
        yield
    finally:
        _replacement = before
