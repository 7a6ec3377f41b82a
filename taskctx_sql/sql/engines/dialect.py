"""Every difference between the engines, in one place."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.exc import DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import NullPool, StaticPool
from sqlalchemy.sql.compiler import SQLCompiler

from taskctx_sql.errors import MissingDriverError, StoreFailedError
from taskctx_sql.locations import check_file
from taskctx_sql.sql.engines import dispose, read_only
from taskctx_sql.sql.engines.addresses import driver_settings, is_memory, is_pooled, made_of_uri, mask, parse_url

# The rest of the package has them from here.
__all__ = ["is_memory", "is_pooled", "mask", "parse_url"]

# Eight processes that append to one file waited 4.3 s at the most (80,000 saves).
SQLITE_BUSY_SECONDS: Final = 60.0

# An arbitrary number, the same in every version of the library: whoever makes a schema holds it.
UPGRADE_LOCK: Final = 0x7461736B637478

# An option of an engine: its connections are to have this isolation while we use them.
READ_COMMITTED: Final = "taskctx_read_committed"
# An option of a connection: how long the changes of a schema wait for a lock at a time.
LOCK_SECONDS: Final = "taskctx_lock_seconds"

# SQLSTATE classes that say "not now": connection, resources, operator intervention, rollback; and lock timeouts.
_TRANSIENT_CLASSES: Final = ("08", "53", "57", "40")
_TRANSIENT_STATES: Final = ("55P03", "25006")
# Of a class that passes, and yet about what one transaction asks for: a limit of the configuration.
_FINAL_STATES: Final = ("53400",)
# Classes after which, at COMMIT, nobody knows if it happened: the above, and failures of the server itself.
_UNKNOWN_CLASSES: Final = (*_TRANSIENT_CLASSES, "58", "F0", "XX")
# Classes that blame neither the server nor what is written: states of transactions and cursors, names, the schema.
_OTHER_CLASSES: Final = ("25", "26", "28", "34", "3D", "3F", "42", "55")
# In milliseconds: Postgres takes no more.
_LONGEST_LOCK_TIMEOUT: Final = 2**31 - 1
# Writing was asked of a server that only reads: after a failover, the old primary.
_READ_ONLY_STATE: Final = "25006"
# A lock was waited for as long as lock_timeout says.
_LOCKED_STATE: Final = "55P03"


class Verdict(Enum):
    """What an error of an engine means."""

    TRANSIENT = "try again"
    NOT_A_DATABASE = "the file is something else"
    FINAL = "trying again would not help"


def create_engine(
    url: sa.URL,
    *,
    transaction_pooling: bool = False,
    connect_seconds: float | None = None,
    lock_seconds: float | None = None,
) -> AsyncEngine:
    """Return an engine of ours, with the settings that the promises rest on.

    Args:
        url: What to connect to.
        transaction_pooling: Whether a pooler may give each transaction another connection of the server: then nothing
            may outlive a transaction, prepared statements least of all. The URL may say it too.
        connect_seconds: On Postgres, how long at most a connection may take to come about.
        lock_seconds: How long at most a statement waits for somebody else's lock.

    Raises:
        MissingDriverError: Its driver is not installed.
    """
    try:
        if url.get_backend_name() == "sqlite":
            if is_file(url):
                # Connections come and go: a program that changes its folder still means the same file.
                url = url.set(database=str(Path(str(url.database)).absolute()))
            pool: dict[str, Any] = {"pool_size": 5, "max_overflow": 10}
            if is_memory(url):
                pool = {"poolclass": StaticPool}
            elif is_plain_file(url) and read_only.options(str(url.database)) is not None:
                # A connection that takes the file for unchanging is not kept: others may write to it.
                pool = {"poolclass": NullPool}
            threads = dispose.Threads()
            engine = create_async_engine(
                url,
                # What people store does not belong in messages and tracebacks.
                hide_parameters=True,
                connect_args={
                    "timeout": busy_seconds(lock_seconds),
                    "isolation_level": None,
                    "async_creator_fn": threads.connect,
                },
                **pool,
            )
            threads.belong_to(engine)
            if is_plain_file(url):
                event.listen(engine.sync_engine, "do_connect", _connect_read_only)
            event.listen(engine.sync_engine, "connect", partial(set_up_sqlite, lock_seconds=lock_seconds))
            event.listen(engine.sync_engine.pool, "invalidate", _release_sqlite)
            return engine
        pooled = transaction_pooling or is_pooled(url)
        url, settings = driver_settings(url)
        if connect_seconds is not None:
            settings["timeout"] = connect_seconds
        if pooled:
            settings |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
        elif lock_seconds is not None:
            # A pooler may not know it. One that the address names stays.
            limit = {"lock_timeout": str(int(min(max(1, lock_seconds * 1000), _LONGEST_LOCK_TIMEOUT)))}
            settings["server_settings"] = limit | settings.get("server_settings", {})
        return create_async_engine(url, hide_parameters=True, pool_size=10, max_overflow=10, connect_args=settings)
    except (ImportError, NoSuchModuleError) as error:
        raise MissingDriverError("Postgres", "postgres") from error


def _connect_read_only(dialect: Any, record: Any, arguments: list[Any], settings: dict[str, Any]) -> None:
    how = read_only.options(arguments[0])
    if how is not None:
        arguments[0], settings["uri"] = read_only.address(arguments[0], how), True


def is_plain_file(url: sa.URL) -> bool:
    """Whether a URL names a SQLite file by its path, without settings of the caller's."""
    return is_file(url) and not url.query


