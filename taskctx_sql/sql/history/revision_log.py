"""A context's revisions: the list of them, and the difference between two."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from taskctx_sql import codec
from taskctx_sql.errors import ContextNotFoundError
from taskctx_sql.model import MISSING, ContextKey, Difference, Revision, StoredUpdate
from taskctx_sql.sql import engines, load, row_codec
from taskctx_sql.sql.history.copies import root
from taskctx_sql.sql.load import as_of, in_revision
from taskctx_sql.sql.plan import Plan, Statement, Step, number, read_value, text
from taskctx_sql.sql.retry import allow
from taskctx_sql.sql.schema import files, models, revisions, updates


def list_revisions(engine: str, key: ContextKey, before: int | None, limit: int) -> Plan[list[Revision]]:
    """Return the plan that lists revisions, the newest first."""
    context_id = row_codec.context_id(key)
    newest, created_at = yield from as_of.current(key, "revision", "created_at")
    high = newest + 1 if before is None else min(before, newest + 1)
    # One more than wanted, because its next seq shows what the oldest of them added.
    bounds = {"context": context_id, "low": high - limit - 1, "high": high}
    rows = (yield Step(_select_revisions(), bounds, reads=True)) or ()
    listed = []
    for index, row in enumerate(rows[:limit]):
        revision, saved_at, run_id, next_seq, added, removed, mappings_changed, *origin = row
        first_seq = rows[index + 1][3] if index + 1 < len(rows) else 1
        if added is None and revision > 1 and index + 1 == len(rows):
            # The revision before is not in the table, which is newer than the database.
            added = yield from read_value(_count_added(), {"context": context_id, "revision": revision})
        added = next_seq - first_seq if added is None else added
        listed.append(Revision(revision, saved_at, run_id, added, removed or 0, bool(mappings_changed), *origin))
    if not (yield from as_of.is_still_there(engine, context_id, created_at)):
        # It was deleted meanwhile, and may have been created again.
        return (yield from list_revisions(engine, key, before, limit))
    return listed


def compare(engine: str, key: ContextKey, old: int, new: int) -> Plan[Difference]:
    """Return the plan that compares two revisions; of the history it reads only what differs."""
    context_id = row_codec.context_id(key)
    newest, created_at = yield from as_of.current(key, "revision", "created_at")
    for revision in (old, new):
        allow(sum((yield from as_of.counters(key, revision, newest))))
    changes: dict[str, list[Any]] = {}
    for name, one, other in (("added", new, old), ("removed", old, new)):
        which = {"context": context_id, "revision": one, "other": other}
        history = row_codec.read_updates(key, (yield from _rows_only_in_one(engine, updates, which)))
        changes[name] = list(map(StoredUpdate, history.seqs, history.updates))
        uses = row_codec.read_models(key, (yield from _rows_only_in_one(engine, models, which)))
        changes[f"{name}_models"] = [entry for _, entry in uses]
    tracked = []
    mappings: dict[str, list[Any]] = {"metadata": [], "metadata_toggles": []}
    for revision in (old, new):
        which = {"context": context_id, "revision": revision}
        rows = (yield Step(load.select_tracked(files), which, reads=True)) or ()
        tracked.append({path: entry for _, path, entry in row_codec.read_files(key, rows)})
        for column, both in mappings.items():
            mapping = yield from as_of.mapping_at(context_id, revision, column)
            both.append(row_codec.read_json(key, column, mapping))
    if not (yield from as_of.is_still_there(engine, context_id, created_at)):
        raise ContextNotFoundError(key)
    yield from as_of.check_not_pruned(key, min(old, new), newest)
    return Difference(
        old,
        new,
        **changes,
        files=_changed(*tracked, missing=None),
        metadata=_changed(*mappings["metadata"], missing=MISSING),
        toggles=_changed(*mappings["metadata_toggles"], missing=MISSING),
    )


def _rows_only_in_one(engine: str, table: sa.Table, which: dict[str, Any]) -> Plan[Sequence[Any]]:
    """Return the plan that reads the entries that are in "revision" and not in "other", whichever copy of them is."""
    seqs = [row[0] for row in (yield Step(_select_only_in_one(table), which, reads=True)) or ()]
    if not seqs:
        return []
    wanted = {"context": which["context"], "seqs": engines.list_value(engine, seqs)}
    return (yield Step(_select_given(engine, table), wanted, reads=True)) or []


def _changed(old: Any, new: Any, *, missing: Any) -> dict[Any, tuple[Any, Any]]:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return {} if _is_same(old, new) else {None: (old, new)}
    before, after = ({_key(key): (key, value) for key, value in mapping.items()} for mapping in (old, new))
    nothing = (None, missing)
    changed: dict[Any, tuple[Any, Any]] = {}
    for name in {**before, **after}:
        if name not in before or name not in after:
            key = (before.get(name) or after[name])[0]
            # Keys of two types may be equal: 1 and True, for instance. Then one entry stands for both.
            removed, added = changed.get(key, (missing, missing))
            one, other = before.get(name, nothing)[1], after.get(name, nothing)[1]
            changed[key] = (removed if one is missing else one, added if other is missing else other)
        elif not _is_same(before[name][1], after[name][1]):
            changed[before[name][0]] = (before[name][1], after[name][1])
    return changed


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values are stored alike: 1 differs from True, and NaN equals NaN."""
    if type(one) is dict and type(other) is dict:
        before, after = ({_key(key): value for key, value in mapping.items()} for mapping in (one, other))
        return before.keys() == after.keys() and all(_is_same(value, after[key]) for key, value in before.items())
    if type(one) is list and type(other) is list:
        return len(one) == len(other) and all(map(_is_same, one, other))
    return codec.encode(one, warn=False) == codec.encode(other, warn=False)


def _key(key: Any) -> str:
    return codec.encode(key, warn=False)


@cache
def _select_revisions() -> Statement:
    columns = [revisions.c[name] for name in ("revision", "saved_at", "run_id", "next_seq", "added", "removed")]
    changed = sa.or_(revisions.c.metadata.is_not(None), revisions.c.metadata_toggles.is_not(None))
    origin = (revisions.c.operation, revisions.c.source_revision, revisions.c.source_chat_id)
    between = (revisions.c.revision >= number("low"), revisions.c.revision < number("high"))
    statement = sa.select(*columns, changed.label("changed"), *origin)
    return statement.where(revisions.c.context_id == text("context"), *between).order_by(revisions.c.revision.desc())


@cache
def _count_added() -> Statement:
    conditions = (updates.c.context_id == text("context"), updates.c.added_in == number("revision"))
    return sa.select(sa.func.count()).select_from(updates).where(*conditions)


@cache
def _select_only_in_one(table: sa.Table) -> Statement:
    # In one pass: a planner that knows too little of the table would execute a join by comparing each row with each.
    in_one, in_other = (sa.and_(*in_revision(table, revision)[1:]) for revision in ("revision", "other"))
    seq = sa.func.max(sa.case((in_one, table.c.seq)))
    statement = sa.select(seq).where(table.c.context_id == text("context")).group_by(root(table))
    return statement.having(seq.is_not(None), sa.func.max(sa.case((in_other, 1), else_=0)) == 0)


@cache
def _select_given(engine: str, table: sa.Table) -> Statement:
    columns = load.update_columns(engine) if table is updates else [models.c[name] for name in row_codec.MODEL_COLUMNS]
    given = (table.c.context_id == text("context"), engines.is_in_list(engine, table.c.seq, "seqs"))
    return sa.select(*columns).where(*given).order_by(table.c.seq)
