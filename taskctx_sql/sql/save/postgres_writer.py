"""Saves to Postgres: one statement for all saves that arrive together, which is one network round trip.

It writes what needs no question: appends to contexts that nobody else has locked. What it leaves alone goes the plain
way, statement by statement: a copy of a save that is there already, a context that was deleted, a change of metadata, a
removal, a large save. So one way has the answers, and the other the speed. A context that somebody else is writing to
is left out of the others' statement, and gets one of its own that waits.

Written once: the statement moves the counter on the run's row from n - 1 to n, and all else follows from that. A copy
that comes second finds the counter moved, whichever of them that is. So it needs no transaction around it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import cache, partial
from itertools import groupby
from typing import Any, Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.concurrency import shielded
from taskctx_sql.errors import StoreClosedError
from taskctx_sql.model import Saved
from taskctx_sql.sql import engines
from taskctx_sql.sql.context_row import ContextHead
from taskctx_sql.sql.postgres_connection import PostgresConnection, execute_in_transaction, transaction, use_once
from taskctx_sql.sql.retry import InDoubtError
from taskctx_sql.sql.save.grouping import MAX_WAITING, WaitingSave, take_group
from taskctx_sql.sql.save.request import SaveRequest
from taskctx_sql.sql.save.statements import save
from taskctx_sql.sql.schema import row_security

# More updates than this are written faster by a statement that is for rows alone.
MOST_UPDATES: Final = 100

# What the statement takes: arrays, an element for each save, and for each of their rows.
_JOBS: Final = {
    "context_id": "text",
    "user_id": "text",
    "chat_id": "text",
    "base": "float8",
    "newest": "int8",
    "at": "float8",
    "step": "int8",
    "updates": "int8",
    "models": "int8",
    "files": "int8",
    "metadata": "text",
    "toggles": "text",
    "run": "text",
    "started_at": "float8",
    "ended_at": "float8",
    "outcome": "text",
    "error": "text",
    "saves": "int8",
}
_UPDATES: Final = {
    "context_id": "text",
    "place": "int8",
    "timestamp": "float8",
    "update_type": "text",
    "data": "text",
    "metadata": "text",
    "exact": "text",
}
_MODELS: Final = {
    "context_id": "text",
    "place": "int8",
    "model_id": "text",
    "provider_id": "text",
    "mode": "text",
    "timestamp": "float8",
    "input_tokens": "int8",
    "output_tokens": "int8",
    "cost": "float8",
    "duration": "float8",
    "exact": "text",
}
_FILES: Final = {
    "context_id": "text",
    "place": "int8",
    "position": "int8",
    "path_id": "text",
    "path": "text",
    "operation": "text",
    "source": "text",
    "timestamp": "float8",
    "state": "text",
    "exact": "text",
}
_REPLACED: Final = {"context_id": "text", "path_id": "text"}

# The answer is None for what must go the plain way.
_Pending = WaitingSave[Saved | None]


class PostgresWriter:
    """Writes saves together. It belongs to one event loop, and holds a connection from the first save on.

    Args:
        engine: Where the connection comes from; its driver is asyncpg.
        address: What to call the database in errors.
    """

    def __init__(self, engine: AsyncEngine, address: str) -> None:
        """Take the engine; nothing is opened yet."""
        self._engine = engine
        self._address = address
        self._loop = asyncio.get_running_loop()
        # Planning a save takes longer than the save, and Postgres might plan it anew each time.
        self._connection = PostgresConnection(engine, plans_once=True)
        self._waiting: deque[_Pending] = deque()
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    async def save(self, request: SaveRequest) -> Saved:
        """Save; the result is there when it is on the disk. See `Backend.save`."""
        saved = await self._save_together(request) if _needs_no_question(request) else None
        return await shielded(use_once(self._engine, partial(_write_alone, request))) if saved is None else saved

    async def _save_together(self, request: SaveRequest) -> Saved | None:
        async with self._room:
            if self._closed:
                raise StoreClosedError(self._address)
            pending: _Pending = WaitingSave(request, self._loop)
            self._waiting.append(pending)
            if self._worker is None:
                self._worker = self._loop.create_task(self._work(), name="taskctx-writer")
            return await pending.wait()

    async def close(self) -> None:
        """Finish what was accepted, and release everything."""
        self._closed = True
        if self._worker is not None:
            await self._worker
        await self._connection.close()

    async def _work(self) -> None:
        try:
            while self._waiting:
                group = take_group(self._waiting)
                # In one order everywhere, so that two processes never wait for each other.
                group.sort(key=lambda pending: (pending.request.rls_user or "", pending.request.encoded.context_id))
                try:
                    await self._write(group)
                except BaseException as error:
                    for pending in group:
                        pending.give(error)
                    if not isinstance(error, Exception):
                        raise
        finally:
            self._worker = None

    async def _write(self, group: list[_Pending]) -> None:
        now = time.monotonic()
        for pending in [pending for pending in group if pending.deadline is not None and pending.deadline < now]:
            group.remove(pending)
            pending.give(TimeoutError("others of this process, who came before, had no answer either"))
        if not group:
            return
        until = min((pending.deadline for pending in group if pending.deadline is not None), default=None)
        requests = [pending.request for pending in group]
        heads = await self._connection.use(partial(_write_at_once, requests, waiting=False), until, writes=True)
        for pending in group:
            head = heads.get(pending.request.encoded.context_id)
            pending.give(None if head is None else pending.request.saved(head))


async def _write_at_once(
    requests: list[SaveRequest], connection: asyncpg.Connection, *, waiting: bool
) -> dict[str, ContextHead]:
    """Send the one statement, and return the rows of the contexts that it saved.

    Where users have to be named, each has a statement of his own, and all of them share a transaction.

    Args:
        requests: Of different contexts.
        connection: With no transaction on it.
        waiting: Wait for contexts that others have locked, rather than leave them alone.
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
        # Refused as a whole: the plain way finds out whose fault it was.
        return {}


