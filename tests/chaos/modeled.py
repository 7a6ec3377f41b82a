"""A program's two writers, and what the plain model makes of what they do."""

from __future__ import annotations

import copy
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from hypothesis.stateful import RuleBasedStateMachine, initialize

from taskctx_sql import Feature, Store, TaskContext
from tests.chaos.marks import USER
from tests.chaos.model import Change, Database, contents, same
from tests.chaos.world import World, Writer

T = TypeVar("T")


class Modeled(RuleBasedStateMachine):
    """One program, without its rules."""

    world: ClassVar[World]

    @initialize()
    def begin(self) -> None:
        self.chat = f"program-{next(self.world.chats)}"
        self.expected = Database()
        self.changes = 0
        self.history_only = Feature.TRACKERS not in self.world.stores[0].features
        self.exists = False
        # What the context was in its revisions, as far as the model saw them, and the order in which entries came.
        self.past: dict[int, Database] = {}
        self.order: dict[float, int] = {}
        # What can be taken back: the states before and after.
        self.operations: list[tuple[Database, Database]] = []
        self.looks = 0
        self.start()

    def start(self) -> None:
        self.writers = [Writer(self.world, store, self.chat) for store in self.world.stores]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.world.runner.run(work)

    def settle(self, which: int) -> None:
        """A save in doubt was sent again: now it is there."""
        writer = self.writers[which]
        if writer.doubt is not None:
            self.write(writer.doubt)
            writer.doubt = None
            writer.last = writer.store.deltas[-1]

    def saved(self, which: int) -> None:
        """A save returned."""
        writer = self.writers[which]
        before = None if writer.doubt is not None else self.changes
        self.settle(which)
        self.write(writer.memory.change())
        writer.memory.confirm()
        if before is None:
            writer.seen = None
        elif writer.seen == before:
            writer.seen = self.changes
        if len(writer.store.deltas) > writer.sent:
            writer.last = writer.store.deltas[-1]
        self.world.saves += 1

    def write(self, change: Change) -> None:
        if self.history_only:
            self.changes += bool(change.added or change.removed or not self.exists)
        else:
            # It also counts saves that only tell that the context is there.
            self.changes = self.run(self.world.stores[0].load(self.writers[0].context.key)).revision
        before = copy.deepcopy(self.expected)
        change.apply(self.expected)
        self.exists = True
        for timestamp in (*self.expected.history, *(entry["timestamp"] for entry in self.expected.models)):
            self.order.setdefault(timestamp, len(self.order))
        if change.dropped:
            # The rest of the save is another revision, before that of the optimize.
            rest = replace(change, removed=change.removed - change.dropped)
            self.operations.append((applied(before, rest), copy.deepcopy(self.expected)))

    def has_content(self, writer: Writer) -> bool:
        """Whether a save would write something, as far as the model can tell."""
        change = writer.memory.change()
        return bool(change.added or change.removed) if self.history_only else change.has_content

    def stored(self) -> Database:
        return contents(self.run(fresh(self.world.stores[0], self.chat)))

    def check(self) -> None:
        """What is stored, and what is in memory, is what the model says."""
        context = self.run(fresh(self.world.stores[0], self.chat))
        stored = contents(context)
        assert same(stored, self.expected, history_only=self.history_only), (stored, self.expected)
        if not self.history_only and context.revision:
            self.past[context.revision] = copy.deepcopy(self.expected)
            self.looks += 1
            self.look_back(sorted(self.past)[self.looks * 7 % len(self.past)])
        for writer in self.writers:
            writer.sent = len(writer.store.deltas)
            found = contents(writer.context)
            assert same(found, writer.memory.now, history_only=self.history_only), (found, writer.memory.now)

    def look_back(self, revision: int) -> None:
        """An earlier revision is what it was."""
        context = TaskContext({"user_id": USER, "chat_id": self.chat}, store=self.world.stores[1])
        self.run(context.load(revision=revision))
        found = contents(context)
        assert same(found, self.past[revision], history_only=False), (revision, found, self.past[revision])


def applied(database: Database, change: Change) -> Database:
    database = copy.deepcopy(database)
    change.apply(database)
    return database


async def fresh(store: Store, chat: str) -> TaskContext:
    context = TaskContext({"user_id": USER, "chat_id": chat}, store=store)
    await context.load()
    return context
