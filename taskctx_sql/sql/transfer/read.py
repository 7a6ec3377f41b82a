"""Reading contexts for a transfer, page by page: plans, their statements, and the pages.

Rows never change once they are written, except that ``removed_in`` is set. So the state of a context at a revision,
``as_of``, can be read at any time later, whatever is saved meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator
from functools import cache, partial
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.model import ContextKey
from taskctx_sql.sql import incomplete, row_codec
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.schema import contexts, revisions
from taskctx_sql.sql.store import SqlStore
from taskctx_sql.sql.transfer.rows import FILES, REVISIONS, RUNS, STATE, UPDATES, ContextRow, ContextTable, Row

# How many rows the first page has, about how many characters a page may have, and how many rows at most.
PAGE: Final = 500
PAGE_TEXT: Final = 4_000_000
LARGEST_PAGE: Final = 5_000
CONTEXTS_PAGE: Final = 200

# The column that says in which revision a row was created, where rows are not numbered.
_CREATED_IN: Final = {FILES: "added_in", STATE: "added_in", REVISIONS: "revision"}


# Pages.


async def read_contexts(
    store: SqlStore, user_id: str | None = None, chat_id: str | None = None
) -> AsyncGenerator[ContextRow]:
    """Yield the contexts of a database, or of one user, or one chat of that user."""
    async for page in read_contexts_in_pages(store, user_id, chat_id):
        for context in page:
            yield context


async def read_contexts_in_pages(
    store: SqlStore, user_id: str | None, chat_id: str | None
) -> AsyncGenerator[list[ContextRow]]:
    """Yield the contexts that `read_contexts` yields, page by page."""
    after = ""
    while True:
        page = await store.read("list", partial(contexts_page, after, CONTEXTS_PAGE, user_id, chat_id))
        if page:
            yield page
        if len(page) < CONTEXTS_PAGE:
            return
        after = page[-1].context_id


async def count_updates(store: SqlStore, user_id: str | None, chat_id: str | None) -> int:
    """Return how many updates the contexts have that `read_contexts` yields."""
    return sum([context.next_seq - 1 async for context in read_contexts(store, user_id, chat_id)])


async def read_pages(
    store: SqlStore, table: ContextTable, context: ContextRow, *, first: int = 1, since: int = 0
) -> AsyncGenerator[list[Row]]:
    """Yield the rows of a context as of its revision, a page at a time, in the order of their keys.

    Numbered ones are read from seq ``first`` on, and the others only from the revisions after ``since``.
    """
    size = PAGE
    if table.is_numbered:
        end = context.next_seq if table is UPDATES else context.next_model
        while first < end:
            high = min(first + size, end)
            plan = partial(numbered_page, table, context.context_id, first, high, context.revision)
            page = await store.read("read", plan)
            first, size = high, next_size(page, size)
            if page:
                yield page
        return
    after: Row | None = None
    while True:
        plan = partial(keyed_page, table, context.context_id, after, size, since, context.revision)
        page = await store.read("read", plan)
        if page:
            yield page
        if len(page) < size:
            return
        after, size = table.key_of(page[-1]), next_size(page, size)


async def read_removals(
    store: SqlStore, table: ContextTable, context: ContextRow, *, since: int
) -> AsyncGenerator[list[Row]]:
    """Yield the keys of rows that were there in revision ``since`` or later and removed after it, and in which one."""
    # Before every key.
    after: Row = tuple("" if isinstance(column.type, sa.Text) else 0 for column in table.key_columns())
    while table.has_removals:
        plan = partial(removals_page, table, context.context_id, since, context.revision, after, PAGE)
        page = await store.read("read", plan)
        if page:
            yield page
        if len(page) < PAGE:
            return
        after = page[-1][:-1]


def next_size(page: Iterable[Row], size: int) -> int:
    """Return how many rows to read next, so that pages of long rows stay small."""
    characters = sum(len(value) for row in page for value in row if isinstance(value, str))
    wanted = size * PAGE_TEXT // characters if characters else LARGEST_PAGE
    return max(1, min(wanted, size * 4, LARGEST_PAGE))


# Plans.


def contexts_page(after: str, limit: int, user_id: str | None, chat_id: str | None) -> Plan[list[ContextRow]]:
    """Read contexts in the order of their ids, after a given one, without incomplete ones."""
    if user_id is not None and chat_id is not None:
        found = yield from context_row(ContextKey(user_id, chat_id))
        return [found] if found is not None and found.revision > 0 and found.context_id > after else []
    user = {} if user_id is None else {"user": ContextKey(user_id, "").user_id}
    statement = _select_contexts(of_user=user_id is not None)
    rows = yield Step(statement, {"after": after, "how_many": limit, **user}, reads=True)
    return [ContextRow(*row) for row in rows or ()]


def context_row(key: ContextKey) -> Plan[ContextRow | None]:
    """Read a context's row; None if there is none."""
    return (yield from row_of_id(row_codec.context_id(key)))


