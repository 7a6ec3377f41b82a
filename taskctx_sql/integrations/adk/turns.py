"""Turns of a session: the run that an invocation is, and what the plugin measured in it."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import uuid4
from weakref import WeakValueDictionary

from taskctx_sql import ContextKey, Run, RunOutcome, Saved, Store, Write
from taskctx_sql.errors import LostContextError, StaleContextError

# The turns of how many sessions are remembered.
_REMEMBERED: Final = 1000


@dataclass
class Call:
    """A call of a model: which one, when it began by `time.perf_counter`, and its duration in seconds so far."""

    model: str | None
    started: float
    duration: float | None = None


@dataclass
class Turn:
    """One invocation of a session, as far as this process writes it: one run.

    Attributes:
        invocation_id: The invocation.
        calls: The newest call of each agent, by the agent's name.
        is_followed: Whether the plugin says how the turn ends.
        has_ended: Whether its run has ended in the record.
    """

    invocation_id: str
    calls: dict[str, Call] = field(default_factory=dict)
    is_followed: bool = False
    has_ended: bool = False
    _run: Run | None = None
    # What the store returned for the last write.
    _base: Any = None

    @property
    def is_new(self) -> bool:
        """Whether nothing of it is written."""
        return self._run is None

    @property
    def is_open(self) -> bool:
        """Whether it is recorded as under way, and the plugin would have said how it ended."""
        return self.is_followed and not self.has_ended and not self.is_new

    async def write(
        self,
        store: Store,
        write: Write,
        others: Sequence[Write] = (),
        *,
        outcome: RunOutcome | None = None,
        error: str | None = None,
    ) -> Saved:
        """Write to the session, and to others in the same transaction.

        Args:
            store: Where.
            write: What is written to the session.
            others: What is written to other contexts.
            outcome: How the run ended, if it did; what is written later continues it.
            error: The type and the text of the error that it ended with.

        Raises:
            StaleContextError: A context is not at the revision that was asked for.
            LostContextError: The session was deleted since the last write.
            StoreError: The store failed. Whether it was written may be unknown; the next write belongs to a new run.
        """
        now = time.time()
        run = Run(str(uuid4()), 1, now) if self._run is None else self._run
        ending = replace(run, ended_at=now if outcome else None, outcome=outcome, error=error)
        try:
            if others:
                saved, *_ = await store.write_together([replace(write, run=ending), *others])
            else:
                saved = await store.save(replace(write, run=ending).delta(self._base))
        except StaleContextError:
            self._base = None
            raise
        except BaseException:
            self._run = self._base = None
            raise
        self._run, self._base, self.has_ended = run.next_save(), saved.base, outcome is not None
        return saved


class Turns:
    """The newest turns that this process writes in an event loop."""

    def __init__(self) -> None:
        """Remember none yet."""
        self._turns: OrderedDict[tuple[ContextKey, str], Turn] = OrderedDict()
        self._locks: WeakValueDictionary[ContextKey, asyncio.Lock] = WeakValueDictionary()

    def lock(self, key: ContextKey) -> asyncio.Lock:
        """Return what a session's writes in this loop wait for: agents in parallel share one session."""
        return self._locks.setdefault(key, asyncio.Lock())

    def of(self, key: ContextKey, invocation_id: str) -> Turn:
        """Return the turn of an invocation, which may begin now."""
        turn = self._turns.setdefault((key, invocation_id), Turn(invocation_id))
        self._turns.move_to_end((key, invocation_id))
        if len(self._turns) > _REMEMBERED:
            self._turns.popitem(last=False)
        return turn

    @property
    def are_open(self) -> bool:
        """Whether there is a turn that is under way."""
        return any(turn.is_open for turn in self._turns.values())

    async def end_others(self, store: Store, key: ContextKey, new: Turn) -> None:
        """End a session's other turns as cancelled: ADK tells no plugin of a cancellation.

        One that is under way all the same goes on with its next write.
        """
        await self._end(store, lambda other, turn: other == key and turn is not new)

    async def end_all(self, store: Store) -> None:
        """End all turns that are under way as cancelled."""
        await self._end(store, lambda key, turn: True)

    async def _end(self, store: Store, ends: Callable[[ContextKey, Turn], bool]) -> None:
        for key, turn in [(key, turn) for (key, _), turn in self._turns.items() if turn.is_open and ends(key, turn)]:
            try:
                await turn.write(store, Write(key), outcome="cancelled")
            except LostContextError:
                self.forget(key)

    def forget(self, key: ContextKey) -> None:
        """Forget a session's turns."""
        for place in [place for place in self._turns if place[0] == key]:
            del self._turns[place]
