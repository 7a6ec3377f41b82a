"""Saves to Postgres: one statement for all saves of a group, which is one network round trip.

It writes appends to contexts that nobody else has locked. What it leaves out is saved alone, statement by statement, by
the plan of `decide`: a copy of a save that was written before, a context that was deleted, a change of metadata, a
removal, a large save. A context that somebody else is writing to gets a statement of its own that waits.

Written once: the statement raises the counter on the run's row from n - 1 to n, and all its other parts depend on that.
A copy that comes second finds the counter raised, whichever of them that is. So it needs no transaction around it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from itertools import groupby
from typing import Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.concurrency import shielded
from taskctx_sql.errors import StoreClosedError
from taskctx_sql.model import Saved
from taskctx_sql.sql import engines
from taskctx_sql.sql.context_row import ContextHead
from taskctx_sql.sql.postgres_connection import PostgresConnection, execute_in_transaction, transaction, use_once
from taskctx_sql.sql.retry import InDoubtError
from taskctx_sql.sql.save import decide
from taskctx_sql.sql.save.group_commit import MAX_WAITING, WaitingSave, take_group
from taskctx_sql.sql.save.postgres_statement import parameters, statement
from taskctx_sql.sql.save.request import SaveRequest
from taskctx_sql.sql.schema import row_security

# More updates than this are written faster by statements for rows alone.
MAX_UPDATES: Final = 100

# The answer is None for what has to be saved alone.
_Save = WaitingSave[Saved | None]


class PostgresWriter:
    """Writes groups of saves. It belongs to one event loop, and keeps a connection from the first save on."""

    def __init__(self, engine: AsyncEngine, database_url: str) -> None:
        self._engine = engine
        self._database_url = database_url
        self._loop = asyncio.get_running_loop()
        # Planning a save takes longer than the save, and Postgres might plan it anew each time.
        self._connection = PostgresConnection(engine, plans_once=True)
        self._waiting: deque[_Save] = deque()
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    async def save(self, request: SaveRequest) -> Saved:
        """Save; the result is there when it is on the disk. See `Backend.save`."""
        saved = await self._save_in_group(request) if _only_appends(request) else None
        if saved is not None:
            return saved
        return await shielded(use_once(self._engine, partial(_write_alone, request)))

    async def close(self) -> None:
        """Finish what was accepted, and release everything."""
        self._closed = True
        if self._worker is not None:
            await self._worker
        await self._connection.close()

    async def _save_in_group(self, request: SaveRequest) -> Saved | None:
        async with self._room:
            if self._closed:
                raise StoreClosedError(self._database_url)
            waiting: _Save = WaitingSave(request, self._loop)
            self._waiting.append(waiting)
            if self._worker is None:
                self._worker = self._loop.create_task(self._work(), name="taskctx-writer")
            return await waiting.wait()

    async def _work(self) -> None:
        try:
            while self._waiting:
                group = take_group(self._waiting)
                # In one order everywhere, so that two processes never wait for each other.
                group.sort(key=lambda save: (save.request.rls_user or "", save.request.context_id))
                try:
                    await self._write(group)
                except BaseException as error:
                    for save in group:
                        save.resolve(error)
                    if not isinstance(error, Exception):
                        raise
        finally:
            self._worker = None

    async def _write(self, group: list[_Save]) -> None:
        now = time.monotonic()
        for save in [save for save in group if save.deadline is not None and save.deadline < now]:
            group.remove(save)
            save.resolve(TimeoutError("others of this process, who came before, had no answer either"))
        if not group:
            return
        until = min((save.deadline for save in group if save.deadline is not None), default=None)
        requests = [save.request for save in group]
        heads = await self._connection.use(partial(_write_group, requests, waiting=False), until, writes=True)
        for save in group:
            head = heads.get(save.request.context_id)
            save.resolve(None if head is None else save.request.saved(head))


async def _write_group(
    requests: list[SaveRequest], connection: asyncpg.Connection, *, waiting: bool
) -> dict[str, ContextHead]:
    """Send the one statement, and return the rows of the contexts that it saved, by their ids.

    Under row-level security each user has a statement, and all share a transaction; the requests are sorted by user.
    """
    try:
        first = requests[0].rls_user
        if first is None:
            return await _send(requests, connection, waiting=waiting)
        heads: dict[str, ContextHead] = {}
        async with transaction(connection, first):
            for rls_user, of_user in groupby(requests, lambda request: request.rls_user or first):
                if rls_user != first:
                    await row_security.set_user_on(connection, rls_user)
                heads |= await _send(list(of_user), connection, waiting=waiting)
        return heads
    except InDoubtError:
        raise
    except Exception as error:
        if engines.is_in_doubt_at_commit(error):
            raise InDoubtError from error
        if engines.breaks_connection(error) or engines.is_lock_timeout(error):
            raise
        if connection.is_in_transaction():
            await connection.execute("ROLLBACK;")
        # Refused as a whole: saved alone, each shows whether it is the cause.
        return {}


async def _send(
    requests: list[SaveRequest], connection: asyncpg.Connection, *, waiting: bool
) -> dict[str, ContextHead]:
    trackers = any(request.models or request.changed_paths for request in requests)
    sql, arrays = statement(trackers=trackers, waiting=waiting), parameters(requests, trackers=trackers)
    return {context_id: ContextHead(*head) for context_id, *head in await connection.fetch(sql, *arrays)}


async def _write_alone(request: SaveRequest, connection: asyncpg.Connection) -> Saved:
    if _only_appends(request):
        # Another process may have had the context locked: here only this save waits for it.
        heads = await _write_group([request], connection, waiting=True)
        if heads:
            return request.saved(heads[request.context_id])
    return await execute_in_transaction(decide.save("postgresql", request), request.rls_user, connection)


def _only_appends(request: SaveRequest) -> bool:
    """Whether the one statement can write a save.

    A file may have a version that somebody wrote after the statement began, which it does not see. Where there is to be
    a new version, the index of live versions refuses it; where there is to be none, nothing would.

    Under row-level security it cannot write a context's first save: the policies look for the row of the context, which
    no other part of the same statement sees.
    """
    delta = request.delta
    is_new = request.base.created_at is None
    return (
        len(delta.updates) <= MAX_UPDATES
        and not delta.if_unchanged
        and not delta.removed_updates
        and not delta.removed_models
        and len(request.files) == len(request.changed_paths)
        and delta.operation is None
        and (request.rls_user is None if is_new else delta.metadata is None and delta.toggles is None)
    )
