"""Writing to a context again and again without loading it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from taskctx_sql import clock
from taskctx_sql.errors import StaleContextError, UnsupportedByStoreError
from taskctx_sql.model import ContextKey, Delta, FileChange, NewUpdate, Run, RunOutcome, Saved, StateChange, Write
from taskctx_sql.random_ids import new_uuid
from taskctx_sql.stores import Feature, StateStore


class ContextWriter:
    """Writes to one context as one run, without loading it.

    It knows what its last write has left, so the next one is a single round trip, unless somebody else wrote meanwhile.
    Tasks of one event loop may use it at once: their writes come one after the other.

        writer = ContextWriter(store, ContextKey("u1", "c1"))
        await writer.write(updates=[("message", "Hello")])
        await writer.end()

    Args:
        store: An open store; it stays open.
        key: The context; the first write creates one that is not there.
    """

    def __init__(self, store: StateStore, key: ContextKey) -> None:
        """Take the store and the key; nothing is read or written yet."""
        self.store = store
        self.key = key
        self._turn = asyncio.Lock()
        # As they were written last: the run under way, or the one that has ended.
        self._run: Run | None = None
        self._ended: Run | None = None
        self._base: Any = None
        self._revision: int | None = None

    @property
    def revision(self) -> int | None:
        """The context's revision after the last write; None before it, and after a write that failed."""
        return self._revision

    @property
    def run_id(self) -> str | None:
        """The run that the writes belong to; None before its first one."""
        return None if self._run is None else self._run.run_id

    async def write(
        self,
        *,
        updates: Sequence[NewUpdate] = (),
        models: Sequence[Mapping[str, Any]] = (),
        files: Sequence[FileChange] = (),
        state: Mapping[str, Any] | Sequence[StateChange] = (),
        remove_state: Sequence[str] = (),
        remove_updates: Sequence[int] = (),
        labels: Mapping[str, str | None] | None = None,
        title: str | None = None,
        parent: str | None = None,
        if_revision: int | None = None,
        outcome: RunOutcome | None = None,
        error: str | None = None,
        resume: bool = False,
    ) -> Saved:
        """Write in one transaction, as `Store.write` does.

        With an ``outcome``, it is the last write of its run, and records the run's end as `end` does. With ``resume``,
        the run that this writer has ended last goes on with it, instead of a new one.

        After a write that failed, whose outcome may be unknown, the next one belongs to a new run: whether the same
        content is written again is the caller's decision. A write that was refused for its ``if_revision`` wrote
        nothing, and the run goes on.

        Raises:
            LostContextError: The context was deleted since the last write.
            InvalidArgumentError: A value is not what it must be.
            StaleContextError: The context is not at the revision ``if_revision``.
            UnstorableValueError: In strict mode, a value would come back as something else.
            UnsupportedByStoreError: The store cannot do this.
            StoreError: The store failed.
        """
        if Feature.STATE not in self.store.features:
            raise UnsupportedByStoreError("write without loading", self.store.database_url, Feature.STATE.value)
        # In the order of the fields.
        content = (updates, models, files, state, remove_state, remove_updates, labels, title, parent)
        async with self._turn:
            last = self._ended if self._run is None and resume else self._run
            run = Run(new_uuid(), 1, clock.now()) if last is None else last.next_save()
            if outcome is not None:
                run.ended_at, run.outcome, run.error = clock.now(), outcome, error
            elif run.outcome is not None:
                run.ended_at = run.outcome = run.error = None
            return await self._save(Write(self.key, *content, if_revision, run).delta(self._base))

    async def end(self, outcome: RunOutcome = "completed", error: str | None = None) -> None:
        """Record how the run ended. The next write begins another one. Without a write since, it does nothing.

        Args:
            outcome: "completed", "failed" or "cancelled".
            error: The type and the text of the error.

        Raises:
            LostContextError: The context was deleted since the last write.
            StoreError: The store failed.
        """
        async with self._turn:
            if self._run is None:
                return
            at = clock.now()
            run = replace(self._run.next_save(), ended_at=at, outcome=outcome, error=error)
            await self._save(Delta(self.key, run, self._base, at, is_blind=True))

    async def _save(self, delta: Delta) -> Saved:
        try:
            saved = await self.store.save(delta)
        except StaleContextError:
            # Nothing was written, so the run goes on.
            raise
        except BaseException:
            self._run = self._ended = self._base = self._revision = None
            raise
        # The two refer to each other, and would stay in memory until Python looks for such circles.
        delta.sent = None
        self._base, self._revision = saved.base, saved.revision
        self._run, self._ended = (delta.run, None) if delta.run.outcome is None else (None, delta.run)
        return saved
