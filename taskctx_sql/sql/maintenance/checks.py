"""Checking a database, without changing anything in it."""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateIndex

from taskctx_sql import clock
from taskctx_sql.errors import InvalidDatabaseUrlError, NotADatabaseError, SchemaError, StoreFailedError
from taskctx_sql.errors.remedies import shell_command
from taskctx_sql.locations import shown_path
from taskctx_sql.model import Finding
from taskctx_sql.plain_text import counted
from taskctx_sql.sql import engines, incomplete
from taskctx_sql.sql.engines import dispose, read_only, track_threads
from taskctx_sql.sql.maintenance.search_checks import check_search_index
from taskctx_sql.sql.maintenance.sums_checks import check_daily_sums
from taskctx_sql.sql.schema import HEAD, check, citus, contexts, functions, on_connection, row_security, tables
from taskctx_sql.sql.schema.checks import found_revision, qualified
from taskctx_sql.sql.store import as_database
from taskctx_sql.stores import ContextStore

# In earlier versions, two connections that commit and checkpoint at once can corrupt a file in WAL mode.
SAFE_SQLITE: Final = (3, 51, 3)
CLOCK_SECONDS: Final = 2.0
LARGE_CONTEXT: Final = 100_000
LARGEST: Final = 5
SHORT_BUSY_TIMEOUT: Final = 5_000

_SYNCHRONOUS: Final = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


async def examine(database: str | AsyncEngine | ContextStore, schema_name: str | None) -> tuple[list[Finding], str]:
    """Return the findings about a database, and its URL with any password masked.

    An engine or a store is checked with its own settings. A SQLite file at a URL is opened read-only, with the
    settings that the library would use.
    """
    if not isinstance(database, str | AsyncEngine):
        if not hasattr(database, "database_url"):
            raise InvalidDatabaseUrlError("***", f"it is a {type(database).__name__}")
        database, schema_name = as_database(database).engine_and_schema()
    # Errors show this URL, and not the one that the file is opened by here.
    url = engines.mask(database if isinstance(database, str) else str(database.url))
    engine = _reading_engine(database) if isinstance(database, str) else database
    if isinstance(engine, Finding):
        return [engine], url
    try:
        findings = await on_connection(engine, "examine", lambda connection: list(_check(connection, schema_name, url)))
    except StoreFailedError as error:
        findings = [Finding("open", "error", str(StoreFailedError(error.doing, url, error.reason)))]
    except NotADatabaseError:
        findings = [Finding("open", "error", str(NotADatabaseError(url)))]
    except SchemaError as error:
        findings = [Finding("open", "error", str(error))]
    finally:
        if isinstance(database, str):
            await dispose(engine)
    return findings, url


def _reading_engine(address: str) -> AsyncEngine | Finding:
    url = engines.parse_url(address)
    if not engines.is_file(url):
        return engines.create_engine(url)
    path = Path(str(url.database)).absolute()
    if not path.is_file():
        reason = f"there is no file {shown_path(path)}"
        upgrade = shell_command("upgrade", database_url=engines.mask(address))
        return Finding("open", "error", reason, f"check the path, or run {upgrade}")
    # Nothing may be written, not even the files that SQLite creates when it reads.
    options = dict(parse_qsl(read_only.options(str(path)) or read_only.READING))
    reading = sa.URL.create("sqlite+aiosqlite", database=f"{path.as_uri()}", query={**options, "uri": "true"})
    engine = create_async_engine(reading, connect_args={"isolation_level": None})
    track_threads(engine)

    def set_up(connection: Any, record: Any) -> None:
        # Only settings of the connection; the journal mode belongs to the file.
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(engines.SQLITE_BUSY_SECONDS * 1000)}")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    event.listen(engine.sync_engine, "connect", set_up)
    return engine


def _check(connection: sa.Connection, name: str | None, address: str) -> Iterator[Finding]:
    yield from _settings_of_sqlite(connection) if engines.is_sqlite(connection) else _settings_of_postgres(connection)
    try:
        check(connection, name, address)
    except SchemaError as error:
        yield Finding("schema", "error", *str(error).rpartition(": ")[::2])
        return
    found = found_revision(connection, name)
    newer = "" if found == HEAD else f", which is newer than this version's {HEAD}, and can be used"
    yield Finding("schema", "ok", f"it is at {found}{newer}")
    if citus.is_installed(connection):
        remedy = f"run {shell_command('upgrade', database_url=address, schema=name)}, which distributes them"
        message = "this is a Citus cluster, and the tables are only on the coordinator"
        distributed = citus.is_distributed(connection, name)
        yield _ok_or_warning("machines", distributed, "the tables are distributed" if distributed else message, remedy)
    yield from _functions(connection, name, address)
    if row_security.is_active(connection, name):
        message = "row-level security is on, and this account sees one user at a time: nothing else can be checked"
        yield Finding("row-level-security", "error", message, "connect as the owner of the tables")
        return
    yield from _row_level_security(connection, name, address)
    # Qualify each table's name with the schema.
    connection = connection.execution_options(schema_translate_map={None: name}) if name else connection
    yield from _indexes(connection, name, address)
    yield from _orphans(connection)
    yield from _unfinished(connection)
    yield from check_search_index(connection, name, address)
    yield from check_daily_sums(connection, name, address)
    yield from _expired(connection, name, address)
    yield from _largest(connection, name, address)


