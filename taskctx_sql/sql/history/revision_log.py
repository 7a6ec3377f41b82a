"""What is told of a context's revisions, statement by statement: which there are, and how two of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from taskctx_sql import codec
from taskctx_sql.errors import ContextNotFoundError, RevisionNotFoundError
from taskctx_sql.model import MISSING, ContextKey, Difference, Revision, StoredUpdate
from taskctx_sql.sql import engines, incomplete, load, row_codec
from taskctx_sql.sql.load import as_of, in_revision
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.retry import allow
from taskctx_sql.sql.schema import contexts, files, models, revisions, updates


def list_revisions(engine: str, key: ContextKey, before: int | None, limit: int) -> Plan[list[Revision]]:
    """Return the steps that list revisions, the newest first.

    Raises:
        ContextNotFoundError: There is no such context.
    """
    while (told := (yield from _list_revisions(engine, key, before, limit))) is None:
        # It was deleted meanwhile, and may have been made anew.
        pass
    return told


def _list_revisions(engine: str, key: ContextKey, before: int | None, limit: int) -> Plan[list[Revision] | None]:
    context_id = row_codec.context_id(key)
    newest, created_at = yield from _newest(key)
    high = newest + 1 if before is None else min(before, newest + 1)
    # One more than asked for tells what the oldest of them added.
    bounds = {"context": context_id, "low": high - limit - 1, "high": high}
    found = [tuple(row) for row in (yield Step(_select_revisions(), bounds, reads=True)) or ()]
    told = []
    for place, (revision, saved_at, run_id, next_seq, added, removed, *more) in enumerate(found[:limit]):
        began = found[place + 1][3] if place + 1 < len(found) else 1
        if added is None and revision > 1 and place + 1 == len(found):
            # The one before is not known: the database is older than the table.
            counted = yield Step(_count_added(), {"context": context_id, "revision": revision}, reads=True)
            added = counted[0][0] if counted else 0
        come = next_seq - began if added is None else added
        told.append(Revision(revision, saved_at, run_id, come, removed or 0, bool(more[0]), *more[1:]))
    return told if (yield from as_of.is_still_there(engine, context_id, created_at)) else None


def compare(engine: str, key: ContextKey, old: int, new: int) -> Plan[Difference]:
    """Return the steps that tell how two revisions differ; of the history only what differs is read.

    Raises:
        ContextNotFoundError: There is no such context.
        RevisionNotFoundError: There is no such revision, or it is no longer whole.
        CorruptRecordError: A row cannot be read back.
    """
    context_id = row_codec.context_id(key)
    newest, created_at = yield from _newest(key)
    for revision in (old, new):
        yield from as_of.check_whole(key, revision, newest)
        place = yield from as_of.find(context_id, revision)
        if place is None:
            raise RevisionNotFoundError(key, revision, newest)
        allow(sum(place))
    changes: dict[str, list[Any]] = {}
    for name, one, other in (("added", new, old), ("removed", old, new)):
        which = {"context": context_id, "revision": one, "other": other}
        history = row_codec.read_updates(key, (yield from _rows_only(engine, updates, which)))
        changes[name] = list(map(StoredUpdate, history.seqs, history.updates))
        used = row_codec.read_models(key, (yield from _rows_only(engine, models, which)))
        changes[f"{name}_models"] = [entry for _, entry in used]
    tracked = []
    mappings: dict[str, list[Any]] = {"metadata": [], "metadata_toggles": []}
    for revision in (old, new):
        which = {"context": context_id, "revision": revision}
        found = (yield Step(_files(), which, reads=True)) or ()
        tracked.append({path: entry for _, path, entry in row_codec.read_files(key, found)})
        for column, both in mappings.items():
            both.append(
                row_codec.read_mapping(key, column, (yield from as_of.mapping_at(context_id, revision, column)))
            )
    if not (yield from as_of.is_still_there(engine, context_id, created_at)):
        raise ContextNotFoundError(key)
    yield from as_of.check_whole(key, min(old, new), newest)
    return Difference(
        old,
        new,
        **changes,
        files=_changed(*tracked, missing=None),
        metadata=_changed(*mappings["metadata"], missing=MISSING),
        toggles=_changed(*mappings["metadata_toggles"], missing=MISSING),
    )


def _rows_only(engine: str, table: sa.Table, which: dict[str, Any]) -> Plan[Sequence[Any]]:
    seqs = [row[0] for row in (yield Step(_only(table), which, reads=True)) or ()]
    if not seqs:
        return []
    select = _select_updates(engine) if table is updates else _select_models(engine)
    asked = {"context": which["context"], "seqs": engines.list_value(engine, seqs)}
    return (yield Step(select, asked, reads=True)) or []


def _newest(key: ContextKey) -> Plan[tuple[int, float]]:
    found = yield Step(_select_newest(), {"context": row_codec.context_id(key)}, reads=True)
    if not found:
        raise ContextNotFoundError(key)
    return int(found[0][0]), float(found[0][1])


def _changed(old: Any, new: Any, *, missing: Any) -> dict[Any, tuple[Any, Any]]:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return {} if _is_same(old, new) else {None: (old, new)}
    before, after = ({_key(key): (key, value) for key, value in mapping.items()} for mapping in (old, new))
    nothing = (None, missing)
    changed: dict[Any, tuple[Any, Any]] = {}
    for name in {**before, **after}:
        if name not in before or name not in after:
            key = (before.get(name) or after[name])[0]
            # Keys of two types may be equal: then one name stands for both.
            gone, come = changed.get(key, (missing, missing))
            one, other = before.get(name, nothing)[1], after.get(name, nothing)[1]
            changed[key] = (gone if one is missing else one, come if other is missing else other)
        elif not _is_same(before[name][1], after[name][1]):
            changed[before[name][0]] = (before[name][1], after[name][1])
    return changed


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same as they are stored: 1 is not True, and NaN is NaN."""
    if type(one) is dict and type(other) is dict:
        before, after = ({_key(key): value for key, value in mapping.items()} for mapping in (one, other))
        return before.keys() == after.keys() and all(_is_same(value, after[key]) for key, value in before.items())
    if type(one) is list and type(other) is list:
        return len(one) == len(other) and all(map(_is_same, one, other))
    return codec.encode(one, warn=False) == codec.encode(other, warn=False)


