"""Removing permanently: plans and their statements, in batches that hold a lock for some milliseconds each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.sql import incomplete
from taskctx_sql.sql.plan import Plan, Statement, Step, deletion, number, text
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, state, updates
from taskctx_sql.sql.small_contexts import Counts

# The tables of a context's rows, and the columns of their keys, which batches are ranges of.
_PARTS: Final = (
    *((updates, ("seq",)), (models, ("seq",)), (files, ("path_id", "added_in")), (state, ("kind", "name", "added_in"))),
    *((revisions, ("revision",)), (runs, ("run_id",))),
)
_NUMBERED: Final = ((updates, "next_seq"), (models, "next_model"))
# Those whose removed rows are deleted in ranges of keys that have to be read first.
KEYED: Final = (files.name, state.name)

Key = tuple[Any, ...]


class Candidate(NamedTuple):
    """A context that may be removed, as it was read. Revision 0 says that its removal has begun."""

    context_id: str
    user_id: str
    chat_id: str
    updated_at: float
    revision: int
    next_seq: int
    next_model: int
    next_position: int

    @property
    def numbers(self) -> int:
        """About how many rows it has, and possibly more; an incomplete context does not tell."""
        return self.revision + self.next_seq + self.next_model + self.next_position


def users_page(after: str | None, limit: int) -> Plan[list[str]]:
    """Read users in the order of their ids."""
    bounds = {"how_many": limit} if after is None else {"how_many": limit, "after": after}
    rows = yield Step(_select_users(goes_on=after is not None), bounds, reads=True)
    return [row[0] for row in rows or ()]


def contexts_before(at: float, user_id: str | None, after: str, limit: int) -> Plan[list[Candidate]]:
    """Read contexts last saved before a time, in the order of their ids."""
    user = {} if user_id is None else {"user": user_id}
    bounds = {"at": at, "after": after, "how_many": limit, **user}
    rows = yield Step(_select_before(of_user=user_id is not None), bounds, reads=True)
    return [Candidate(*row) for row in rows or ()]


def contexts_beyond(user_id: str, kept: int, limit: int) -> Plan[list[Candidate]]:
    """Read a user's contexts except those saved last, which are kept."""
    rows = yield Step(_select_beyond(), {"user": user_id, "kept": kept, "how_many": limit}, reads=True)
    return [Candidate(*row) for row in rows or ()]


def one_context(context_id: str, *, lock: bool = False) -> Plan[Candidate | None]:
    """Read one context, and lock it if asked to."""
    rows = yield Step(_select_one(lock=lock), {"context": context_id}, reads=True)
    return Candidate(*rows[0]) if rows else None


def count(context_id: str) -> Plan[Counts]:
    """Count a context's rows by table."""
    counts: Counts = {contexts.name: 1}
    for table, _ in _PARTS:
        rows = yield Step(_count(table), {"context": context_id}, reads=True)
        counts[table.name] = rows[0][0] if rows else 0
    return counts


def is_unchanged(seen: Candidate) -> Plan[bool]:
    """Return whether nobody saved to a context since it was read, after waiting for saves in progress."""
    return (yield from one_context(seen.context_id, lock=True)) == seen


def hide(seen: Candidate, *, guarded: bool) -> Plan[bool | None]:
    """Hide a context, in one statement, so that nobody reads it any more; if it is guarded, unless somebody saved.

    The result is whether it is hidden; False if it is not there, None if somebody saved.
    """
    now = yield from one_context(seen.context_id, lock=True)
    if now is None:
        return False
    if now.revision:
        if guarded and now != seen:
            return None
        yield from incomplete.hide(seen.context_id)
    return True


