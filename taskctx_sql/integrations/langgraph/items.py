"""What an item store does, in the event loop of its store. `item_store` is its face."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import repeat
from typing import Any, Final, cast

from langgraph.store.base import (
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)

from taskctx_sql import ContextKey, StateChange, StateEntry, Store
from taskctx_sql.integrations.langgraph import names
from taskctx_sql.integrations.langgraph.filters import fits, matches
from taskctx_sql.integrations.langgraph.vectors import Index
from taskctx_sql.integrations.langgraph.writers import writer_of

_PAGE: Final = 200
# How many searches are under way at once. Thousands would wait for each other in the store, until they time out there.
_READERS: Final = 16
# How many times as many items are read if too few of those fit a filter.
_MORE: Final = 8
_SECONDS: Final = 60
# An item's time is extended once this part of it has passed, so that reading does not always write.
_REFRESHED_AFTER: Final = 0.1
# In seconds: the text of an update's time has microseconds.
_ROUNDING: Final = 0.001


class Items:
    """The items of one context.

    Attributes:
        index: How texts are made vectors of; None if there is no search by meaning.
    """

    def __init__(self, store: Store, key: ContextKey, labels: Mapping[str, str], index: Index | None) -> None:
        self.index = index
        self._store, self._key, self._labels = store, key, labels
        self._labeled = False
        self._readers = asyncio.Semaphore(_READERS)

    async def batch(self, operations: Sequence[Op]) -> list[Result]:
        """Do operations: all that read, as it was before, and then all that write, in one transaction.

        Raises:
            ValueError: There is an operation that is none of the framework's.
        """
        results: list[Result] = [None] * len(operations)
        changes: list[StateChange] = []
        # Of several for one item, the last counts.
        puts = {(put.namespace, put.key): put for put in operations if isinstance(put, PutOp)}
        gets = [place for place, operation in enumerate(operations) if isinstance(operation, GetOp)]
        others = [place for place, operation in enumerate(operations) if not isinstance(operation, GetOp | PutOp)]
        if gets or others:
            wanted = self._gets([cast(GetOp, operations[place]) for place in gets])
            read: list[tuple[Result, list[StateChange]]] = []
            if others:
                reading = asyncio.gather(*(self._read_in_turn(operations[place]) for place in others))
                got, read = await asyncio.gather(wanted, reading)
            else:
                got = await wanted
            for place, (result, refreshed) in zip([*gets, *others], [*got, *read], strict=True):
                results[place] = result
                changes += refreshed
        if puts:
            changes += await self._puts(list(puts.values()))
        if changes:
            await self._write(changes)
        return results

    async def _write(self, changes: Sequence[StateChange]) -> None:
        # Of a refreshed item that is also put, the latter is the last.
        last = {change.name: change for change in changes}
        await writer_of(self._store, self._key).write(
            state=list(last.values()), labels=None if self._labeled else self._labels
        )
        self._labeled = True

    async def _gets(self, gets: Sequence[GetOp]) -> list[tuple[Result, list[StateChange]]]:
        """Return the items of several operations, which are read at once, each as `_read` does."""
        wanted = [names.item(get.namespace, get.key) for get in gets]
        stored = await self._store.state(self._key, *dict.fromkeys(wanted)) if wanted else ()
        entries = {entry.name: entry for entry in stored}
        results: list[tuple[Result, list[StateChange]]] = []
        for get, name in zip(gets, wanted, strict=True):
            entry = entries.get(name)
            refreshed = _refreshed([entry]) if entry is not None and get.refresh_ttl else []
            results.append((None if entry is None else _item(entry.value), refreshed))
        return results

    async def _read_in_turn(self, operation: Op) -> tuple[Result, list[StateChange]]:
        async with self._readers:
            return await self._read(operation)

    async def _read(self, operation: Op) -> tuple[Result, list[StateChange]]:
        """Return an operation's result, and the changes that extend the time of what it read."""
        if isinstance(operation, SearchOp):
            entries, scores = await self._search(operation)
            # There is a score for each entry, or None for however many.
            items = [_found(entry.value, score) for entry, score in zip(entries, scores, strict=False)]
            return items, _refreshed(entries) if operation.refresh_ttl else []
        if isinstance(operation, ListNamespacesOp):
            return await self._namespaces(operation), []
        raise ValueError(f"Unknown operation type: {type(operation)}")

    async def _puts(self, puts: Sequence[PutOp]) -> list[StateChange]:
        now = time.time()
        at = datetime.fromtimestamp(now, UTC).isoformat()
        wanted = [names.item(put.namespace, put.key) for put in puts]
        stored = await self._store.state(self._key, *wanted)
        created = {entry.name: entry.value["created_at"] for entry in stored}
        vectors = await self.index.vectors(puts) if self.index else [[] for _ in puts]
        changes = []
        for put, name, of_one in zip(puts, wanted, vectors, strict=True):
            expires_at = None if put.ttl is None else now + put.ttl * _SECONDS
            if put.value is None:
                vector = names.item(put.namespace, put.key, "vector")
                changes += [StateChange(name, removed=True), StateChange(vector, removed=True)]
                continue
            value = {
                "namespace": list(put.namespace),
                "key": put.key,
                "value": put.value,
                "created_at": created.get(name, at),
                "updated_at": at,
                "ttl": put.ttl,
            }
            changes.append(StateChange(name, value, expires_at=expires_at))
            if of_one:
                vector = names.item(put.namespace, put.key, "vector")
                changes.append(StateChange(vector, {"updated_at": at, "vectors": of_one}))
        return changes

    async def _search(self, search: SearchOp) -> tuple[Sequence[StateEntry], Iterable[float | None]]:
        """Return the items found, and their scores: the nearest first, or the last updated first without a query."""
        end = search.offset + search.limit
        if not search.query or self.index is None:
            return (await self._latest(search, end))[search.offset : end], repeat(None)
        entries = await self._store.state(self._key, prefix=names.items(search.namespace_prefix))
        found = [entry for entry in entries if matches(entry.value["value"], search.filter or {})]
        query, vectors = await asyncio.gather(
            self.index.embed(search.query),
            self._store.state(self._key, prefix=names.items(search.namespace_prefix, "vector")),
        )
        by_item = {f"item/{vector.name.partition('/')[2]}": vector.value for vector in vectors}
        scored: list[tuple[StateEntry, float]] = []
        for entry in found:
            vector = by_item.get(entry.name)
            # It has others if it was put since without an index.
            if vector is not None and vector["updated_at"] == entry.value["updated_at"]:
                scored.append((entry, self.index.score(query, vector["vectors"])))
        scored.sort(key=lambda pair: pair[1], reverse=True)
        nearest = scored[search.offset : end]
        return [entry for entry, _ in nearest], [score for _, score in nearest]

    async def _latest(self, search: SearchOp, how_many: int) -> list[StateEntry]:
        """Return so many of the items found or more, the last updated first."""
        prefix, wanted = names.items(search.namespace_prefix), search.filter or {}
        size: int | None = max(how_many, _PAGE) if wanted else how_many
        while True:
            page = await self._store.state(self._key, prefix=prefix, limit=size, newest_first=True, by_time=True)
            found = [entry for entry in page if matches(entry.value["value"], wanted)] if wanted else list(page)
            if size is None or len(page) < size:
                return sorted(found, key=lambda entry: entry.value["updated_at"], reverse=True)
            if any(map(_is_refreshed, page)):
                # It was saved again without an update, so others may come before it.
                size = None
            elif len(found) >= how_many:
                return found
            else:
                size *= _MORE

    async def _namespaces(self, operation: ListNamespacesOp) -> list[tuple[str, ...]]:
        conditions = operation.match_conditions or ()
        prefix = names.items(_beginning(conditions))
        found: set[tuple[str, ...]] = set()
        last = ""
        while True:
            page = await self._store.state(self._key, prefix=prefix, after=last or None, limit=_PAGE)
            found |= {tuple(entry.value["namespace"]) for entry in page}
            if len(page) < _PAGE:
                break
            # The next one after all items that are in the last one's namespace itself.
            last = f"{names.items(tuple(page[-1].value['namespace']))}0"
        fitting = {namespace[: operation.max_depth] for namespace in found if fits(namespace, conditions)}
        return sorted(fitting)[operation.offset : operation.offset + operation.limit]


