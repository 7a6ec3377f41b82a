"""Importing entries, as of the original's history files, into a database, each once, with both trackers rebuilt.

An entry that the context already has, equal in all its fields, is not written again, whether it was removed or not.
So an import can be interrupted and repeated, and then adds what was appended to the files meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

import sqlalchemy as sa

from taskctx_sql import clock, json_files
from taskctx_sql.concurrency import on_thread, wait_until_done
from taskctx_sql.errors import StaleContextError
from taskctx_sql.json_files import Entry, recovery
from taskctx_sql.model import (
    MAX_REPORTED,
    AddProgress,
    ChatImport,
    ContextKey,
    ContextUpdate,
    Damage,
    Delta,
    FileChange,
    MappingChange,
    Run,
    RunOutcome,
)
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.context_row import UNSEEN, Base
from taskctx_sql.sql.schema import files
from taskctx_sql.sql.store import SqlStore
from taskctx_sql.sql.transfer import read
from taskctx_sql.sql.transfer.rows import UPDATES, ContextRow

# One save writes so many entries, or so many bytes of them.
BATCH: Final = 1_000
BATCH_BYTES: Final = 4_000_000
# How often an import starts again because others write to the context.
ATTEMPTS: Final = 10

_UPDATE_COLUMNS: Final = ("timestamp", "update_type", "data", "metadata", "exact")


class Entries(Protocol):
    """What becomes a context: its entries, which can be read as often as needed, and what came of their import."""

    chat: ChatImport

    @property
    def metadata(self) -> dict[str, Any] | None:
        """The metadata of a context that is new."""

    @property
    def outcome(self) -> RunOutcome:
        """How what they record ended; known once they are read."""

    def batches(self) -> AsyncGenerator[tuple[list[ContextUpdate], int]]:
        """Yield the entries in batches, each with how much of the source it is."""


class ChatFiles:
    """A chat's files, the oldest first, and their result. They are read one after the other, as often as needed."""

    metadata: dict[str, Any] | None = None
    outcome: RunOutcome = "completed"

    def __init__(self, chat_id: str, paths: list[Path]) -> None:
        self.paths = paths
        self.chat: ChatImport = ChatImport(chat_id, [path.name for path in paths])
        self.size: int = sum(status.st_size for path in paths if (status := json_files.status_of(path)) is not None)

    def signatures(self) -> list[tuple[int, int, int] | None]:
        """Return what changes when somebody writes to the files."""
        return [json_files.signature_of(path) for path in self.paths]

    async def batches(self) -> AsyncGenerator[tuple[list[ContextUpdate], int]]:
        """Yield the entries in batches, each with its size in bytes. The files are read on a thread."""
        self.chat.entries, self.chat.damage_count, self.chat.damage = 0, 0, []
        for path in self.paths:
            parts = recovery.read_entries(path)
            ahead = asyncio.create_task(on_thread(self._batch, path, parts))
            try:
                while (batch := await ahead) is not None:
                    # The next batch is read while this one is written.
                    ahead = asyncio.create_task(on_thread(self._batch, path, parts))
                    yield batch
            finally:
                await wait_until_done(ahead)

    def _batch(self, path: Path, parts: Iterator[Entry | Damage]) -> tuple[list[ContextUpdate], int] | None:
        entries: list[ContextUpdate] = []
        size = 0
        for part in parts:
            size += part.end - part.start
            if isinstance(part, Entry):
                entries.append(part.update)
            else:
                self.chat.damage_count += 1
                if len(self.chat.damage) < MAX_REPORTED:
                    self.chat.damage.append((path.name, part))
            if len(entries) == BATCH or size >= BATCH_BYTES:
                break
        else:
            if not entries:
                return None
        self.chat.entries += len(entries)
        return entries, size


async def import_chat(store: SqlStore, key: ContextKey, source: Entries, report: AddProgress) -> None:
    """Import entries into a context, and add how many were new to ``source.chat``."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            await _import(store, key, source, report)
            return
        except StaleContextError:
            # Somebody else saved, perhaps the very same import: compare with what is there now.
            if attempt == ATTEMPTS:
                raise


async def _import(store: SqlStore, key: ContextKey, source: Entries, report: AddProgress) -> None:
    run = Run(str(uuid.uuid4()), 0, clock.now())
    context = await store.read("import", partial(read.context_row, key))
    if context is not None and context.revision == 0:
        # An incomplete context does not exist yet; the first save clears it.
        context = None
    base = UNSEEN if context is None else Base(context.created_at, context.revision)
    known = KnownEntries(store, context)
    waiting: list[ContextUpdate] | None = None
    is_new = context is None
    metadata = source.metadata if is_new else None
    async with aclosing(known), aclosing(source.batches()) as batches:
        async for batch, size in batches:
            new = await known.without(batch)
            if new:
                if waiting is not None:
                    run, base = await _save(store, key, waiting, run, base, metadata)
                    metadata = None
                    source.chat.added += len(waiting)
                waiting = new
            report(f"importing {source.chat.chat_id}", size)
    # A file with nothing but damage creates no context.
    if waiting is not None or (is_new and not source.chat.damage_count):
        # The last save ends the run.
        run = replace(run, ended_at=clock.now(), outcome=source.outcome)
        await _save(store, key, waiting or [], run, base, metadata)
        source.chat.added += len(waiting or [])


async def verify_chat(store: SqlStore, key: ContextKey, source: Entries, report: AddProgress) -> bool:
    """Read a chat's entries again, and return whether each of them is in the database."""
    known = KnownEntries(store, await store.read("verify", partial(read.context_row, key)))
    missing = 0
    async with aclosing(known), aclosing(source.batches()) as batches:
        async for batch, size in batches:
            missing += len(await known.without(batch))
            report(f"comparing {source.chat.chat_id}", size)
    return missing == 0


