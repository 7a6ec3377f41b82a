"""The original's history files into a database, each entry once, both trackers rebuilt.

An entry that the context has already, the same in all its fields, is not written again, removed or not. So an import
can be interrupted and done again, and brings what was added to the files meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql import json_files
from taskctx_sql.concurrency import on_thread, wait_until_done
from taskctx_sql.errors import StaleContextError
from taskctx_sql.json_files import Entry, recovery
from taskctx_sql.model import (
    TOLD,
    ContextKey,
    ContextUpdate,
    Damage,
    Delta,
    FileChange,
    ImportedChat,
    Run,
    TransferProgress,
)
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.context_row import UNSEEN, Base
from taskctx_sql.sql.schema import files
from taskctx_sql.sql.store import SqlStore
from taskctx_sql.sql.transfer import statements
from taskctx_sql.sql.transfer.copy import pages
from taskctx_sql.sql.transfer.statements import UPDATES

# A save takes so many entries, or so many bytes of them.
BATCH: Final = 1_000
BATCH_BYTES: Final = 4_000_000
# How often a context that others write to is begun with again.
ATTEMPTS: Final = 10

_UPDATE_COLUMNS: Final = ("timestamp", "update_type", "data", "metadata", "exact")


class Files:
    """A chat's files, read one after the other as often as needed.

    Args:
        paths: The files, the oldest first.
        chat: Where to note what is found the first time.
    """

    def __init__(self, paths: list[Path], chat: ImportedChat) -> None:
        """Take the files; nothing is read yet."""
        self.paths = paths
        self.chat = chat
        self.size = sum(status.st_size for path in paths if (status := json_files.status_of(path)) is not None)

    def state(self) -> list[tuple[int, int, int] | None]:
        """Return what tells whether somebody wrote to the files since."""
        return [json_files.state_of(path) for path in self.paths]

    async def batches(self) -> AsyncGenerator[tuple[list[ContextUpdate], int]]:
        """Return the entries, a batch at a time, and how many bytes they have. Reading is done on a thread."""
        self.chat.entries, self.chat.damage_count, self.chat.damage = 0, 0, []
        for path in self.paths:
            parts = recovery.read_entries(path)
            ahead = asyncio.create_task(on_thread(self._batch, path, parts))
            try:
                while (found := await ahead) is not None:
                    # The next one is read while this one is written.
                    ahead = asyncio.create_task(on_thread(self._batch, path, parts))
                    yield found
            finally:
                await wait_until_done(ahead)

    def _batch(self, path: Path, parts: Iterator[Entry | Damage]) -> tuple[list[ContextUpdate], int] | None:
        taken: list[ContextUpdate] = []
        size = 0
        ended = True
        for part in parts:
            size += part.end - part.start
            if isinstance(part, Entry):
                taken.append(part.update)
            else:
                self.chat.damage_count += 1
                if len(self.chat.damage) < TOLD:
                    self.chat.damage.append((path.name, part))
            if len(taken) == BATCH or size >= BATCH_BYTES:
                ended = False
                break
        self.chat.entries += len(taken)
        return None if ended and not taken else (taken, size)


async def import_chat(store: SqlStore, key: ContextKey, found: Files, tell: TransferProgress) -> None:
    """Bring a chat's entries into a context, and note in ``found.chat`` how many were new.

    Raises:
        StoreError: The store failed; what was written before is there, and is not written again.
        OSError: A file cannot be read.
    """
    run = Run(str(uuid.uuid4()), 0, time.time())
    for attempt in range(ATTEMPTS):
        try:
            await _import(store, key, found, run, tell)
        except StaleContextError:
            # Somebody else saved, and it may have been the very same import: look at what is there now.
            if attempt == ATTEMPTS - 1:
                raise
            run = Run(str(uuid.uuid4()), 0, time.time())
            continue
        return


async def _import(store: SqlStore, key: ContextKey, found: Files, run: Run, tell: TransferProgress) -> None:
    context = await store.read("import", partial(statements.context, key))
    if context is not None and context.revision == 0:
        # Half there is not there; the first save clears it.
        context = None
    base = UNSEEN if context is None else Base(context.created_at, context.revision)
    known = Known(store, context)
    waiting: list[ContextUpdate] | None = None
    is_new = context is None
    async with aclosing(known), aclosing(found.batches()) as batches:
        async for batch, size in batches:
            new = await known.without(batch)
            if new:
                if waiting is not None:
                    run, base = await _save(store, key, waiting, run, base)
                    found.chat.added += len(waiting)
                waiting = new
            tell(f"importing {found.chat.chat_id}", size, None)
    # A file with nothing but damage makes no context.
    if waiting is not None or (is_new and not found.chat.damage_count):
        # The last save ends the run.
        run = replace(run, ended_at=time.time(), outcome="completed")
        await _save(store, key, waiting or [], run, base)
        found.chat.added += len(waiting or [])


async def verify_chat(store: SqlStore, key: ContextKey, found: Files, tell: TransferProgress) -> bool:
    """Read a chat's files again, and return whether each of their entries is in the database."""
    known = Known(store, await store.read("verify", partial(statements.context, key)))
    missing = 0
    async with aclosing(known), aclosing(found.batches()) as batches:
        async for batch, size in batches:
            missing += len(await known.without(batch))
            tell(f"comparing {found.chat.chat_id}", size, None)
    return missing == 0


