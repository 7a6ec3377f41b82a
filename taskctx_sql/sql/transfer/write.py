"""Writing transferred rows: plans and their statements. Each plan can be repeated without harm."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.sql import engines, incomplete
from taskctx_sql.sql.plan import Plan, Rows, Statement, Step, columns, insertion, number, opaque_text, parameters, text
from taskctx_sql.sql.schema import contexts, runs, state
from taskctx_sql.sql.transfer import read
from taskctx_sql.sql.transfer.rows import STATE, ContextRow, ContextTable, Row

# Rows in one statement.
_ROWS_AT_ONCE: Final = 500
_FIXED: Final = ("context_id", "user_id", "chat_id", "created_at")


def begin(engine: str, source: ContextRow) -> Plan[None]:
    """Create a context's row with nothing in it yet, unless it is there.

    An incomplete copy of another context is cleared first, as is one that has rows the source has pruned since.
    """
    there = yield from read.row_of_id(source.context_id, lock=True)
    if there is not None and not there.can_continue(source):
        yield from incomplete.clear(source.context_id)
    empty = source._replace(revision=0, next_seq=1, next_model=1, next_position=1, metadata="{}", metadata_toggles="{}")
    yield Step(_insert_context(engine), dict(zip(columns(contexts), empty, strict=True)))


def write_rows(table: ContextTable, seen: ContextRow, page: Sequence[Row]) -> Plan[int | None]:
    """Add rows to a context, and return how many were new; None if somebody saved to it since it was read."""
    if (yield from _has_changed(seen)):
        return None
    known = yield from read.keys_between(table, seen.context_id, table.key_of(page[0]), table.key_of(page[-1]))
    new = [row for row in page if table.key_of(row) not in known] if known else list(page)
    if new:
        if table is STATE:
            # A version that expired may be current here, and pruned in the source.
            names = ("of_kind", "of_name", "now", "context")
            yield Step(_end_earlier_versions(), Rows(names, [(*table.key_of(row), seen.context_id) for row in new]))
        yield Step(insertion(table.table), Rows(columns(table.table), new, table.table))
    return len(new)


def write_runs(engine: str, seen: ContextRow, page: Sequence[Row]) -> Plan[int | None]:
    """Add runs, or update those that are there; see `write_rows`."""
    if (yield from _has_changed(seen)):
        return None
    yield Step(_upsert_runs(engine), Rows(columns(runs), page))
    return 0


def write_removals(table: ContextTable, seen: ContextRow, page: Sequence[Row]) -> Plan[int | None]:
    """Mark rows as removed; see `write_rows`."""
    if (yield from _has_changed(seen)):
        return None
    names = (*(f"gone_{name}" for name in table.key), "now", "context")
    yield Step(_update_removed(table), Rows(names, [(*row, seen.context_id) for row in page]))
    return 0


def finish(seen: ContextRow, source: ContextRow) -> Plan[bool]:
    """Make the context visible as it is in the source; return False if somebody else saved meanwhile."""
    if (yield from _has_changed(seen)):
        return (yield from _is_done(seen, source))
    # Rows that only the source has pruned are still complete in the target, if it had seen them.
    pruned = max(seen.incomplete_until, source.incomplete_until if source.incomplete_until > seen.revision else 0)
    values = source._replace(pruned_until=pruned or None)._asdict()
    new = {f"now_{name}": value for name, value in values.items() if name not in _FIXED}
    yield Step(_update_context(), new | {"context": seen.context_id})
    return True


class TableChanges(NamedTuple):
    """What a table of a context has in the source and not in the target."""

    table: ContextTable
    # The keys of rows that were removed and pruned, so that nobody knows in which revision.
    lost: Sequence[Row]
    # The keys of rows that were removed, and in which revision.
    removed: Sequence[Row]
    new: Sequence[Row]


def extend(seen: ContextRow, source: ContextRow, changes: Sequence[TableChanges]) -> Plan[dict[str, int] | None]:
    """Bring a context up to date in one transaction, so that nobody who saves to it sees half of that.

    The result is how many rows were new, by table; None if somebody else saved meanwhile.
    """
    if (yield from _has_changed(seen)):
        return {} if (yield from _is_done(seen, source)) else None
    added = {}
    for table, lost, removed, new in changes:
        # Removals first: a path has one version at a time.
        if gone := [*((*key, source.pruned_until) for key in lost), *removed]:
            yield from write_removals(table, seen, gone)
        count = 0
        for start in range(0, len(new), _ROWS_AT_ONCE):
            count += (yield from write_rows(table, seen, new[start : start + _ROWS_AT_ONCE])) or 0
        added[table.table.name] = count
    yield from finish(seen, source)
    return added


def _is_done(seen: ContextRow, source: ContextRow) -> Plan[bool]:
    # An earlier transaction, whose outcome nobody knew, may have done it.
    now = yield from read.row_of_id(seen.context_id)
    return now is not None and now.is_same(source)


def _has_changed(seen: ContextRow) -> Plan[bool]:
    """Lock the context, and return whether somebody saved to it since it was read."""
    now = yield from read.row_of_id(seen.context_id, lock=True)
    return now is None or (now.created_at, now.revision) != (seen.created_at, seen.revision)


# Statements.


@cache
def _insert_context(engine: str) -> Statement:
    return engines.insert(engine, contexts).values(parameters(contexts)).on_conflict_do_nothing()


@cache
def _upsert_runs(engine: str) -> Statement:
    statement = engines.insert(engine, runs).values(parameters(runs))
    mutable = ("ended_at", "outcome", "error", "saves")
    return statement.on_conflict_do_update(
        index_elements=[runs.c.context_id, runs.c.run_id],
        set_={name: statement.excluded[name] for name in mutable},
        # In the target the run may have continued.
        where=statement.excluded.saves >= runs.c.saves,
    )


@cache
def _update_removed(table: ContextTable) -> Statement:
    key = [column == sa.bindparam(f"gone_{column.name}", type_=column.type) for column in table.key_columns()]
    removed = sa.update(table.table).where(table.table.c.context_id == text("context"), *key)
    return removed.values(removed_in=number("now"))


@cache
def _end_earlier_versions() -> Statement:
    same = (
        state.c.context_id == text("context"),
        state.c.kind == opaque_text("of_kind"),
        state.c.name == text("of_name"),
    )
    current = (state.c.removed_in.is_(None), state.c.added_in < number("now"))
    return sa.update(state).where(*same, *current).values(removed_in=number("now"))


@cache
def _update_context() -> Statement:
    new = [column for column in contexts.c if column.name not in _FIXED]
    values = {column: sa.bindparam(f"now_{column.name}", type_=column.type) for column in new}
    return sa.update(contexts).where(contexts.c.context_id == text("context")).values(values)
