"""Saves to Postgres: a call of a function in the database, which decides and writes all of it.

Saves that arrive together share a call. It fails if somebody else keeps one of the contexts locked, or if the database
refuses one of them; then each is called alone, as are those that may take long. A Citus sends a call to the machine of
its first context, so there it is the saves of one machine that share calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.concurrency import finished
from taskctx_sql.errors import TaskContextError
from taskctx_sql.model import Saved
from taskctx_sql.sql import engines
from taskctx_sql.sql.plan import Plan, Rows, Statement, Step, columns, compiled, execute_on_driver, insertion, text
from taskctx_sql.sql.postgres_connection import Connections, execute_to_read, transaction
from taskctx_sql.sql.retry import InDoubtError, allow, deadline
from taskctx_sql.sql.save.document import answers, document, is_repeated
from taskctx_sql.sql.save.group_commit import GroupCommit, in_tasks
from taskctx_sql.sql.save.machines import Machines
from taskctx_sql.sql.save.request import SaveRequest
from taskctx_sql.sql.schema import updates
from taskctx_sql.sql.sizes import count_rows

# Updates beyond these are sent as rows after the call, and not in its document: that is faster for many rows where
# COPY is allowed, and neither side has all of them in memory a second time.
MAX_UPDATES: Final = 500
MAX_CHARACTERS: Final = 1_000_000

_Answer = Saved | TaskContextError
# With it `taskctx_save_all_v1` fails if a save is refused.
_REFUSED: Final = "TC001"


@dataclass(slots=True)
class _Group:
    """Saves that were sent together: the task that waits for the answers, and how many callers wait for it."""

    task: asyncio.Task[Any]
    waiting: int


class PostgresWriter:
    """Writes groups of saves. It belongs to one event loop."""

    def __init__(self, connections: Connections, database_url: str, *, distributed: bool) -> None:
        self._connections = connections
        self._database_url = database_url
        self._machines = Machines(connections) if distributed else None
        # By the number of the machine; that is 0 where there is one.
        self._groups: dict[int, GroupCommit[Saved | None]] = {}
        self._closed = False
        # By the id of a request that was sent, the group that it is in.
        self._sent: dict[int, _Group] = {}

    async def save(self, request: SaveRequest) -> Saved:
        """Save; the result is there when it is on the disk. See `Backend.save`."""
        if not _takes_long(request):
            machine = 0 if self._machines is None else await self._machines.of(request.context_id)
            try:
                saved = await self._groups_of(machine).save(request)
            except asyncio.CancelledError:
                self._leave(request)
                raise
            if saved is not None:
                return saved
        work = self._connections.use(partial(self._write_alone, request), deadline(), writes=True)
        return await finished(work)

    async def save_all(self, requests: Sequence[SaveRequest]) -> list[Saved]:
        """Save to different contexts, all or nothing. See `Backend.save_all`."""
        work = self._connections.use(partial(self._write_all, requests), deadline(), writes=True)
        return await finished(work)

    async def close(self) -> None:
        """Finish what was accepted."""
        self._closed = True
        for groups in list(self._groups.values()):
            await groups.close()

    def _groups_of(self, machine: int) -> GroupCommit[Saved | None]:
        groups = self._groups.get(machine)
        if groups is None:
            groups = self._groups[machine] = GroupCommit(
                in_tasks(self._write_group), self._database_url, schema=self._connections.schema
            )
            if self._closed:
                groups.stop()
        return groups

    def _leave(self, request: SaveRequest) -> None:
        """Give up a group that has no answer when nobody waits for it any more."""
        group = self._sent.pop(id(request), None)
        if group is not None:
            group.waiting -= 1
            if not group.waiting:
                group.task.cancel()

    async def _write_group(self, requests: list[SaveRequest], until: float | None) -> Sequence[_Answer | None]:
        task = asyncio.current_task()
        assert task is not None
        group = _Group(task, len(requests))
        for request in requests:
            self._sent[id(request)] = group
        try:
            return await self._call_together(requests, until)
        finally:
            for request in requests:
                self._sent.pop(id(request), None)

    async def _call_together(self, requests: list[SaveRequest], until: float | None) -> Sequence[_Answer | None]:
        # In one order everywhere, so that two processes never wait for each other.
        ordered = sorted(requests, key=lambda request: request.context_id)
        try:
            found = await self._connections.use(partial(self._call, ordered, waits=False), until, writes=True)
        except Exception as error:
            is_refused = len(requests) > 1 and engines.classify(error) is engines.ErrorClass.FINAL
            if isinstance(error, InDoubtError) or not (is_refused or engines.is_lock_timeout(error)):
                raise
            # Called alone, each shows whether it is the cause, and waits for the lock of its own context only.
            return [None] * len(requests)
        answer_of = dict(zip((request.context_id for request in ordered), found, strict=True))
        return [answer_of[request.context_id] for request in requests]

    async def _call(
        self, requests: Sequence[SaveRequest], driver: engines.Driver, *, waits: bool, all_or_none: bool = False
    ) -> list[_Answer]:
        send = partial(self._send, requests, driver, waits=waits, all_or_none=all_or_none)
        if not driver.commits_by_itself:
            async with transaction(driver):
                return answers(requests, await send())
        try:
            return answers(requests, await send())
        except TaskContextError:
            raise
        except Exception as error:
            if engines.is_in_doubt_at_commit(error):
                raise InDoubtError from error
            raise

    async def _send(
        self,
        requests: Sequence[SaveRequest],
        driver: engines.Driver,
        *,
        waits: bool,
        with_updates: bool = True,
        all_or_none: bool = False,
    ) -> str:
        call = compiled(driver.dialect.driver, _call_of_function(self._connections.schema, all_or_none=all_or_none))
        request = document(requests, with_updates=with_updates)
        values = {"context": requests[0].context_id, "request": request, "waits": waits}
        try:
            ((answer,),) = await driver.fetch(call.sql, call.values(values))
        except Exception as error:
            found = engines.detail(error) if engines.sqlstate(error) == _REFUSED else None
            for found_answer in [] if found is None else answers(requests, found):
                # The first that is refused ends the transaction.
                _saved(found_answer)
            raise
        return str(answer)

    async def _write_alone(self, request: SaveRequest, driver: engines.Driver) -> Saved:
        if request.delta.operation in ("restore", "undo"):
            # It may write the whole history anew, however long that is.
            count = count_rows(request.context_id)
            allow(await execute_to_read(count, self._connections.schema, request.rls_user, driver))
        if _is_large(request):
            return await self._write_large(request, driver)
        (answer,) = await self._call([request], driver, waits=True)
        return _saved(answer)

    async def _write_all(self, requests: Sequence[SaveRequest], driver: engines.Driver) -> list[Saved]:
        # In one order everywhere, as groups.
        ordered = sorted(requests, key=lambda request: request.context_id)
        found = await self._call(ordered, driver, waits=True, all_or_none=True)
        saved_of = dict(zip((request.context_id for request in ordered), map(_saved, found), strict=True))
        return [saved_of[request.context_id] for request in requests]

    async def _write_large(self, request: SaveRequest, driver: engines.Driver) -> Saved:
        async with transaction(driver):
            answer = await self._send([request], driver, waits=True, with_updates=False)
            saved = _saved(*answers([request], answer))
            if not is_repeated(answer):
                rows, copies = _insert_updates(request, saved), request.rls_user is None
                await execute_on_driver(rows, driver, self._connections.schema, copies=copies)
        return saved


def _takes_long(request: SaveRequest) -> bool:
    return request.delta.operation in ("restore", "undo") or _is_large(request)


def _is_large(request: SaveRequest) -> bool:
    # Under row-level security Postgres refuses COPY.
    if len(request.updates) > MAX_UPDATES and request.rls_user is None:
        return True
    return sum(len(data) + len(metadata) for _, _, data, metadata, _ in request.updates) > MAX_CHARACTERS


def _saved(answer: _Answer) -> Saved:
    if isinstance(answer, TaskContextError):
        raise answer
    return answer


def _insert_updates(request: SaveRequest, saved: Saved) -> Plan[None]:
    """Return the plan that writes the updates of a save after its call."""
    revision = saved.revision - (request.delta.is_operation and request.makes_revision)
    origin = (revision, request.delta.run.run_id)
    rows = [(request.context_id, seq, *row, *origin) for seq, row in enumerate(request.updates, saved.first_seq)]
    later = ("removed_in", "copy_of")
    yield Step(insertion(updates, *later), Rows(columns(updates, *later), rows, updates))


@cache
def _call_of_function(schema: str | None, *, all_or_none: bool) -> Statement:
    functions: Any = sa.func if schema is None else getattr(sa.func, schema)
    if all_or_none:
        return sa.select(functions.taskctx_save_all_v1(text("context"), text("request")))
    arguments = (text("context"), text("request"), sa.bindparam("waits", type_=sa.Boolean))
    return sa.select(functions.taskctx_save_v1(*arguments))
