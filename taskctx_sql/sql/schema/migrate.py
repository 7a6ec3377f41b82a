"""The public operations on a schema: upgrade, downgrade, current, head, row-level security."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql.concurrency import after_fork
from taskctx_sql.errors import InvalidArgumentError, StoreFailedError, StoreUnavailableError
from taskctx_sql.sql import engines
from taskctx_sql.sql.retry import GRACE
from taskctx_sql.sql.schema import migrations, row_security
from taskctx_sql.sql.schema.checks import HEAD, check_name, found_revision, is_newer_and_usable
from taskctx_sql.sql.schema.connect import Database, on_connection

if TYPE_CHECKING:
    from alembic.config import Config

logger: logging.Logger = logging.getLogger(__name__)

# How long a schema change waits for a lock at a time; others queue behind it as long.
LOCK_SECONDS: Final = 2.0
LOCK_PAUSE: Final = 1.0
# On SQLite nobody queues behind it, but schema changes of other databases in this process do.
SQLITE_LOCK_SECONDS: Final = 1.0
# How long it tries: another upgrade may be long, and a reader that never ends blocks changes of its table.
UPGRADE_SECONDS: Final = 600.0
_WHO_HOLDS: Final = {
    "postgresql": "`SELECT * FROM pg_locks JOIN pg_stat_activity USING (pid)` shows who holds the locks",
    "sqlite": "`fuser -v` shows who has the file open",
}
# How often an upgrade checks whether another one in this process has ended.
ALEMBIC_PAUSE: Final = 0.02

# Alembic has one context for the process.
_alembic_lock = threading.Lock()


@after_fork
def _renew_lock() -> None:
    global _alembic_lock
    _alembic_lock = threading.Lock()


async def head() -> str:
    """Return the revision that this version of the library needs."""
    return HEAD


async def current(database_url: Database, *, schema: str | None = None) -> str | None:
    """Return the revision of a database's schema, or None if it has none.

    Args:
        database_url: A URL, an engine or a connection.
        schema: On Postgres, the schema that the tables are in.
    """
    if isinstance(database_url, str) and engines.is_missing(engines.parse_url(database_url)):
        return None
    return await on_connection(database_url, "read the schema", lambda connection: found_revision(connection, schema))


async def row_level_security(database_url: Database, *, schema: str | None = None) -> bool:
    """Return whether the tables are under row-level security; on SQLite they never are.

    Args:
        database_url: A URL, an engine or a connection.
        schema: On Postgres, the schema that the tables are in.
    """
    if isinstance(database_url, str) and engines.is_missing(engines.parse_url(database_url)):
        return False
    return await on_connection(
        database_url, "read the schema", lambda connection: row_security.is_on(connection, schema)
    )


async def upgrade(
    database_url: Database, revision: str = "head", *, schema: str | None = None, row_level_security: bool | None = None
) -> None:
    """Bring a database's schema to a revision; the data stays.

    Any number of processes may call this at once: each waits for the one before. With a connection, everything
    happens in the caller's transaction, if there is one. A newer revision that this version can use stays.

    Args:
        database_url: A URL, an engine or a connection. A missing SQLite file is created, a missing folder is not.
        revision: The revision; "head" is the newest.
        schema: On Postgres, the schema to put the tables in; it is created if it is missing.
        row_level_security: Whether to switch it on or off, on Postgres: with it, every account but the owner and
            those with BYPASSRLS sees one user at a time. None leaves it as it is, and new tables follow the others.

    Raises:
        RowLevelSecurityUnavailableError: The database cannot have it; nothing was changed.
        SchemaTooNewError: The database was upgraded by a newer version of the library, and this one cannot use it.
        ForeignSchemaError: There are tables with the library's names that it did not create.
        UnsupportedEncodingError: The database's character set cannot hold every text.
        StoreUnavailableError: A lock was held by somebody else for too long.
        StoreFailedError: The database failed, or refused.
    """
    await _migrate(database_url, "upgrade", revision, schema, row_level_security)


async def upgrade_sql(
    database_url: Database, *, schema: str | None = None, row_level_security: bool | None = None
) -> str:
    """Return the SQL that `upgrade` would execute to bring a database to the newest revision, and change nothing.

    It is one transaction, for ``psql -v ON_ERROR_STOP=1`` or ``sqlite3 -bail``, and fails if the database has been
    upgraded meanwhile. For a SQLite file that is missing it creates all tables.

    Args:
        database_url: A URL, an engine or a connection, of an account that may read the version table.
        schema: On Postgres, the schema that the tables are in, or are to be in.
        row_level_security: Whether to switch it on or off, on Postgres; None leaves it as it is.

    Returns:
        The statements, each ended by a semicolon; an empty text if there is nothing to do.

    Raises:
        RowLevelSecurityUnavailableError: The database cannot have it.
        SchemaTooNewError: The database was upgraded by a newer version of the library, and this one cannot use it.
        ForeignSchemaError: There are tables with the library's names that it did not create.
        UnsupportedEncodingError: The database's character set cannot hold every text.
        StoreUnavailableError: Another schema change of this process did not end.
        StoreFailedError: The database failed, or refused.
    """
    from alembic import command

    if isinstance(database_url, str) and engines.is_missing(engines.parse_url(database_url)):
        # As one with nothing in it.
        database_url = "sqlite://"
    output = StringIO()

    def read(connection: sa.Connection) -> None:
        config = _config(connection, schema, row_level_security)
        config.attributes["output"] = output
        found = found_revision(connection, schema)
        if row_level_security is None and is_newer_and_usable(found):
            return
        command.upgrade(config, f"{found}:head" if found else "head", sql=True)

    doing = "print the upgrade of the schema"
    await on_connection(
        database_url, doing, read, turn=partial(_alembic_turn, doing, time.monotonic(), UPGRADE_SECONDS)
    )
    return output.getvalue()


async def downgrade(database_url: Database, revision: str, *, schema: str | None = None) -> None:
    """Bring a database's schema back to an older revision; "base" removes the tables and all data in them.

    Raises the same errors as `upgrade`.
    """
    await _migrate(database_url, "downgrade", revision, schema)


async def set_up(engine: AsyncEngine, seconds: float) -> None:
    """Create the schema in an empty SQLite file, trying for so many seconds and a little more."""
    await _migrate(engine, "upgrade", "head", None, seconds=seconds + GRACE)


async def _migrate(
    database_url: Database,
    direction: str,
    revision: str,
    schema: str | None,
    row_level_security: bool | None = None,
    *,
    seconds: float | None = None,
) -> None:
    from alembic import command

    # On a connection of the caller's, waiting and retrying are the caller's business.
    ours = not isinstance(database_url, AsyncConnection)

    def migrate(connection: sa.Connection) -> None:
        if ours:
            connection.execution_options(**{migrations.LOCK_SECONDS: LOCK_SECONDS})
        check_name(connection, schema)
        if direction == "upgrade" and row_level_security is None and _is_newer_and_usable(connection, schema):
            return
        config = _config(connection, schema, row_level_security)
        with engines.shorter_busy_timeout(connection, SQLITE_LOCK_SECONDS) if ours else nullcontext():
            getattr(command, direction)(config, revision)

    if not isinstance(revision, str) or not revision.strip():
        raise InvalidArgumentError("revision", revision, '"head", or the name of a revision')
    doing, started = f"{direction} the schema", time.monotonic()
    if seconds is None:
        seconds = engines.SQLITE_BUSY_SECONDS if _engine_name(database_url) == "sqlite" else UPGRADE_SECONDS
    while True:
        try:
            await on_connection(database_url, doing, migrate, turn=partial(_alembic_turn, doing, started, seconds))
            return
        except StoreFailedError as error:
            waited = time.monotonic() - started
            if not ours or error.__cause__ is None or not engines.is_lock_timeout(error.__cause__):
                raise
            who = _WHO_HOLDS[_engine_name(database_url)]
            if waited > seconds:
                raise StoreUnavailableError(doing, error.database_url, waited, f"{error.reason}; {who}") from error
            if waited < 2 * LOCK_SECONDS:
                logger.warning("could not %s in %s yet, somebody uses it: %s", doing, error.database_url, who)
        # Lets those through that queued behind the lock.
        await asyncio.sleep(LOCK_PAUSE)


def _is_newer_and_usable(connection: sa.Connection, schema: str | None) -> bool:
    """Whether there is nothing to upgrade; leaves the connection in no transaction if it was in none."""
    was_in_transaction = connection.in_transaction()
    result = is_newer_and_usable(found_revision(connection, schema))
    if not was_in_transaction:
        connection.rollback()
    return result


def _config(connection: sa.Connection, schema: str | None, row_level_security: bool | None) -> Config:
    from alembic.config import Config

    config = Config()
    # A percent sign in the path would be taken for an interpolation.
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes.update(connection=connection, schema=schema, row_level_security=row_level_security)
    return config


def _engine_name(database_url: Database) -> str:
    if not isinstance(database_url, AsyncEngine | AsyncConnection):
        # Refuses everything that is no URL, too.
        return engines.parse_url(database_url).get_backend_name()
    return database_url.dialect.name


@asynccontextmanager
async def _alembic_turn(doing: str, started: float, seconds: float, database_url: str) -> AsyncIterator[None]:
    """Hold the lock on alembic, which other threads take too, and whose server may not answer."""
    # Polled: a task that is cancelled while a thread waits for the lock would never release it.
    while not (lock := _alembic_lock).acquire(blocking=False):
        waited = time.monotonic() - started
        if waited > seconds:
            reason = "another schema change of this process has not ended: one at a time can go on"
            raise StoreUnavailableError(doing, database_url, waited, reason)
        await asyncio.sleep(ALEMBIC_PAUSE)
    try:
        yield
    finally:
        lock.release()


def migrations_folder() -> Path:
    """Return the folder of the migrations: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[2]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"
