"""A read replica: a copy of the database that follows it, and may lag.

What this store knows of a context it never forgets: no load goes back behind a revision that it saved or loaded. If the
replica is behind it, or does not answer, the primary does.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Final, TypeVar
from zlib import crc32

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql.concurrency import shielded
from taskctx_sql.errors import InvalidDatabaseUrlError, SchemaError
from taskctx_sql.model import ContextKey, Loaded
from taskctx_sql.sql import engines, row_codec
from taskctx_sql.sql.engines import dispose
from taskctx_sql.sql.load import Reader
from taskctx_sql.sql.plan import Plan, Statement, Step, execute, text
from taskctx_sql.sql.schema import check, contexts, row_security

T = TypeVar("T")

logger = logging.getLogger(__name__)

# How long the replica is left alone after it could not be used.
PAUSE: Final = 5.0
# A host that does not answer at all holds up a read for so long.
CONNECT_SECONDS: Final = 3.0
# How many contexts can be told apart; 2 MB.
PLACES: Final = 2**18
# No context gets there: such a context is always asked of the primary.
NEVER: Final = 2**63 - 1


class _NotAnsweredError(Exception):
    """The replica is away, or behind what is known."""


class Replica:
    """Reads from a replica what may be read there. It belongs to one event loop.

    Args:
        engine: What to connect with; disposed at the end.
        schema: The schema that the tables are in.
        reader: The short way on that engine, if there is one.
    """

    def __init__(self, engine: AsyncEngine, schema: str | None, reader: Reader | None) -> None:
        """Take the engine; nothing is opened yet."""
        self.database_url = engines.mask(str(engine.url))
        self._engine = engine.execution_options(schema_translate_map={None: schema}) if schema else engine
        self._schema = schema
        self._reader = reader
        self._checked = False
        self._failing = False
        self._left_alone_until = 0.0
        # The highest revision known, by a digest of the context's id. Contexts that share a place share the higher
        # one: then the primary is asked without need, and nothing is ever older than it may be.
        self._known = array("q", bytes(8 * PLACES))

    def note(self, key: ContextKey, revision: int) -> None:
        """Know from now on that a context has got to a revision, or may have; `NEVER` if it is to be gone."""
        place = _place(key)
        self._known[place] = max(self._known[place], revision)

    async def load(
        self,
        key: ContextKey,
        plan: Callable[[], Plan[Loaded]],
        rls_user: str | None,
        primary: Callable[[], Awaitable[Loaded]],
    ) -> Loaded:
        """Return a context, from the primary if the replica does not have what is known of it.

        Args:
            key: Whose.
            plan: What reads it.
            rls_user: The user that the transaction names, if it has to.
            primary: What asks the primary.
        """

        async def work() -> Loaded:
            known = self._known[_place(key)]
            found = await self._read(plan(), rls_user)
            if found.revision < known:
                raise _NotAnsweredError
            return found

        found = await self._or(primary, work)
        self.note(key, found.revision)
        return found

    async def part(
        self, key: ContextKey, plan: Callable[[], Plan[T]], rls_user: str | None, primary: Callable[[], Awaitable[T]]
    ) -> T:
        """Return what steps read of a context, as `load` does."""

        async def work() -> T:
            known = self._known[_place(key)]
            revision, found = await self._read(_with_revision(key, plan()), rls_user)
            if revision < known:
                raise _NotAnsweredError
            # A part that is read after this one may come from another replica.
            self.note(key, revision)
            return found

        return await self._or(primary, work)

    async def query(
        self,
        work: Callable[[AsyncConnection], Awaitable[T]],
        rls_user: str | None,
        primary: Callable[[], Awaitable[T]],
    ) -> T:
        """Return what work does on a connection to the replica, or on the primary."""
        return await self._or(primary, lambda: shielded(self._on_connection(work, rls_user)))

    async def close(self) -> None:
        """Give everything back."""
        try:
            if self._reader is not None:
                await self._reader.close()
        finally:
            await dispose(self._engine)

    async def _or(self, primary: Callable[[], Awaitable[T]], work: Callable[[], Awaitable[T]]) -> T:
        if time.monotonic() >= self._left_alone_until:
            try:
                return await self._work(work)
            except _NotAnsweredError:
                pass
        return await primary()

    async def _work(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            if not self._checked:
                await shielded(self._on_connection(self._check, None))
                self._checked = True
            found = await work()
        except _NotAnsweredError:
            raise
        except Exception as error:
            if isinstance(error, SchemaError) or engines.judge(error) is not engines.Verdict.FINAL:
                self._left_alone_until = time.monotonic() + PAUSE
                # It may be another one when it is back.
                self._checked = False
            if not self._failing:
                self._failing = True
                reason = str(error) if isinstance(error, SchemaError) else engines.reason(error)
                logger.warning("%s cannot be read, the primary is: %s", self.database_url, reason)
            # If the question was at fault, the primary says so.
            raise _NotAnsweredError from error
        if self._failing:
            self._failing = False
            logger.warning("%s is read again", self.database_url)
        return found

    async def _read(self, plan: Plan[T], rls_user: str | None) -> T:
        if self._reader is not None:
            return await self._reader.read(plan, rls_user)
        return await shielded(self._on_connection(lambda connection: execute(plan, connection), rls_user))

    async def _on_connection(self, work: Callable[[AsyncConnection], Awaitable[T]], rls_user: str | None) -> T:
        async with engines.transaction(self._engine, write=False) as connection:
            if rls_user is not None:
                await row_security.set_user(connection, rls_user)
            return await work(connection)

    async def _check(self, connection: AsyncConnection) -> None:
        await connection.run_sync(check, self._schema, self.database_url)


def replica_of(primary: AsyncEngine, address: str, *, schema: str | None, transaction_pooling: bool) -> Replica:
    """Return the replica that an address names.

    Raises:
        InvalidDatabaseUrlError: It is not a Postgres beside a Postgres.
        MissingDriverError: The driver is not installed.
    """
    url = engines.parse_url(address)
    if engines.is_sqlite(primary) or url.get_backend_name() == "sqlite":
        raise InvalidDatabaseUrlError(
            engines.mask(address), "read_url= is for a replica of a Postgres, beside its primary"
        )
    pooled = transaction_pooling or engines.is_pooled(url)
    engine = engines.create_engine(url, transaction_pooling=pooled, connect_seconds=CONNECT_SECONDS)
    if schema is not None or pooled:
        return Replica(engine, schema, None)
    # Here, since the driver need not be installed.
    from taskctx_sql.sql.load.postgres_reader import PostgresReader

    return Replica(engine, schema, PostgresReader(engine))


def _place(key: ContextKey) -> int:
    return crc32(row_codec.context_id(key).encode()) % PLACES


def _with_revision(key: ContextKey, plan: Plan[T]) -> Plan[tuple[int, T]]:
    # The revision first: what is read after it on the same connection is no older.
    found = yield Step(_revision(), {"context": row_codec.context_id(key)}, reads=True)
    return (found[0][0] if found else 0), (yield from plan)


@cache
def _revision() -> Statement:
    return sa.select(contexts.c.revision).where(contexts.c.context_id == text("context"))
