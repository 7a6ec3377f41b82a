"""Checking the search index: that it is whole, has each update, and is not far behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.errors.remedies import shell_command
from taskctx_sql.model import Finding
from taskctx_sql.model.search import searched_text
from taskctx_sql.plain_text import counted
from taskctx_sql.sql import engines
from taskctx_sql.sql.reports.clauses import is_readable
from taskctx_sql.sql.schema import search_index, updates
from taskctx_sql.sql.schema.search_index import BODY, INDEX, LONGEST, QUEUE, ROWS, queue, rows
from taskctx_sql.sql.search import match_expression

# A search reads all that waits: this many in about a tenth of a second.
FAR_BEHIND: Final = 10_000
# How many of the newest texts are compared with the index, and how many characters of each on SQLite.
SAMPLE: Final = 200
_CHARACTERS: Final = 60


def check_search_index(connection: sa.Connection, schema: str | None, address: str) -> Iterator[Finding]:
    """Yield what there is to say about the search index; nothing if there is none, or none that can be read."""
    if not search_index.is_there(connection, schema):
        return
    remedy = f"run {shell_command('upgrade', '--search', database_url=address, schema=schema)}"
    if missing := search_index.missing_parts(connection, schema):
        message = f"the search index has no {', '.join(missing)}, so searches do not find all"
        yield Finding("search", "error", message, f"{remedy}, which builds it anew")
        return
    if not connection.scalar(is_readable(connection.dialect.name, schema, QUEUE, ROWS)):
        yield Finding("search", "note", "there is a search index, which this account may not read")
        return
    again = shell_command("upgrade", "--no-search", database_url=address, schema=schema)
    wrong = {
        "updates that are not in it": connection.scalar(_left_out()) or 0,
        "updates in it that are not there": connection.scalar(_gone()) or 0,
        f"updates of the newest {SAMPLE} whose text it does not have": _different(connection),
    }
    for what, count in wrong.items():
        if count:
            message = f"the search index is wrong: {count:,} {what}"
            yield Finding("search", "error", message, f"run {again}, and then {remedy.removeprefix('run ')}")
    if any(wrong.values()):
        return
    waiting = connection.scalar(sa.select(sa.func.count()).where(queue.c.is_long == 0)) or 0
    if waiting > FAR_BEHIND:
        message = f"the search index is behind by {counted(waiting, 'update')}, which each search reads"
        yield Finding("search", "warning", message, remedy)
    else:
        yield Finding("search", "ok", "the search index has all updates")


def _left_out() -> sa.Select[Any]:
    """Return the SELECT of how many updates are neither indexed nor wait to be."""
    found = (sa.exists().where(*_same(table)) for table in (rows, queue))
    return sa.select(sa.func.count()).select_from(updates).where(*(~one for one in found))


def _gone() -> sa.Select[Any]:
    """Return the SELECT of how many rows of the index have no update."""
    return sa.select(sa.func.count()).select_from(rows).where(~sa.exists().where(*_same(rows)).correlate(rows))


def _same(table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.context_id == updates.c.context_id, table.c.seq == updates.c.seq


def _different(connection: sa.Connection) -> int:
    """Return how many of the newest texts are not in the index as they are."""
    both = sa.join(rows, updates, sa.and_(*_same(rows)))
    statement = sa.select(updates.c.data).select_from(both).limit(SAMPLE)
    if engines.is_sqlite(connection):
        found = connection.execute(statement.add_columns(rows.c.id).order_by(rows.c.id.desc()))
        return sum(not _is_indexed(connection, number, data) for data, number in found)
    newest = rows.c.timestamp.desc().nulls_last()
    is_same = sa.literal_column(BODY.replace("u.data", f"{updates.name}.data"), sa.Text) == rows.c.body
    sample = statement.with_only_columns(is_same.label("is_same")).order_by(newest).subquery()
    return connection.scalar(sa.select(sa.func.count()).where(~sample.c.is_same)) or 0


def _is_indexed(connection: sa.Connection, number: int, data: str) -> bool:
    if len(data) > LONGEST:
        return False
    text = f"{searched_text(data)}  "[:_CHARACTERS]
    asked = sa.text(f"SELECT count(*) FROM {INDEX} WHERE {INDEX} MATCH :text AND rowid = :number")  # noqa: S608
    return bool(connection.scalar(asked, {"text": match_expression([(text,)]), "number": number}))
