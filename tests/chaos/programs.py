"""Random programs of everything that a context and a store can do, by two writers, against the plain model."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import rule

from taskctx_sql import ContextUpdate, Store, TaskContext
from taskctx_sql.errors import (
    ContextExistsError,
    NothingToUndoError,
    StaleContextError,
    StoreFailedError,
    UnsupportedByStoreError,
)
from taskctx_sql.model import Delta, Saved
from tests.chaos.model import Change, Memory, contents, same, without
from tests.chaos.modeled import Modeled, applied

T = TypeVar("T")

WRITERS = st.integers(0, 1)
TEXTS = st.sampled_from(["a", "b", "a longer text", "\x00 'quoted' ☃", ""])


class Programs(Modeled):
    """One program."""

    # In memory.

    @rule(which=WRITERS, kind=st.sampled_from(["message", "note"]), data=TEXTS)
    def add(self, which: int, kind: str, data: str) -> None:
        self.writers[which].context.add_context_update(kind, data, {"by": which})
        self.follow(which)

    @rule(which=WRITERS, path=st.sampled_from("pq"), operation=TEXTS)
    def track_file(self, which: int, path: str, operation: str) -> None:
        self.writers[which].context.track_file_operation(path, operation)
        self.follow(which)

    @rule(which=WRITERS, path=st.sampled_from("pq"))
    def untrack_file(self, which: int, path: str) -> None:
        self.writers[which].context.file_tracker.pop(path, None)
        self.follow(which)

    @rule(which=WRITERS, model=TEXTS)
    def track_model(self, which: int, model: str) -> None:
        self.writers[which].context.track_model_usage(model, "provider", "mode")
        self.follow(which)

    @rule(which=WRITERS, key=st.sampled_from("kl"), value=TEXTS)
    def set_metadata(self, which: int, key: str, value: str) -> None:
        self.writers[which].context.metadata[key] = value
        self.follow(which)

    @rule(which=WRITERS, key=st.sampled_from("kl"))
    def drop_metadata(self, which: int, key: str) -> None:
        self.writers[which].context.metadata.pop(key, None)
        self.follow(which)

    @rule(which=WRITERS, place=st.integers(0, 5))
    def remove(self, which: int, place: int) -> None:
        history = self.writers[which].context.context_history
        if history:
            history.pop(place % len(history))
        self.follow(which)

    @rule(which=WRITERS, size=st.integers(0, 40))
    def optimize(self, which: int, size: int) -> None:
        context = self.writers[which].context
        before = list(context.context_history)
        removed = context.optimize_context(size)
        assert removed == (len(context.context_history) < len(before))
        assert [update for update in before if update in context.context_history] == context.context_history
        self.dropped(which, before)
        self.follow(which)

    def dropped(self, which: int, before: list[ContextUpdate]) -> None:
        writer = self.writers[which]
        kept = {update.timestamp for update in writer.context.context_history}
        writer.memory.dropped |= {update.timestamp for update in before} - kept

    def follow(self, which: int) -> None:
        writer = self.writers[which]
        writer.memory.follow(writer.context)

    # With the store.

    @rule(which=WRITERS)
    def load(self, which: int) -> None:
        self.run(self.writers[which].context.load())
        self.settle(which)
        self.writers[which].memory.load(self.expected)
        self.writers[which].seen = self.changes
        self.check()

    @rule(which=WRITERS)
    def save(self, which: int) -> None:
        self.run(self.writers[which].context.save())
        self.saved(which)
        self.check()

    @rule(which=WRITERS, place=st.integers(0, 5))
    def truncate(self, which: int, place: int) -> None:
        writer = self.writers[which]
        history = list(writer.context.context_history)
        if not history:
            return
        last = history[place % len(history)].timestamp
        kept = [update for update in history if update.timestamp <= last]
        self.run(writer.context.truncate_context_history(last))
        assert writer.context.context_history == kept
        self.dropped(which, history)
        self.follow(which)
        if len(kept) < len(history):
            self.saved(which)
        self.check()

    @rule(which=WRITERS)
    def save_if_unchanged(self, which: int) -> None:
        writer = self.writers[which]
        if writer.doubt is not None or writer.seen is None or not self.has_content(writer):
            return
        if writer.seen == self.changes:
            self.run(writer.context.save(if_unchanged=True))
            self.saved(which)
        else:
            try:
                self.run(writer.context.save(if_unchanged=True))
            except StaleContextError:
                pass
            else:
                raise AssertionError("it was saved, and somebody else had saved in between")
        self.check()

    @rule(which=WRITERS, fault=st.sampled_from(["before", "lost before", "lost after"]))
    def fail(self, which: int, fault: str) -> None:
        """A save fails: before it was written, or so that nobody knows whether it was."""
        writer = self.writers[which]
        if writer.doubt is None and not self.has_content(writer):
            return
        writer.store.faults = [fault]
        try:
            self.run(writer.context.save())
        except StoreFailedError:
            pass
        else:
            raise AssertionError("the fault did not reach the caller")
        if writer.doubt is None and fault != "before":
            writer.doubt = writer.memory.change()
            writer.memory.confirm()
            # Whether it was complete, it hears only when it is settled.
            writer.seen = None
        if fault == "lost after" and writer.doubt is not None:
            self.write(writer.doubt)
            # It is settled by being sent again, and there is nothing in it any more.
            writer.doubt = Change()
            writer.last = writer.store.deltas[-1]
        self.check()
        # What the store remembers must not hang on objects that happen to be there still.
        gc.collect()

    @rule(which=WRITERS)
    def repeat(self, which: int) -> None:
        """The last save that was written arrives once more."""
        writer = self.writers[which]
        if writer.last is not None:
            first, again = self.run(_twice(writer.store.behind, writer.last))
            assert (first.revision, first.first_seq) == (again.revision, again.first_seq)
        self.check()

    @rule(which=WRITERS, after=st.integers(0, 12))
    def cancel(self, which: int, after: int) -> None:
        """A save is cancelled: it is there wholly, or not at all, and the next one brings what is missing."""
        writer = self.writers[which]
        steps = [change for change in (writer.doubt, writer.memory.change()) if change is not None]
        allowed = [self.expected, *itertools.accumulate(steps, applied, initial=self.expected)]
        self.run(_cancelled(writer.context, after))
        stored = self.stored()
        assert any(same(stored, one, history_only=self.history_only) for one in allowed), "a part of it is there"
        self.run(writer.context.save())
        self.saved(which)
        self.writers[which].seen = None
        self.check()

    @rule(which=WRITERS, place=st.integers(0, 50))
    def restore(self, which: int, place: int) -> None:
        """An earlier state becomes current, and nothing that was saved since is lost."""
        context = self.settled(which)
        if self.history_only:
            self.refused(context.restore(1), UnsupportedByStoreError)
            return
        revision = sorted(self.past)[place % len(self.past)]
        before = copy.deepcopy(self.expected)
        self.run(context.restore(revision))
        self.expected = copy.deepcopy(self.past[revision])
        self.operations.append((before, copy.deepcopy(self.expected)))
        self.reloaded(which)

    @rule(which=WRITERS)
    def undo(self, which: int) -> None:
        context = self.settled(which)
        if self.history_only or not self.operations:
            self.refused(context.undo(), UnsupportedByStoreError if self.history_only else NothingToUndoError)
            return
        self.run(context.undo())
        self.expected = without(self.expected, *self.operations.pop(), self.order)
        self.reloaded(which)

    @rule(which=WRITERS, place=st.integers(0, 50))
    def fork(self, which: int, place: int) -> None:
        """A new context starts from a state of this one."""
        context = self.settled(which)
        chat = f"{self.chat}-fork-{next(self.world.chats)}"
        if self.history_only:
            self.refused(context.fork(chat), UnsupportedByStoreError)
            return
        revision = sorted(self.past)[place % len(self.past)]
        forked = self.run(context.fork(chat, revision=revision))
        assert same(contents(forked), self.past[revision], history_only=False)
        self.refused(context.fork(self.chat), ContextExistsError)

    def settled(self, which: int) -> TaskContext:
        """A writer with nothing unsaved, and nothing in doubt."""
        self.save(which)
        return self.writers[which].context

    def reloaded(self, which: int) -> None:
        """A writer has in memory what is stored."""
        writer = self.writers[which]
        writer.memory = Memory()
        writer.memory.load(self.expected)
        writer.last = writer.store.deltas[-1]
        self.changes = self.run(self.world.stores[0].load(writer.context.key)).revision
        writer.seen = self.changes
        self.check()

    def refused(self, work: Coroutine[Any, Any, Any], expected: type[Exception]) -> None:
        try:
            self.run(work)
        except expected:
            self.check()
        else:
            raise AssertionError(f"it did not raise {expected.__name__}")

    @rule()
    def save_at_once(self) -> None:
        """Both writers save at the same time: one comes after the other."""
        if any(writer.doubt is not None for writer in self.writers):
            return
        self.run(_both(*(writer.context.save() for writer in self.writers)))
        stored = self.stored()
        for order in ((0, 1), (1, 0)):
            expected = self.expected
            for which in order:
                expected = applied(expected, self.writers[which].memory.change())
            if same(stored, expected, history_only=self.history_only):
                break
        for which in order:
            self.saved(which)
            self.writers[which].seen = None
        self.check()

    @rule()
    def reopen(self) -> None:
        """Both processes start anew: what was not saved is gone."""
        self.world.open()
        self.start()
        self.check()

    def teardown(self) -> None:
        if hasattr(self, "writers"):
            for which in (0, 1):
                self.save(which)
                self.load(which)
            for revision in self.past:
                self.look_back(revision)


async def _twice(store: Store, delta: Delta) -> tuple[Saved, Saved]:
    return await store.save(delta), await store.save(delta)


async def _both(one: Coroutine[Any, Any, int], other: Coroutine[Any, Any, int]) -> None:
    await asyncio.gather(one, other)


async def _cancelled(context: TaskContext, after: int) -> None:
    saving = asyncio.create_task(context.save())
    await asyncio.sleep(after * 0.0003)
    saving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await saving