def row_of_id(context_id: str, *, lock: bool = False) -> Plan[ContextRow | None]:
    """Read the row of a context_id, and lock it if asked to; None if there is none."""
    rows = yield Step(_select_context(lock=lock), {"context": context_id}, reads=True)
    return ContextRow(*rows[0]) if rows else None


def numbered_page(table: ContextTable, context_id: str, low: int, high: int, as_of: int) -> Plan[list[Row]]:
    """Read the rows with ``low <= seq < high``, as of a revision."""
    bounds = {"context": context_id, "low": low, "high": high, "as_of": as_of}
    return _rows((yield Step(_select_numbered(table), bounds, reads=True)))


def keyed_page(
    table: ContextTable, context_id: str, after: Row | None, limit: int, since: int, as_of: int
) -> Plan[list[Row]]:
    """Read rows in the order of their keys, those of the revisions after ``since``."""
    bounds: dict[str, Any] = {"context": context_id, "how_many": limit}
    bounds |= {} if after is None else _key_parameters(table, after, "after")
    if table is not RUNS:
        bounds |= {"as_of": as_of, "since": since}
    return _rows((yield Step(_select_keyed(table, continued=after is not None), bounds, reads=True)))


def page_between(table: ContextTable, context: ContextRow, low: Row, high: Row) -> Plan[list[Row]]:
    """Read the rows whose keys are between two keys, as of the context's revision, in the order of their keys."""
    if table.is_numbered:
        return (yield from numbered_page(table, context.context_id, low[0], high[0] + 1, context.revision))
    bounds = {
        "context": context.context_id,
        **_key_parameters(table, low, "low"),
        **_key_parameters(table, high, "high"),
    }
    if table is not RUNS:
        bounds |= {"as_of": context.revision}
    return _rows((yield Step(_select_between(table), bounds, reads=True)))


def last_seq(table: ContextTable, context_id: str) -> Plan[int]:
    """Read the highest seq, or 0."""
    rows = yield Step(_select_last(table), {"context": context_id}, reads=True)
    return int(rows[0][0]) if rows else 0


def revision_identity(context_id: str, revision: int) -> Plan[Row | None]:
    """Read which save created a revision; None if that is not on record."""
    rows = yield Step(_select_identity(), {"context": context_id, "revision": revision}, reads=True)
    return tuple(rows[0]) if rows else None


def removals_page(
    table: ContextTable, context_id: str, since: int, as_of: int, after: Row, limit: int
) -> Plan[list[Row]]:
    """Read (key ..., removed_in) of rows that were removed after revision ``since``."""
    bounds: dict[str, Any] = {"context": context_id, "since": since, "as_of": as_of, "how_many": limit}
    return _rows((yield Step(_select_removals(table), bounds | _key_parameters(table, after, "after"), reads=True)))


def keys_at(table: ContextTable, context_id: str, revision: int, *, live: bool) -> Plan[set[Row]]:
    """Read the keys of rows that were added by a revision; with ``live``, only of those that were never removed."""
    bounds = {"context": context_id, "as_of": revision}
    return set(_rows((yield Step(_select_keys_at(table, live=live), bounds, reads=True))))


def keys_between(table: ContextTable, context_id: str, low: Row, high: Row) -> Plan[set[Row]]:
    """Read the keys between two keys."""
    bounds = {"context": context_id, **_key_parameters(table, low, "low"), **_key_parameters(table, high, "high")}
    return set(_rows((yield Step(_select_keys(table), bounds, reads=True))))


def _rows(rows: Any) -> list[Row]:
    return [tuple(row) for row in rows or ()]


