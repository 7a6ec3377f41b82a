"""What removing for good does, statement by statement: in batches that hold a lock for some milliseconds each."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.model import ContextKey
from taskctx_sql.sql import incomplete, row_codec
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, updates

# A context's rows, with the column of each table's key that a batch is measured by.
_PARTS: Final = ((updates, "seq"), (models, "seq"), (files, "path_id"), (revisions, "revision"), (runs, "run_id"))
_NUMBERED: Final = ((updates, "next_seq"), (models, "next_model"))

Counts = dict[str, int]


class Old(NamedTuple):
    """A context that may go: its id, when it was last saved, and its revision, 0 if it is half gone already."""

    context_id: str
    user_id: str
    chat_id: str
    updated_at: float
    revision: int


def users_page(after: str | None, limit: int) -> Plan[list[str]]:
    """Return the steps that read users in the order of their ids."""
    known = {} if after is None else {"after": after}
    found = yield Step(_select_users(goes_on=after is not None), {**known, "how_many": limit}, reads=True)
    return [row[0] for row in found or ()]


def contexts_before(at: float, user_id: str | None, after: str, limit: int) -> Plan[list[Old]]:
    """Return the steps that read contexts last saved before a time, in the order of their ids."""
    whose = {} if user_id is None else {"user": user_id}
    asked = {"at": at, "after": after, "how_many": limit, **whose}
    found = yield Step(_select_before(of_user=user_id is not None), asked, reads=True)
    return [Old(*row) for row in found or ()]


def contexts_beyond(user_id: str, kept: int, limit: int) -> Plan[list[Old]]:
    """Return the steps that read a user's contexts but for those saved last, so many of them."""
    found = yield Step(_select_beyond(), {"user": user_id, "kept": kept, "how_many": limit}, reads=True)
    return [Old(*row) for row in found or ()]


def one_context(key: ContextKey) -> Plan[Old | None]:
    """Return the steps that read one context."""
    found = yield Step(_select_one(lock=False), {"context": row_codec.context_id(key)}, reads=True)
    return Old(*found[0]) if found else None


def count(context_id: str) -> Plan[Counts]:
    """Return the steps that count a context's rows by table."""
    counts: Counts = {contexts.name: 1}
    for table, _ in _PARTS:
        found = yield Step(_count(table), {"context": context_id}, reads=True)
        counts[table.name] = found[0][0] if found else 0
    return counts


def is_as_seen(old: Old) -> Plan[bool]:
    """Return the steps that tell if nobody saved to a context since it was looked at, waiting for those who are."""
    found = yield Step(_select_one(lock=True), {"context": old.context_id}, reads=True)
    return bool(found and Old(*found[0]) == old)


def hide(old: Old, *, guarded: bool) -> Plan[bool | None]:
    """Return the steps that make a context one that nobody sees any more, all at once.

    Args:
        old: Which, as it was looked at.
        guarded: Whether to do so only if nobody saved since.

    Returns:
        Whether it is hidden; False if it is not there, None if somebody saved.
    """
    found = yield Step(_select_one(lock=True), {"context": old.context_id}, reads=True)
    if not found:
        return False
    now = Old(*found[0])
    if now.revision:
        if guarded and now != old:
            return None
        yield from incomplete.hide(old.context_id)
    return True


def erase_some(context_id: str, limit: int) -> Plan[tuple[Counts, bool]]:
    """Return the steps that delete about so many rows of a hidden context, and in the end its row.

    Args:
        context_id: Whose rows.
        limit: How many rows.

    Returns:
        How many rows of which table; and whether all are gone.
    """
    counts: Counts = {}
    found = yield Step(_select_one(lock=True), {"context": context_id}, reads=True)
    if not found or Old(*found[0]).revision:
        # Whoever made it anew has cleared what was left.
        return counts, True
    left = limit
    for table, key in _PARTS:
        places = (yield Step(_select_first(table, key), {"context": context_id, "how_many": left}, reads=True)) or ()
        if not places:
            continue
        gone = yield Step(_delete_until(table, key), {"context": context_id, "last": places[-1][0]}, reads=True)
        counts[table.name] = len(gone or ())
        left -= len(places)
        if left <= 0:
            return counts, False
    yield Step(_delete_context(), {"context": context_id})
    counts[contexts.name] = 1
    return counts, True


def removed_until(context_id: str, at: float) -> Plan[int]:
    """Return the steps that read the last revision before the first one saved after a time; 0 if there is none.

    A later one that says that it was saved before is by a slow clock.
    """
    found = yield Step(_select_revisions_around(), {"context": context_id, "at": at}, reads=True)
    first_after, last = found[0] if found else (None, None)
    return int(last or 0) if first_after is None else int(first_after) - 1


def highest(context_id: str) -> Plan[dict[str, int]]:
    """Return the steps that read the next number of each numbered table, by the table's name."""
    found = yield Step(_select_next(), {"context": context_id}, reads=True)
    values = found[0] if found else (1, 1)
    return {table.name: int(value) for (table, _), value in zip(_NUMBERED, values, strict=True)}


def count_removed(table: str, context_id: str, low: Any, high: Any, revision: int) -> Plan[int]:
    """Return the steps that count the rows of a range that had left the context in a revision."""
    bounds = {"context": context_id, "low": low, "high": high, "revision": revision}
    found = yield Step(_count_removed(table), bounds, reads=True)
    return int(found[0][0]) if found else 0