class Known:
    """The entries that a context has, beside those that are to come into it.

    As long as both agree from the beginning on, one is read along with the other. Only where they part, the rest of
    the context's entries is remembered, as a digest each.

    Args:
        store: Where the context is.
        context: The context, or None if there is none.
    """

    def __init__(self, store: SqlStore, context: statements.Context | None) -> None:
        """Take the context; nothing is read yet."""
        self._pages = None if context is None else pages(store, UPDATES, context)
        self._page: list[tuple[Any, ...]] = []
        self._at = 0
        self._rest: Counter[bytes] | None = None

    async def without(self, batch: list[ContextUpdate]) -> list[ContextUpdate]:
        """Return those of the next entries that the context does not have, each of its entries counted once."""
        if self._pages is None and not self._rest:
            return batch
        new = []
        for at, update in enumerate(batch):
            row = row_codec.update_row(update, at, False)
            if self._rest is None:
                there = await self._next()
                if there == row:
                    continue
                await self._remember(there)
            if not self._rest:
                new += batch[at:]
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
        while self._at == len(self._page):
            assert self._pages is not None
            page = await anext(self._pages, None)
            if page is None:
                return None
            self._page, self._at = [_columns(row) for row in page], 0
        self._at += 1
        return self._page[self._at - 1]

    async def _remember(self, there: tuple[Any, ...] | None) -> None:
        self._rest = Counter()
        while there is not None:
            self._rest[_digest(there)] += 1
            there = await self._next()
        self._pages = None


def _columns(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(UPDATES.value(row, name) for name in _UPDATE_COLUMNS)


def _digest(columns: tuple[Any, ...]) -> bytes:
    return hashlib.blake2b(repr(columns).encode("utf-8", "surrogatepass"), digest_size=16).digest()


async def _save(
    store: SqlStore, key: ContextKey, updates: list[ContextUpdate], run: Run, base: Base
) -> tuple[Run, Base]:
    """Save entries with what they say of files and models."""
    tracked, models = json_files.trackers(updates)
    saved = await store.save(
        Delta(
            key=key,
            run=run.next_save(),
            base=base,
            at=time.time(),
            updates=updates,
            models=models,
            files=await _file_changes(store, key, tracked),
            if_unchanged=True,
        )
    )
    return run.after(run.next_save()), saved.base


async def _file_changes(store: SqlStore, key: ContextKey, tracked: dict[str, dict[str, Any]]) -> list[FileChange]:
    """Return how the file tracker changes: a path keeps its place, and a later operation that is there already."""
    there: dict[str, tuple[int, float | None]] = {}
    paths = {row_codec.path_id(path): path for path in tracked}
    ids = iter(paths)
    # Some at a time, so that the statement's parameters stay few.
    while some := list(islice(ids, 500)):
        statement = sa.select(files.c.path_id, files.c.position, files.c.timestamp).where(
            files.c.context_id == row_codec.context_id(key), files.c.path_id.in_(some), files.c.removed_in.is_(None)
        )
        for path_id, position, timestamp in await store.query(statement, may_lag=False):
            there[paths[path_id]] = (position, timestamp)
    changes = []
    for path, entry in tracked.items():
        position, timestamp = there.get(path, (None, None))
        if timestamp is None or not _is_before(entry["timestamp"], timestamp):
            changes.append(FileChange(path, entry, position))
    return changes


def _is_before(timestamp: Any, other: float) -> bool:
    return isinstance(timestamp, int | float) and timestamp < other
