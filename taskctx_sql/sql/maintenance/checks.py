"""Looking a database over, without changing anything in it."""

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

from taskctx_sql.errors import NotADatabaseError, SchemaError, StoreFailedError
from taskctx_sql.locations import shown_path
from taskctx_sql.model import Finding, Level
from taskctx_sql.sql import engines
from taskctx_sql.sql.engines import dispose, read_only, track_threads
from taskctx_sql.sql.schema import (
    citus,
    contexts,
    files,
    migrate,
    models,
    revisions,
    row_security,
    runs,
    tables,
    updates,
)

# Before it, two connections that commit and checkpoint at once could corrupt a file in WAL mode.
SAFE_SQLITE: Final = (3, 51, 3)
CLOCK_SECONDS: Final = 2.0
LARGE_CONTEXT: Final = 100_000
LARGEST: Final = 5
SHORT_BUSY_TIMEOUT: Final = 5_000

_SYNCHRONOUS: Final = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


async def examine(database: str | AsyncEngine, schema_name: str | None) -> list[Finding]:
    """Return what is to be said of a database.

    An engine of the caller's is examined as it is set; for an address, a SQLite file is opened for reading only, and
    its connection's settings are those that the library would make.

    Raises:
        InvalidDatabaseUrlError: The address names no database.
        StoreError: It could not be read at all.
    """
    engine = _reading_engine(database) if isinstance(database, str) else database
    if isinstance(engine, Finding):
        return [engine]
    try:
        # Not the address that it is opened by for this.
        shown = engines.mask(database if isinstance(database, str) else str(database.url))
        return await migrate.on_connection(
            engine, "examine", lambda connection: list(_look(connection, schema_name, shown))
        )
    except StoreFailedError as error:
        return [Finding("open", "error", str(StoreFailedError(error.doing, shown, error.reason)))]
    except NotADatabaseError:
        return [Finding("open", "error", str(NotADatabaseError(shown)))]
    except SchemaError as error:
        return [Finding("open", "error", str(error))]
    finally:
        if isinstance(database, str):
            await dispose(engine)


def _reading_engine(address: str) -> AsyncEngine | Finding:
    url = engines.parse_url(address)
    if not engines.is_file(url):
        return engines.create_engine(url)
    path = Path(str(url.database)).absolute()
    if not path.is_file():
        reason = f"there is no file {shown_path(path)}"
        return Finding("open", "error", reason, "check the path, or run `taskctx upgrade URL`")
    # Where nothing may be written, not even the files that SQLite makes to read.
    how = dict(parse_qsl(read_only.options(str(path)) or read_only.READING))
    reading = sa.URL.create("sqlite+aiosqlite", database=f"{path.as_uri()}", query={**how, "uri": "true"})
    engine = create_async_engine(reading, connect_args={"isolation_level": None})
    track_threads(engine)

    def set_up(connection: Any, record: Any) -> None:
        # What lasts for the connection only; the journal's mode is the file's own.
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(engines.SQLITE_BUSY_SECONDS * 1000)}")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    event.listen(engine.sync_engine, "connect", set_up)
    return engine


def _look(connection: sa.Connection, name: str | None, address: str) -> Iterator[Finding]:
    yield from _settings_of_sqlite(connection) if engines.is_sqlite(connection) else _settings_of_postgres(connection)
    try:
        migrate.check(connection, name, address)
    except SchemaError as error:
        yield Finding("schema", "error", *str(error).rpartition(": ")[::2])
        return
    yield Finding("schema", "ok", f"it is at {migrate.head()}")
    if citus.is_installed(connection):
        there = citus.is_distributed(connection, name)
        message = (
            "the tables are distributed" if there else "this is a Citus, and the tables are on the coordinator alone"
        )
        yield _found("machines", there, message, "run `taskctx upgrade`, which distributes them")
    if row_security.is_active(connection, name):
        message = "row-level security is on, and shows this account one user at a time: nothing else can be told"
        yield Finding("row-level security", "error", message, "connect as the owner of the tables")
        return
    yield from _row_level_security(connection, name)
    # SQLAlchemy puts it before each table's name.
    connection = connection.execution_options(schema_translate_map={None: name}) if name else connection
    yield from _indexes(connection, name)
    yield from _orphans(connection)
    yield from _unfinished(connection)
    yield from _largest(connection)


def _settings_of_sqlite(connection: sa.Connection) -> Iterator[Finding]:
    version = sqlite3.sqlite_version_info
    yield _found(
        "sqlite",
        version >= SAFE_SQLITE,
        f"SQLite is {sqlite3.sqlite_version}",
        "before 3.51.3 two connections that commit and checkpoint at once can, very rarely, corrupt a file: "
        "use a Python with a newer SQLite",
    )
    journal = str(_pragma(connection, "journal_mode"))
    yield _found(
        "journal",
        journal in ("wal", "memory"),
        f"the journal is {journal}",
        "readers and writers stop each other: open it once with this library, or run `PRAGMA journal_mode = WAL`",
    )
    synchronous = int(_pragma(connection, "synchronous"))
    yield _found(
        "synchronous",
        synchronous >= 2,
        f"synchronous is {_SYNCHRONOUS.get(synchronous, synchronous)}",
        "a power cut loses saves that were acknowledged: run `PRAGMA synchronous = FULL` on each connection",
    )
    timeout = int(_pragma(connection, "busy_timeout"))
    yield _found(
        "busy timeout",
        timeout >= SHORT_BUSY_TIMEOUT,
        f"the busy timeout is {timeout / 1000:g} s",
        "with several writers saves fail as locked: run `PRAGMA busy_timeout = 60000` on each connection",
    )
    pages, free = int(_pragma(connection, "page_count")), int(_pragma(connection, "freelist_count"))
    if free > 1000 and free * 2 > pages:
        yield Finding("space", "note", f"{free / pages:.0%} of the file is free", "run `VACUUM` to give it back")