def is_sqlite(engine: AsyncEngine | AsyncConnection | sa.Connection) -> bool:
    """Whether the engine is SQLite."""
    return engine.dialect.name == "sqlite"


def connect_sqlite(path: str, lock_seconds: float | None = None) -> sqlite3.Connection:
    """Return a connection of SQLite's own driver, for one thread at a time, with our settings.

    A file that is not there any more is an error, and not made anew: it would be empty.
    """
    connection = sqlite3.connect(
        read_only.address(path, read_only.options(path) or "mode=rw"),
        uri=True,
        timeout=busy_seconds(lock_seconds),
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        set_up_sqlite(connection, None, lock_seconds=lock_seconds)
    except BaseException:
        connection.close()
        raise
    return connection


def look_at_sqlite(path: str) -> sqlite3.Connection:
    """Return a connection of SQLite's own driver, for one thread at a time, that changes no setting of the file."""
    return sqlite3.connect(
        f"{Path(path).as_uri()}?mode=rw", uri=True, timeout=1, isolation_level=None, check_same_thread=False
    )


def has_data_version(engine: AsyncEngine) -> bool:
    """Whether another connection can tell that the engine's database was written, by ``PRAGMA data_version``.

    A database in memory has only one. Another driver may bring a SQLite of its own, and two of them in one process
    drop each other's locks on a file.
    """
    return is_file(engine.url) and engine.driver == "aiosqlite"


def can_listen(engine: AsyncEngine, *, transaction_pooling: bool) -> bool:
    """Whether a connection of the engine can LISTEN: what a pooler lends for a transaction hears nothing later."""
    return engine.driver == "asyncpg" and not transaction_pooling


def is_file(url: sa.URL) -> bool:
    """Whether a URL names a SQLite file by its path."""
    named = url.get_backend_name() == "sqlite" and not is_memory(url)
    return named and not str(url.database).startswith("file:")


def file_identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from another one that takes its name later; None if there is none."""
    try:
        # Asked at each save and each read, where making a Path would take four times as long as asking.
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_missing(url: sa.URL) -> bool:
    """Whether a URL names a SQLite file that is not there."""
    return is_file(url) and not Path(str(url.database)).exists()


def prepare_file(url: sa.URL) -> None:
    """Make a SQLite file that does not exist yet, so that it is its owner's alone.

    Raises:
        StoreFailedError: It can be neither made nor read. Found out here, because aiosqlite leaves a thread behind
            when it cannot open a file.
        OSError: The process, or the machine, may open no more files now.
    """
    path = Path(str(url.database)) if is_file(url) else made_of_uri(url)
    if path is None:
        return
    try:
        # One at a time, so that nobody here opens a file while another one makes it.
        with _making:
            is_there = path.exists()
            if not is_there:
                _make_private(path)
        if is_there and not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        for part in _PARTS:
            _check_part(path, part)
    except OSError as error:
        # Not from the error itself: the path in it may hold what the address must not show.
        cause = OSError(error.errno, error.strerror)
        if error.errno in _NO_FILES_LEFT:
            raise cause from None
        remedy = _REMEDIES[sqlite3.SQLITE_CANTOPEN]
        raise StoreFailedError("open the file", mask(str(url)), f"{error.strerror}: {remedy}") from cause


# SQLite opens what has these names beside its file, and would wait for a FIFO's writer for ever.
_PARTS: Final = ("", "-journal", "-wal", "-shm")


def _check_part(path: Path, part: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        status = Path(f"{path}{part}").stat()
        try:
            check_file(path, status)
        except OSError as error:
            name = f"what ends in {part}: " if part else ""
            raise OSError(error.errno, f"{name}{error.strerror}") from None


_making: Final = threading.Lock()

_NO_FILES_LEFT: Final = (errno.EMFILE, errno.ENFILE)
# What a connection needs: the file, its log, their index, and one for the folder.
_FILES_NEEDED: Final = 4


def _has_no_files_left(error: BaseException) -> bool:
    """Whether SQLite could not open its files because no more may be opened: it has the same word for all causes."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_CANTOPEN:
        return False
    with contextlib.ExitStack() as opened:
        try:
            for _ in range(_FILES_NEEDED):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as failure:
            return failure.errno in _NO_FILES_LEFT
    return False


def _make_private(path: Path) -> None:
    # Through a link: what it names is made, and would not be private otherwise.
    path = Path(os.path.realpath(path))
    # Never opened under its own name: closing a descriptor of a file drops all locks that the process has on it,
    # those of its other connections included, and then another process may take the log away under them.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:
            # FAT and many network and shared folders have no links. Whoever makes it, it is still empty here.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def busy_seconds(lock_seconds: float | None) -> float:
    """Return how long SQLite is to wait for a lock, if a store waits no longer than that."""
    return SQLITE_BUSY_SECONDS if lock_seconds is None else min(SQLITE_BUSY_SECONDS, lock_seconds)


def wait_for_locks(connection: Any, seconds: float) -> None:
    """Let a connection of SQLite's driver, or a cursor of one, wait so long for a lock from now on."""
    connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")


@contextlib.contextmanager
def short_waits(connection: sa.Connection, seconds: float) -> Iterator[None]:
    """In the block a connection of SQLite waits no longer than that for a lock. Others it leaves as they are."""
    if not is_sqlite(connection):
        yield
        return
    # Past SQLAlchemy, which would begin a transaction.
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA busy_timeout")
    ((before,),) = cursor.fetchall()
    wait_for_locks(cursor, min(seconds, before / 1000))
    try:
        yield
    finally:
        wait_for_locks(cursor, before / 1000)
        cursor.close()


def set_up_sqlite(connection: Any, record: Any, *, lock_seconds: float | None = None) -> None:
    """Make the settings that the promises rest on, on a new connection of SQLite's driver."""
    cursor = connection.cursor()
    wait_for_locks(cursor, busy_seconds(lock_seconds))
    if not read_only.is_read_only(cursor):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # The address may say that the file is only read, wherever it is.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise
    # FULL: an acknowledged commit survives a power cut. NORMAL loses all since the last checkpoint.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _release_sqlite(connection: Any, record: Any, error: Any) -> None:
    # A connection that is thrown away with a live cursor would hold the write lock until it is collected.
    driver = connection.driver_connection
    raw = getattr(driver, "_connection", None)
    if raw is not None:
        driver._tx.put_nowait((None, raw.rollback))


@asynccontextmanager
async def transaction(engine: AsyncEngine, *, write: bool) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in a transaction that commits at the end.

    SQLite takes the write lock at the beginning: a transaction that reads first and then writes would fail
    at once when another writer came between, whatever the busy timeout.
    """
    async with engine.connect() as connection:
        await set_isolation(connection)
        async with connection.begin():
            if is_sqlite(engine):
                await _begin_sqlite(connection, "BEGIN IMMEDIATE" if write else "BEGIN")
            yield connection


async def set_isolation(connection: AsyncConnection) -> None:
    """Set the isolation of a connection of the caller's engine, until it is given back."""
    # On the connection: the option of an engine that comes from another one is overruled by that of the other one.
    if connection.sync_connection is not None and READ_COMMITTED in connection.sync_connection.get_execution_options():
        await connection.execution_options(isolation_level="READ COMMITTED")


async def _begin_sqlite(connection: AsyncConnection, statement: str) -> None:
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    # Somebody's own engine may have listeners that begin by themselves.
    if driver is not None and not driver.in_transaction:
        await connection.exec_driver_sql(statement)


def limit_locks(connection: sa.Connection) -> None:
    """In a transaction of Postgres that is open already, wait for each lock no longer than the connection's option."""
    seconds = connection.get_execution_options().get(LOCK_SECONDS)
    if seconds is not None and not is_sqlite(connection):
        connection.execute(sa.select(sa.func.set_config("lock_timeout", f"{int(seconds * 1000)}ms", True)))


def begin_write(connection: sa.Connection) -> None:
    """In a transaction of SQLite that is open already, take what keeps other writers away until its end."""
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


_SQLITE: Final = sqlite.dialect()
_ASYNCPG: Final = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


def driver_dialect(engine: str) -> sa.Dialect:
    """Return what compiles statements for an engine's own driver."""
    return _SQLITE if engine == "sqlite" else _ASYNCPG


def as_utf8(engine: str, text: sa.ColumnElement[str]) -> sa.ColumnElement[bytes]:
    """Return a text as bytes, in UTF-8."""
    return sa.cast(text, sa.LargeBinary) if engine == "sqlite" else sa.func.convert_to(text, "UTF8")


def is_in_list(engine: str, column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
    """Return whether a column is one of a parameter's values, however many: `list_value` makes the parameter."""
    if engine == "sqlite":
        each = sa.func.json_each(sa.bindparam(name, type_=sa.Text)).table_valued("value")
        return column.in_(sa.select(each.c.value))
    return column == sa.any_(sa.bindparam(name, type_=postgresql.ARRAY(column.type)))


def list_value(engine: str, values: Sequence[Any]) -> Any:
    """Return a list as the engine's driver takes it for one parameter."""
    return json.dumps(list(values)) if engine == "sqlite" else list(values)


# As the index on it has it: see the migration that makes it.
_GROUP_OF_UPDATE: Final = {
    "sqlite": "CASE WHEN instr(metadata, '\"group\"') > 0 THEN CAST(json_extract(metadata, '$.group') AS TEXT) END",
    "postgresql": "CASE WHEN strpos(metadata, '\"group\"') > 0 THEN md5(CAST(metadata AS jsonb) ->> 'group') END",
}


def group_of_update(engine: str) -> sa.ColumnElement[str | None]:
    """Return what stands for the group that an update's metadata names; NULL if it names none."""
    return sa.literal_column(_GROUP_OF_UPDATE[engine], sa.Text)


class contains(sa.ColumnElement[bool]):  # noqa: N801  # it is used like a function
    """Whether a text has another one in it; the case of ASCII letters need not count, that of others does."""

    inherit_cache = False
    type = sa.Boolean()

    def __init__(self, text: sa.ColumnElement[str], part: str, *, case_sensitive: bool) -> None:
        """Take where to look, and what for."""
        if not case_sensitive:
            part = "".join(letter.lower() if letter.isascii() else letter for letter in part)
        self.text, self.part, self.case_sensitive = text, sa.literal(part, sa.Text), case_sensitive


@compiles(contains, "sqlite")
def _contains_on_sqlite(element: contains, compiler: SQLCompiler, **options: Any) -> str:
    text = element.text if element.case_sensitive else sa.func.lower(element.text)
    return compiler.process(sa.func.instr(text, element.part) > 0, **options)


@compiles(contains, "postgresql")
def _contains_on_postgres(element: contains, compiler: SQLCompiler, **options: Any) -> str:
    # In this collation lower() knows ASCII alone, as SQLite's does.
    text = element.text if element.case_sensitive else sa.func.lower(element.text.collate("C"))
    return compiler.process(sa.func.strpos(text, element.part) > 0, **options)


def insert(engine: str, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """Return the INSERT of an engine, by its name, for its ON CONFLICT."""
    return sqlite.insert(table) if engine == "sqlite" else postgresql.insert(table)


def sqlstate(error: BaseException) -> str | None:
    """Return the five characters with which Postgres names an error, or None."""
    for at in (error, getattr(error, "orig", None), error.__cause__):
        state = getattr(at, "sqlstate", None)
        if isinstance(state, str):
            return state
    return None


def judge(error: BaseException) -> Verdict:
    """Tell what an error means for the caller."""
    if isinstance(error, OSError | PoolTimeoutError):
        # asyncpg's failures to connect are bare OSErrors.
        return Verdict.TRANSIENT
    state = sqlstate(error)
    if state is not None:
        passes = state[:2] in _TRANSIENT_CLASSES and state not in _FINAL_STATES
        transient = passes or state in _TRANSIENT_STATES
        return Verdict.TRANSIENT if transient else Verdict.FINAL
    if _is_out_of_step(error):
        return Verdict.TRANSIENT
    orig = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(orig, sqlite3.Error):
        code = getattr(orig, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            return Verdict.NOT_A_DATABASE
        if _has_no_files_left(orig):
            return Verdict.TRANSIENT
        return Verdict.TRANSIENT if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) else Verdict.FINAL
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return Verdict.TRANSIENT
    return Verdict.FINAL


def tells_of_failover(error: BaseException) -> bool:
    """Whether an error says that the connection leads to a server that only reads."""
    return sqlstate(error) == _READ_ONLY_STATE


def breaks_connection(error: BaseException) -> bool:
    """Whether the connection that an error came from is of no use any more, though it may look whole."""
    return tells_of_failover(error) or _is_out_of_step(error)


def waited_for_lock(error: BaseException) -> bool:
    """Whether an error says that a lock was waited for as long as is allowed; nothing was done."""
    orig = error.orig if isinstance(error, DBAPIError) else error
    is_busy = isinstance(orig, sqlite3.Error) and getattr(orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    return is_busy or sqlstate(error) == _LOCKED_STATE


def _is_out_of_step(error: BaseException) -> bool:
    """Whether asyncpg lost track of what the server sent; its error is none of the driver's usual ones."""
    causes = (error, getattr(error, "orig", None), error.__cause__)
    return any(
        kind.__name__ == "InternalClientError" and kind.__module__.startswith("asyncpg")
        for cause in causes
        for kind in type(cause).__mro__
    )


# What Postgres says of prepared statements that it does not know, or knows already.
_LOST_STATEMENT_STATES: Final = ("26000", "42P05", "08P01")

# What Postgres says of a missing privilege, and of row-level security.
_DENIED_STATE: Final = "42501"

_COPY_IT: Final = (
    "to read it all the same, copy it, with the file ending in -wal if there is one, to where you may write"
)

# What to do about what SQLite says, by its code.
_REMEDIES: Final = {
    sqlite3.SQLITE_CANTOPEN: f"check that the folder exists and that the file may be opened; {_COPY_IT}",
    sqlite3.SQLITE_READONLY: f"check the permissions of the file and its folder; {_COPY_IT}",
    sqlite3.SQLITE_FULL: "the disk is full: nothing that was saved is lost, and saving goes on when there is room",
    sqlite3.SQLITE_CORRUPT: "run `PRAGMA integrity_check`, and restore the file from a backup",
    sqlite3.SQLITE_BUSY: "another process holds the file",
}


def reason(error: BaseException) -> str:
    """Return what an engine said, in one line and without the statement and its values, and what to do about it."""
    orig = (error.orig or error) if isinstance(error, DBAPIError) else error
    said = f"{type(orig).__name__}: {' '.join(str(orig).split())}"
    remedy = _REMEDIES.get(getattr(orig, "sqlite_errorcode", 0) & 0xFF)
    if _has_no_files_left(orig) or (isinstance(orig, OSError) and orig.errno in _NO_FILES_LEFT):
        remedy = "too many open files: close stores that are not used, or raise the limit (ulimit -n)"
    if sqlstate(error) in _LOST_STATEMENT_STATES:
        remedy = "behind a pooler in transaction mode, open the store with transaction_pooling=True"
    elif sqlstate(error) == _DENIED_STATE:
        remedy = (
            "check what is granted to the account, and after row-level security was switched on, open the store again; "
            "if one context alone is refused, somebody else has its context_id: look for the row as the owner"
        )
    return f"{said}: {remedy}" if remedy else said


def is_denied(error: BaseException) -> bool:
    """Whether an error says that the file, or the account, may not write."""
    orig = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(orig, "sqlite_errorcode", 0)
    # Others by their number: a file that was moved away, say, is no place where nothing may be written.
    known = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_READONLY_CANTINIT, sqlite3.SQLITE_READONLY_DIRECTORY)
    return sqlstate(error) == _DENIED_STATE or code in known


def is_refusal(error: BaseException) -> bool:
    """Whether the database refuses what a transaction holds, so that the same will be refused again."""
    state = sqlstate(error)
    if state is not None:
        # Whatever a trigger raises is of a class of its own choice, so those that mean something else are named.
        named = (_DENIED_STATE, *_FINAL_STATES)
        return state in named or state[:2] not in (*_UNKNOWN_CLASSES, *_OTHER_CLASSES)
    orig = error.orig if isinstance(error, DBAPIError) else error
    refusals = (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH)
    return isinstance(orig, sqlite3.Error) and getattr(orig, "sqlite_errorcode", 0) & 0xFF in refusals


def is_raised_by_writing(error: BaseException) -> bool:
    """Whether only the writing of rows raises an error, so that a save was past its look for an earlier copy."""
    state = sqlstate(error)
    if state is not None:
        # A privilege may be missing for the look as well.
        return state != _DENIED_STATE and is_refusal(error)
    orig = error.orig if isinstance(error, DBAPIError) else error
    is_full = isinstance(orig, sqlite3.Error) and getattr(orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return is_full or is_refusal(error)


def is_in_doubt_at_commit(error: BaseException) -> bool:
    """Whether an error that came from COMMIT leaves open if it happened."""
    state = sqlstate(error)
    if state is not None:
        return state[:2] in _UNKNOWN_CLASSES and state not in (_LOCKED_STATE, *_FINAL_STATES)
    orig = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(orig, sqlite3.Error):
        # After these SQLite still has the transaction, and it is rolled back; after an I/O error it may not. In a
        # damaged file nothing is worth another try.
        code = getattr(orig, "sqlite_errorcode", 0) & 0xFF
        definite = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CORRUPT)
        return code not in definite
    return True
