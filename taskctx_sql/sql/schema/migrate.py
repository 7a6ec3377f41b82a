"""The public operations on a schema: upgrade, downgrade, current, head, row-level security."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql.errors import InvalidArgumentError, InvalidDatabaseUrlError, StoreFailedError, StoreUnavailableError
from taskctx_sql.sql import engines
from taskctx_sql.sql.retry import GRACE
from taskctx_sql.sql.schema import migrations, row_security
from taskctx_sql.sql.schema.building import build
from taskctx_sql.sql.schema.checks import HEAD, check_name, found_revision, is_newer_and_usable, with_prefix
from taskctx_sql.sql.schema.connect import Database, on_connection, on_sync_connection
from taskctx_sql.sql.schema.opt_ins import OptIns
from taskctx_sql.sql.schema.printing import print_migrations

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

Direction = Literal["upgrade", "downgrade"]

logger: logging.Logger = logging.getLogger(__name__)

# As alembic takes them: names, labels before an @, and steps such as +1.
_REVISION: Final = re.compile(r"[\w.+-]+(@[\w.+-]+)?")
# How long a schema change waits for a lock at a time; others queue behind it as long.
LOCK_SECONDS: Final = 2.0
LOCK_PAUSE: Final = 1.0
# On SQLite nobody queues behind it, but a task that is cancelled waits as long.
SQLITE_LOCK_SECONDS: Final = 1.0
# How long it tries: another upgrade may be long, and a reader that never ends blocks changes of its table.
UPGRADE_SECONDS: Final = 600.0
_WHO_HOLDS: Final = {
    "postgresql": "`SELECT * FROM pg_locks JOIN pg_stat_activity USING (pid)` shows who holds the locks",
    "sqlite": "`fuser -v` shows who has the file open",
}


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
    database_url: Database,
    revision: str = "head",
    *,
    schema: str | None = None,
    row_level_security: bool | None = None,
    search: bool | None = None,
    sums: bool | None = None,
    progress: Callable[[int], None] | None = None,
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
        search: Whether there is to be a search index, which is built here, in many transactions; on a connection of
            the caller's, only what later builds it. None leaves it as it is.
        sums: Whether there are to be daily sums, likewise.
        progress: Called while they are built, with the number of updates, or of contexts, that are left.

    Raises:
        RowLevelSecurityUnavailableError: The database cannot have it; nothing was changed.
        SearchIndexUnavailableError: The database cannot have an index; nothing was changed.
        DailySumsUnavailableError: The database cannot have daily sums; nothing was changed.
        SchemaTooNewError: The database was upgraded by a newer version of the library, and this one cannot use it.
        ForeignSchemaError: There are tables with the library's names that it did not create.
        UnsupportedEncodingError: The database's character set cannot hold every text.
        StoreUnavailableError: A lock was held by somebody else for too long.
        StoreFailedError: The database failed, or refused.
    """
    wanted = OptIns(row_level_security, search, sums)
    await _migrate(database_url, "upgrade", revision, schema, wanted)
    if not isinstance(database_url, AsyncConnection):
        await build(database_url, schema, wanted, progress)