def erase_some(context_id: str, limit: int) -> Plan[tuple[Counts, bool]]:
    """Delete about so many rows of a hidden context, and at the end its own row.

    The result is how many rows were deleted, by table, and whether that was all of them.
    """
    counts: Counts = {}
    now = yield from one_context(context_id, lock=True)
    if now is None or now.revision:
        # Whoever created it again has cleared what was left.
        return counts, True
    left = limit
    for table, key in _PARTS:
        keys = (yield Step(_select_first(table, key), {"context": context_id, "how_many": left}, reads=True)) or ()
        if not keys:
            continue
        last = {"context": context_id, **_given("last", key, keys[-1])}
        gone = yield Step(_delete_until(table, key), last, reads=True)
        counts[table.name] = len(gone or ())
        left -= len(keys)
        if left <= 0:
            return counts, False
    yield Step(deletion(contexts), {"context": context_id})
    counts[contexts.name] = 1
    return counts, True


def removed_until(context_id: str, at: float) -> Plan[int]:
    """Read the last revision before the first one that was saved after a time; 0 if there is none.

    Later revisions with earlier times were saved by slow clocks.
    """
    rows = yield Step(_select_revisions_around(), {"context": context_id, "at": at}, reads=True)
    first_after, last = rows[0] if rows else (None, None)
    return int(last or 0) if first_after is None else int(first_after) - 1


def next_numbers(context_id: str) -> Plan[dict[str, int]]:
    """Read the next number of each numbered table, by the table's name."""
    rows = yield Step(_select_next(), {"context": context_id}, reads=True)
    values = rows[0] if rows else (1, 1)
    return {table.name: int(value) for (table, _), value in zip(_NUMBERED, values, strict=True)}


def count_removed(table: str, context_id: str, low: Key, high: Key, revision: int) -> Plan[int]:
    """Count the rows of a range that had been removed by a revision."""
    bounds = _range(table, context_id, low, high) | {"revision": revision}
    rows = yield Step(_count_removed(table), bounds, reads=True)
    return int(rows[0][0]) if rows else 0


def delete_removed(table: str, context_id: str, low: Key, high: Key, revision: int) -> Plan[int]:
    """Delete the rows that `count_removed` counts."""
    bounds = _range(table, context_id, low, high) | {"revision": revision}
    # Earlier revisions are incomplete from now on, and are refused.
    yield Step(_note_pruned(), {"context": context_id, "until": revision})
    gone = yield Step(_delete_removed(table), bounds, reads=True)
    return len(gone or ())


def last_key(table: str, context_id: str, after: Key, limit: int) -> Plan[Key | None]:
    """Read the last key of the next rows of a table, so many of them; None after the last row."""
    given = {"context": context_id, "how_many": limit, **_given("after", _key_of(table), after)}
    rows = yield Step(_select_keys(table), given, reads=True)
    return tuple(rows[-1]) if rows else None


def first_key(table: str) -> Key:
    """Return a key that is before all of a table."""
    _, key = _part(table)
    return tuple("" if isinstance(column.type, sa.Text) else 0 for column in key)


def _range(table: str, context_id: str, low: Key, high: Key) -> dict[str, Any]:
    key = _key_of(table)
    return {"context": context_id, **_given("low", key, low), **_given("high", key, high)}