async def _send(
    requests: list[SaveRequest], connection: asyncpg.Connection, *, waiting: bool
) -> dict[str, ContextHead]:
    trackers = any(request.encoded.models or request.encoded.changed_paths for request in requests)
    found = await connection.fetch(
        _statement(trackers=trackers, waiting=waiting), *_arrays(requests, trackers=trackers)
    )
    return {context_id: ContextHead(*head) for context_id, *head in found}


async def _write_alone(request: SaveRequest, connection: asyncpg.Connection) -> Saved:
    if _needs_no_question(request):
        # Somebody else may have had the context locked: here nobody but this save waits for them.
        heads = await _write_at_once([request], connection, waiting=True)
        if heads:
            return request.saved(heads[request.encoded.context_id])
    return await execute_in_transaction(save("postgresql", request), request.rls_user, connection)


def _needs_no_question(request: SaveRequest) -> bool:
    """Whether a save only appends.

    A file may have a version that somebody wrote after the statement began, which it does not see. Where there is to be
    a new one, the index of live versions refuses it; where there is to be none, nothing would.

    Where a user is named, a first save is none of these: the policies look for the row of its context, which no other
    part of the same statement sees.
    """
    delta = request.delta
    is_new = request.base.created_at is None
    return (
        len(delta.updates) <= MOST_UPDATES
        and not delta.if_unchanged
        and not delta.removed_updates
        and not delta.removed_models
        and len(request.encoded.files) == len(request.encoded.changed_paths)
        and delta.operation is None
        and (request.rls_user is None if is_new else delta.metadata is None and delta.toggles is None)
    )


def _arrays(requests: list[SaveRequest], *, trackers: bool) -> list[list[Any]]:
    """Return the parameters of the statement: columns, where jobs are rows."""
    saves: list[tuple[Any, ...]] = []
    updates: list[tuple[Any, ...]] = []
    models: list[tuple[Any, ...]] = []
    files: list[tuple[Any, ...]] = []
    replaced: list[tuple[Any, ...]] = []
    for request in requests:
        delta, encoded, run = request.delta, request.encoded, request.delta.run
        context_id = encoded.context_id
        counts = (len(encoded.updates), len(encoded.models), encoded.unplaced_files)
        identity = (
            context_id,
            delta.key.user_id,
            delta.key.chat_id,
            request.base.created_at,
            request.base.newest,
            delta.at,
            request.step,
        )
        texts = (encoded.metadata, encoded.toggles)
        ended = (run.run_id, run.started_at, run.ended_at, run.outcome, encoded.error, run.saves)
        saves.append((*identity, *counts, *texts, *ended))
        # Places count back from what comes next after the save.
        updates += [(context_id, place, *row) for place, row in enumerate(encoded.updates, -counts[0])]
        if not trackers:
            continue
        models += [(context_id, place, *row) for place, row in enumerate(encoded.models, -counts[1])]
        free = iter(range(-counts[2], 0))
        for row, position in zip(encoded.files, encoded.positions, strict=True):
            files.append((context_id, next(free) if position is None else 0, position, *row))
        replaced += [(context_id, path_id) for path_id in encoded.changed_paths]
    arrays = [*_columns(_JOBS, saves), *_columns(_UPDATES, updates)]
    if trackers:
        arrays += [*_columns(_MODELS, models), *_columns(_FILES, files), *_columns(_REPLACED, replaced)]
    return arrays


def _columns(names: dict[str, str], rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in names]


def _given(name: str, columns: dict[str, str], first: int) -> str:
    arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(columns.values(), first))
    return f"unnest({arrays}) AS {name} ({', '.join(columns)})"


