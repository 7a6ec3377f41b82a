"""How an earlier state becomes current again, statement by statement: within the database, and as a new revision.

Nothing is erased and no row changes, except that ``removed_in`` is set. What is in the state already stays where it
is. An entry that is not is written again, as a copy under a new seq; and since the order of the history is that of
the seqs, so is all that comes after it. A copy knows in ``copy_of`` the seq that the entry was written under first:
its root. Roots rise along a history, too, so states are compared and merged by them. An edit breaks that: what it
wrote anew has roots of its own, though it stands before what was taken out earlier. An undo then goes by time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.context import mappings
from taskctx_sql.errors import NothingToUndoError, RevisionNotFoundError
from taskctx_sql.model import Delta
from taskctx_sql.sql import engines
from taskctx_sql.sql.load import as_of
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.retry import allow
from taskctx_sql.sql.schema import files, models, revisions, updates

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


def restore(
    engine: str, context_id: str, delta: Delta, revision: int, next_seq: int, next_model: int
) -> Plan[Restored]:
    """Return the steps of a restore or an undo, in the transaction of a save that holds the context's lock.

    Args:
        engine: Whose SQL.
        context_id: Whose.
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
        yield from _check_revision(context_id, delta, revision - 1)
    else:
        source = then = yield from _last_operation(context_id, delta)
        how = _UNDO
        if (yield from _nothing_but_operations_since(context_id, source)):
            how, then = _RESTORE, source - 1
    by_time = how is _UNDO and (yield from _was_edited_since(context_id, source))
    allow(next_seq + next_model)
    known = {"context": context_id, "then": then, "now": revision, "run": delta.run.run_id}
    seq, added, removed = yield from _restore_rows(engine, how, updates, known, next_seq, by_time=by_time)
    model, _, _ = yield from _restore_rows(engine, how, models, known, next_model, by_time=by_time)
    yield from how.files(engine, known)
    metadata = yield from how.mapping(context_id, then, "metadata")
    toggles = yield from how.mapping(context_id, then, "metadata_toggles")
    return Restored(seq, model, metadata, toggles, source, added, removed)


def restored_since(context_id: str, revision: int) -> Plan[bool]:
    """Return the steps that tell if anything was restored after a revision."""
    found = yield Step(_count_restores_since(), {"context": context_id, "then": revision}, reads=True)
    return bool(found and found[0][0])


def rows_now(
    engine: str, table: sa.Table, context_id: str, seqs: Sequence[int], *, copied: bool
) -> Plan[dict[int, int]]:
    """Return the steps that find under which seqs rows are there now, those that are.

    Args:
        engine: Whose SQL.
        table: Which rows.
        context_id: Whose.
        seqs: Under which seqs they were known.
        copied: Whether a restore may have given them new ones.
    """
    if not seqs:
        return {}
    asked = {"context": context_id, "seqs": engines.list_value(engine, seqs)}
    found = (yield Step(_select_given(engine, table), asked, reads=True)) or ()
    here = {int(seq): int(seq) for seq, _, removed_in in found if removed_in is None}
    gone = {int(root): int(seq) for seq, root, removed_in in found if removed_in is not None}
    # What was pruned was not, unless by an older version, if a copy of it is there: then it is the root.
    gone |= {seq: seq for seq in set(seqs).difference(int(seq) for seq, _, _ in found)}
    if copied and gone:
        asked = {"context": context_id, "roots": engines.list_value(engine, list(gone))}
        found = (yield Step(_select_copies(engine, table), asked, reads=True)) or ()
        here |= {gone[int(root)]: int(seq) for seq, root in found}
    return here


def were_written_anew(engine: str, table: sa.Table, context_id: str, seqs: Collection[int], since: int) -> Plan[bool]:
    """Return the steps that tell if any of these rows, which left, may have been written anew after a revision.

    An edit writes what stands after it anew, under other seqs; it is known again by its time and type.
    """
    asked = {"context": context_id, "seqs": engines.list_value(engine, list(seqs))}
    gone = (yield Step(_select_marks_of(engine, table), asked, reads=True)) or ()
    if len(gone) < len(seqs):
        # What was pruned cannot be told.
        return True
    came = (yield Step(_select_marks_since(table), {"context": context_id, "then": since}, reads=True)) or ()
    return not set(map(tuple, gone)).isdisjoint(map(tuple, came))


def _check_revision(context_id: str, delta: Delta, newest: int) -> Plan[None]:
    assert delta.source_revision is not None
    yield from as_of.check_whole(delta.key, delta.source_revision, newest)
    if (yield from as_of.find(context_id, delta.source_revision)) is None:
        raise RevisionNotFoundError(delta.key, delta.source_revision, newest)