def _beginning(conditions: Iterable[MatchCondition]) -> tuple[str, ...]:
    """Return the labels that all namespaces that fit begin with."""
    path = next((tuple(condition.path) for condition in conditions if condition.match_type == "prefix"), ())
    return path[: path.index("*")] if "*" in path else path


def _item(stored: Mapping[str, Any]) -> Item:
    # It makes a tuple of the namespace, and times of the texts.
    fields = ("namespace", "key", "value", "created_at", "updated_at")
    return Item(**{name: stored[name] for name in fields})


def _found(stored: Mapping[str, Any], score: float | None) -> SearchItem:
    # Not by the names of the arguments, which takes a search for thousands of items longer.
    given = (stored["namespace"], stored["key"], stored["value"], stored["created_at"], stored["updated_at"])
    return SearchItem(*given, score)


def _is_refreshed(entry: StateEntry) -> bool:
    """Whether an item's time was extended since its update."""
    if entry.expires_at is None or (ttl := entry.value["ttl"]) is None:
        return False
    updated = datetime.fromisoformat(entry.value["updated_at"]).timestamp()
    return bool(entry.expires_at - ttl * _SECONDS > updated + _ROUNDING)


def _refreshed(entries: Iterable[StateEntry]) -> list[StateChange]:
    """Return the changes that extend the time of items that expire, from now on."""
    now = time.time()
    changes = []
    for entry in entries:
        if entry.expires_at is None or (ttl := entry.value["ttl"]) is None:
            continue
        seconds = ttl * _SECONDS
        if entry.expires_at - now < seconds * (1 - _REFRESHED_AFTER):
            changes.append(StateChange(entry.name, entry.value, expires_at=now + seconds))
    return changes
