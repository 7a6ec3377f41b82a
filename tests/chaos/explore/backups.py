"""Backups of a database, and setting it back to one, past the library: by SQLite's backups and by SQL."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass, field

import asyncpg

from tests.chaos.explore.places import Place

TABLES = (
    "taskctx_contexts",
    "taskctx_updates",
    "taskctx_files",
    "taskctx_models",
    "taskctx_state",
    "taskctx_runs",
    "taskctx_revisions",
)


@dataclass
class Backup:
    """What a database held: all of a SQLite file, and of Postgres the rows of users whose names begin alike."""

    place: Place
    users: str
    _rows: dict[str, str] = field(default_factory=dict)
    _file: sqlite3.Connection | None = None

    async def take(self) -> None:
        if self.place.kind.startswith("sqlite"):
            self._file = await asyncio.to_thread(self._take_file)
            return
        connection = await self._connect()
        try:
            for table in TABLES:
                query = f"SELECT coalesce(json_agg(kept), '[]')::text FROM {table} kept WHERE {_of_users(table)}"
                self._rows[table] = await connection.fetchval(query, self.users)
        finally:
            await connection.close()

    async def bring_back(self) -> None:
        if self._file is not None:
            await asyncio.to_thread(self._bring_file_back, self._file)
            return
        connection = await self._connect()
        try:
            async with connection.transaction():
                # The contexts go last: by them the others are known.
                for table in reversed(TABLES):
                    await connection.execute(f"DELETE FROM {table} WHERE {_of_users(table)}", self.users)
                for table in TABLES:
                    rows = f"json_populate_recordset(NULL::{table}, $1::text::json)"
                    await connection.execute(f"INSERT INTO {table} SELECT * FROM {rows}", self._rows[table])
        finally:
            await connection.close()

    async def _connect(self) -> asyncpg.Connection:
        schema = self.place.connection.schema or "public"
        url = self.place.connection.owner_url
        return await asyncpg.connect(url, server_settings={"search_path": f'"{schema}"'})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _take_file(self) -> sqlite3.Connection:
        kept = sqlite3.connect(":memory:", check_same_thread=False)
        there = sqlite3.connect(self._path)
        there.backup(kept)
        there.close()
        return kept

    def _bring_file_back(self, kept: sqlite3.Connection) -> None:
        there = sqlite3.connect(self._path)
        kept.backup(there)
        there.close()

    @property
    def _path(self) -> str:
        return self.place.address.removeprefix("sqlite:///")


def _of_users(table: str) -> str:
    if table == TABLES[0]:
        return "starts_with(user_id, $1)"
    return f"context_id IN (SELECT context_id FROM {TABLES[0]} WHERE starts_with(user_id, $1))"