def _last_operation(context_id: str, delta: Delta) -> Plan[int]:
    """Return the steps that find the newest revision that can be taken back, and was not."""
    found = yield Step(_select_operations(), {"context": context_id}, reads=True)
    undone: set[int] = set()
    for revision, operation, source in found or ():
        if operation == "undo":
            undone.add(source)
        elif operation in _UNDOABLE and revision not in undone:
            if (yield from as_of.pruned_until(context_id)) >= revision:
                # What it took out is not there any more.
                break
            return int(revision)
    raise NothingToUndoError(delta.key)


def _nothing_but_operations_since(context_id: str, source: int) -> Plan[bool]:
    """Return the steps that tell if there is nothing to keep of what came after: then the state before is it."""
    found = yield Step(_count_saves_since(), {"context": context_id, "then": source}, reads=True)
    pruned = yield from as_of.pruned_until(context_id)
    return pruned < source and not (found and found[0][0])


def _was_edited_since(context_id: str, source: int) -> Plan[bool]:
    """Return the steps that tell if rows may have been written anew by saves after a revision."""
    found = yield Step(_count_removed_since(), {"context": context_id, "then": source}, reads=True)
    return bool(found and found[0][0])


def _restore_rows(
    engine: str, how: _How, table: sa.Table, known: dict[str, Any], following: int, *, by_time: bool
) -> Plan[tuple[int, int, int]]:
    """Write what is to be there again, and take out what is not.

    With ``by_time`` what is written is in the order of its times, and has roots of its own.

    Returns:
        The seq that follows, how many entries came, and how many left.
    """
    differing = (yield Step(_select_differing(how, table), known, reads=True)) or ()
    missing = [int(root) for root, seq in differing if seq is None]
    others = [int(seq) for _, seq in differing if seq is not None]
    if others:
        yield Step(_remove_rows(engine, table), {**known, "seqs": engines.list_value(engine, others)})
    if not missing:
        return following, 0, len(others)
    # What comes after the first one that is missing gets a new seq as well, so that the order stays.
    bounds = {**known, "first": min(missing)}
    found = yield Step(_count_from(how, table), bounds, reads=True)
    copies = int(found[0][0]) if found else 0
    yield Step(_copy_from(how, table, by_time=by_time), {**bounds, "following": following})
    yield Step(_remove_from(table), bounds)
    return following + copies, len(missing), len(others)


# What the state that is to be current holds. Rows of one root are looked at together, in one pass over the context:
# with a join a planner that knows too little of the table would compare each row with each.

Flag = sa.ColumnElement[Any]
Flags = Callable[[sa.Table, Callable[[Flag], Flag]], Flag]


class _How(NamedTuple):
    """The difference between making a revision current, and taking one back.

    ``wanted`` says whether a root is to be there, given what tells if any of its rows is one that a condition names.
    """

    wanted: Flags
    files: Callable[[str, dict[str, Any]], Plan[None]]
    mapping: Callable[[str, int, str], Plan[str | None]]


def _root(table: sa.Table) -> sa.ColumnElement[int]:
    return sa.func.coalesce(table.c.copy_of, table.c.seq)


def _live(table: sa.Table) -> Flag:
    # Neither what this very restore has written, nor without what it has taken out already.
    taken_out_now = table.c.removed_in == number("now")
    return sa.and_(sa.or_(table.c.removed_in.is_(None), taken_out_now), table.c.added_in < number("now"))


def _was_there(table: sa.Table, any_row: Callable[[Flag], Flag]) -> Flag:
    gone = sa.or_(table.c.removed_in.is_(None), table.c.removed_in > number("then"))
    return any_row(sa.and_(table.c.added_in <= number("then"), gone))


def _would_be_there(table: sa.Table, any_row: Callable[[Flag], Flag]) -> Flag:
    """What the revision brought goes, and what it took out comes back; what it only wrote anew is as it is now."""
    came, went = any_row(table.c.added_in == number("then")), any_row(table.c.removed_in == number("then"))
    kept = sa.and_(any_row(_live(table)), sa.or_(sa.not_(came), went))
    return sa.or_(sa.and_(went, sa.not_(came)), kept)


def _in_group(condition: Flag) -> Flag:
    return sa.func.max(sa.case((condition, 1), else_=0)) == 1


# The statements.