async def upgrade_sql(
    database_url: Database,
    *,
    schema: str | None = None,
    row_level_security: bool | None = None,
    search: bool | None = None,
    sums: bool | None = None,
) -> str:
    """Return the SQL that `upgrade` would execute to bring a database to the newest revision, and change nothing.

    It is one transaction, for ``psql -v ON_ERROR_STOP=1`` or ``sqlite3 -bail``, and fails if the database has been
    upgraded meanwhile. For a SQLite file that is missing it creates all tables.

    Args:
        database_url: A URL, an engine or a connection, of an account that may read the version table.
        schema: On Postgres, the schema that the tables are in, or are to be in.
        row_level_security: Whether to switch it on or off, on Postgres; None leaves it as it is.
        search: Whether there is to be a search index; None leaves it as it is. What is there already is indexed later,
            by stores that save, or by `upgrade` with ``search=True``.
        sums: Whether there are to be daily sums, likewise.

    Returns:
        The statements, each ended by a semicolon; an empty text if there is nothing to do.

    Raises:
        RowLevelSecurityUnavailableError: The database cannot have it.
        SearchIndexUnavailableError: The database cannot have an index.
        DailySumsUnavailableError: The database cannot have daily sums.
        SchemaTooNewError: The database was upgraded by a newer version of the library, and this one cannot use it.
        ForeignSchemaError: There are tables with the library's names that it did not create.
        UnsupportedEncodingError: The database's character set cannot hold every text.
        StoreFailedError: The database failed, or refused.
    """
    if isinstance(database_url, str) and engines.is_missing(engines.parse_url(database_url)):
        # As one with nothing in it.
        database_url = "sqlite://"
    output, wanted = StringIO(), OptIns(row_level_security, search, sums)

    def read(connection: sa.Connection) -> None:
        if wanted.leave_all and is_newer_and_usable(found_revision(connection, schema)):
            return
        print_migrations(connection, schema, _start("upgrade", "head"), output, wanted)

    await on_connection(database_url, "print the upgrade of the schema", read)
    return output.getvalue()


async def downgrade(database_url: Database, revision: str, *, schema: str | None = None) -> None:
    """Bring a database's schema back to an older revision; "base" removes the tables and all data in them.

    Raises the same errors as `upgrade`.
    """
    await _migrate(database_url, "downgrade", revision, schema)


def upgrade_connection(
    connection: sa.Connection,
    revision: str = "head",
    *,
    schema: str | None = None,
    row_level_security: bool | None = None,
    search: bool | None = None,
    sums: bool | None = None,
) -> None:
    """Bring a database's schema to a revision on a connection that is not async, as `upgrade` does.

    For an application's own migrations: ``schema.upgrade_connection(op.get_bind())`` in a revision, or in ``env.py``.
    Everything happens in the transaction that the connection is in; in none, it has one of its own.

    Args:
        connection: A connection of SQLAlchemy's.
        revision: The revision; "head" is the newest. A newer one that the database has stays.
        schema: On Postgres, the schema to put the tables in; it is created if it is missing.
        row_level_security: Whether to switch it on or off, on Postgres; None leaves it as it is.
        search: Whether there is to be a search index; None leaves it as it is. It is built later, by stores that save.
        sums: Whether there are to be daily sums, likewise.

    Raises:
        InvalidArgumentError: This is no connection, as in alembic's offline mode (``--sql``).
        SchemaError: As `upgrade`.
        StoreFailedError: The database failed, or refused; also where a lock was held for too long.
    """
    _migrate_connection(connection, "upgrade", revision, schema, OptIns(row_level_security, search, sums))


def downgrade_connection(connection: sa.Connection, revision: str, *, schema: str | None = None) -> None:
    """Bring a database's schema back to an older revision on a connection that is not async, as `downgrade` does.

    "base" removes the tables and all data in them. Arguments and errors are those of `upgrade_connection`.
    """
    _migrate_connection(connection, "downgrade", revision, schema)


def _migrate_connection(
    connection: sa.Connection,
    direction: Direction,
    revision: str,
    schema: str | None,
    wanted: OptIns = migrations.LEAVE_ALL,
) -> None:
    if not isinstance(connection, sa.Connection):
        allowed = (
            "a Connection of SQLAlchemy's; alembic's offline mode has none: list the library's migrations in the"
            " application's version_locations, or print them with `taskctx upgrade -d URL --sql`"
        )
        raise InvalidArgumentError("connection", connection, allowed)
    work = partial(_run, direction=direction, revision=_checked(revision), schema=schema, wanted=wanted)
    on_sync_connection(connection, f"{direction} the schema", work)