def _key(key: Any) -> str:
    return codec.encode(key, warn=False)


# The statements.


@cache
def _select_newest() -> Statement:
    return sa.select(contexts.c.revision, contexts.c.created_at).where(
        contexts.c.context_id == text("context"), incomplete.is_there()
    )


@cache
def _select_revisions() -> Statement:
    told = [revisions.c[name] for name in ("revision", "saved_at", "run_id", "next_seq", "added", "removed")]
    changed = sa.or_(revisions.c.metadata.is_not(None), revisions.c.metadata_toggles.is_not(None))
    about = (revisions.c.operation, revisions.c.source_revision, revisions.c.source_chat_id)
    between = (revisions.c.revision >= number("low"), revisions.c.revision < number("high"))
    statement = sa.select(*told, changed.label("changed"), *about)
    return statement.where(revisions.c.context_id == text("context"), *between).order_by(revisions.c.revision.desc())


@cache
def _count_added() -> Statement:
    mine = (updates.c.context_id == text("context"), updates.c.added_in == number("revision"))
    return sa.select(sa.func.count()).select_from(updates).where(*mine)


@cache
def _only(table: sa.Table) -> Statement:
    """The seqs of the entries that are in "revision" and not in "other"; as which copy does not matter.

    In one pass: with a join a planner that knows too little of the table would compare each row with each.
    """
    _, *then = in_revision(table)
    gone = sa.or_(table.c.removed_in.is_(None), table.c.removed_in > number("other"))
    here, there = sa.and_(*then), sa.and_(table.c.added_in <= number("other"), gone)
    seq = sa.func.max(sa.case((here, table.c.seq)))
    root = sa.func.coalesce(table.c.copy_of, table.c.seq)
    statement = sa.select(seq).where(table.c.context_id == text("context")).group_by(root)
    return statement.having(seq.is_not(None), sa.func.max(sa.case((there, 1), else_=0)) == 0)


@cache
def _select_updates(engine: str) -> Statement:
    given = (updates.c.context_id == text("context"), engines.is_in_list(engine, updates.c.seq, "seqs"))
    return sa.select(*load.update_columns(engine)).where(*given).order_by(updates.c.seq)


@cache
def _select_models(engine: str) -> Statement:
    columns = [models.c[name] for name in row_codec.MODEL_COLUMNS]
    given = (models.c.context_id == text("context"), engines.is_in_list(engine, models.c.seq, "seqs"))
    return sa.select(*columns).where(*given).order_by(models.c.seq)


@cache
def _files() -> Statement:
    columns = [files.c[name] for name in row_codec.FILE_COLUMNS]
    return sa.select(*columns).where(*in_revision(files)).order_by(files.c.position)
