"""The search index: an opt-in that `schema.upgrade` creates and drops, with its tables, triggers and functions.

It is not a revision: like row-level security it is recognized by being there, and each later upgrade sets it right.

A save only notes its updates in a queue, by a trigger, and rows of the queue are indexed later, a portion at a time. A
search looks in the index and reads what waits in the queue, so that it finds an update as soon as it is saved. Removing
an update removes it from the index or the queue in the same transaction, by a trigger.

On SQLite the index is a table of FTS5 with the trigrams of each text. It has numbers for rows, which rise with the time
of the updates, so that the newest hits are found first. On Postgres the searched texts are copied to a table with a GIN
index on all three successive bytes of them. So one Chinese character is enough for it, and no extension is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from taskctx_sql.errors import SearchIndexUnavailableError
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema.checks import has_table, qualified
from taskctx_sql.sql.schema.searched import lower_ascii, searched_text

QUEUE: Final = "taskctx_search_queue"
ROWS: Final = "taskctx_search_rows"
INDEX: Final = "taskctx_search_index"
VOCABULARY: Final = "taskctx_search_vocabulary"
TERMS: Final = "taskctx_search_terms"
PORTION: Final = "taskctx_search_portion"

# Longer texts are not indexed, but read by each search that gets to them.
LONGEST: Final = 1_000_000
# The first version of SQLite that has the tokenizer.
_OLDEST_SQLITE: Final = (3, 34, 0)

# The numbers of SQLite's rows are a time in milliseconds, followed by as many bits that distinguish equal ones.
BITS: Final = 21
LARGEST_SECONDS: Final = 4_000_000_000
# Before every other, since the order of the hits puts updates without a time last.
NO_TIME: Final = -4_100_000_000_000

metadata: Final = sa.MetaData()
queue: Final = sa.Table(
    QUEUE,
    metadata,
    sa.Column("context_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    # Whether it stays here, because its text is too long.
    sa.Column("is_long", sa.Integer),
)
# On SQLite with the number of the row, on Postgres with its time and text.
rows: Final = sa.Table(
    ROWS,
    metadata,
    sa.Column("id", sa.BigInteger),
    sa.Column("context_id", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("timestamp", sa.Double),
    sa.Column("body", sa.Text),
)


def time_number(timestamp: float | None) -> int:
    """Return the first number that a SQLite row of this time can have; see `search_portion`."""
    if timestamp is None:
        return NO_TIME << BITS
    return int(max(-LARGEST_SECONDS, min(timestamp, LARGEST_SECONDS)) * 1000) << BITS


def is_there(connection: sa.Connection, schema: str | None) -> bool:
    """Whether the database has a search index."""
    return has_table(connection, schema, QUEUE)


def backlog(connection: sa.Connection, schema: str | None) -> int | None:
    """Return how many updates wait to be indexed; None if there is no index."""
    if not is_there(connection, schema):
        return None
    name = qualified(connection, schema, QUEUE)
    waiting = connection.exec_driver_sql(f"SELECT count(*) FROM {name} WHERE is_long = 0").scalar()  # noqa: S608
    return int(waiting or 0)


def check_possible(connection: sa.Connection, *, distributed: bool) -> None:
    """Raise SearchIndexUnavailableError if the database cannot have an index."""
    url = engines.mask(connection.engine.url)
    if distributed:
        reason, remedy = "Citus has no triggers on distributed tables", "search without one, by user and chat"
        raise SearchIndexUnavailableError(url, reason, remedy)
    if not engines.is_sqlite(connection):
        return
    version = connection.dialect.server_version_info or (0,)
    has_fts = connection.exec_driver_sql("SELECT sqlite_compileoption_used('ENABLE_FTS5')").scalar()
    if version < _OLDEST_SQLITE or not has_fts:
        found = ".".join(map(str, version))
        reason = f"this is SQLite {found} {'with' if has_fts else 'without'} FTS5"
        raise SearchIndexUnavailableError(url, reason, "use a Python whose SQLite has FTS5 and is 3.34 or later")


def changes(connection: sa.Connection, schema: str | None, wanted: bool | None, *, downgraded: bool) -> Iterator[str]:
    """Yield the statements that create the index, drop it, or set it right after migrations.

    They name tables without a schema: on Postgres the search path begins with it.
    """
    engine, there = connection.dialect.name, is_there(connection, schema)
    if downgraded or (there and wanted is False):
        yield from _drops(engine) if there else ()
    elif missing_parts(connection, schema) if there else wanted:
        # Without a trigger, updates were saved and removed of which the index does not know.
        yield from _empties(engine) if there else ()
        yield from creates(engine)
        yield from _triggers(engine)
        yield f"INSERT INTO {QUEUE} (context_id, seq) SELECT context_id, seq FROM taskctx_updates"  # noqa: S608


def indexed_text(data: str) -> str:
    """Return the SQL of what SQLite indexes of JSON text: so each word of one or two letters begins a trigram."""
    return f"({searched_text('sqlite', data)}) || '  '"


def guards(*, guarded: bool) -> Iterator[str]:
    """Yield what hides the index from accounts that see one user at a time, or shows it again, on Postgres."""
    for name in (QUEUE, ROWS):
        # Without a policy they see no row. The functions of the triggers are executed as the owner.
        yield f"ALTER TABLE {name} {'ENABLE' if guarded else 'DISABLE'} ROW LEVEL SECURITY"


def creates(engine: str) -> Iterator[str]:
    """Yield the statements that create an empty index."""
    if engine == "sqlite":
        yield (
            f"CREATE TABLE {QUEUE} (context_id TEXT NOT NULL, seq BIGINT NOT NULL, is_long INTEGER NOT NULL DEFAULT 0,"
            " PRIMARY KEY (context_id, seq)) WITHOUT ROWID"
        )
        yield (
            f"CREATE TABLE {ROWS} (id INTEGER PRIMARY KEY, context_id TEXT NOT NULL, seq BIGINT NOT NULL,"
            " UNIQUE (context_id, seq))"
        )
        # Without texts, positions and lengths: hits are looked up, and compared with what was searched for.
        yield (
            f"CREATE VIRTUAL TABLE {INDEX} USING fts5 (body, content = '', detail = none, columnsize = 0,"
            " tokenize = 'trigram')"
        )
        yield f"CREATE VIRTUAL TABLE {VOCABULARY} USING fts5vocab ({INDEX}, row)"
        return
    yield (
        f"CREATE TABLE IF NOT EXISTS {QUEUE} (context_id TEXT NOT NULL, seq BIGINT NOT NULL,"
        " is_long INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (context_id, seq))"
    )
    yield (
        f"CREATE TABLE IF NOT EXISTS {ROWS} (context_id TEXT NOT NULL, seq BIGINT NOT NULL,"
        ' "timestamp" DOUBLE PRECISION, body TEXT NOT NULL, PRIMARY KEY (context_id, seq))'
    )
    yield _TERMS_FUNCTION
    yield f"CREATE INDEX IF NOT EXISTS {INDEX} ON {ROWS} USING gin ({TERMS}(body))"
    in_time = '"timestamp" DESC NULLS LAST, context_id, seq DESC NULLS LAST'
    yield f"CREATE INDEX IF NOT EXISTS {ROWS}_time_idx ON {ROWS} ({in_time})"


# Three successive bytes as a number. Postgres evaluates the conversion once, because the CTE is materialized. An index
# has each number once for a row: removing equal ones here would take more than twice the time.
_TERMS_FUNCTION: Final = f"""\
CREATE OR REPLACE FUNCTION {TERMS}(body TEXT) RETURNS INTEGER[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 100000 AS $function$
    WITH encoded AS MATERIALIZED (SELECT convert_to(body, 'UTF8') AS bytes)
    SELECT coalesce(
        array_agg((get_byte(bytes, n) << 16) | (get_byte(bytes, n + 1) << 8) | get_byte(bytes, n + 2)), '{{}}'
    )
    FROM encoded, generate_series(0, length(bytes) - 3) AS n
$function$"""  # noqa: S608  # our own names

# They are executed as the owner, so that whoever saves needs no right on the index, in the schema of the tables.
_DEFINER: Final = "SECURITY DEFINER SET search_path FROM CURRENT AS $function$"


def _triggers(engine: str) -> Iterator[str]:
    """Yield what creates the triggers, and the functions that they and programs call."""
    if engine == "sqlite":
        yield from _sqlite_triggers()
        return
    for name, body in zip(_TRIGGERS, _TRIGGER_BODIES, strict=True):
        yield (
            f"CREATE OR REPLACE FUNCTION taskctx_search_{name}() RETURNS TRIGGER LANGUAGE plpgsql {_DEFINER}\n"
            f"BEGIN\n{body}    RETURN NULL;\nEND\n$function$"
        )
        yield f"DROP TRIGGER IF EXISTS taskctx_search_{name} ON taskctx_updates"
    for name, when in zip(_TRIGGERS, _TRIGGER_EVENTS, strict=True):
        yield f"CREATE TRIGGER taskctx_search_{name} AFTER {when} EXECUTE FUNCTION taskctx_search_{name}()"
    yield _PORTION_FUNCTION


_TRIGGERS: Final = ("queue", "delete", "replace")
_TRIGGER_EVENTS: Final = (
    "INSERT ON taskctx_updates REFERENCING NEW TABLE AS added FOR EACH STATEMENT",
    "DELETE ON taskctx_updates REFERENCING OLD TABLE AS gone FOR EACH STATEMENT",
    'UPDATE OF data, "timestamp" ON taskctx_updates FOR EACH ROW',
)
_TRIGGER_BODIES: Final = (
    f"    INSERT INTO {QUEUE} (context_id, seq) SELECT context_id, seq FROM added ON CONFLICT DO NOTHING;\n",  # noqa: S608
    f"    DELETE FROM {QUEUE} q USING gone WHERE q.context_id = gone.context_id AND q.seq = gone.seq;\n"  # noqa: S608
    f"    DELETE FROM {ROWS} r USING gone WHERE r.context_id = gone.context_id AND r.seq = gone.seq;\n",
    f"    DELETE FROM {ROWS} WHERE context_id = NEW.context_id AND seq = NEW.seq;\n"  # noqa: S608
    f"    INSERT INTO {QUEUE} (context_id, seq) VALUES (NEW.context_id, NEW.seq) ON CONFLICT DO NOTHING;\n",
)

BODY: Final = lower_ascii("postgresql", searched_text("postgresql", "u.data"))

# The lock keeps a deletion of the update waiting, which then also finds the row of the index.
_PORTION_FUNCTION: Final = f"""\
CREATE OR REPLACE FUNCTION {PORTION}(most INTEGER) RETURNS BIGINT LANGUAGE plpgsql {_DEFINER}
DECLARE done BIGINT;
BEGIN
    WITH taken AS MATERIALIZED (
        SELECT q.context_id, q.seq FROM {QUEUE} q WHERE q.is_long = 0
        LIMIT least(most, 10000) FOR UPDATE SKIP LOCKED
    ), found AS MATERIALIZED (
        SELECT u.context_id, u.seq, u."timestamp", u.data
        FROM taken t JOIN taskctx_updates u ON u.context_id = t.context_id AND u.seq = t.seq FOR SHARE OF u
    ), indexed AS (
        INSERT INTO {ROWS} (context_id, seq, "timestamp", body)
        SELECT u.context_id, u.seq, u."timestamp", {BODY} FROM found u WHERE length(u.data) <= {LONGEST}
        ON CONFLICT DO NOTHING
    ), long AS (
        UPDATE {QUEUE} q SET is_long = 1
        FROM found u WHERE q.context_id = u.context_id AND q.seq = u.seq AND length(u.data) > {LONGEST}
    ), removed AS (
        DELETE FROM {QUEUE} q USING taken t WHERE q.context_id = t.context_id AND q.seq = t.seq
            AND NOT EXISTS (
                SELECT FROM found u WHERE u.context_id = t.context_id AND u.seq = t.seq AND length(u.data) > {LONGEST}
            )
    )
    SELECT count(*) INTO done FROM taken;
    RETURN done;
END
$function$"""  # noqa: S608  # our own names


def _sqlite_triggers() -> Iterator[str]:
    key = "context_id = {0}.context_id AND seq = {0}.seq"
    old = indexed_text("OLD.data")
    remove = (
        f"INSERT INTO {INDEX} ({INDEX}, rowid, body)"  # noqa: S608
        f" SELECT 'delete', id, {old} FROM {ROWS} WHERE {key.format('OLD')};\n"
        f"    DELETE FROM {ROWS} WHERE {key.format('OLD')};\n"
        f"    DELETE FROM {QUEUE} WHERE {key.format('OLD')};\n"
    )
    add = f"INSERT OR IGNORE INTO {QUEUE} (context_id, seq) VALUES (NEW.context_id, NEW.seq);\n"  # noqa: S608
    for name, event, body in (
        ("queue", "INSERT", add),
        ("delete", "DELETE", remove),
        ("replace", "UPDATE OF context_id, seq, data, timestamp", f"{remove}    {add}"),
    ):
        yield f"DROP TRIGGER IF EXISTS taskctx_search_{name}"
        yield f"CREATE TRIGGER taskctx_search_{name} AFTER {event} ON taskctx_updates\nBEGIN\n    {body}END"


def missing_parts(connection: sa.Connection, schema: str | None) -> list[str]:
    """Return the names of the triggers and tables that an index which is there lacks."""
    triggers = [f"taskctx_search_{name}" for name in _TRIGGERS]
    if engines.is_sqlite(connection):
        named = sa.text("SELECT name FROM sqlite_master WHERE name LIKE 'taskctx_search_%'")
        names, wanted = set(connection.scalars(named)), [*triggers, ROWS, INDEX]
    else:
        named = sa.text(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass(:updates) AND tgenabled <> 'D'"
            " UNION ALL SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
            " WHERE indrelid = to_regclass(:rows) AND indisvalid"
        )
        tables = {
            "updates": qualified(connection, schema, "taskctx_updates"),
            "rows": qualified(connection, schema, ROWS),
        }
        names, wanted = set(connection.scalars(named, tables)), [*triggers, INDEX, f"{ROWS}_time_idx"]
    return [name for name in wanted if name not in names]


def _empties(engine: str) -> Iterator[str]:
    """Yield what makes an index that lacks a part empty; on Postgres its tables stay, with the rights on them."""
    if engine == "sqlite":
        yield from _drops(engine)
        return
    yield f"DROP INDEX IF EXISTS {INDEX}, {ROWS}_time_idx"
    yield from creates(engine)
    yield f"TRUNCATE {QUEUE}, {ROWS}"


def _drops(engine: str) -> Iterator[str]:
    for name in _TRIGGERS:
        if engine == "sqlite":
            yield f"DROP TRIGGER IF EXISTS taskctx_search_{name}"
        else:
            # With its trigger.
            yield f"DROP FUNCTION IF EXISTS taskctx_search_{name}() CASCADE"
    if engine == "sqlite":
        yield f"DROP TABLE IF EXISTS {VOCABULARY}"
        yield f"DROP TABLE IF EXISTS {INDEX}"
    else:
        yield f"DROP FUNCTION IF EXISTS {PORTION}(INTEGER)"
    yield f"DROP TABLE IF EXISTS {ROWS}"
    if engine != "sqlite":
        yield f"DROP FUNCTION IF EXISTS {TERMS}(TEXT)"
    yield f"DROP TABLE IF EXISTS {QUEUE}"
