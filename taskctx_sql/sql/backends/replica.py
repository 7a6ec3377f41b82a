"""A read replica: a copy of the database that follows it, and may lag.

No load returns an older revision than one that this store has saved or loaded: if the replica is behind it, or does not
answer, the primary is read.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar
from zlib import crc32

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql.errors import InvalidDatabaseUrlError, SchemaError
from taskctx_sql.model import DEFAULT_CONNECTION, ConnectionOptions, ContextKey, Loaded
from taskctx_sql.sql import engines, row_codec
from taskctx_sql.sql.backends.backend import Backend
from taskctx_sql.sql.backends.open import backend_on
from taskctx_sql.sql.load import as_of
from taskctx_sql.sql.plan import Plan, read_value

T = TypeVar("T")
Call = Callable[[], Awaitable[T]]
Work = Callable[[AsyncConnection], Awaitable[T]]

logger: logging.Logger = logging.getLogger(__name__)

# How long the replica is not asked after it could not be used.
PAUSE: Final = 5.0
# A host that does not answer at all holds up a read for so long.
CONNECT_SECONDS: Final = 3.0
# How many contexts are distinguished; 2 MB.
SLOTS: Final = 2**18
# No context gets there: such a context is always read from the primary.
NEVER: Final = 2**63 - 1


class _NotAnsweredError(Exception):
    """The replica is away, or behind what is known."""


class Replica:
    """Reads from a replica what may be read there. It belongs to one event loop."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._checked = False
        self._failing = False
        self._paused_until = 0.0
        # The highest revision known, by a digest of the context's id. Contexts that share a slot share the higher
        # one: then the primary is asked without need, and nothing is ever older than it may be.
        self._known = array("q", bytes(8 * SLOTS))

    def note(self, key: ContextKey, revision: int) -> None:
        """From now on expect a context to have this revision, which it has or may have; `NEVER` if it is deleted."""
        slot = _slot(key)
        self._known[slot] = max(self._known[slot], revision)

    async def load(
        self, key: ContextKey, plan: Callable[[], Plan[Loaded]], rls_user: str | None, primary: Call[Loaded]
    ) -> Loaded:
        """Return a context, from the primary if the replica is behind what is known of it."""

        async def work() -> Loaded:
            known = self._known[_slot(key)]
            loaded = await self._backend.read(plan(), rls_user)
            if loaded.revision < known:
                raise _NotAnsweredError
            return loaded

        loaded = await self._or(primary, work)
        self.note(key, loaded.revision)
        return loaded

    async def part(self, key: ContextKey, plan: Callable[[], Plan[T]], rls_user: str | None, primary: Call[T]) -> T:
        """Return what a plan reads of a context, as `load` does."""

        async def work() -> T:
            known = self._known[_slot(key)]
            revision, result = await self._backend.read(_with_revision(key, plan()), rls_user)
            if revision < known:
                raise _NotAnsweredError
            # A part that is read after this one may come from another replica.
            self.note(key, revision)
            return result

        return await self._or(primary, work)

    async def query(self, work: Work[T], rls_user: str | None, primary: Call[T]) -> T:
        """Return the result of work on a connection to the replica, or to the primary."""
        return await self._or(primary, lambda: self._backend.query(work, rls_user))

    async def close(self) -> None:
        """Release everything."""
        await self._backend.close()

    async def _or(self, primary: Call[T], work: Call[T]) -> T:
        if time.monotonic() >= self._paused_until:
            try:
                return await self._work(work)
            except _NotAnsweredError:
                pass
        return await primary()

    async def _work(self, work: Call[T]) -> T:
        try:
            if not self._checked:
                await self._backend.check()
                self._checked = True
            result = await work()
        except _NotAnsweredError:
            raise
        except Exception as error:
            if isinstance(error, SchemaError) or engines.classify(error) is not engines.ErrorClass.FINAL:
                self._paused_until = time.monotonic() + PAUSE
                # It may be another one when it is back.
                self._checked = False
            if not self._failing:
                self._failing = True
                reason = str(error) if isinstance(error, SchemaError) else engines.reason(error)
                logger.warning("%s cannot be read, the primary is: %s", self._backend.database_url, reason)
            # If the question was at fault, the primary says so.
            raise _NotAnsweredError from error
        if self._failing:
            self._failing = False
            logger.warning("%s is read again", self._backend.database_url)
        return result


def open_replica(
    database: str | AsyncEngine,
    read_url: str,
    schema: str | None,
    retry_seconds: float,
    transaction_pooling: bool,
    *,
    options: ConnectionOptions = DEFAULT_CONNECTION,
) -> Replica:
    """Return the replica of a database; nothing is connected yet."""
    # Its hosts are its own.
    options = replace(options, host=None, target_session_attrs=None)
    url = engines.parse_url(read_url, transaction_pooling=transaction_pooling)
    primary = engines.parse_url(database) if isinstance(database, str) else database.url
    if "sqlite" in (primary.get_backend_name(), url.get_backend_name()):
        reason = "read_url= is for a replica of a Postgres, beside its primary"
        raise InvalidDatabaseUrlError(engines.mask(read_url), reason)
    url = engines.parse_url(read_url, options, transaction_pooling=transaction_pooling)
    pooling = transaction_pooling or engines.is_pooled(url)
    engine = engines.create_engine(url, options, transaction_pooling=pooling, connect_seconds=CONNECT_SECONDS)
    return Replica(backend_on(engine, schema, retry_seconds, pooling))


def _slot(key: ContextKey) -> int:
    return crc32(row_codec.context_id(key).encode()) % SLOTS


def _with_revision(key: ContextKey, plan: Plan[T]) -> Plan[tuple[int, T]]:
    # The revision first: what is read after it on the same connection is no older.
    revision = yield from read_value(as_of.select_current("revision"), {"context": row_codec.context_id(key)})
    return revision or 0, (yield from plan)