class KnownEntries:
    """The entries that a context has, compared with those that are to be imported.

    As long as both sides agree from the beginning, they are read side by side. From the first difference on, the rest
    of the context's entries is remembered as digests.
    """

    def __init__(self, store: SqlStore, context: ContextRow | None) -> None:
        self._pages = None if context is None else read.read_pages(store, UPDATES, context)
        self._page: list[tuple[Any, ...]] = []
        self._next_index = 0
        self._rest: Counter[bytes] | None = None

    async def without(self, batch: list[ContextUpdate]) -> list[ContextUpdate]:
        """Return the entries of the next batch that the context does not have; equal entries are counted."""
        if self._pages is None and not self._rest:
            return batch
        new = []
        for index, update in enumerate(batch):
            row = row_codec.update_row(update, index, False)
            if self._rest is None:
                there = await self._next()
                if there == row:
                    continue
                await self._remember(there)
            if not self._rest:
                new += batch[index:]
                break
            digest = _digest(row)
            if self._rest[digest] > 0:
                self._rest[digest] -= 1
            else:
                new.append(update)
        return new

    async def aclose(self) -> None:
        """Stop reading."""
        if self._pages is not None:
            await self._pages.aclose()

    async def _next(self) -> tuple[Any, ...] | None:
        """Return the context's next entry, or None at the end."""
        while self._next_index == len(self._page):
            assert self._pages is not None
            page = await anext(self._pages, None)
            if page is None:
                return None
            self._page = [tuple(UPDATES.value(row, name) for name in _UPDATE_COLUMNS) for row in page]
            self._next_index = 0
        self._next_index += 1
        return self._page[self._next_index - 1]

    async def _remember(self, there: tuple[Any, ...] | None) -> None:
        self._rest = Counter()
        while there is not None:
            self._rest[_digest(there)] += 1
            there = await self._next()
        self._pages = None


def _digest(columns: tuple[Any, ...]) -> bytes:
    return hashlib.blake2b(repr(columns).encode("utf-8", "surrogatepass"), digest_size=16).digest()


async def _save(
    store: SqlStore,
    key: ContextKey,
    updates: list[ContextUpdate],
    run: Run,
    base: Base,
    metadata: dict[str, Any] | None,
) -> tuple[Run, Base]:
    """Save entries, and the files and model uses that they record."""
    tracked, models = json_files.trackers(updates)
    saved = await store.save(
        Delta(
            key=key,
            run=run.next_save(),
            base=base,
            at=clock.now(),
            updates=updates,
            models=models,
            files=await _file_changes(store, key, tracked),
            metadata=MappingChange(metadata, metadata, ()) if metadata else None,
            if_unchanged=True,
        )
    )
    return run.after(run.next_save()), saved.base


async def _file_changes(store: SqlStore, key: ContextKey, tracked: dict[str, dict[str, Any]]) -> list[FileChange]:
    """Return the changes of the file tracker: a path keeps its position, and a later operation that is stored."""
    there: dict[str, tuple[int, float | None]] = {}
    paths = {row_codec.path_id(path): path for path in tracked}
    ids = iter(paths)
    # In chunks, because the number of a statement's parameters is limited.
    while chunk := list(islice(ids, 500)):
        statement = sa.select(files.c.path_id, files.c.position, files.c.timestamp).where(
            files.c.context_id == row_codec.context_id(key), files.c.path_id.in_(chunk), files.c.removed_in.is_(None)
        )
        for path_id, position, timestamp in await store.query(statement, may_lag=False):
            there[paths[path_id]] = (position, timestamp)
    changes = []
    for path, entry in tracked.items():
        position, timestamp = there.get(path, (None, None))
        at = entry["timestamp"]
        if timestamp is None or not (isinstance(at, int | float) and at < timestamp):
            changes.append(FileChange(path, entry, position))
    return changes