async def set_up(engine: AsyncEngine, seconds: float) -> None:
    """Create the schema in an empty SQLite file, trying for so many seconds and a little more."""
    await _migrate(engine, "upgrade", "head", None, seconds=seconds + GRACE)


async def _migrate(
    database_url: Database,
    direction: Direction,
    revision: str,
    schema: str | None,
    wanted: OptIns = migrations.LEAVE_ALL,
    *,
    seconds: float | None = None,
) -> None:
    # On a connection of the caller's, waiting and retrying are the caller's business.
    ours = not isinstance(database_url, AsyncConnection)
    revision = _checked(revision)

    def migrate(connection: sa.Connection) -> None:
        if ours:
            connection.execution_options(**{migrations.LOCK_SECONDS: LOCK_SECONDS})
        with engines.shorter_busy_timeout(connection, SQLITE_LOCK_SECONDS) if ours else nullcontext():
            _run(connection, direction, revision, schema, wanted)

    doing, started = f"{direction} the schema", time.monotonic()
    if seconds is None:
        seconds = engines.SQLITE_BUSY_SECONDS if _engine_name(database_url) == "sqlite" else UPGRADE_SECONDS
    while True:
        try:
            await on_connection(database_url, doing, migrate)
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


def _run(
    connection: sa.Connection,
    direction: Direction,
    revision: str,
    schema: str | None,
    wanted: OptIns,
) -> None:
    """Run the migrations to a revision on a connection."""
    check_name(connection, schema)
    is_upgrade = direction == "upgrade"
    if is_upgrade and wanted.leave_all and _is_newer_and_usable(connection, schema):
        return
    start = _start(direction, revision)
    # Any other revision is looked for, so that one that does not exist is refused at the newest one, too.
    only_upgrades = is_upgrade and revision == "head"
    migrations.run_migrations(connection, schema, start, wanted, only_upgrades=only_upgrades)


def _start(direction: Direction, revision: str) -> Callable[..., MigrationContext]:
    """Return what makes a context for the migrations to a revision.

    Not by alembic's commands, which use its global `context` and `op`: they may be those of an application's run, in
    which the library was called.
    """

    def start(*, connection: sa.Connection | None = None, dialect_name: str | None = None, **options: Any) -> Any:
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory

        script = ScriptDirectory(str(migrations_folder()))
        # The functions behind alembic's commands of these names; there are no others.
        find = script._upgrade_revs if direction == "upgrade" else script._downgrade_revs
        options |= {"script": script, "fn": lambda found, _: find(revision, found)}
        return MigrationContext.configure(connection, dialect_name=dialect_name, opts=options)

    return start


def _checked(revision: str) -> str:
    if not isinstance(revision, str) or not revision.strip():
        raise InvalidArgumentError("revision", revision, '"head", or the name of a revision')
    if not _REVISION.fullmatch(revision):
        # Perhaps an address, whose password alembic would show.
        raise InvalidArgumentError("revision", "***", '"head", or the name of a revision')
    return with_prefix(revision)


def _is_newer_and_usable(connection: sa.Connection, schema: str | None) -> bool:
    """Whether there is nothing to upgrade; leaves the connection in no transaction if it was in none."""
    was_in_transaction = connection.in_transaction()
    result = is_newer_and_usable(found_revision(connection, schema))
    if not was_in_transaction:
        connection.rollback()
    return result


def _engine_name(database_url: Database) -> str:
    if isinstance(database_url, sa.Connection | sa.Engine):
        raise InvalidDatabaseUrlError(
            "***",
            "its connections are not async, so call `schema.upgrade_connection(connection)`"
            " or `schema.downgrade_connection(connection, revision)`",
        )
    if not isinstance(database_url, AsyncEngine | AsyncConnection):
        # Refuses everything that is no URL, too.
        return engines.parse_url(database_url).get_backend_name()
    return database_url.dialect.name


def migrations_folder() -> Path:
    """Return the folder of the migrations."""
    return Path(__file__).parents[2] / "migrations"
