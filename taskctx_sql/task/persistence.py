"""Load and save a context, and recover from failures."""

from __future__ import annotations

import contextlib
import itertools
import logging
from dataclasses import replace
from typing import Final

from taskctx_sql import clock
from taskctx_sql.context import Handout, Unsaved
from taskctx_sql.errors import (
    ContextNotFoundError,
    LimitExceededError,
    LossyValueWarning,
    LostContextError,
    NothingToUndoError,
    PastContextError,
    RevisionNotFoundError,
    StaleContextError,
    TaskContextError,
    UnsavedChangesError,
    UnstorableValueError,
    UnsupportedByStoreError,
)
from taskctx_sql.model import Delta, Loaded, Operation, Run, RunOutcome, Selection, watch_all
from taskctx_sql.random_ids import new_uuid
from taskctx_sql.stores import ContextStore, RevisionStore

logger: logging.Logger = logging.getLogger(__name__)

# Why a restore or an undo cannot be executed, now or later.
_IMPOSSIBLE: Final = (NothingToUndoError, RevisionNotFoundError, ContextNotFoundError, UnsupportedByStoreError)

# How often a save is attempted while other writers rewrite the rows that it changes.
_ATTEMPTS: Final = 50


class Persistence:
    """Writes unsaved changes to a store, and loads what the store has. The caller makes one call at a time."""

    def __init__(self, unsaved: Unsaved, history_limit: int | None) -> None:
        self._unsaved = unsaved
        self.history_limit = history_limit
        self._run: Run | None = None
        # The last restore or undo that was sent to the store.
        self._operation: tuple[Operation, int | None] | None = None

    @property
    def in_doubt(self) -> Handout | None:
        """A save of which it is unknown whether it was written."""
        return self._unsaved.saving.in_doubt

    # The run: a ``with`` block of a context, or the time from a first save to the last one.

    def begin_run(self, started_at: float) -> None:
        """Start a run, to which all later saves belong."""
        self._run = _new_run(started_at)

    def end_run(self, ended_at: float, outcome: RunOutcome, error: str | None) -> None:
        """Record how the run ended; the next save writes it."""
        if self._run is not None:
            self._run = replace(self._run, ended_at=ended_at, outcome=outcome, error=error)

    # Calls.

    async def load(self, store: ContextStore, selection: Selection | None = None) -> None:
        """Load what the store has, and keep what is unsaved on top of it."""
        selection = selection or Selection(self.history_limit)
        if selection.is_past:
            await self._refuse_unsaved(store, "show an earlier state")
        with contextlib.suppress(StaleContextError, LostContextError):
            # Both mean that it was not written: its content is unsaved again, and loading resolves the conflict.
            await self._settle_doubt(store)
        loaded = await self._read(store, selection)
        if loaded.earlier and not (selection.is_past or selection.chooses):
            loaded = await self._reach_changes(store, loaded)
        self._unsaved.adopt(loaded, is_past=selection.is_past, contiguous=not selection.chooses)

    async def save(self, store: ContextStore, *, if_unchanged: bool = False) -> None:
        """Settle a save in doubt, and write what is unsaved.

        If another writer removed or rewrote rows that are changed here, they are loaded again before the next attempt.
        """
        saving = self._unsaved.saving
        for attempt in itertools.count(1):
            try:
                if saving.handout is not None:
                    await self._settle_doubt(store)
                if saving.must_reload:
                    await self.load(store)
                handout = self._hand_out(if_unchanged=if_unchanged)
                if handout is not None:
                    await self._send(store, handout)
                break
            except StaleContextError as error:
                if not error.rewritten or attempt == _ATTEMPTS:
                    raise
            await self.load(store)

    async def discard(self, store: ContextStore) -> None:
        """Discard what is unsaved, except a save in doubt that was written."""
        await self._abandon_doubt(store)
        self._unsaved.discard(await self._read(store, Selection(self.history_limit)))

    async def operate(self, store: ContextStore, operation: Operation, revision: int | None) -> None:
        """Let the store restore or undo, and load the result."""
        unsaved = self._unsaved
        if self._is_under_way(operation, revision):
            # The same operation again, which did not return the last time: it is executed once.
            await self._send_again(store)
        else:
            await self._refuse_unsaved(store, operation)
            if unsaved.is_new:
                await self.load(store)
            if unsaved.is_new:
                raise ContextNotFoundError(unsaved.key)
            handout = unsaved.hand_out_operation(self._next_save(), _now(), operation, revision)
            self._operation = (operation, revision)
            await self._send(store, handout)
        await self.load(store)

    async def fork(self, store: RevisionStore, chat_id: str, revision: int | None) -> None:
        """Let the store create a context from the loaded state, or from a revision."""
        await self._refuse_unsaved(store, "be forked")
        shown = self._unsaved.revision if self._unsaved.is_past else None
        await store.fork(self._unsaved.key, chat_id, revision=shown if revision is None else revision)

    # Internals.

    def _hand_out(self, *, if_unchanged: bool) -> Handout | None:
        """Hand out what is to be saved, if anything is."""
        unsaved = self._unsaved
        handout = unsaved.hand_out(self._next_save(), _now(), if_unchanged=if_unchanged)
        if handout.delta.has_content:
            if unsaved.is_past:
                unsaved.abandon(handout)
                raise PastContextError(unsaved.key, unsaved.revision, "be saved")
        elif handout.delta.run.ended_at is None and not unsaved.is_new:
            unsaved.forgo(handout)
            return None
        return handout

    async def _read(self, store: ContextStore, selection: Selection) -> Loaded:
        return await store.load(
            self._unsaved.key,
            history_limit=selection.history_limit,
            revision=selection.revision,
            at=selection.at,
            max_chars=selection.max_chars,
            types=selection.types,
            keep_types=selection.keep_types,
        )

    async def _reach_changes(self, store: ContextStore, loaded: Loaded) -> Loaded:
        """Return what was loaded, extended back to the first update that was edited or removed in memory."""
        while (oldest := self._unsaved.oldest_change) is not None:
            first = loaded.seqs[0] if loaded.seqs else None
            if first is not None and first <= oldest:
                break
            older = [row async for row in store.updates(self._unsaved.key, after=oldest - 1, before=first)]
            if not older:
                break
            history = [row.update for row in older]
            if loaded.edits is not None:
                watch_all(history, loaded.edits)
            seqs = [*(row.seq for row in older), *loaded.seqs]
            loaded = replace(loaded, history=[*history, *loaded.history], seqs=seqs)
        return loaded

    async def _refuse_unsaved(self, store: ContextStore, doing: str) -> None:
        """Check that nothing is unsaved, which would be mixed with another state.

        A save in doubt counts as unsaved, unless it only recorded the end of a run.
        """
        unsaved = self._unsaved
        if self.in_doubt is not None:
            if self.in_doubt.delta.has_content:
                raise UnsavedChangesError(unsaved.key, doing)
            await self._settle_doubt(store)
        handout = unsaved.hand_out(self._next_save(), _now(), if_unchanged=False)
        unsaved.abandon(handout)
        if handout.delta.has_content:
            raise UnsavedChangesError(unsaved.key, doing)

    def _is_under_way(self, operation: Operation, revision: int | None) -> bool:
        """Whether this operation was sent, and its result is not loaded yet."""
        if self.in_doubt is not None:
            delta = self.in_doubt.delta
            return (delta.operation, delta.source_revision) == (operation, revision)
        return self._unsaved.saving.must_reload and self._operation == (operation, revision)

    async def _settle_doubt(self, store: ContextStore) -> None:
        """Ensure that a save in doubt is written, once.

        A restore or an undo that cannot be executed any more does not prevent other saves.
        """
        try:
            await self._send_again(store)
        except _IMPOSSIBLE as error:
            logger.warning("the operation in doubt was not executed: %s", error)

    async def _send_again(self, store: ContextStore) -> None:
        """Send the save in doubt again, unchanged: it is written now, or was written then."""
        handout = self.in_doubt
        if handout is not None:
            self._unsaved.saving.send_again(handout)
            await self._send(store, handout, again=True)

    async def _abandon_doubt(self, store: ContextStore) -> None:
        """Ensure that a save in doubt was written, or never will be."""
        handout = self.in_doubt
        if handout is None:
            return
        delta = handout.delta
        if delta.base is None:
            # The store may not have the context, so nothing is created there: later saves belong to another run.
            self._renew_identity()
        else:
            # A save with the same identity that creates a revision without changes: whichever of the two comes
            # second, even much later, writes nothing.
            same = self._unsaved.unchanged_metadata()
            with contextlib.suppress(StaleContextError, LostContextError):
                await store.save(Delta(delta.key, delta.run, delta.base, delta.at, metadata=same))
            self._count(delta.run)
        self._unsaved.abandon(handout)

    async def _send(self, store: ContextStore, handout: Handout, *, again: bool = False) -> None:
        try:
            saved = await store.save(handout.delta)
        except BaseException as error:
            if _was_not_written(error, again=again):
                self._unsaved.abandon(handout)
                if isinstance(error, LostContextError):
                    self._renew_identity()
            else:
                self._unsaved.saving.doubt(handout)
            raise
        # The two refer to each other. Not before: a save in doubt is sent again as it was encoded.
        handout.delta.sent = None
        self._unsaved.confirm(handout, saved)
        self._count(handout.delta.run)

    def _next_save(self) -> Run:
        self._run = self._run or _new_run(_now())
        return self._run.next_save()

    def _renew_identity(self) -> None:
        """Give later saves another identity: a store that was reset may know other saves of this run."""
        if self._run is not None:
            self._run = replace(self._run, run_id=new_uuid(), saves=0)

    def _count(self, saved: Run) -> None:
        # A save in doubt may be settled after the next run began.
        if self._run is not None and self._run.run_id == saved.run_id:
            self._run = None if saved.ended_at is not None else self._run.after(saved)


def _new_run(started_at: float) -> Run:
    return Run(run_id=new_uuid(), saves=0, started_at=started_at)


def _now() -> float:
    # Not the context's clock: the original uses it for updates only.
    return clock.now()


def _was_not_written(error: BaseException, *, again: bool) -> bool:
    """Whether an error means that nothing of a save is in the store.

    A refusal means that for every attempt, since the store looks for an earlier copy of the save first. Other errors
    concern the last attempt alone, which says nothing about a save that is sent ``again``.
    """
    unfit = (UnstorableValueError, LossyValueWarning, LimitExceededError)
    refusals = (StaleContextError, LostContextError, *unfit, *_IMPOSSIBLE)
    if isinstance(error, refusals) or getattr(error, "looked", False):
        return True
    return not again and isinstance(error, TaskContextError) and not getattr(error, "outcome_unknown", False)