def _given(name: str, key: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    return {f"{name}_{column}": value for column, value in zip(key, values, strict=True)}


def _part(name: str) -> tuple[sa.Table, tuple[sa.Column[Any], ...]]:
    table, key = next((table, key) for table, key in _PARTS if table.name == name)
    return table, tuple(table.c[column] for column in key)


def _key_of(name: str) -> tuple[str, ...]:
    return tuple(column.name for column in _part(name)[1])


# Statements.


CANDIDATE: Final = tuple(contexts.c[name] for name in Candidate._fields)
_AT: Final = sa.bindparam("at", type_=sa.Double)


@cache
def _select_users(*, goes_on: bool) -> Statement:
    statement = sa.select(contexts.c.user_id).distinct().order_by(contexts.c.user_id).limit(number("how_many"))
    return statement.where(contexts.c.user_id > text("after")) if goes_on else statement


@cache
def _select_before(*, of_user: bool) -> Statement:
    statement = sa.select(*CANDIDATE).where(contexts.c.updated_at < _AT, contexts.c.context_id > text("after"))
    if of_user:
        statement = statement.where(contexts.c.user_id == text("user"))
    return statement.order_by(contexts.c.context_id).limit(number("how_many"))


@cache
def _select_beyond() -> Statement:
    statement = sa.select(*CANDIDATE).where(contexts.c.user_id == text("user"))
    hidden_last = sa.case((incomplete.is_there(), 0), else_=1)
    newest_first = (hidden_last, contexts.c.updated_at.desc(), contexts.c.context_id)
    return statement.order_by(*newest_first).limit(number("how_many")).offset(number("kept"))


@cache
def _select_one(*, lock: bool) -> Statement:
    statement = sa.select(*CANDIDATE).where(contexts.c.context_id == text("context"))
    return statement.with_for_update() if lock else statement


@cache
def _select_next() -> Statement:
    return sa.select(*(contexts.c[name] for _, name in _NUMBERED)).where(contexts.c.context_id == text("context"))


@cache
def _count(table: sa.Table) -> Statement:
    return sa.select(sa.func.count()).select_from(table).where(table.c.context_id == text("context"))


def _bounded(key: Sequence[sa.Column[Any]], name: str) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
    """Return a key and the parameters that it is compared with."""
    bounds = [sa.bindparam(f"{name}_{column.name}", type_=column.type) for column in key]
    return (key[0], bounds[0]) if len(key) == 1 else (sa.tuple_(*key), sa.tuple_(*bounds))


@cache
def _select_first(table: sa.Table, key: tuple[str, ...]) -> Statement:
    columns = [table.c[name] for name in key]
    statement = sa.select(*columns).where(table.c.context_id == text("context"))
    return statement.order_by(*columns).limit(number("how_many"))


@cache
def _delete_until(table: sa.Table, key: tuple[str, ...]) -> Statement:
    columns = [table.c[name] for name in key]
    these, last = _bounded(columns, "last")
    return sa.delete(table).where(table.c.context_id == text("context"), these <= last).returning(columns[0])


@cache
def _select_revisions_around() -> Statement:
    first_after = sa.func.min(sa.case((revisions.c.saved_at > _AT, revisions.c.revision)))
    return sa.select(first_after, sa.func.max(revisions.c.revision)).where(revisions.c.context_id == text("context"))


def _removed(name: str) -> tuple[sa.Table, tuple[sa.ColumnElement[bool], ...]]:
    table, columns = _part(name)
    (key, low), (_, high) = _bounded(columns, "low"), _bounded(columns, "high")
    gone = [table.c.removed_in <= number("revision")]
    if name not in KEYED:
        # An entry that a restore wrote again is still there, and who loaded it before knows it by this row.
        copy = table.alias()
        entry = sa.func.coalesce(table.c.copy_of, table.c.seq)
        live = (copy.c.context_id == text("context"), copy.c.removed_in.is_(None), copy.c.copy_of.is_not(None))
        gone.append(entry.not_in(sa.select(copy.c.copy_of).where(*live)))
    return table, (table.c.context_id == text("context"), key > low, key <= high, *gone)


@cache
def _count_removed(name: str) -> Statement:
    return sa.select(sa.func.count()).where(*_removed(name)[1])


@cache
def _note_pruned() -> Statement:
    earlier = sa.or_(contexts.c.pruned_until.is_(None), contexts.c.pruned_until < number("until"))
    note = sa.update(contexts).where(contexts.c.context_id == text("context"), earlier)
    return note.values(pruned_until=number("until"))


@cache
def _delete_removed(name: str) -> Statement:
    table, condition = _removed(name)
    return sa.delete(table).where(*condition).returning(table.c.added_in)


@cache
def _select_keys(name: str) -> Statement:
    table, columns = _part(name)
    key, after = _bounded(columns, "after")
    statement = sa.select(*columns).where(table.c.context_id == text("context"), key > after)
    return statement.order_by(*columns).limit(number("how_many"))
