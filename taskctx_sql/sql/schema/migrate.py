"""The schema's life, in alembic's words: upgrade, downgrade, current, head. And what opening a database checks."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql.concurrency import after_fork, end_at_once, running_loop
from taskctx_sql.errors import (
    ForeignSchemaError,
    InvalidArgumentError,
    InvalidDatabaseUrlError,
    NotADatabaseError,
    SchemaMissingError,
    SchemaTooNewError,
    SchemaTooOldError,
    StoreFailedError,
    StoreUnavailableError,
    TaskContextError,
    UnsupportedEncodingError,
)
from taskctx_sql.sql import engines
from taskctx_sql.sql.engines import dispose
from taskctx_sql.sql.retry import GRACE, Retrying
from taskctx_sql.sql.schema import citus, row_security, tables, upgrade_lock

if TYPE_CHECKING:
    from alembic.config import Config

T = TypeVar("T")

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 15.0
# The bytes of a name on Postgres.
_LONGEST_NAME: Final = 63
# How long a schema change waits for a lock at a time: so long those wait who come after it.
LOCK_SECONDS: Final = 2.0
LOCK_PAUSE: Final = 1.0
# On SQLite nobody waits behind it, but schema changes of other databases in this process do.
SQLITE_LOCK_SECONDS: Final = 1.0
# How long it tries: another upgrade may be long, and a reader that never ends holds up what changes its table.
UPGRADE_SECONDS: Final = 600.0
_WHO_HOLDS: Final = {
    "postgresql": "`SELECT * FROM pg_locks JOIN pg_stat_activity USING (pid)` says who holds the locks",
    "sqlite": "`fuser -v` names who has the file open",
}
# How often an upgrade looks whether the one before it, in this process, is through.
ALEMBIC_PAUSE: Final = 0.02

Database = str | AsyncEngine | AsyncConnection
# Waits for one's turn at an address, and gives it back.
Turn = Callable[[str], AbstractAsyncContextManager[None]]

# The migrations in order, so that opening a database need not read their files; a test compares.
REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006")

# Alembic's context is one for the process.
_alembic_lock = threading.Lock()


@after_fork
def _renew_lock() -> None:
    global _alembic_lock
    _alembic_lock = threading.Lock()


def head() -> str:
    """Return the revision that this version of the library needs."""
    return REVISIONS[-1]


async def current(database: Database, *, schema: str | None = None) -> str | None:
    """Return the revision that a database is at, or None if it has none.

    Args:
        database: A URL, an engine or a connection.
        schema: On Postgres, the schema that the tables are in.
    """
    if isinstance(database, str) and engines.is_missing(engines.parse_url(database)):
        return None
    return await on_connection(database, "read the schema", lambda connection: found_revision(connection, schema))


async def row_level_security(database: Database, *, schema: str | None = None) -> bool:
    """Return whether the tables are under row-level security; on SQLite they never are.

    Args:
        database: A URL, an engine or a connection.
        schema: On Postgres, the schema that the tables are in.
    """
    if isinstance(database, str) and engines.is_missing(engines.parse_url(database)):
        return False
    return await on_connection(database, "read the schema", lambda connection: row_security.is_on(connection, schema))


async def upgrade(
    database: Database, revision: str = "head", *, schema: str | None = None, row_level_security: bool | None = None
) -> None:
    """Bring a database's schema to a revision; what is there already stays.

    Any number of processes may do this at once: each waits for the one before. With a connection, all happens in
    the caller's transaction, if there is one.

    Args:
        database: A URL, an engine or a connection. A missing SQLite file is made, a missing folder is not.
        revision: Which one; "head" is the newest.
        schema: On Postgres, the schema to put the tables in; it is made if it is missing.
        row_level_security: Switch it on or off, on Postgres: then every account but the owner and those with
            BYPASSRLS sees one user at a time. Left as it is if not given; tables that are new follow the others.

    Raises:
        RowLevelSecurityUnavailableError: The database cannot have it; nothing was changed.
        SchemaTooNewError: The database was upgraded by a newer version of the library.
        ForeignSchemaError: Tables with our names are there that this library did not make.
        UnsupportedEncodingError: The database's character set cannot hold every text.
        StoreUnavailableError: Somebody held a lock that was needed for too long.
        StoreFailedError: The database failed, or refused.
    """
    await _migrate(database, "upgrade", revision, schema, row_level_security)


async def set_up(engine: AsyncEngine, seconds: float) -> None:
    """Make the schema in a SQLite file that has nothing in it yet; give up after so many seconds, and a little more.

    Raises as `upgrade` does.
    """
    await _migrate(engine, "upgrade", "head", None, seconds=seconds + GRACE)


async def downgrade(database: Database, revision: str, *, schema: str | None = None) -> None:
    """Bring a database's schema back to an older revision; "base" removes it, with all that is in it.

    Raises as `upgrade` does.
    """
    await _migrate(database, "downgrade", revision, schema)


async def _migrate(
    database: Database,
    direction: str,
    revision: str,
    schema: str | None,
    row_level_security: bool | None = None,
    *,
    seconds: float | None = None,
) -> None:
    from alembic import command

    # With a transaction or a connection of the caller's, how long to wait and what to try again is his matter.
    ours = not isinstance(database, AsyncConnection)

    def migrate(connection: sa.Connection) -> None:
        if ours:
            connection.execution_options(**{engines.LOCK_SECONDS: LOCK_SECONDS})
        check_schema(connection, schema)
        config = _config()
        config.attributes.update(connection=connection, schema=schema, row_level_security=row_level_security)
        with engines.shorter_busy_timeout(connection, SQLITE_LOCK_SECONDS) if ours else nullcontext():
            getattr(command, direction)(config, revision)

    if not isinstance(revision, str) or not revision.strip():
        raise InvalidArgumentError("revision", revision, '"head", or the name of a revision')
    doing, started = f"{direction} the schema", time.monotonic()
    if seconds is None:
        seconds = engines.SQLITE_BUSY_SECONDS if _engine_name(database) == "sqlite" else UPGRADE_SECONDS
    while True:
        try:
            await on_connection(database, doing, migrate, turn=partial(_alembic_turn, doing, started, seconds))
            return
        except StoreFailedError as error:
            waited = time.monotonic() - started
            if not ours or error.__cause__ is None or not engines.is_lock_timeout(error.__cause__):
                raise
            who = _WHO_HOLDS[_engine_name(database)]
            if waited > seconds:
                raise StoreUnavailableError(doing, error.database_url, waited, f"{error.reason}; {who}") from error
            if waited < 2 * LOCK_SECONDS:
                logger.warning("could not %s in %s yet, somebody uses it: %s", doing, error.database_url, who)
        # Whoever queued up behind the lock that was asked for has his turn now.
        await asyncio.sleep(LOCK_PAUSE)


def _engine_name(database: Database) -> str:
    if not isinstance(database, AsyncEngine | AsyncConnection):
        # It refuses what is no address either.
        return engines.parse_url(database).get_backend_name()
    return database.dialect.name


@asynccontextmanager
async def _alembic_turn(doing: str, started: float, seconds: float, address: str) -> AsyncIterator[None]:
    """Hold the lock on alembic, also against other threads; whoever is cancelled while waiting never had it.

    Raises:
        StoreUnavailableError: It did not come free in time: the server of whoever has it may not answer.
    """
    # Not on a thread that waits: it would get the lock when nobody is left to give it back.
    while not (lock := _alembic_lock).acquire(blocking=False):
        waited = time.monotonic() - started
        if waited > seconds:
            reason = "another schema change of this process has not ended: one at a time can go on"
            raise StoreUnavailableError(doing, address, waited, reason)
        await asyncio.sleep(ALEMBIC_PAUSE)
    try:
        yield
    finally:
        lock.release()


def run_migrations(
    connection: sa.Connection,
    schema: str | None,
    configure: Callable[..., None],
    run: Callable[[], None],
    row_level_security: bool | None = None,
) -> None:
    """Run migrations on a connection: what migrations/env.py does, for the library and for alembic's own command.

    Args:
        connection: The connection; a transaction is begun on it if none is open.
        schema: The Postgres schema, or None.
        configure: Alembic's ``context.configure``.
        run: Alembic's ``context.run_migrations``.
        row_level_security: Switch it on or off; None: leave it as it is.
    """
    if not connection.in_transaction():
        with connection.begin():
            engines.limit_lock_waits(connection)
            run_migrations(connection, schema, configure, run, row_level_security)
        return
    if row_level_security:
        row_security.check_possible(connection)
    upgrade_lock.take(connection, schema)
    path_before = None
    if schema is not None:
        quoted = connection.dialect.identifier_preparer.quote(schema)
        path_before = connection.scalar(sa.select(sa.func.current_setting("search_path")))
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
        connection.exec_driver_sql(f"SET LOCAL search_path TO {quoted}")
    _refuse_foreign(connection, schema)
    if found_revision(connection, schema) != head():
        _check_encoding(connection)
    citus.prepare(connection)
    was_on = row_security.is_on(connection, schema)
    configure(
        connection=connection,
        target_metadata=tables.metadata,
        version_table=tables.VERSION_TABLE,
        version_table_schema=schema,
        include_name=is_ours,
        compare_type=True,
        compare_server_default=True,
        # After each: the next one may join what this one made with what is distributed already.
        on_version_apply=lambda **_: citus.distribute(connection),
    )
    run()
    if found_revision(connection, schema) is None:
        # Downgraded to nothing: alembic leaves its table behind, empty.
        sa.Table(tables.VERSION_TABLE, sa.MetaData(), schema=schema).drop(connection, checkfirst=True)
    citus.distribute(connection)
    if row_level_security or (was_on and row_level_security is None):
        # What the migrations made is to be guarded like the rest.
        row_security.switch_on(connection, schema)
    elif was_on:
        row_security.switch_off(connection, schema)
    if path_before is not None:
        # The transaction may be the caller's, and go on.
        connection.execute(sa.select(sa.func.set_config("search_path", path_before, True)))


def is_ours(name: str | None, kind: str, parents: Any) -> bool:
    """Whether it is one of the declared tables or indexes; those of the reports stand in their migration alone."""
    if kind == "index":
        return name in {index.name for table in tables.metadata.tables.values() for index in table.indexes}
    return kind != "table" or (name is not None and name in tables.metadata.tables)


def check(connection: sa.Connection, schema: str | None, address: str) -> None:
    """See that the schema is the one that this version needs.

    Raises:
        SchemaMissingError: There is none.
        SchemaTooOldError: It is older.
        SchemaTooNewError: It is newer.
        ForeignSchemaError: Tables with our names are there that this library did not make.
    """
    found = found_revision(connection, schema)
    if found == head():
        return
    if found is None:
        _refuse_foreign(connection, schema, address)
        raise SchemaMissingError(address)
    if found in REVISIONS:
        raise SchemaTooOldError(address, found, head())
    raise SchemaTooNewError(address, found, head())


def has_tables(connection: sa.Connection) -> bool:
    """Whether the database has any table at all."""
    return bool(sa.inspect(connection).get_table_names())


def check_schema(connection: sa.Connection, schema: str | None) -> None:
    """See that the tables can be in a schema of that name.

    Raises:
        InvalidArgumentError: They cannot.
    """
    if schema is None:
        return
    if engines.is_sqlite(connection):
        raise InvalidArgumentError("schema", schema, "None: SQLite has no schemas")
    is_name = isinstance(schema, str) and schema and "\x00" not in schema
    # Postgres would cut a longer one, and then not find it.
    if not is_name or len(schema.encode("utf-8", "surrogatepass")) > _LONGEST_NAME or not _is_text(schema):
        raise InvalidArgumentError("schema", schema, f"the name of a schema, of at most {_LONGEST_NAME} bytes")


def _is_text(name: str) -> bool:
    return name.encode("utf-8", "replace").decode() == name


def found_revision(connection: sa.Connection, schema: str | None) -> str | None:
    """Return what the version table says, or None if there is none."""
    check_schema(connection, schema)
    if not sa.inspect(connection).has_table(tables.VERSION_TABLE, schema=schema):
        return None
    version = sa.table(tables.VERSION_TABLE, sa.column("version_num"), schema=schema)
    return connection.scalar(sa.select(version.c.version_num))


def _refuse_foreign(connection: sa.Connection, schema: str | None, address: str | None = None) -> None:
    address = address or engines.mask(str(connection.engine.url))
    found = found_revision(connection, schema)
    if found is not None:
        if found not in REVISIONS:
            raise SchemaTooNewError(address, found, head())
        return
    names = sa.inspect(connection).get_table_names(schema=schema)
    strangers = sorted(name for name in names if name in tables.metadata.tables)
    if strangers:
        raise ForeignSchemaError(address, strangers)


def migrations_folder() -> Path:
    """Return where the migrations are: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[2]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    # A percent sign in the path would be taken for an interpolation.
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return config