def _settings_of_sqlite(connection: sa.Connection) -> Iterator[Finding]:
    version = sqlite3.sqlite_version_info
    yield _ok_or_warning(
        "sqlite",
        version >= SAFE_SQLITE,
        f"SQLite is {sqlite3.sqlite_version}",
        "before 3.51.3 two connections that commit and checkpoint at once can, very rarely, corrupt a file: "
        "use a Python with a newer SQLite",
    )
    journal = str(_pragma(connection, "journal_mode"))
    yield _ok_or_warning(
        "journal",
        journal in ("wal", "memory"),
        f"the journal is {journal}",
        "readers and writers block each other: open it once with this library, or run `PRAGMA journal_mode = WAL`",
    )
    synchronous = int(_pragma(connection, "synchronous"))
    yield _ok_or_warning(
        "synchronous",
        synchronous >= 2,
        f"synchronous is {_SYNCHRONOUS.get(synchronous, synchronous)}",
        "a power failure can lose acknowledged saves: run `PRAGMA synchronous = FULL` on each connection",
    )
    timeout = int(_pragma(connection, "busy_timeout"))
    yield _ok_or_warning(
        "busy-timeout",
        timeout >= SHORT_BUSY_TIMEOUT,
        f"the busy timeout is {timeout / 1000:g} s",
        "with several writers, saves fail as locked: run `PRAGMA busy_timeout = 60000` on each connection",
    )
    pages, free = int(_pragma(connection, "page_count")), int(_pragma(connection, "freelist_count"))
    if free > 1000 and free * 2 > pages:
        yield Finding("space", "note", f"{free / pages:.0%} of the file is free", "run `VACUUM` to release it")


def _settings_of_postgres(connection: sa.Connection) -> Iterator[Finding]:
    for name, danger in (
        ("fsync", "a crash of the machine can corrupt the database"),
        ("full_page_writes", "a crash of the machine can corrupt the database"),
        ("synchronous_commit", "a crash of the server can lose acknowledged saves"),
    ):
        value = str(connection.scalar(sa.text(f"SHOW {name}")))
        yield _ok_or_warning(name, value != "off", f"{name} is {value}", f"{danger}: set {name} = on")
    before = time.time()
    server = float(connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())::float8")) or 0)
    difference = server - (before + time.time()) / 2
    yield _ok_or_warning(
        "clock",
        abs(difference) <= CLOCK_SECONDS,
        f"the server's clock differs by {difference:+.1f} s",
        "times of several machines cannot be compared: synchronize both clocks",
    )


def _functions(connection: sa.Connection, name: str | None, address: str) -> Iterator[Finding]:
    if engines.is_sqlite(connection):
        return
    faults = list(functions.faults(connection, name))
    account = connection.dialect.identifier_preparer.quote(str(connection.scalar(sa.text("SELECT current_user"))))
    for function, fault in faults:
        called = qualified(connection, name, function.signature)
        upgrade = shell_command("upgrade", database_url=address, schema=name)
        remedy = f"run {upgrade} as the owner of the tables, which creates it anew"
        if fault is functions.Fault.DENIED:
            remedy = f"as the owner of the tables, run `GRANT EXECUTE ON FUNCTION {called} TO {account}`"
        yield Finding("functions", "error", f"the function {called} {fault.value}", remedy)
    if not faults:
        yield Finding("functions", "ok", "all functions are there, as this version ships them")


def _row_level_security(connection: sa.Connection, name: str | None, address: str) -> Iterator[Finding]:
    if not row_security.is_on(connection, name):
        return
    unguarded = row_security.unguarded(connection, name)
    what = f"but not for {', '.join(unguarded)}" if unguarded else "and this account sees all rows"
    remedy = f"run {shell_command('upgrade', '--row-level-security', database_url=address, schema=name)}"
    yield _ok_or_warning("row-level-security", not unguarded, f"row-level security is on, {what}", remedy)


