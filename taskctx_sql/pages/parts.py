"""Parts of a view that take a while: what is there after a moment is shown, and the rest follows.

The sums of a large database take longer than a person wants to wait. They are read in the background; a view is there
after a moment with what is known, and says that a part is still being counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

T = TypeVar("T")

# How long after it began a view waits for its parts, seconds, and how long at least: it may have taken long before.
PATIENCE: Final = 0.12
LEAST: Final = 0.04
# How long a part that could not be read anew in time is shown, seconds.
MAX_AGE: Final = 600.0
# A part that took long is not read anew before so many times that long have passed.
REST: Final = 10
# So many parts are remembered.
MAX_PARTS: Final = 200
# So many parts are read at once that may still be there in time, and so many in all, which leaves readers for
# everything else.
AT_ONCE: Final = 2
MOST: Final = 3


class Parts(Protocol):
    """Reads the parts of a view."""

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]], /) -> T | None:
        """Return a part, or None if it is still being read."""


class WholeParts:
    """Waits for each part, however long it takes."""

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]], /) -> T | None:
        """See `Parts.get`."""
        return await read()


WHOLE: Final = WholeParts()


@dataclass(slots=True)
class _Part:
    """What is known of a part: its newest value, when and in how many seconds it was read, and what reads it anew."""

    value: Any = None
    read_at: float | None = None
    cost: float = 0.0
    reading: asyncio.Task[Any] | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _PartsOfView:
    """The `Parts` of a view that waits for them until a time of the clock."""

    parts: PatientParts
    until: float

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]], /) -> T | None:
        """See `Parts.get`."""
        left = self.until - time.monotonic()
        return await self.parts.get(key, read, max(left, min(LEAST, self.parts.patience)))


@dataclass(slots=True)
class PatientParts:
    """The parts of all views of an application, each of which waits for a moment, or shows an earlier value.

    Every view begins to read its parts anew, so that the next one has what is true now; on a database of ordinary
    size they are there in time. What failed is tried again by the next view.

    Args:
        patience: How long after it began a view waits, seconds.
    """

    patience: float = PATIENCE
    _known: OrderedDict[Hashable, _Part] = field(default_factory=OrderedDict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST))

    def of_view(self) -> Parts:
        """Return what reads the parts of a view that begins now."""
        return _PartsOfView(self, time.monotonic() + self.patience)

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]], patience: float) -> T | None:
        """Return a part, or None if it is not there after so many seconds."""
        part = self._known.setdefault(key, _Part())
        self._known.move_to_end(key)
        if part.reading is None and not self._is_resting(part):
            part.reading = asyncio.create_task(self._read(part, read))
        if part.reading is not None:
            await asyncio.wait([part.reading], timeout=patience)
        self._forget()
        if part.error is not None:
            error, part.error = part.error, None
            raise error
        if part.read_at is None or time.monotonic() - part.read_at > MAX_AGE:
            return None
        found: T = part.value
        return found

    async def _read(self, part: _Part, read: Callable[[], Awaitable[T]]) -> None:
        try:
            async with self._places, self._turn():
                begun = time.monotonic()
                part.value = await read()
            part.read_at = time.monotonic()
            part.cost, part.error = part.read_at - begun, None
        except Exception as error:
            # Raised in the view that asks for it.
            part.error = error
        finally:
            part.reading = None

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Read in turn. What takes long gives its turn to what may be quick, which does not wait for it."""
        await self._turns.acquire()
        turns = [self._turns]

        def end() -> None:
            if turns:
                turns.pop().release()

        is_long = asyncio.get_running_loop().call_later(self.patience, end)
        try:
            yield
        finally:
            is_long.cancel()
            end()

    def _is_resting(self, part: _Part) -> bool:
        is_quick = part.cost < self.patience
        return part.read_at is not None and not is_quick and time.monotonic() - part.read_at < REST * part.cost

    def _forget(self) -> None:
        for key in list(self._known)[: max(len(self._known) - MAX_PARTS, 0)]:
            if self._known[key].reading is None:
                del self._known[key]

    async def close(self) -> None:
        """End what is being read, before the store is closed."""
        reading = [part.reading for part in self._known.values() if part.reading is not None]
        for task in reading:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*reading, return_exceptions=True)
