"""Who is measured: the raw drivers, which are the limit, and this library. Each does the same work in its own way."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from taskctx_sql import ContextKey, SqlStore, TaskContext, upgrade
from tests.benchmarks.data import FILE, MODEL, updates

SAMPLE = updates(1000)

CONTEXT = (
    "UPDATE taskctx_contexts SET revision = revision + 1, next_seq = next_seq + {n}, updated_at = {at} "
    "WHERE context_id = {id}"
)
RUN = "UPDATE taskctx_runs SET saves = saves + 1 WHERE context_id = {id} AND run_id = {run}"
UPDATE_COLUMNS = "context_id, seq, timestamp, update_type, data, metadata, added_in, run_id"
FILE_COLUMNS = "context_id, path_id, added_in, position, path, operation, source, timestamp, state, run_id"
MODEL_COLUMNS = "context_id, seq, model_id, provider_id, mode, timestamp, added_in, run_id"


class Side(Protocol):
    """One that is measured. A chat is named by a number."""

    name: str

    async def open(self) -> None:
        """Get ready."""

    async def close(self) -> None:
        """Give everything back."""

    async def fill(self, chat: int, count: int) -> None:
        """Append so many updates in one save, or in few."""

    async def step(self, chat: int, *, trackers: bool = False) -> None:
        """Save one update, durably; with ``trackers`` a file and a model as well."""

    async def load(self, chat: int, *, touch: bool, limit: int | None = None) -> int:
        """Load a chat's updates, all or the newest, and return how many; ``touch`` looks at each value."""

    def new_chat(self) -> int:
        """Return a chat that nobody has."""