def _indexes(connection: sa.Connection, name: str | None, address: str) -> Iterator[Finding]:
    inspector = sa.inspect(connection)
    missing = 0
    for table in tables.metadata.sorted_tables:
        key = inspector.get_pk_constraint(table.name, schema=name)["constrained_columns"]
        wanted = [column.name for column in table.primary_key.columns]
        if key != wanted:
            missing += 1
            anew = shell_command("copy", address, "NEW", schema=name)
            remedy = f"restore the table from a backup, or copy the database into a new one: {anew}"
            yield Finding("indexes", "error", f"the key of {table.name} is not ({', '.join(wanted)})", remedy)
        with warnings.catch_warnings():
            # SQLAlchemy cannot read expression indexes from SQLite. Without them only reports are slower.
            warnings.filterwarnings(
                "ignore", "Skipped unsupported reflection of expression-based index", sa.exc.SAWarning
            )
            indexes = [tuple(index["column_names"]) for index in inspector.get_indexes(table.name, schema=name)]
        for index in table.indexes:
            if tuple(column.name for column in index.columns) not in indexes:
                missing += 1
                statement = " ".join(str(CreateIndex(index).compile(dialect=connection.dialect)).split())
                yield Finding("indexes", "warning", f"the index {index.name} is missing", f"run `{statement}`")
    if not missing:
        yield Finding("indexes", "ok", "all indexes are there")


def _orphans(connection: sa.Connection) -> Iterator[Finding]:
    orphans = 0
    for table in incomplete.PARTS:
        # Each id once, because a history has many rows.
        ids = sa.select(table.c.context_id).distinct().subquery()
        both = ids.outerjoin(contexts, contexts.c.context_id == ids.c.context_id)
        alone = sa.select(sa.func.count()).select_from(both).where(contexts.c.context_id.is_(None))
        count = connection.scalar(alone) or 0
        if count:
            orphans += 1
            message = f"{table.name} has rows of {counted(count, 'context')} without an entry in {contexts.name}"
            existing = sa.select(contexts.c.context_id).scalar_subquery()
            statement = str(sa.delete(table).where(table.c.context_id.not_in(existing)))
            yield Finding("orphans", "warning", message, f"run `{' '.join(statement.split())}`")
    if not orphans:
        yield Finding("orphans", "ok", "every row has its context")


def _unfinished(connection: sa.Connection) -> Iterator[Finding]:
    count = connection.scalar(sa.select(sa.func.count()).where(contexts.c.revision == 0)) or 0
    if count:
        message = f"not completely copied or removed, so that it cannot be read: {counted(count, 'context')}"
        remedy = "run the copy, prune or erase that was interrupted again"
        yield Finding("unfinished", "warning", message, remedy)
    c = tables.updates.c
    beyond = sa.exists().where(c.context_id == contexts.c.context_id, c.seq >= contexts.c.next_seq)
    wrong = connection.scalar(sa.select(sa.func.count()).where(contexts.c.revision > 0, beyond)) or 0
    if wrong:
        message = f"updates beyond the next number, so that saves fail: in {counted(wrong, 'context')}"
        yield Finding("numbers", "error", message, "run the interrupted copy again, or restore a backup")


def _expired(connection: sa.Connection, name: str | None, address: str) -> Iterator[Finding]:
    expired = tables.state.c.expires_at <= clock.now()
    if count := connection.scalar(sa.select(sa.func.count()).where(expired)) or 0:
        prune = shell_command("prune", "--expired", database_url=address, schema=name)
        entries = counted(count, "state entry")
        yield Finding("expired", "note", f"{entries} that nobody reads any more: they have expired", f"run {prune}")


def _largest(connection: sa.Connection, name: str | None, address: str) -> Iterator[Finding]:
    statement = sa.select(contexts.c.user_id, contexts.c.chat_id, contexts.c.next_seq - 1)
    total = connection.scalar(sa.select(sa.func.count()).where(contexts.c.revision > 0)) or 0
    yield Finding("contexts", "ok", f"the store has {counted(total, 'context')}")
    prune = shell_command("prune", "--removed", "30d", database_url=address, schema=name)
    for user, chat, count in connection.execute(statement.order_by(contexts.c.next_seq.desc()).limit(LARGEST)):
        remedy = f"load it with history_limit, or run {prune}" if count > LARGE_CONTEXT else ""
        yield Finding("largest", "note", f"context ({user!r}, {chat!r}) has {counted(count, 'update')}", remedy)


def _pragma(connection: sa.Connection, name: str) -> Any:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def _ok_or_warning(check: str, ok: bool, message: str, remedy: str) -> Finding:
    return Finding(check, "ok", message) if ok else Finding(check, "warning", message, remedy)
