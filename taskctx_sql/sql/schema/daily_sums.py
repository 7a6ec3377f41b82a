"""Daily sums: an opt-in that `schema.upgrade` creates and drops, with its tables and triggers.

It is not a revision: like the search index it is recognized by being there, and each later upgrade sets it right.

Triggers note each context whose rows change, whoever changes them, in a queue. Later the parts of such
contexts, which are what they add to the sums, are computed anew from their rows, and the sums of the days where these
differ are computed anew from the parts. A report takes the sums, subtracts the parts of the contexts that are in the
queue, and adds what is in the rows of these. So it is exact at every moment.

On Postgres a context may be in the queue several times: two saves never wait for each other because of it, and a note
that is not committed yet is none of those that are removed when its context has been computed anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from taskctx_sql.errors import DailySumsUnavailableError
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema.checks import has_table, qualified
from taskctx_sql.sql.schema.folding import FOLD, fold_function, has_function
from taskctx_sql.sql.schema.row_security import OWN_CONTEXT, OWN_ROW, POLICY
from taskctx_sql.sql.schema.sum_tables import CHANGED, DAYS, FRESH, PARTS, QUEUE
from taskctx_sql.sql.schema.usage_parts import AMOUNTS, KEYS, MODEL, PART, SUMS

_MARK: Final = "taskctx_sums_mark"
_TRIGGER_PREFIX: Final = "taskctx_sums_"

_TYPES: Final = {
    **dict.fromkeys(("context_id", "user_id", "per", *MODEL), "TEXT NOT NULL"),
    **dict.fromkeys(("day", "previous"), "{day} NOT NULL"),
    **dict.fromkeys(SUMS, "BIGINT"),
    **dict.fromkeys(("took", *AMOUNTS), "DOUBLE PRECISION"),
}
_DAY: Final = {"sqlite": "TEXT", "postgresql": "DATE"}

# What a restore removes counts all the same, so these revisions matter to the sums.
_KEPT: Final = "operation IN ('restore', 'undo')"
_BECOMES_WHOLE: Final = "(OLD.revision = 0) <> (NEW.revision = 0)"
# The name of each trigger, its event, and the row that has the context; besides those of the rows that are summed.
_ROW_TRIGGERS: Final = (
    ("whole", "UPDATE OF revision ON taskctx_contexts FOR EACH ROW WHEN (" + _BECOMES_WHOLE + ")", "NEW"),
    ("gone", "DELETE ON taskctx_contexts FOR EACH ROW", "OLD"),
    ("kept", f"INSERT ON taskctx_revisions FOR EACH ROW WHEN (NEW.{_KEPT})", "NEW"),
    ("forgotten", f"DELETE ON taskctx_revisions FOR EACH ROW WHEN (OLD.{_KEPT})", "OLD"),
)
_SUMMED: Final = ("models", "updates", "state", "runs")
_OF_SUMMED: Final = tuple(
    (f"{table}_{name}", f"{event} ON taskctx_{table}", row)
    for table in _SUMMED
    for name, event, row in (("added", "INSERT", "NEW"), ("changed", "UPDATE", "NEW"), ("removed", "DELETE", "OLD"))
)


def is_there(connection: sa.Connection, schema: str | None) -> bool:
    """Whether the database has daily sums."""
    return has_table(connection, schema, QUEUE)


def backlog(connection: sa.Connection, schema: str | None) -> int | None:
    """Return how many contexts wait to be summed; None if there are no sums."""
    if not is_there(connection, schema):
        return None
    name = qualified(connection, schema, QUEUE)
    return int(connection.exec_driver_sql(f"SELECT count(DISTINCT context_id) FROM {name}").scalar() or 0)  # noqa: S608


def check_possible(connection: sa.Connection, *, distributed: bool) -> None:
    """Raise DailySumsUnavailableError if the database cannot have them."""
    if distributed:
        raise DailySumsUnavailableError(
            engines.mask(connection.engine.url),
            "Citus has no triggers on distributed tables",
            "ask for the costs of one user or of a shorter period",
        )


def changes(connection: sa.Connection, schema: str | None, wanted: bool | None, *, downgraded: bool) -> Iterator[str]:
    """Yield the statements that create the sums, drop them, or set them right after migrations.

    They name tables without a schema: on Postgres the search path begins with it.
    """
    engine, there = connection.dialect.name, is_there(connection, schema)
    if downgraded or (there and wanted is False):
        yield from drops(engine) if there else ()
    elif there:
        missing = missing_parts(connection, schema)
        if set(missing) - {FOLD}:
            # Meanwhile contexts may have changed that nobody noted.
            yield from _triggers(engine)
            yield _MARK_ALL
        if FOLD in missing:
            yield fold_function()
    elif wanted:
        yield from _creates(engine)
        yield from _triggers(engine)
        if engine != "sqlite":
            yield fold_function()
        yield _MARK_ALL


# By their day and user, so that the sums of each user's day are computed once or twice, not for each portion.
_MARK_ALL: Final = (
    f"INSERT INTO {QUEUE} (context_id) SELECT context_id FROM taskctx_contexts"  # noqa: S608  # our own names
    f" WHERE context_id NOT IN (SELECT context_id FROM {QUEUE}) ORDER BY CAST(created_at AS BIGINT) / 86400, user_id"
)


def guards(*, guarded: bool) -> Iterator[str]:
    """Yield what shows accounts that see one user at a time only the sums of this one, or shows all again."""
    own_rows = {DAYS: OWN_CONTEXT, PARTS: OWN_CONTEXT, QUEUE: OWN_ROW.format(table=QUEUE)}
    for name, own in own_rows.items():
        yield f"DROP POLICY IF EXISTS {POLICY} ON {name}"
        if guarded:
            yield f"CREATE POLICY {POLICY} ON {name} USING ({own})"
    for name in (*own_rows, CHANGED, FRESH):
        # The functions of the triggers are executed as the owner.
        yield f"ALTER TABLE {name} {'ENABLE' if guarded else 'DISABLE'} ROW LEVEL SECURITY"


def _creates(engine: str) -> Iterator[str]:
    day = _DAY[engine]

    def columns(*names: str) -> str:
        return ", ".join(f"{name} {_TYPES[name].format(day=day)}" for name in (*names, *SUMS))

    if engine == "sqlite":
        yield f"CREATE TABLE {QUEUE} (id INTEGER PRIMARY KEY, context_id TEXT NOT NULL UNIQUE)"
    else:
        yield f"CREATE TABLE {QUEUE} (context_id TEXT NOT NULL)"
    # The sums of everybody have no user.
    yield f"CREATE TABLE {DAYS} (user_id TEXT, {columns(*KEYS)})"
    yield f"CREATE TABLE {PARTS} ({columns(*PART)})"
    # What is computed anew, and the days of users that it changes; both are empty after each transaction.
    yield f"CREATE TABLE {FRESH} ({columns(*PART)})"
    yield f"CREATE TABLE {CHANGED} (user_id TEXT NOT NULL, day {day} NOT NULL)"
    yield f"CREATE INDEX {DAYS}_idx ON {DAYS} (user_id, day)"
    yield f"CREATE INDEX {DAYS}_day_idx ON {DAYS} (day)"
    yield f"CREATE INDEX {PARTS}_idx ON {PARTS} (context_id)"
    yield f"CREATE INDEX {PARTS}_day_idx ON {PARTS} (user_id, day)"
    # For percentiles, with all that they need.
    timed = "per, model_id, provider_id, took, calls, day, user_id, context_id"
    yield f"CREATE INDEX {PARTS}_took_idx ON {PARTS} ({timed}) WHERE took IS NOT NULL"


def _triggers(engine: str) -> Iterator[str]:
    if engine == "sqlite":
        of_summed = ((name, f"{event} FOR EACH ROW", row) for name, event, row in _OF_SUMMED)
        for name, event, row in (*of_summed, *_ROW_TRIGGERS):
            yield f"DROP TRIGGER IF EXISTS {_TRIGGER_PREFIX}{name}"
            # Not by OR IGNORE: what a statement with a conflict clause does instead counts in its triggers, too.
            is_noted = f"EXISTS (SELECT 1 FROM {QUEUE} WHERE context_id = {row}.context_id)"  # noqa: S608
            mark = f"INSERT INTO {QUEUE} (context_id) SELECT {row}.context_id WHERE NOT {is_noted}"
            yield f"CREATE TRIGGER {_TRIGGER_PREFIX}{name} AFTER {event}\nBEGIN\n    {mark};\nEND"
        return
    # They are executed as the owner, so that whoever saves needs no right on the queue, in the schema of the tables.
    definer = "RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $function$"
    for row in ("NEW", "OLD"):
        mark = f"INSERT INTO {QUEUE} (context_id) VALUES ({row}.context_id);"  # noqa: S608
        yield (
            f"CREATE OR REPLACE FUNCTION {_MARK}_{row.lower()}() {definer}\n"
            f"BEGIN\n    {mark}\n    RETURN NULL;\nEND\n$function$"
        )
    mark = f"INSERT INTO {QUEUE} (context_id) SELECT DISTINCT context_id FROM seen;"  # noqa: S608
    yield f"CREATE OR REPLACE FUNCTION {_MARK}() {definer}\nBEGIN\n    {mark}\n    RETURN NULL;\nEND\n$function$"
    for name, event, row in _OF_SUMMED:
        yield f"DROP TRIGGER IF EXISTS {_TRIGGER_PREFIX}{name} ON {event.partition(' ON ')[2]}"
        yield (
            f"CREATE TRIGGER {_TRIGGER_PREFIX}{name} AFTER {event} REFERENCING {row} TABLE AS seen"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {_MARK}()"
        )
    for name, event, row in _ROW_TRIGGERS:
        table = event.partition(" ON ")[2].partition(" ")[0]
        yield f"DROP TRIGGER IF EXISTS {_TRIGGER_PREFIX}{name} ON {table}"
        yield f"CREATE TRIGGER {_TRIGGER_PREFIX}{name} AFTER {event} EXECUTE FUNCTION {_MARK}_{row.lower()}()"


def missing_parts(connection: sa.Connection, schema: str | None) -> list[str]:
    """Return the names of the triggers, and of the function, that sums which are there lack."""
    wanted = [f"{_TRIGGER_PREFIX}{name}" for name, _, _ in (*_OF_SUMMED, *_ROW_TRIGGERS)]
    if engines.is_sqlite(connection):
        named = sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE :names")
        found = connection.scalars(named, {"names": f"{_TRIGGER_PREFIX}%"})
    else:
        named = sa.text(
            "SELECT tgname FROM pg_trigger WHERE tgname LIKE :names AND tgenabled <> 'D'"
            " AND tgrelid = ANY (CAST(CAST(:tables AS TEXT[]) AS regclass[]))"
        )
        tables = [qualified(connection, schema, f"taskctx_{name}") for name in (*_SUMMED, "contexts", "revisions")]
        found = connection.scalars(named, {"names": f"{_TRIGGER_PREFIX}%", "tables": tables})
        wanted += [] if has_function(connection, schema) else [FOLD]
    there = set(found)
    return [name for name in wanted if name not in there]


def drops(engine: str) -> Iterator[str]:
    """Yield what drops the sums, if they are there."""
    if engine == "sqlite":
        for name, _, _ in (*_OF_SUMMED, *_ROW_TRIGGERS):
            yield f"DROP TRIGGER IF EXISTS {_TRIGGER_PREFIX}{name}"
    else:
        for function in (f"{_MARK}()", f"{_MARK}_new()", f"{_MARK}_old()"):
            # With its triggers.
            yield f"DROP FUNCTION IF EXISTS {function} CASCADE"
        yield f"DROP FUNCTION IF EXISTS {FOLD}(INTEGER)"
    for name in (CHANGED, FRESH, PARTS, DAYS, QUEUE):
        yield f"DROP TABLE IF EXISTS {name}"