async def on_connection(
    database: Database, doing: str, work: Callable[[sa.Connection], T], *, turn: Turn | None = None
) -> T:
    """Do something on a connection to a database; its failures become the library's errors.

    Whoever is cancelled, waits until the connection is given back.

    Args:
        database: A URL, an engine or a connection.
        doing: What to call it in errors.
        work: What to do.
        turn: What to enter before, when there is a connection; it takes the address.
    """
    running_loop(doing)
    return await end_at_once(_on_connection(database, doing, work, turn))


async def _on_connection(database: Database, doing: str, work: Callable[[sa.Connection], T], turn: Turn | None) -> T:
    async with _connected(database) as connection:
        address = engines.mask(str(connection.engine.url))
        try:
            async with nullcontext() if turn is None else turn(address):
                return await connection.run_sync(work)
        except TaskContextError:
            raise
        except Exception as error:
            if engines.classify(error) is engines.ErrorClass.NOT_A_DATABASE:
                raise NotADatabaseError(address) from error
            raise StoreFailedError(doing, address, engines.reason(error)) from error


def _check_encoding(connection: sa.Connection) -> None:
    """See that the database can hold every text.

    Raises:
        UnsupportedEncodingError: It cannot.
    """
    question = "PRAGMA encoding" if engines.is_sqlite(connection) else "SHOW server_encoding"
    found = str(connection.exec_driver_sql(question).scalar())
    if found.upper().replace("-", "") != "UTF8":
        raise UnsupportedEncodingError(engines.mask(str(connection.engine.url)), found)


@asynccontextmanager
async def _connected(database: Database) -> AsyncIterator[AsyncConnection]:
    """Yield a connection; whoever made an engine or a connection also closes it."""
    if isinstance(database, AsyncConnection):
        yield database
    elif isinstance(database, AsyncEngine):
        # A schema is changed in transactions, and where all share one connection they wait for each other.
        async with (
            engines.turns(database).write or nullcontext(),
            _opened(engines.with_read_committed(database)) as connection,
        ):
            yield connection
    elif isinstance(database, str):
        url = engines.parse_url(database)
        engine = engines.create_engine(url)
        try:
            async with _opened(engine) as connection:
                yield connection
        finally:
            await dispose(engine)
    else:
        raise InvalidDatabaseUrlError("***", f"it is a {type(database).__name__}")


@asynccontextmanager
async def _opened(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    address = engines.mask(str(engine.url))
    engines.prepare_file(engine.url)

    async def connect() -> AsyncConnection:
        return await engine.connect()

    # SQLite waits for no one when it is to change a file's journal, which the first connection of all asks for.
    connection = await Retrying(address, CONNECT_SECONDS).run("connect", connect)
    try:
        await engines.set_isolation(connection)
        yield connection
    finally:
        await connection.close()