def _settings_of_postgres(connection: sa.Connection) -> Iterator[Finding]:
    for name, danger in (
        ("fsync", "a crash of the machine can corrupt the database"),
        ("full_page_writes", "a crash of the machine can corrupt the database"),
        ("synchronous_commit", "a crash of the server loses saves that were acknowledged"),
    ):
        value = str(connection.scalar(sa.text(f"SHOW {name}")))
        yield _found(name, value != "off", f"{name} is {value}", f"{danger}: set {name} = on")
    before = time.time()
    there = float(connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())::float8")) or 0)
    difference = there - (before + time.time()) / 2
    yield _found(
        "clock",
        abs(difference) <= CLOCK_SECONDS,
        f"the server's clock differs by {difference:+.1f} s",
        "times of several machines do not compare: let both follow one time server",
    )


def _row_level_security(connection: sa.Connection, name: str | None) -> Iterator[Finding]:
    if not row_security.is_on(connection, name):
        return
    unguarded = row_security.unguarded(connection, name)
    yield _found(
        "row-level security",
        not unguarded,
        f"it is on, but not for {', '.join(unguarded)}" if unguarded else "it is on; this account sees all rows",
        "run `taskctx upgrade --row-level-security`",
    )


def _indexes(connection: sa.Connection, name: str | None) -> Iterator[Finding]:
    inspector = sa.inspect(connection)
    missing = 0
    for table in tables.metadata.sorted_tables:
        key = inspector.get_pk_constraint(table.name, schema=name)["constrained_columns"]
        wanted = [column.name for column in table.primary_key.columns]
        if key != wanted:
            missing += 1
            remedy = "restore the table from a backup, or copy the database into a new one with `taskctx copy`"
            yield Finding("indexes", "error", f"the key of {table.name} is not ({', '.join(wanted)})", remedy)
        with warnings.catch_warnings():
            # SQLAlchemy cannot read the reports' indexes by day from SQLite: without them reports are slow, no more.
            warnings.filterwarnings(
                "ignore", "Skipped unsupported reflection of expression-based index", sa.exc.SAWarning
            )
            there = [tuple(index["column_names"]) for index in inspector.get_indexes(table.name, schema=name)]
        for index in table.indexes:
            if tuple(column.name for column in index.columns) not in there:
                missing += 1
                statement = " ".join(str(CreateIndex(index).compile(dialect=connection.dialect)).split())
                yield Finding("indexes", "warning", f"the index {index.name} is missing", f"run `{statement}`")
    if not missing:
        yield Finding("indexes", "ok", "all indexes are there")


def _orphans(connection: sa.Connection) -> Iterator[Finding]:
    orphans = 0
    for table in (updates, models, files, runs, revisions):
        # Each id once: a history has many rows.
        ids = sa.select(table.c.context_id).distinct().subquery()
        both = ids.outerjoin(contexts, contexts.c.context_id == ids.c.context_id)
        alone = sa.select(sa.func.count()).select_from(both).where(contexts.c.context_id.is_(None))
        count = connection.scalar(alone) or 0
        if count:
            orphans += 1
            message = f"{table.name} has rows of {count:,} contexts that are not there"
            there = sa.select(contexts.c.context_id).scalar_subquery()
            statement = str(sa.delete(table).where(table.c.context_id.not_in(there)))
            yield Finding("orphans", "warning", message, f"run `{' '.join(statement.split())}`")
    if not orphans:
        yield Finding("orphans", "ok", "every row has its context")


def _unfinished(connection: sa.Connection) -> Iterator[Finding]:
    count = connection.scalar(sa.select(sa.func.count()).where(contexts.c.revision == 0)) or 0
    if count:
        message = f"{count:,} contexts were not copied or not removed to their end, and show nothing"
        remedy = "run the same `taskctx copy`, `prune` or `erase` again"
        yield Finding("unfinished", "warning", message, remedy)
    beyond = sa.exists().where(updates.c.context_id == contexts.c.context_id, updates.c.seq >= contexts.c.next_seq)
    wrong = connection.scalar(sa.select(sa.func.count()).where(contexts.c.revision > 0, beyond)) or 0
    if wrong:
        message = f"{wrong:,} contexts have updates beyond their next number: saves to them fail"
        yield Finding("numbers", "error", message, "finish the `taskctx copy` that broke off, or restore a backup")


def _largest(connection: sa.Connection) -> Iterator[Finding]:
    statement = sa.select(contexts.c.user_id, contexts.c.chat_id, contexts.c.next_seq - 1)
    total = connection.scalar(sa.select(sa.func.count()).where(contexts.c.revision > 0)) or 0
    yield Finding("contexts", "ok", f"there are {total:,}")
    for user, chat, count in connection.execute(statement.order_by(contexts.c.next_seq.desc()).limit(LARGEST)):
        level: Level = "note"
        remedy = "load it with history_limit, or run `taskctx prune --removed`" if count > LARGE_CONTEXT else ""
        yield Finding("largest", level, f"context ({user!r}, {chat!r}) has {count:,} updates", remedy)


def _pragma(connection: sa.Connection, name: str) -> Any:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def _found(check: str, good: bool, message: str, remedy: str) -> Finding:
    return Finding(check, "ok", message) if good else Finding(check, "warning", message, remedy)
