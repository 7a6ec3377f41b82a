"""Reading the tables that aiecs keeps in Postgres, as of aiecs 2.2.0, a task's context at a time.

``context_task_contexts`` of its ``PostgresPermanentBackend`` has snapshots, each of a whole context: id, session_id,
context_data (JSONB), created_at. ``task_history`` of its ``DatabaseManager`` has the steps of tasks: id, user_id,
task_id, step, result (JSONB), timestamp (in the local time of who wrote it, without its zone), status.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.errors import MissingHistoriesError
from taskctx_sql.model import ChatImport, ContextKey, ContextUpdate, RunOutcome
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema.connect import on_connection

T = TypeVar("T")

# How many snapshots are read at once, and how many steps.
SNAPSHOTS: Final = 10
STEPS: Final = 1_000

_snapshots: Final = sa.table(
    "context_task_contexts", *(sa.column(name) for name in ("id", "session_id", "context_data", "created_at"))
)
_steps: Final = sa.table(
    "task_history",
    *(sa.column(name) for name in ("id", "user_id", "task_id", "step", "result", "timestamp", "status")),
)
_FIELDS: Final = ("timestamp", "update_type", "data", "metadata")
# What aiecs calls the end of a task, and what it means here.
_OUTCOMES: Final[dict[str, RunOutcome]] = {"failed": "failed", "timed_out": "failed", "cancelled": "cancelled"}


class AiecsTables:
    """The two tables, those that are there."""

    def __init__(self, database_url: str) -> None:
        self.engine: AsyncEngine = engines.create_engine(engines.parse_url(database_url))
        self.shown: str = engines.mask(self.engine.url)

    async def close(self) -> None:
        """Close the connections."""
        await engines.dispose(self.engine)

    async def tasks(self) -> list[Snapshots | Steps]:
        """Return what there is to import, the oldest first.

        Raises:
            MissingHistoriesError: Neither table is there.
        """
        names = await self.read(lambda connection: sa.inspect(connection).get_table_names())
        if not {_snapshots.name, _steps.name} & set(names):
            raise MissingHistoriesError(self.shown, f"neither {_snapshots.name} nor {_steps.name} is there")
        found: list[Snapshots | Steps] = []
        for table, kind, columns in ((_snapshots, Snapshots, ("session_id",)), (_steps, Steps, ("user_id", "task_id"))):
            if table.name in names:
                by = [table.c[name] for name in columns]
                grouped = sa.select(*by, sa.func.count()).group_by(*by).order_by(sa.func.min(table.c.id))
                found += [kind(self, tuple(row[:-1]), row[-1]) for row in await self.rows(grouped)]
        return found

    async def rows(self, statement: sa.Select[Any]) -> Sequence[Any]:
        """Return the rows of a statement."""
        return await self.read(lambda connection: connection.execute(statement).all())

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Return the result of work on a connection."""
        return await on_connection(self.engine, "import", work)


class Snapshots:
    """A session's snapshots: each has its whole history, of which most was in the one before."""

    outcome: RunOutcome = "completed"

    def __init__(self, tables: AiecsTables, of: tuple[Any, ...], size: int) -> None:
        self._tables = tables
        self.session_id: Any = of[0]
        self.size: int = size
        self.chat: ChatImport = ChatImport(self.session_id, [f"{_snapshots.name} of session {self.session_id}"])
        self.metadata: dict[str, Any] | None = None

    async def key(self) -> ContextKey:
        """Return the context that the newest snapshot names."""
        newest = self._select().order_by(_snapshots.c.id.desc()).limit(1)
        ((_, text),) = await self._tables.rows(newest)
        data = _mapping(orjson.loads(text))
        self.metadata = _mapping(data.get("metadata"))
        self.chat.chat_id = str(data.get("chat_id", self.session_id))
        return ContextKey(str(data.get("user_id", "anonymous")), self.chat.chat_id)

    async def batches(self) -> AsyncGenerator[tuple[list[ContextUpdate], int]]:
        """Yield the entries of each snapshot that none before it had."""
        self.chat.entries, self.chat.error = 0, None
        known: Counter[bytes] = Counter()
        after = 0
        while rows := await self._tables.rows(
            self._select().where(_snapshots.c.id > after).order_by(_snapshots.c.id).limit(SNAPSHOTS)
        ):
            for after, text in rows:
                entries = self._entries(after, orjson.loads(text))
                left = known.copy()
                new = []
                for entry in entries:
                    digest = hashlib.blake2b(orjson.dumps(entry, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
                    left[digest] -= 1
                    if left[digest] < 0:
                        known[digest] += 1
                        new.append(ContextUpdate(*(entry[field] for field in _FIELDS)))
                self.chat.entries += len(new)
                yield new, 1

    def _entries(self, snapshot: int, data: Any) -> list[dict[str, Any]]:
        entries = _mapping(data).get("context_history", [])
        whole = [entry for entry in entries if isinstance(entry, dict) and all(field in entry for field in _FIELDS)]
        if len(whole) < len(entries):
            self.chat.error = f"snapshot {snapshot} has {len(entries) - len(whole)} entries without a type or data"
        return whole

    def _select(self) -> sa.Select[Any]:
        columns = _snapshots.c
        return sa.select(columns.id, sa.cast(columns.context_data, sa.Text)).where(
            columns.session_id == self.session_id
        )


class Steps:
    """A task's steps, in the order in which they were written."""

    metadata: dict[str, Any] | None = None

    def __init__(self, tables: AiecsTables, of: tuple[Any, ...], size: int) -> None:
        self._tables = tables
        self.user_id: Any = of[0]
        self.task_id: Any = of[1]
        self.size: int = size
        self.chat: ChatImport = ChatImport(self.task_id, [f"{_steps.name} of task {self.task_id}"])
        self.outcome: RunOutcome = "completed"

    async def key(self) -> ContextKey:
        """Return the context of the task."""
        return ContextKey(self.user_id, self.task_id)

    async def batches(self) -> AsyncGenerator[tuple[list[ContextUpdate], int]]:
        """Yield the steps, each as an update."""
        self.chat.entries = 0
        columns = _steps.c
        read = (columns.id, columns.step, sa.cast(columns.result, sa.Text), columns.timestamp, columns.status)
        of_task = (columns.user_id == self.user_id) & (columns.task_id == self.task_id)
        after = 0
        while rows := await self._tables.rows(
            sa.select(*read).where(of_task & (columns.id > after)).order_by(columns.id).limit(STEPS)
        ):
            updates = []
            after = rows[-1].id
            for _, step, text, timestamp, status in rows:
                updates.append(_step(step, orjson.loads(text), timestamp))
                # A cancellation changes the status of all steps, and their results stay what they were.
                self.outcome = _OUTCOMES.get(status, "completed")
            self.chat.entries += len(updates)
            yield updates, len(updates)


def _step(step: int, result: Any, timestamp: datetime) -> ContextUpdate:
    given = _mapping(result)
    metadata = {"framework": "aiecs", "step": step}
    named = (("name", "step"), ("status", "status"), ("error", "error_message"))
    metadata |= {field: given[name] for field, name in named if isinstance(given.get(name), str)}
    failed = "error" in metadata or metadata.get("status") in ("failed", "timed_out")
    return ContextUpdate(timestamp.timestamp(), "error" if failed else "event", result, metadata)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
