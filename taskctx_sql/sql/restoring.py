"""How an earlier state becomes current again, statement by statement: within the database, and as a new revision.

Nothing is erased and no row changes, except that ``removed_in`` is set. What is in the state already stays where it
is. An entry that is not is written again, as a copy under a new seq; and since the order of the history is that of
the seqs, so is all that comes after it. A copy knows in ``copy_of`` the seq that the entry was written under first:
its root. Roots rise along a history, too, so states are compared and merged by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.errors import NothingToUndoError, RevisionNotFoundError
from taskctx_sql.records import Delta
from taskctx_sql.sql import dialect, states
from taskctx_sql.sql.steps import Statement, Step, Steps, number, text
from taskctx_sql.sql.tables import files, models, revisions, updates

# What can be taken back.
_UNDOABLE: Final = ("optimize", "truncate", "restore")


class Restored(NamedTuple):
    """What a restore came to.

    Attributes:
        next_seq: The context's next seq, after the copies.
        next_model: The same of its model uses.
        metadata: Its metadata, if they changed.
        toggles: Its metadata toggles, if they changed.
        source: The revision that became current, or that was taken back.
        added: How many updates came; those that were only written anew do not count.
        removed: How many left.
    """

    next_seq: int
    next_model: int
    metadata: str | None
    toggles: str | None
    source: int
    added: int
    removed: int


def restore(ident: str, delta: Delta, revision: int, next_seq: int, next_model: int) -> Steps[Restored]:
    """Return the steps of a restore or an undo, in the transaction of a save that holds the context's lock.

    Args:
        ident: Whose.
        delta: What is asked for.
        revision: The one that it makes.
        next_seq: The context's next seq.
        next_model: The seq of its next model use.

    Raises:
        RevisionNotFoundError: The revision to restore is not there, or no longer whole.
        NothingToUndoError: There is nothing to take back.
    """
    if delta.operation == "restore":
        assert delta.source_revision is not None
        source = then = delta.source_revision
        how = _RESTORE
        yield from _check_revision(ident, delta, revision - 1)
    else:
        source = then = yield from _last_operation(ident, delta)
        how = _UNDO
        if (yield from _nothing_but_operations_since(ident, source)):
            how, then = _RESTORE, source - 1
    known = {"ident": ident, "then": then, "now": revision, "run": delta.run.run_id}
    seq, added, removed = yield from _restore_rows(how, updates, known, next_seq)
    model, _, _ = yield from _restore_rows(how, models, known, next_model)
    for change_files in how.files:
        yield Step(change_files(), known)
    metadata = yield from how.mapping(ident, then, "metadata")
    toggles = yield from how.mapping(ident, then, "metadata_toggles")
    return Restored(seq, model, metadata, toggles, source, added, removed)


def rows_now(engine: str, table: sa.Table, ident: str, seqs: Sequence[int]) -> Steps[list[int]]:
    """Return the steps that find under which seqs rows are there now, if they are; a restore gives them new ones."""
    if not seqs:
        return []
    asked = {"ident": ident, "seqs": dialect.list_value(engine, seqs)}
    found = yield Step(_select_rows_now(engine, table), asked, reads=True)
    return [int(row[0]) for row in found or ()]


def _check_revision(ident: str, delta: Delta, newest: int) -> Steps[None]:
    assert delta.source_revision is not None
    yield from states.check_whole(delta.key, delta.source_revision, newest)
    if (yield from states.find(ident, delta.source_revision)) is None:
        raise RevisionNotFoundError(delta.key, delta.source_revision, newest)


def _last_operation(ident: str, delta: Delta) -> Steps[int]:
    """Return the steps that find the newest revision that can be taken back, and was not."""
    found = yield Step(_select_operations(), {"ident": ident}, reads=True)
    undone: set[int] = set()
    for revision, operation, source in found or ():
        if operation == "undo":
            undone.add(source)
        elif operation in _UNDOABLE and revision not in undone:
            if (yield from states.pruned_until(ident)) > revision:
                break
            return int(revision)
    raise NothingToUndoError(delta.key)


def _nothing_but_operations_since(ident: str, source: int) -> Steps[bool]:
    """Return the steps that tell if there is nothing to keep of what came after: then the state before is it."""
    found = yield Step(_count_saves_since(), {"ident": ident, "then": source}, reads=True)
    pruned = yield from states.pruned_until(ident)
    return pruned < source and not (found and found[0][0])


def _restore_rows(how: _How, table: sa.Table, known: dict[str, Any], following: int) -> Steps[tuple[int, int, int]]:
    """Write what is to be there again, and take out what is not.

    Returns:
        The seq that follows, how many entries came, and how many left.
    """
    first, added = (yield from _row(Step(_select_missing(how, table), known, reads=True))) or (None, 0)
    _, removed = (yield from _row(Step(_select_others(how, table), known, reads=True))) or (None, 0)
    copies = 0
    if first is not None:
        bounds = {**known, "first": first}
        (copies,) = (yield from _row(Step(_count_from(how, table), bounds, reads=True))) or (0,)
        yield Step(_copy_from(how, table), {**bounds, "following": following})
        yield Step(_remove_from(table), bounds)
    if removed:
        yield Step(_remove_others(how, table), known)
    return following + copies, added, removed


def _row(step: Step) -> Steps[tuple[Any, ...] | None]:
    found = yield step
    return tuple(found[0]) if found else None


# What the state that is to be current holds, as conditions and sets of roots.

Roots = sa.Select[Any] | sa.CompoundSelect[Any]


class _How(NamedTuple):
    """The difference between making a revision current, and taking one back."""

    roots: Callable[[sa.Table], Roots]
    files: tuple[Callable[[], Statement], ...]
    mapping: Callable[[str, int, str], Steps[str | None]]


def _root(table: sa.Table) -> sa.ColumnElement[int]:
    return sa.func.coalesce(table.c.copy_of, table.c.seq)


def _roots(table: sa.Table, *condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(_root(table).label("root")).where(table.c.context_id == text("ident"), *condition)


def _live(table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
    # Not what this very restore has written.
    return table.c.removed_in.is_(None), table.c.added_in < number("now")


def _roots_then(table: sa.Table) -> Roots:
    """What was there in the source revision."""
    gone = sa.or_(table.c.removed_in.is_(None), table.c.removed_in > number("then"))
    return _roots(table, table.c.added_in <= number("then"), gone)


def _roots_without(table: sa.Table) -> Roots:
    """What would be there without the source revision: what it brought goes, and what it took out comes back."""
    brought = _roots(table, table.c.added_in == number("then"))
    kept = sa.except_(_roots(table, *_live(table)), brought).subquery()
    return sa.union(_roots(table, table.c.removed_in == number("then")), sa.select(kept.c.root))


def _difference(one: Roots, other: Roots) -> sa.CompoundSelect[Any]:
    # As selects of subqueries, since SQLite takes no brackets.
    sides = [sa.select(side.subquery().c.root) for side in (one, other)]
    return sa.except_(*sides)


# The statements.


@cache
def _select_missing(how: _How, table: sa.Table) -> Statement:
    missing = _difference(how.roots(table), _roots(table, *_live(table))).subquery()
    return sa.select(sa.func.min(missing.c.root), sa.func.count())


@cache
def _select_others(how: _How, table: sa.Table) -> Statement:
    others = _difference(_roots(table, *_live(table)), how.roots(table)).subquery()
    return sa.select(sa.func.min(others.c.root), sa.func.count())


@cache
def _count_from(how: _How, table: sa.Table) -> Statement:
    wanted = how.roots(table).subquery()
    return sa.select(sa.func.count(sa.distinct(wanted.c.root))).where(wanted.c.root >= number("first"))


@cache
def _copy_from(how: _How, table: sa.Table) -> Statement:
    wanted = how.roots(table).subquery()
    # Copies of one entry are the same, so any of them will do.
    newest = (
        sa.select(sa.func.max(table.c.seq))
        .where(
            table.c.context_id == text("ident"),
            table.c.seq >= number("first"),
            _root(table) >= number("first"),
            _root(table).in_(sa.select(wanted.c.root)),
        )
        .group_by(_root(table))
    )
    place = sa.func.row_number().over(partition_by=table.c.context_id, order_by=_root(table))
    new = {
        "seq": number("following") - 1 + place,
        "added_in": number("now"),
        "removed_in": sa.null(),
        "run_id": text("run"),
        "copy_of": _root(table),
    }
    values = [new.get(column.name, column) for column in table.c]
    chosen = sa.select(*values).where(table.c.context_id == text("ident"), table.c.seq.in_(newest))
    return sa.insert(table).from_select([column.name for column in table.c], chosen, include_defaults=False)


@cache
def _remove_from(table: sa.Table) -> Statement:
    condition = (table.c.context_id == text("ident"), *_live(table), _root(table) >= number("first"))
    return sa.update(table).where(*condition).values(removed_in=number("now"))


@cache
def _remove_others(how: _How, table: sa.Table) -> Statement:
    others = _difference(_roots(table, *_live(table)), how.roots(table)).subquery()
    condition = (table.c.context_id == text("ident"), *_live(table), _root(table).in_(sa.select(others.c.root)))
    return sa.update(table).where(*condition).values(removed_in=number("now"))


def _copy_files(*condition: sa.ColumnElement[bool]) -> Statement:
    new = {"added_in": number("now"), "removed_in": sa.null(), "run_id": text("run")}
    values = [new.get(column.name, column) for column in files.c]
    chosen = sa.select(*values).where(files.c.context_id == text("ident"), *condition)
    return sa.insert(files).from_select([column.name for column in files.c], chosen, include_defaults=False)


def _remove_files(*condition: sa.ColumnElement[bool]) -> Statement:
    live = (files.c.context_id == text("ident"), files.c.removed_in.is_(None), files.c.added_in < number("now"))
    return sa.update(files).where(*live, *condition).values(removed_in=number("now"))


@cache
def _remove_files_since() -> Statement:
    return _remove_files(files.c.added_in > number("then"))


@cache
def _copy_files_then() -> Statement:
    # Those that are there still were there in the source revision as well.
    return _copy_files(files.c.added_in <= number("then"), files.c.removed_in > number("then"))


@cache
def _remove_files_brought() -> Statement:
    return _remove_files(files.c.added_in == number("then"))


@cache
def _copy_files_taken() -> Statement:
    later = files.alias("later")
    tracked_since = (
        sa.exists()
        .where(
            later.c.context_id == files.c.context_id,
            later.c.path_id == files.c.path_id,
            later.c.removed_in.is_(None),
            later.c.added_in != number("then"),
        )
        .correlate(files)
    )
    return _copy_files(files.c.removed_in == number("then"), ~tracked_since)


@cache
def _select_changed_mapping(column: str) -> Statement:
    value = revisions.c[column]
    return sa.select(revisions.c.revision).where(
        revisions.c.context_id == text("ident"), revisions.c.revision >= number("then"), value.is_not(None)
    )


@cache
def _select_operations() -> Statement:
    asked = (revisions.c.revision, revisions.c.operation, revisions.c.source_revision)
    statement = sa.select(*asked).where(revisions.c.context_id == text("ident"), revisions.c.operation.is_not(None))
    return statement.order_by(revisions.c.revision.desc())


@cache
def _select_rows_now(engine: str, table: sa.Table) -> Statement:
    given = _roots(table, dialect.is_in_list(engine, table.c.seq, "seqs"))
    here = (table.c.context_id == text("ident"), table.c.removed_in.is_(None))
    return sa.select(table.c.seq).where(*here, _root(table).in_(given))


@cache
def _count_saves_since() -> Statement:
    since = (revisions.c.revision > number("then"), revisions.c.operation.is_(None))
    return sa.select(sa.func.count()).where(revisions.c.context_id == text("ident"), *since)


def _mapping_then(ident: str, then: int, column: str) -> Steps[str | None]:
    before = yield from states.mapping_at(ident, then, column)
    now = yield from states.mapping_at(ident, states.LAST_REVISION, column)
    return None if before == now else before


def _mapping_without(ident: str, then: int, column: str) -> Steps[str | None]:
    changed = yield Step(_select_changed_mapping(column), {"ident": ident, "then": then}, reads=True)
    if [row[0] for row in changed or ()] != [then]:
        # It did not change in that revision, or was changed again since.
        return None
    return (yield from states.mapping_at(ident, then - 1, column))


_RESTORE: Final = _How(_roots_then, (_remove_files_since, _copy_files_then), _mapping_then)
# What comes back first: what was brought is not there any more afterwards.
_UNDO: Final = _How(_roots_without, (_copy_files_taken, _remove_files_brought), _mapping_without)