@cache
def _select_differing(how: _How, table: sa.Table) -> Statement:
    """The roots that are to be there and are not, without a seq, and the seqs of what is there and is not to be."""
    live, wanted = _in_group(_live(table)), how.wanted(table, _in_group)
    seq = sa.func.max(sa.case((_live(table), table.c.seq)))
    statement = sa.select(_root(table), seq).where(table.c.context_id == text("context")).group_by(_root(table))
    return statement.having(sa.or_(sa.and_(wanted, sa.not_(live)), sa.and_(live, sa.not_(wanted))))


def _from_first(table: sa.Table) -> tuple[Flag, ...]:
    return table.c.context_id == text("context"), table.c.seq >= number("first"), _root(table) >= number("first")


@cache
def _count_from(how: _How, table: sa.Table) -> Statement:
    wanted = sa.select(_root(table)).where(*_from_first(table)).group_by(_root(table))
    return sa.select(sa.func.count()).select_from(wanted.having(how.wanted(table, _in_group)).subquery())


@cache
def _copy_from(how: _How, table: sa.Table, *, by_time: bool) -> Statement:
    def in_partition(condition: Flag) -> Flag:
        return sa.func.max(sa.case((condition, 1), else_=0)).over(partition_by=_root(table)) == 1

    # Copies of one entry are the same, so any of them will do.
    newest = sa.func.row_number().over(partition_by=_root(table), order_by=table.c.seq.desc())
    flags = (sa.case((how.wanted(table, in_partition), 1), else_=0).label("wanted"), newest.label("place"))
    rows = sa.select(table, _root(table).label("root"), *flags).where(*_from_first(table)).subquery()
    order = (rows.c.timestamp, rows.c.root) if by_time else (rows.c.root,)
    place = sa.func.row_number().over(order_by=order)
    new = {
        "seq": number("following") - 1 + place,
        "added_in": number("now"),
        "removed_in": sa.null(),
        "run_id": text("run"),
        "copy_of": sa.null() if by_time else rows.c.root,
    }
    values = [new.get(column.name, rows.c[column.name]) for column in table.c]
    chosen = sa.select(*values).where(rows.c.wanted == 1, rows.c.place == 1)
    return sa.insert(table).from_select([column.name for column in table.c], chosen, include_defaults=False)


@cache
def _remove_from(table: sa.Table) -> Statement:
    live = (table.c.removed_in.is_(None), table.c.added_in < number("now"))
    return sa.update(table).where(*_from_first(table), *live).values(removed_in=number("now"))


@cache
def _remove_rows(engine: str, table: sa.Table) -> Statement:
    given = (table.c.context_id == text("context"), engines.is_in_list(engine, table.c.seq, "seqs"))
    return sa.update(table).where(*given, table.c.removed_in.is_(None)).values(removed_in=number("now"))


def _version() -> sa.ColumnElement[int]:
    """Which version of a path a row holds: copies of one are the same."""
    return sa.func.coalesce(files.c.copy_of, files.c.added_in)


def _copy_files(*condition: sa.ColumnElement[bool]) -> Statement:
    new = {"added_in": number("now"), "removed_in": sa.null(), "run_id": text("run"), "copy_of": _version()}
    values = [new.get(column.name, column) for column in files.c]
    chosen = sa.select(*values).where(files.c.context_id == text("context"), *condition)
    return sa.insert(files).from_select([column.name for column in files.c], chosen, include_defaults=False)


def _remove_files(*condition: sa.ColumnElement[bool]) -> Statement:
    live = (files.c.context_id == text("context"), files.c.removed_in.is_(None), files.c.added_in < number("now"))
    return sa.update(files).where(*live, *condition).values(removed_in=number("now"))


@cache
def _remove_files_since() -> Statement:
    return _remove_files(files.c.added_in > number("then"))


@cache
def _copy_files_then() -> Statement:
    # Those that are there still were there in the source revision as well.
    return _copy_files(files.c.added_in <= number("then"), files.c.removed_in > number("then"))


@cache
def _select_versions() -> Statement:
    touched = sa.or_(
        files.c.added_in == number("then"), files.c.removed_in == number("then"), files.c.removed_in.is_(None)
    )
    row = (files.c.path_id, files.c.added_in, files.c.removed_in, _version())
    return sa.select(*row).where(files.c.context_id == text("context"), touched)


@cache
def _remove_files_named(engine: str) -> Statement:
    return _remove_files(engines.is_in_list(engine, files.c.path_id, "paths"))


@cache
def _copy_files_taken(engine: str) -> Statement:
    named = engines.is_in_list(engine, files.c.path_id, "paths")
    return _copy_files(files.c.removed_in == number("then"), named)