@cache
def _statement(*, trackers: bool, waiting: bool) -> str:
    """Return the statement. Its parts see the tables as they were at its beginning, and feed each other."""
    first = len(_JOBS) + 1
    writes = _write_updates(first) + (_write_trackers(first + len(_UPDATES)) if trackers else "")
    return f"""
WITH job AS MATERIALIZED (SELECT * FROM {_given("job", _JOBS, 1)}),
held AS MATERIALIZED (
    SELECT c.context_id FROM job, taskctx_contexts c
    WHERE c.context_id = job.context_id AND c.created_at = job.base AND c.revision >= greatest(job.newest, 1)
    FOR UPDATE OF c {"" if waiting else "SKIP LOCKED"}
),
made AS (
    INSERT INTO taskctx_contexts (context_id, user_id, chat_id, metadata, metadata_toggles, revision, next_seq,
                                  next_model, next_position, created_at, updated_at)
    SELECT context_id, user_id, chat_id, coalesce(metadata, '{{}}'), coalesce(toggles, '{{}}'), 1, 1 + updates,
           1 + models, 1 + files, at, at
    FROM job WHERE base IS NULL
    ON CONFLICT DO NOTHING
    RETURNING context_id, created_at, revision, next_seq, next_model, next_position
),
counted AS (
    INSERT INTO taskctx_runs AS r (context_id, run_id, started_at, ended_at, outcome, error, saves)
    SELECT context_id, run, started_at, ended_at, outcome, error, saves
    FROM job WHERE context_id IN (SELECT context_id FROM held UNION ALL SELECT context_id FROM made)
    ON CONFLICT (context_id, run_id) DO UPDATE
    SET ended_at = excluded.ended_at, outcome = excluded.outcome, error = excluded.error, saves = excluded.saves
    WHERE r.saves = excluded.saves - 1
    RETURNING r.context_id
),
moved AS (
    UPDATE taskctx_contexts c
    SET revision = c.revision + job.step, next_seq = c.next_seq + job.updates, next_model = c.next_model + job.models,
        next_position = c.next_position + job.files, updated_at = greatest(c.updated_at, job.at)
    FROM job
    WHERE c.context_id = job.context_id AND job.base IS NOT NULL AND job.context_id IN (SELECT context_id FROM counted)
    RETURNING c.context_id, c.created_at, c.revision, c.next_seq, c.next_model, c.next_position
),
head AS MATERIALIZED (
    SELECT h.*, job.run, job.at, job.saves, job.step, job.metadata, job.toggles
    FROM (SELECT * FROM made UNION ALL SELECT * FROM moved) h JOIN job ON job.context_id = h.context_id
),
recorded AS (
    INSERT INTO taskctx_revisions (context_id, revision, saved_at, run_id, save_number, next_seq, next_model,
                                   next_position, metadata, metadata_toggles)
    SELECT context_id, revision, at, run, saves, next_seq, next_model, next_position, metadata, toggles
    FROM head WHERE step = 1
)
{writes}
SELECT context_id, created_at, revision, next_seq, next_model, next_position FROM head
"""


def _write_updates(first: int) -> str:
    return f"""
, updates AS (
    INSERT INTO taskctx_updates (context_id, seq, timestamp, update_type, data, metadata, exact, added_in, run_id)
    SELECT n.context_id, h.next_seq + n.place, n.timestamp, n.update_type, n.data, n.metadata, n.exact, h.revision,
           h.run
    FROM {_given("n", _UPDATES, first)} JOIN head h ON h.context_id = n.context_id
)
"""


def _write_trackers(first: int) -> str:
    files = first + len(_MODELS)
    return f"""
, models AS (
    INSERT INTO taskctx_models (context_id, seq, model_id, provider_id, mode, timestamp, input_tokens, output_tokens,
                                cost, duration, exact, added_in, run_id)
    SELECT n.context_id, h.next_model + n.place, n.model_id, n.provider_id, n.mode, n.timestamp, n.input_tokens,
           n.output_tokens, n.cost, n.duration, n.exact, h.revision,
           h.run
    FROM {_given("n", _MODELS, first)} JOIN head h ON h.context_id = n.context_id
),
replaced AS (
    UPDATE taskctx_files f SET removed_in = h.revision
    FROM {_given("n", _REPLACED, files + len(_FILES))} JOIN head h ON h.context_id = n.context_id
    WHERE f.context_id = n.context_id AND f.path_id = n.path_id AND f.removed_in IS NULL
    RETURNING f.context_id
),
files AS (
    INSERT INTO taskctx_files (context_id, path_id, added_in, position, path, operation, source, timestamp, state,
                               exact, run_id)
    SELECT n.context_id, n.path_id, h.revision, coalesce(n.position, h.next_position + n.place), n.path, n.operation,
           n.source, n.timestamp, n.state, n.exact, h.run
    FROM {_given("n", _FILES, files)} JOIN head h ON h.context_id = n.context_id
    -- Only when the versions before are marked: a path has one at a time.
    WHERE (SELECT count(*) FROM replaced) >= 0
)
"""