def _key_parameters(table: ContextTable, key: Row, name: str) -> dict[str, Any]:
    return {f"{name}_{column}": value for column, value in zip(table.key, key, strict=True)}


# Statements.


def _columns_as_of(table: ContextTable) -> Iterator[sa.ColumnElement[Any]]:
    for column in table.table.c:
        is_removed = column.name == "removed_in"
        yield sa.case((column <= number("as_of"), column)).label("removed_in") if is_removed else column


def _after(table: ContextTable) -> sa.ColumnElement[bool]:
    return _key(table) > _key_bound(table, "after")


def _between(table: ContextTable) -> sa.ColumnElement[bool]:
    return sa.and_(_key(table) >= _key_bound(table, "low"), _key(table) <= _key_bound(table, "high"))


def _key(table: ContextTable) -> sa.ColumnElement[Any]:
    key = table.key_columns()
    return sa.tuple_(*key) if len(key) > 1 else key[0]


def _key_bound(table: ContextTable, name: str) -> sa.ColumnElement[Any]:
    bounds = [sa.bindparam(f"{name}_{column.name}", type_=column.type) for column in table.key_columns()]
    return sa.tuple_(*bounds) if len(bounds) > 1 else bounds[0]


@cache
def _select_contexts(*, of_user: bool) -> Statement:
    statement = sa.select(contexts).where(contexts.c.context_id > text("after"), incomplete.is_there())
    if of_user:
        statement = statement.where(contexts.c.user_id == text("user"))
    return statement.order_by(contexts.c.context_id).limit(number("how_many"))


@cache
def _select_context(*, lock: bool) -> Statement:
    statement = sa.select(contexts).where(contexts.c.context_id == text("context"))
    return statement.with_for_update() if lock else statement


@cache
def _select_numbered(table: ContextTable) -> Statement:
    # Between two seqs instead of a LIMIT: with too few statistics, a planner would sort the whole history.
    c = table.table.c
    between = (c.seq >= number("low"), c.seq < number("high"), c.added_in <= number("as_of"))
    return sa.select(*_columns_as_of(table)).where(c.context_id == text("context"), *between).order_by(c.seq)


@cache
def _select_keyed(table: ContextTable, *, continued: bool) -> Statement:
    statement = sa.select(*_columns_as_of(table)).where(table.table.c.context_id == text("context"))
    if table in _CREATED_IN:
        created_in = table.table.c[_CREATED_IN[table]]
        statement = statement.where(created_in > number("since"), created_in <= number("as_of"))
    if continued:
        statement = statement.where(_after(table))
    return statement.order_by(*table.key_columns()).limit(number("how_many"))


@cache
def _select_between(table: ContextTable) -> Statement:
    statement = sa.select(*_columns_as_of(table)).where(table.table.c.context_id == text("context"), _between(table))
    if table in _CREATED_IN:
        statement = statement.where(table.table.c[_CREATED_IN[table]] <= number("as_of"))
    return statement.order_by(*table.key_columns())


@cache
def _select_last(table: ContextTable) -> Statement:
    seq = table.table.c.seq
    return sa.select(seq).where(table.table.c.context_id == text("context")).order_by(seq.desc()).limit(1)


@cache
def _select_identity() -> Statement:
    save = (revisions.c.run_id, revisions.c.save_number, revisions.c.saved_at)
    return sa.select(*save).where(revisions.c.context_id == text("context"), revisions.c.revision == number("revision"))


@cache
def _select_removals(table: ContextTable) -> Statement:
    c = table.table.c
    removed = (c.added_in <= number("as_of"), c.removed_in > number("since"), c.removed_in <= number("as_of"))
    statement = sa.select(*table.key_columns(), c.removed_in)
    statement = statement.where(c.context_id == text("context"), *removed, _after(table))
    return statement.order_by(*table.key_columns()).limit(number("how_many"))


@cache
def _select_keys_at(table: ContextTable, *, live: bool) -> Statement:
    c = table.table.c
    statement = sa.select(*table.key_columns()).where(c.context_id == text("context"), c.added_in <= number("as_of"))
    return statement.where(c.removed_in.is_(None)) if live else statement


@cache
def _select_keys(table: ContextTable) -> Statement:
    return sa.select(*table.key_columns()).where(table.table.c.context_id == text("context"), _between(table))