@cache
def _select_changed_mapping(column: str) -> Statement:
    value = revisions.c[column]
    return sa.select(revisions.c.revision).where(
        revisions.c.context_id == text("context"), revisions.c.revision >= number("then"), value.is_not(None)
    )


@cache
def _select_operations() -> Statement:
    asked = (revisions.c.revision, revisions.c.operation, revisions.c.source_revision)
    statement = sa.select(*asked).where(revisions.c.context_id == text("context"), revisions.c.operation.is_not(None))
    return statement.order_by(revisions.c.revision.desc())


@cache
def _count_restores_since() -> Statement:
    restores = sa.or_(*(revisions.c.operation == sa.literal_column(f"'{name}'") for name in ("restore", "undo")))
    since = revisions.c.revision > number("then")
    return sa.select(sa.func.count()).where(revisions.c.context_id == text("context"), since, restores)


@cache
def _select_given(engine: str, table: sa.Table) -> Statement:
    given = (table.c.context_id == text("context"), engines.is_in_list(engine, table.c.seq, "seqs"))
    return sa.select(table.c.seq, _root(table), table.c.removed_in).where(*given)


@cache
def _select_copies(engine: str, table: sa.Table) -> Statement:
    copies = (table.c.removed_in.is_(None), engines.is_in_list(engine, table.c.copy_of, "roots"))
    return sa.select(table.c.seq, table.c.copy_of).where(table.c.context_id == text("context"), *copies)


def _marks(table: sa.Table) -> tuple[sa.Column[Any], ...]:
    return table.c.timestamp, table.c.update_type if table is updates else table.c.model_id


@cache
def _select_marks_of(engine: str, table: sa.Table) -> Statement:
    given = (table.c.context_id == text("context"), engines.is_in_list(engine, table.c.seq, "seqs"))
    return sa.select(*_marks(table)).where(*given)


@cache
def _select_marks_since(table: sa.Table) -> Statement:
    live = (table.c.removed_in.is_(None), table.c.added_in > number("then"))
    return sa.select(*_marks(table)).where(table.c.context_id == text("context"), *live)


@cache
def _count_saves_since() -> Statement:
    since = (revisions.c.revision > number("then"), revisions.c.operation.is_(None))
    return sa.select(sa.func.count()).where(revisions.c.context_id == text("context"), *since)


@cache
def _count_removed_since() -> Statement:
    edits = sa.select(revisions.c.revision).where(
        revisions.c.context_id == text("context"),
        revisions.c.revision > number("then"),
        revisions.c.operation.is_(None),
    )
    gone = (updates.c.removed_in > number("then"), updates.c.removed_in.in_(edits))
    return sa.select(sa.func.count()).where(updates.c.context_id == text("context"), *gone)


def _mapping_then(context_id: str, then: int, column: str) -> Plan[str | None]:
    before = yield from as_of.mapping_at(context_id, then, column)
    now = yield from as_of.mapping_at(context_id, as_of.LAST_REVISION, column)
    return None if before == now else before


def _mapping_without(context_id: str, then: int, column: str) -> Plan[str | None]:
    changed = yield Step(_select_changed_mapping(column), {"context": context_id, "then": then}, reads=True)
    if then not in {row[0] for row in changed or ()}:
        return None
    before = yield from as_of.mapping_at(context_id, then - 1, column)
    after = yield from as_of.mapping_at(context_id, then, column)
    now = yield from as_of.mapping_at(context_id, as_of.LAST_REVISION, column)
    text = mappings.taken_back(before, after, now)
    return None if text == now else text


def _files_then(engine: str, known: dict[str, Any]) -> Plan[None]:
    yield Step(_remove_files_since(), known)
    yield Step(_copy_files_then(), known)


def _files_without(engine: str, known: dict[str, Any]) -> Plan[None]:
    """Give each path the version that the revision took from it, unless it was touched since."""
    found = (yield Step(_select_versions(), known, reads=True)) or ()
    brought = {path: version for path, added_in, _, version in found if added_in == known["then"]}
    taken = {path: version for path, _, removed_in, version in found if removed_in == known["then"]}
    there = {path: version for path, _, removed_in, version in found if removed_in is None}
    changed = [path for path in {**brought, **taken} if there.get(path) == brought.get(path)]
    if changed:
        paths = {**known, "paths": engines.list_value(engine, changed)}
        yield Step(_remove_files_named(engine), paths)
        yield Step(_copy_files_taken(engine), paths)


_RESTORE: Final = _How(_was_there, _files_then, _mapping_then)
_UNDO: Final = _How(_would_be_there, _files_without, _mapping_without)