class Numbers:
    """Chats, and where each one is."""

    def __init__(self) -> None:
        self.next_chat = 0
        self.next_seq: dict[int, int] = {}
        self.prefix = uuid.uuid4().hex[:8]

    def new_chat(self) -> int:
        self.next_chat += 1
        return self.next_chat

    def ident(self, chat: int) -> str:
        return f"{self.prefix}-{chat:012d}-context-identifier"

    def take(self, chat: int, count: int) -> int:
        first = self.next_seq.get(chat, 1)
        self.next_seq[chat] = first + count
        return first

    def rows(self, chat: int, count: int) -> list[tuple[Any, ...]]:
        """The rows of so many updates, encoded with ``json``."""
        first = self.take(chat, count)
        ident = self.ident(chat)
        found = []
        for seq in range(first, first + count):
            kind, data, metadata = SAMPLE[seq % len(SAMPLE)]
            texts = json.dumps(data, ensure_ascii=False), json.dumps(metadata, ensure_ascii=False)
            found.append((ident, seq, time.time(), kind, *texts, 1, "run"))
        return found

    def revision_row(self, chat: int) -> tuple[Any, ...]:
        next_seq = self.next_seq[chat]
        return (self.ident(chat), next_seq, time.time(), "run", next_seq, next_seq, next_seq, next_seq)

    def head_rows(self, chat: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        ident = self.ident(chat)
        return (ident, "u", "c", "{}", "{}", 0, 1, 1, 1, 0.0, 0.0), (ident, "run", 0.0, 0)


CONTEXT_COLUMNS = (
    "context_id, user_id, chat_id, metadata, metadata_toggles, revision, next_seq, next_model, next_position, "
    "created_at, updated_at"
)
RUN_COLUMNS = "context_id, run_id, started_at, saves"
REVISION_COLUMNS = "context_id, revision, saved_at, run_id, save_number, next_seq, next_model, next_position"


class SqliteLimit(Numbers):
    """The standard library's sqlite3 on the calling thread: WAL, FULL, one transaction a save."""

    name = "limit"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    async def open(self) -> None:
        await upgrade(f"sqlite:///{self.path}")
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")

    async def close(self) -> None:
        self.connection.close()

    def _insert(self, table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * (columns.count(",") + 1))
        self.connection.executemany(f"INSERT INTO taskctx_{table} ({columns}) VALUES ({marks})", rows)

    def _save(self, chat: int, count: int, *, trackers: bool = False) -> None:
        ident = self.ident(chat)
        rows = self.rows(chat, count)
        new = rows[0][1] == 1
        self.connection.execute("BEGIN IMMEDIATE")
        if new:
            head, run = self.head_rows(chat)
            self._insert("contexts", CONTEXT_COLUMNS, [head])
            self._insert("runs", RUN_COLUMNS, [run])
        self.connection.execute(CONTEXT.format(n="?", at="?", id="?"), (count, time.time(), ident))
        self.connection.execute(RUN.format(id="?", run="?"), (ident, "run"))
        self._insert("revisions", REVISION_COLUMNS, [self.revision_row(chat)])
        self._insert("updates", UPDATE_COLUMNS, rows)
        if trackers:
            seq = rows[0][1]
            self._insert("files", FILE_COLUMNS, [(ident, f"{seq:064d}", seq, seq, f"f{seq}", *FILE.values(), "run")])
            self._insert("models", MODEL_COLUMNS, [(ident, seq, *MODEL.values(), seq, "run")])
        self.connection.execute("COMMIT")

    async def fill(self, chat: int, count: int) -> None:
        self._save(chat, count)

    async def step(self, chat: int, *, trackers: bool = False) -> None:
        self._save(chat, 1, trackers=trackers)

    async def load(self, chat: int, *, touch: bool, limit: int | None = None) -> int:
        found = self.connection.execute(
            "SELECT seq, timestamp, update_type, data, metadata FROM taskctx_updates "
            "WHERE context_id = ? AND removed_in IS NULL ORDER BY seq DESC LIMIT ?",
            (self.ident(chat), -1 if limit is None else limit),
        ).fetchall()
        return len([(seq, at, kind, json.loads(data), json.loads(meta)) for seq, at, kind, data, meta in found[::-1]])


class PostgresLimit(Numbers):
    """asyncpg with a pool of ten: one transaction a save, executemany for many rows."""

    name = "limit"

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    async def open(self) -> None:
        await upgrade(self.url)
        self.pool = await asyncpg.create_pool(self.url, min_size=10, max_size=10)

    async def close(self) -> None:
        await self.pool.close()

    async def _insert(self, connection: Any, table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
        marks = ", ".join(f"${number}" for number in range(1, columns.count(",") + 2))
        statement = f"INSERT INTO taskctx_{table} ({columns}) VALUES ({marks})"
        if len(rows) == 1:
            await connection.execute(statement, *rows[0])
        else:
            await connection.executemany(statement, rows)

    async def _save(self, chat: int, count: int, *, trackers: bool = False) -> None:
        ident = self.ident(chat)
        rows = self.rows(chat, count)
        async with self.pool.acquire() as connection, connection.transaction():
            if rows[0][1] == 1:
                head, run = self.head_rows(chat)
                await self._insert(connection, "contexts", CONTEXT_COLUMNS, [head])
                await self._insert(connection, "runs", RUN_COLUMNS, [run])
            await connection.execute(CONTEXT.format(n="$1::bigint", at="$2", id="$3"), count, time.time(), ident)
            await connection.execute(RUN.format(id="$1", run="$2"), ident, "run")
            await self._insert(connection, "revisions", REVISION_COLUMNS, [self.revision_row(chat)])
            await self._insert(connection, "updates", UPDATE_COLUMNS, rows)
            if trackers:
                seq = rows[0][1]
                file = (ident, f"{seq:064d}", seq, seq, f"f{seq}", *FILE.values(), "run")
                await self._insert(connection, "files", FILE_COLUMNS, [file])
                await self._insert(connection, "models", MODEL_COLUMNS, [(ident, seq, *MODEL.values(), seq, "run")])

    async def fill(self, chat: int, count: int) -> None:
        await self._save(chat, count)

    async def step(self, chat: int, *, trackers: bool = False) -> None:
        await self._save(chat, 1, trackers=trackers)

    async def load(self, chat: int, *, touch: bool, limit: int | None = None) -> int:
        found = await self.pool.fetch(
            "SELECT seq, timestamp, update_type, data, metadata FROM taskctx_updates "
            "WHERE context_id = $1 AND removed_in IS NULL ORDER BY seq DESC LIMIT $2",
            self.ident(chat),
            limit,
        )
        return len([(seq, at, kind, json.loads(data), json.loads(meta)) for seq, at, kind, data, meta in found[::-1]])


class Ours(Numbers):
    """This library, through its public names."""

    name = "taskctx_sql"

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.contexts: dict[int, TaskContext] = {}

    async def open(self) -> None:
        await upgrade(self.url)
        self.store = await SqlStore.open(self.url)

    async def close(self) -> None:
        await self.store.close()

    def _context(self, chat: int) -> TaskContext:
        if chat not in self.contexts:
            self.contexts[chat] = self._new_context(chat)
        return self.contexts[chat]

    def _new_context(self, chat: int, limit: int | None = None) -> TaskContext:
        return TaskContext({"user_id": self.prefix, "chat_id": chat}, store=self.store, history_limit=limit)

    def _add(self, chat: int, count: int) -> TaskContext:
        context = self._context(chat)
        first = self.take(chat, count)
        for number in range(first, first + count):
            context.add_context_update(*SAMPLE[number % len(SAMPLE)])
        return context

    async def fill(self, chat: int, count: int) -> None:
        await self._add(chat, count).save()

    async def step(self, chat: int, *, trackers: bool = False) -> None:
        context = self._add(chat, 1)
        if trackers:
            number = self.next_seq[chat]
            context.file_tracker[f"f{number}"] = FILE
            context.model_tracker.append(MODEL | {"timestamp": time.time()})
        await context.save()

    async def load(self, chat: int, *, touch: bool, limit: int | None = None) -> int:
        context = self._new_context(chat, limit)
        await context.load()
        if touch:
            return len([(update.data, update.metadata) for update in context.context_history])
        return len(context.context_history)

    def key(self, chat: int) -> ContextKey:
        """The chat's own key."""
        return ContextKey(self.prefix, str(chat))


async def in_flight(work: list[Callable[[], Awaitable[None]]], limit: int) -> None:
    """Do all the work, so much of it at once."""
    turn = asyncio.Semaphore(limit)

    async def one(job: Callable[[], Awaitable[None]]) -> None:
        async with turn:
            await job()

    await asyncio.gather(*(one(job) for job in work))
