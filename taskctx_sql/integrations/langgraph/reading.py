"""Checkpoints as they are read: their entries, then the values and writes that belong to them, all at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from langgraph.checkpoint.base import PendingWrite, writes_sort_key
from langgraph.checkpoint.serde.types import TASKS

from taskctx_sql import ContextKey, StateEntry, Store
from taskctx_sql.integrations.langgraph import lists, names
from taskctx_sql.integrations.langgraph.cache import Cache
from taskctx_sql.integrations.langgraph.row import Row
from taskctx_sql.integrations.langgraph.thread import Stored
from taskctx_sql.integrations.langgraph.values import Values

_PAGE: Final = 100
# Of the range that has the latest checkpoint: it, and the writes of a few tasks.
_FIRST_PAGE: Final = 4
_SOME_ANCESTORS: Final = 30


@dataclass(slots=True)
class Contents:
    """What checkpoints refer to.

    Attributes:
        channels: Encoded values, by their entries' names.
        growths: The pieces of lists, by the growth's name and by token.
    """

    channels: dict[str, Any] = field(default_factory=dict)
    growths: dict[str, Mapping[str, lists.Piece]] = field(default_factory=dict)


def rows_of(entries: Iterable[StateEntry], tasks: dict[str, list[StateEntry]] | None = None) -> list[Row]:
    """Return the checkpoints among entries, with their writes.

    Args:
        entries: Checkpoints and writes.
        tasks: Writes of checkpoints that are not among these entries, by the checkpoint's name; it is brought up to
            date.
    """
    tasks = defaultdict(list) if tasks is None else tasks
    found = []
    for entry in entries:
        name = names.checkpoint_of(entry.name)
        if name == entry.name:
            found.append(entry)
        else:
            tasks[name].append(entry)
    return [Row.of(entry, tasks.pop(entry.name, ())) for entry in found]


class Reader:
    """Reads the checkpoints of one thread."""

    def __init__(self, store: Store, key: ContextKey, values: Values, cache: Cache) -> None:
        self.key = key
        self._store, self._values, self._cache = store, values, cache
        # What was read with the last checkpoint, by id.
        self._ancestors: dict[str, Row] = {}

    async def row(self, namespace: str, checkpoint_id: str | None, *, ancestors: bool = False) -> Row | None:
        """Return a checkpoint, or the latest one of the namespace if None is given.

        Args:
            namespace: The namespace.
            checkpoint_id: The checkpoint's id.
            ancestors: Whether its ancestors will be asked for too: some are read with it.
        """
        before = names.through(namespace, checkpoint_id) if checkpoint_id else None
        prefix = names.checkpoint(namespace, "" if ancestors else checkpoint_id or "")
        rows = await self._some(prefix, before, _SOME_ANCESTORS if ancestors else _FIRST_PAGE)
        row = next(iter(rows.values()), None)
        if row is None or checkpoint_id not in ("", None, row.id):
            return None
        self._ancestors = rows
        return row

    async def _some(self, prefix: str, before: str | None, size: int) -> dict[str, Row]:
        """Return the newest checkpoint of a range and some of those before it, by their ids."""
        async with aclosing(self._pages(prefix, before, size)) as pages:
            async for page in pages:
                if page:
                    return {row.id: row for row in page}
        return {}

    async def rows(self, namespace: str, before: str | None = None, first: int = _PAGE) -> AsyncIterator[Row]:
        """Yield the checkpoints of a namespace, the newest first, a page at a time; the first page has another size."""
        end = names.checkpoint(namespace, before) if before else None
        async with aclosing(self._pages(names.checkpoint(namespace), end, first)) as pages:
            async for page in pages:
                for row in page:
                    yield row

    async def _pages(self, prefix: str, before: str | None, size: int) -> AsyncGenerator[list[Row], None]:
        """Yield the checkpoints of a range with their writes, the newest first, for each read of so many entries."""
        tasks: dict[str, list[StateEntry]] = defaultdict(list)
        while True:
            page = await self._store.state(self.key, prefix=prefix, before=before, newest_first=True, limit=size)
            yield rows_of(page, tasks)
            if len(page) < size:
                return
            before, size = page[-1].name, _PAGE

    async def entries(self, prefix: str = "") -> Sequence[StateEntry]:
        """Return the thread's entries, as they are at one moment."""
        return [entry for entry in await self._store.state(self.key, prefix=prefix) if entry.name != names.THREAD]

    async def ancestors(self, row: Row) -> AsyncIterator[Row]:
        """Yield the checkpoint's parent, the parent's parent and so on, a page of entries at a time."""
        found = self._ancestors
        while (parent := row.parent) is not None:
            if parent not in found or found[parent].namespace != row.namespace:
                # An ancestor is older, and most checkpoints between two of them are ancestors too.
                end = names.through(row.namespace, parent)
                found = await self._some(names.checkpoint(row.namespace), end, _PAGE)
            if parent not in found:
                return
            row = found[parent]
            yield row

    async def contents(self, rows: Collection[Row], *, channels: Collection[str] | None = None) -> Contents:
        """Return the values of checkpoints that are entries of their own.

        Args:
            rows: The checkpoints.
            channels: Whose values; None for all.
        """
        contents = Contents()
        missing: set[str] = set()
        lengths: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for row in rows:
            for name, reference in row.values.items():
                if channels is not None and name not in channels:
                    continue
                if "version" in reference:
                    entry = names.channel(row.namespace, name, reference["version"])
                    if (known := self._cache.get(self.key, entry)) is None:
                        missing.add(entry)
                    else:
                        contents.channels[entry] = known
                elif "list" in reference:
                    growth, length, _ = reference["list"]
                    prefix = names.growths(row.namespace, name)
                    known = self._cache.get(self.key, prefix + growth)
                    if known is None or not lists.is_whole(reference["list"], known):
                        lengths[prefix][growth] = max(lengths[prefix][growth], length)
                    else:
                        contents.growths[prefix + growth] = known
        reading = [self._growths(contents, prefix, of_channel) for prefix, of_channel in lengths.items()]
        if missing:
            reading.append(self._channels(contents, sorted(missing)))
        if reading:
            await asyncio.gather(*reading)
        return contents

    async def _growths(self, contents: Contents, prefix: str, lengths: dict[str, int]) -> None:
        first, last = f"{prefix}{min(lengths)}/", f"{prefix}{max(lengths)}/"
        # A list that grows has elements after this version, often many.
        end = names.place(first, lengths[min(lengths)]) if first == last else names.after(last[:-1])
        found: dict[str, dict[str, lists.Piece]] = {f"{prefix}{growth}": {} for growth in lengths}
        for entry in await self._store.state(self.key, prefix=prefix, after=first, before=end):
            growth, token, piece = lists.piece(entry.name, entry.value)
            if growth in found:
                found[growth][token] = piece
                self._cache.add(self.key, entry.name, entry.value)
        contents.growths |= found

    async def _channels(self, contents: Contents, entries: list[str]) -> None:
        for start in range(0, len(entries), _PAGE):
            for entry in await self._store.state(self.key, *entries[start : start + _PAGE]):
                contents.channels[entry.name] = entry.value
                self._cache.add(self.key, entry.name, entry.value)

    def values(self, row: Row, contents: Contents) -> dict[str, Any]:
        """Return the values of a checkpoint's channels."""
        return {name: self.value(row, name, contents) for name in row.values}

    def value(self, row: Row, name: str, contents: Contents) -> Any:
        """Return the value of one of a checkpoint's channels."""
        reference = row.values[name]
        if "value" in reference:
            return self._values.decode(reference["value"])
        if "version" in reference:
            entry = names.channel(row.namespace, name, reference["version"])
            return self._values.decode_again(contents.channels[entry])
        elements, _, _ = lists.read(self.key, reference["list"], self._pieces(row, name, contents))
        return [self._values.decode_again(element) for element in elements]

    @staticmethod
    def _pieces(row: Row, channel: str, contents: Contents) -> Mapping[str, lists.Piece]:
        return contents.growths[names.growths(row.namespace, channel) + row.values[channel]["list"][0]]

    def writes(self, tasks: Iterable[StateEntry]) -> list[PendingWrite]:
        """Return the writes of tasks in the order in which a step applies them.

        A task has one write at a place: the first that was made, as in the framework's own savers, or the last one of a
        special channel, such as an error or an interrupt.
        """
        kept: dict[tuple[str, int], tuple[str, str, Any]] = {}
        # A copy of a thread has all of its entries in one revision.
        for entry in sorted(tasks, key=lambda entry: (entry.revision, entry.name)):
            written = entry.value
            for place, channel, value in written["writes"]:
                if written["replaces"] or (written["task"], place) not in kept:
                    kept[written["task"], place] = (written["path"], channel, value)
        order = sorted(kept, key=lambda write: writes_sort_key(kept[write][0], *write))
        return [(write[0], kept[write][1], self._values.decode(kept[write][2])) for write in order]

    async def sends(self, row: Row) -> list[Any]:
        """Return what the checkpoint received from the one before, if that is kept with that one's writes."""
        if row.sends_parent is None:
            return []
        entries = await self._store.state(self.key, prefix=names.writes(row.namespace, row.sends_parent))
        return [value for _, channel, value in self.writes(entries) if channel == TASKS]

    def stored(self, row: Row, values: Mapping[str, Any], contents: Contents) -> dict[str, Stored]:
        """Return what is stored of the checkpoint's channels, so that the next one is compared with it."""
        channels = {}
        for name, reference in row.values.items():
            growth = None
            if "list" in reference:
                growth_id = reference["list"][0]
                _, links, superseded = lists.read(self.key, reference["list"], self._pieces(row, name, contents))
                fingerprints = self._values.fingerprints(values[name])
                growth = lists.Growth(growth_id, links, fingerprints, superseded)
            channels[name] = Stored(row.checkpoint["channel_versions"].get(name), reference, growth)
        return channels
