"""The limits: the raw drivers, which write the same rows, encoded with ``json``, one transaction a save."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg

from taskctx_sql import schema
from tests.benchmarks.data import FILE, MODEL
from tests.benchmarks.figures import HOP, LIMIT
from tests.benchmarks.sides import Chats

CONTEXT_COLUMNS = (
    "context_id, user_id, chat_id, metadata, metadata_toggles, revision, next_seq, next_model, next_position, "
    "created_at, updated_at"
)
RUN_COLUMNS = "context_id, run_id, started_at, saves"
REVISION_COLUMNS = "context_id, revision, saved_at, run_id, save_number, next_seq, next_model, next_position"
UPDATE_COLUMNS = "context_id, seq, timestamp, update_type, data, metadata, added_in, run_id"
FILE_COLUMNS = "context_id, path_id, added_in, position, path, operation, source, timestamp, state, run_id"
MODEL_COLUMNS = "context_id, seq, model_id, provider_id, mode, timestamp, added_in, run_id"

NEXT_REVISION = (
    "UPDATE taskctx_contexts SET revision = revision + 1, next_seq = next_seq + {count}, updated_at = {at} "
    "WHERE context_id = {id}"
)
NEXT_SAVE = "UPDATE taskctx_runs SET saves = saves + 1 WHERE context_id = {id} AND run_id = 'run'"
SELECT = (
    "SELECT seq, timestamp, update_type, data, metadata FROM taskctx_updates "
    "WHERE context_id = {id} AND removed_in IS NULL ORDER BY seq DESC LIMIT {limit}"
)

Row = tuple[Any, ...]
Insert = tuple[str, str, list[Row]]


class Limit(Chats):
    """What both drivers do alike: the rows of a save, and what a load returns."""

    name = LIMIT

    def __init__(self) -> None:
        super().__init__()
        self.added: dict[int, tuple[int, bool]] = {}

    def add(self, chat: int, count: int, *, trackers: bool = False) -> None:
        self.added[chat] = count, trackers

    def let_go(self) -> None:
        self.added.clear()

    def ident(self, chat: int) -> str:
        return f"{self.prefix}-{chat:012d}-context-identifier"

    def inserts(self, chat: int) -> tuple[int, list[Insert]]:
        """Return how many updates a save has, and its rows as (table, columns, rows)."""
        count, trackers = self.added.pop(chat)
        ident = self.ident(chat)
        numbered = self.take(chat, count)
        first = numbered[0][0]
        inserts: list[Insert] = []
        if first == 1:
            inserts.append(("contexts", CONTEXT_COLUMNS, [(ident, "u", "c", "{}", "{}", 0, 1, 1, 1, 0.0, 0.0)]))
            inserts.append(("runs", RUN_COLUMNS, [(ident, "run", 0.0, 0)]))
        rows: list[Row] = []
        for seq, (kind, data, metadata) in numbered:
            texts = json.dumps(data, ensure_ascii=False), json.dumps(metadata, ensure_ascii=False)
            rows.append((ident, seq, time.time(), kind, *texts, 1, "run"))
        revision = (ident, first, time.time(), "run", first, first + count, 1, 1)
        inserts.append(("revisions", REVISION_COLUMNS, [revision]))
        inserts.append(("updates", UPDATE_COLUMNS, rows))
        if trackers:
            file = (ident, f"{first:064d}", first, first, f"f{first}", *FILE.values(), "run")
            inserts.append(("files", FILE_COLUMNS, [file]))
            inserts.append(("models", MODEL_COLUMNS, [(ident, first, *MODEL.values(), first, "run")]))
        return count, inserts

    def decoded(self, rows: list[Any]) -> int:
        return len([(seq, at, kind, json.loads(data), json.loads(meta)) for seq, at, kind, data, meta in rows[::-1]])


class SqliteLimit(Limit):
    """The standard library's sqlite3 on the calling thread: WAL, FULL."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    async def open(self) -> None:
        await schema.upgrade(f"sqlite:///{self.path}")
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")

    async def close(self) -> None:
        self.connection.close()

    async def save(self, chat: int) -> None:
        ident = self.ident(chat)
        count, inserts = self.inserts(chat)
        self.connection.execute("BEGIN IMMEDIATE")
        for table, columns, rows in inserts:
            marks = ", ".join("?" * len(rows[0]))
            self.connection.executemany(f"INSERT INTO taskctx_{table} ({columns}) VALUES ({marks})", rows)
        self.connection.execute(NEXT_REVISION.format(count="?", at="?", id="?"), (count, time.time(), ident))
        self.connection.execute(NEXT_SAVE.format(id="?"), (ident,))
        self.connection.execute("COMMIT")

    async def load(self, chat: int, *, touch: bool, limit: int | None = None) -> int:
        found = self.connection.execute(
            SELECT.format(id="?", limit="?"), (self.ident(chat), -1 if limit is None else limit)
        )
        return self.decoded(found.fetchall())


class SqliteHop(SqliteLimit):
    """The same, and after each save one hop to another thread and back, so that the loop could have gone on."""

    name = HOP

    async def open(self) -> None:
        await super().open()
        self.thread = ThreadPoolExecutor(1)
        await self.hop()

    async def close(self) -> None:
        await super().close()
        self.thread.shutdown()

    async def save(self, chat: int) -> None:
        await super().save(chat)
        await self.hop()

    async def hop(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self.thread, int)


class PostgresLimit(Limit):
    """asyncpg with a pool of ten; executemany for many rows."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    async def open(self) -> None:
        await schema.upgrade(self.url)
        self.pool = await asyncpg.create_pool(self.url, min_size=10, max_size=10)

    async def close(self) -> None:
        await self.pool.close()

    async def save(self, chat: int) -> None:
        ident = self.ident(chat)
        count, inserts = self.inserts(chat)
        async with self.pool.acquire() as connection, connection.transaction():
            for table, columns, rows in inserts:
                marks = ", ".join(f"${number}" for number in range(1, len(rows[0]) + 1))
                statement = f"INSERT INTO taskctx_{table} ({columns}) VALUES ({marks})"
                if len(rows) == 1:
                    await connection.execute(statement, *rows[0])
                else:
                    await connection.executemany(statement, rows)
            await connection.execute(
                NEXT_REVISION.format(count="$1::bigint", at="$2", id="$3"), count, time.time(), ident
            )
            await connection.execute(NEXT_SAVE.format(id="$1"), ident)

    async def load(self, chat: int, *, touch: bool, limit: int | None = None) -> int:
        return self.decoded(await self.pool.fetch(SELECT.format(id="$1", limit="$2"), self.ident(chat), limit))