def delete_removed(table: str, context_id: str, low: Any, high: Any, revision: int) -> Plan[int]:
    """Return the steps that delete what `count_removed` counts."""
    bounds = {"context": context_id, "low": low, "high": high, "revision": revision}
    # Earlier states can no longer be told in full, and say so.
    yield Step(_note_pruned(), {"context": context_id, "until": revision})
    gone = yield Step(_delete_removed(table), bounds, reads=True)
    return len(gone or ())


def file_place(context_id: str, after: str, limit: int) -> Plan[str | None]:
    """Return the steps that read where a range of so many rows of the file tracker ends; None after the last."""
    found = yield Step(_select_file_places(), {"context": context_id, "after": after, "how_many": limit}, reads=True)
    return str(found[-1][0]) if found else None


# The statements.


_OLD: Final = (
    contexts.c.context_id,
    contexts.c.user_id,
    contexts.c.chat_id,
    contexts.c.updated_at,
    contexts.c.revision,
)


def _at() -> sa.BindParameter[float]:
    return sa.bindparam("at", type_=sa.Double)


@cache
def _select_users(*, goes_on: bool) -> Statement:
    statement = sa.select(contexts.c.user_id).distinct().order_by(contexts.c.user_id).limit(number("how_many"))
    return statement.where(contexts.c.user_id > text("after")) if goes_on else statement


@cache
def _select_before(*, of_user: bool) -> Statement:
    statement = sa.select(*_OLD).where(contexts.c.updated_at < _at(), contexts.c.context_id > text("after"))
    if of_user:
        statement = statement.where(contexts.c.user_id == text("user"))
    return statement.order_by(contexts.c.context_id).limit(number("how_many"))


@cache
def _select_beyond() -> Statement:
    statement = sa.select(*_OLD).where(contexts.c.user_id == text("user"))
    half_last = sa.case((incomplete.is_there(), 0), else_=1)
    newest_first = (half_last, contexts.c.updated_at.desc(), contexts.c.context_id)
    return statement.order_by(*newest_first).limit(number("how_many")).offset(number("kept"))


@cache
def _select_one(*, lock: bool) -> Statement:
    statement = sa.select(*_OLD).where(contexts.c.context_id == text("context"))
    return statement.with_for_update() if lock else statement


@cache
def _select_next() -> Statement:
    return sa.select(*(contexts.c[name] for _, name in _NUMBERED)).where(contexts.c.context_id == text("context"))


@cache
def _count(table: sa.Table) -> Statement:
    return sa.select(sa.func.count()).select_from(table).where(table.c.context_id == text("context"))


@cache
def _select_first(table: sa.Table, key: str) -> Statement:
    statement = sa.select(table.c[key]).where(table.c.context_id == text("context"))
    return statement.order_by(table.c[key]).limit(number("how_many"))


@cache
def _delete_until(table: sa.Table, key: str) -> Statement:
    last = sa.bindparam("last", type_=table.c[key].type)
    return sa.delete(table).where(table.c.context_id == text("context"), table.c[key] <= last).returning(table.c[key])


@cache
def _delete_context() -> Statement:
    return sa.delete(contexts).where(contexts.c.context_id == text("context"))


@cache
def _select_revisions_around() -> Statement:
    first_after = sa.func.min(sa.case((revisions.c.saved_at > _at(), revisions.c.revision)))
    return sa.select(first_after, sa.func.max(revisions.c.revision)).where(revisions.c.context_id == text("context"))


def _removed(name: str) -> tuple[sa.Column[Any], tuple[sa.ColumnElement[bool], ...]]:
    table, key = next((table, table.c[key]) for table, key in _PARTS if table.name == name)
    low, high = (sa.bindparam(end, type_=key.type) for end in ("low", "high"))
    gone = [table.c.removed_in <= number("revision")]
    if name != files.name:
        # An entry that a restore wrote anew has not left. Whoever loaded it before knows it by this row alone.
        copy = table.alias()
        entry = sa.func.coalesce(table.c.copy_of, table.c.seq)
        live = (copy.c.context_id == text("context"), copy.c.removed_in.is_(None), copy.c.copy_of.is_not(None))
        gone.append(entry.not_in(sa.select(copy.c.copy_of).where(*live)))
    return key, (table.c.context_id == text("context"), key > low, key <= high, *gone)


@cache
def _count_removed(name: str) -> Statement:
    _, condition = _removed(name)
    return sa.select(sa.func.count()).where(*condition)


@cache
def _note_pruned() -> Statement:
    earlier = sa.or_(contexts.c.pruned_until.is_(None), contexts.c.pruned_until < number("until"))
    note = sa.update(contexts).where(contexts.c.context_id == text("context"), earlier)
    return note.values(pruned_until=number("until"))


@cache
def _delete_removed(name: str) -> Statement:
    key, condition = _removed(name)
    return sa.delete(key.table).where(*condition).returning(key)


@cache
def _select_file_places() -> Statement:
    statement = sa.select(files.c.path_id).where(files.c.context_id == text("context"), files.c.path_id > text("after"))
    return statement.order_by(files.c.path_id).limit(number("how_many"))
