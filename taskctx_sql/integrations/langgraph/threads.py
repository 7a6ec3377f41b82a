"""The threads of a saver, and what is done with whole threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from langchain_core.runnables import RunnableConfig

from taskctx_sql import ContextKey, ContextSummary, StateEntry, Store
from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.langgraph import names, pruning
from taskctx_sql.integrations.langgraph.cache import Cache
from taskctx_sql.integrations.langgraph.reading import Reader
from taskctx_sql.integrations.langgraph.row import FRAMEWORK
from taskctx_sql.integrations.langgraph.thread import Thread, keep
from taskctx_sql.integrations.langgraph.values import Values

# How many threads a saver knows at a time. Of one that it does not know, the next step writes lists as a whole.
_MAX_THREADS: Final = 1_000
_STRATEGIES: Final = ("keep_latest", "delete")

# A thread's context, and what of a configuration names it.
Place = tuple[ContextKey, Mapping[str, Any]]


class Threads:
    """The threads of one user, or of all users."""

    def __init__(self, store: Store, user_id: str | None) -> None:
        self._store, self._user_id = store, user_id
        self._cache = Cache()
        self._known: OrderedDict[ContextKey, Thread] = OrderedDict()

    def key(self, configurable: Mapping[str, Any]) -> ContextKey:
        """Return the context of a thread."""
        user_id = self._user_id or configurable.get("user_id")
        return identity.key(FRAMEWORK, user_id, str(configurable["thread_id"]))

    def thread(self, key: ContextKey, thread_id: str) -> Thread:
        """Return what is known of a thread."""
        known = self._known.get(key) or Thread(self._store, key, thread_id, self._cache)
        return keep(self._known, key, known, _MAX_THREADS)

    def reader(self, key: ContextKey, values: Values) -> Reader:
        """Return what reads a thread."""
        return Reader(self._store, key, values, self._cache)

    def forget(self, key: ContextKey) -> None:
        """Know nothing of a thread any more."""
        self._known.pop(key, None)
        self._cache.forget(key)

    def config(self, configurable: Mapping[str, Any], namespace: str, checkpoint_id: str) -> RunnableConfig:
        """Return the configuration that names a checkpoint of the thread."""
        named = {"thread_id": configurable["thread_id"], "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}
        if self._user_id is None and "user_id" in configurable:
            named["user_id"] = configurable["user_id"]
        return {"configurable": named}

    async def places(self, thread_id: str | None = None) -> list[Place]:
        """Return all threads, or those of this id; several users may have one each."""
        if thread_id is not None and self._user_id is not None:
            named = {"thread_id": thread_id}
            return [(self.key(named), named)]
        labels = identity.labels(FRAMEWORK, **({"thread": thread_id} if thread_id is not None else {}))
        found: list[Place] = []
        last: ContextSummary | None = None
        while True:
            page = await self._store.contexts(self._user_id, after=last, labels=labels, state=[names.THREAD])
            for summary in page:
                if (label := summary.labels.get("thread")) is not None:
                    named = {"thread_id": identity.last_part(summary.chat_id, summary.state.get(names.THREAD, label))}
                    if self._user_id is None and summary.user_id != identity.ANONYMOUS:
                        named["user_id"] = summary.user_id
                    key = ContextKey(summary.user_id, summary.chat_id)
                    # Forks have the label of what they come from; those of another chat are no threads.
                    if thread_id in (None, named["thread_id"]) and key == self.key(named):
                        found.append((key, named))
            if not page:
                return found
            last = page[-1]

    async def delete(self, thread_id: str) -> None:
        """Erase all threads of this id."""
        for key, _ in await self.places(thread_id):
            self.forget(key)
            await self._store.delete(key)

    async def copy(self, values: Values, source: str, target: str) -> None:
        """Copy the checkpoints and writes of a thread to another one of the same user."""
        for key, configurable in await self.places(source):
            entries = await self.reader(key, values).entries()
            steps = [row.update() for row in sorted(pruning.checkpoints(entries), key=lambda row: row.id)]
            copied = self.thread(self.key({**configurable, "thread_id": target}), target)
            if entries:
                await copied.write({entry.name: entry.value for entry in entries}, steps)
                copied.forget()

    async def prune(self, values: Values, thread_ids: Sequence[str], strategy: str) -> None:
        """Remove the checkpoints of threads, all of them or all that are not needed for the latest of each namespace.

        Raises:
            InvalidArgumentError: The strategy is neither "keep_latest" nor "delete".
        """
        if strategy not in _STRATEGIES:
            raise InvalidArgumentError("strategy", strategy, " or ".join(map(repr, _STRATEGIES)))
        for thread_id in thread_ids:
            if strategy == "delete":
                await self.delete(thread_id)
                continue
            for place in await self.places(thread_id):
                reader = self.reader(place[0], values)
                entries = await reader.entries()
                kept = await pruning.latest(reader, pruning.checkpoints(entries))
                await self._keep(place, kept, entries)

    async def delete_for_runs(self, values: Values, run_ids: Collection[str]) -> None:
        """Remove the checkpoints that these runs wrote, in all threads."""
        for place in await self.places() if run_ids else ():
            entries = await self.reader(place[0], values).entries()
            rows = pruning.checkpoints(entries)
            kept = {(row.namespace, row.id) for row in rows if row.metadata.get("run_id") not in run_ids}
            if len(kept) < len(rows):
                await self._keep(place, kept, entries)

    async def _keep(self, place: Place, kept: pruning.Checkpoints, entries: Sequence[StateEntry]) -> None:
        key, configurable = place
        changes = pruning.removals(kept, entries)
        if changes:
            thread = self.thread(key, configurable["thread_id"])
            async with thread.putting:
                await thread.write(changes)
                thread.forget()
