"""How two revisions of a context differ. Of the history only what differs is read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from taskctx_sql import clock, codec
from taskctx_sql.errors import ContextNotFoundError
from taskctx_sql.limits import MAX_NUMBER
from taskctx_sql.model import MISSING, ContextKey, Difference, StoredUpdate
from taskctx_sql.sql import engines, load, row_codec
from taskctx_sql.sql.history.copies import root
from taskctx_sql.sql.load import as_of, in_revision
from taskctx_sql.sql.plan import Plan, Statement, Step, number, read_value, text
from taskctx_sql.sql.retry import allow
from taskctx_sql.sql.schema import files, models, revisions, state, updates


def compare(engine: str, key: ContextKey, old: int, new: int, limit: int | None) -> Plan[Difference]:
    """Return the plan that compares two revisions, with so many updates and uses of each kind at the most."""
    context_id = row_codec.context_id(key)
    newest, created_at = yield from as_of.current(key, "revision", "created_at")
    counters = {}
    for revision in (old, new):
        counters[revision] = yield from as_of.counters(key, revision, newest)
        allow(sum(counters[revision]))
    is_longer = yield from _is_longer_only(context_id, *sorted((old, new)))
    changes: dict[str, list[Any]] = {}
    counts: dict[str, int] = {}
    for name, one, other in (("added", new, old), ("removed", old, new)):
        which = {"context": context_id, "revision": one, "other": other, "size": MAX_NUMBER if limit is None else limit}
        if is_longer:
            found = yield from _rows_between(engine, which, counters[other].next_seq, counters[one].next_seq)
        else:
            found = yield from _rows_only_in_one(engine, updates, which)
        history = row_codec.read_updates(key, found[0])
        changes[name] = list(map(StoredUpdate, history.seqs, history.updates))
        used = yield from _rows_only_in_one(engine, models, which)
        changes[f"{name}_models"] = [entry for _, entry in row_codec.read_models(key, used[0])]
        whole = {name: found[1], f"{name}_models": used[1]}
        counts |= {part: count for part, count in whole.items() if count > len(changes[part])}
    tracked = []
    mappings: dict[str, list[Any]] = {"metadata": [], "metadata_toggles": []}
    for revision in (old, new):
        which = {"context": context_id, "revision": revision}
        rows = (yield Step(load.select_tracked(files), which, reads=True)) or ()
        tracked.append({path: entry for _, path, entry in row_codec.read_files(key, rows)})
        for column, both in mappings.items():
            mapping = yield from as_of.mapping_at(context_id, revision, column)
            both.append(row_codec.read_json(key, column, mapping))
    named: list[dict[str, dict[str, Any]]] = []
    for one, other in ((old, new), (new, old)):
        which = {"context": context_id, "revision": one, "other": other, "at": clock.now()}
        named.append({kind: {} for kind in load.KINDS})
        for kind, name, value in (yield Step(_select_state_only_in_one(), which, reads=True)) or ():
            named[-1][kind][name] = row_codec.read_json(key, f"{kind} {name!r}", value)
    if not (yield from as_of.is_still_there(engine, context_id, created_at)):
        raise ContextNotFoundError(key)
    yield from as_of.check_not_pruned(key, min(old, new), newest)
    before, after = named
    return Difference(
        old,
        new,
        **changes,
        files=_changed(*tracked, missing=None),
        metadata=_changed(*mappings["metadata"], missing=MISSING),
        toggles=_changed(*mappings["metadata_toggles"], missing=MISSING),
        state=_changed(before["state"], after["state"], missing=MISSING),
        labels=_changed(before["label"], after["label"], missing=MISSING),
        counts=counts,
    )


# Rows, and how many there are where some are left out.
_Found = tuple[Sequence[Any], int]


def _is_longer_only(context_id: str, first: int, last: int) -> Plan[bool]:
    """Return the plan that reads whether no update left the history after one revision and up to another."""
    bounds = {"context": context_id, "low": first + 1, "high": last}
    return not (yield from read_value(_count_removals(), bounds))


def _rows_between(engine: str, which: dict[str, Any], low: int, high: int) -> Plan[_Found]:
    """Return the plan that reads the updates that were appended, by their seqs, without reading the others."""
    if high <= low:
        return [], 0
    wanted = {"context": which["context"], "revision": which["revision"], "low": low, "high": high}
    rows = (yield Step(_select_appended(engine), {**wanted, "size": which["size"]}, reads=True)) or []
    return rows, high - low


def _rows_only_in_one(engine: str, table: sa.Table, which: dict[str, Any]) -> Plan[_Found]:
    """Return the plan that reads the entries that are in "revision" and not in "other", whichever copy of them is."""
    found = (yield Step(_select_only_in_one(table), which, reads=True)) or ()
    if not found:
        return [], 0
    seqs = [seq for seq, _ in found]
    wanted = {"context": which["context"], "seqs": engines.list_value(engine, seqs)}
    return (yield Step(_select_given(engine, table), wanted, reads=True)) or [], found[0][1]


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
def _select_only_in_one(table: sa.Table) -> Statement:
    # In one pass: a planner that knows too little of the table would execute a join by comparing each row with each.
    in_one, in_other = (sa.and_(*in_revision(table, revision)[1:]) for revision in ("revision", "other"))
    seq = sa.func.max(sa.case((in_one, table.c.seq)))
    grouped = sa.select(seq.label("seq")).where(table.c.context_id == text("context")).group_by(root(table))
    found = grouped.having(seq.is_not(None), sa.func.max(sa.case((in_other, 1), else_=0)) == 0).subquery("found")
    statement = sa.select(found.c.seq, sa.func.count().over()).order_by(found.c.seq)
    return statement.limit(number("size"))


@cache
def _count_removals() -> Statement:
    between = (revisions.c.revision >= number("low"), revisions.c.revision <= number("high"))
    statement = sa.select(sa.func.count()).where(revisions.c.context_id == text("context"), *between)
    return statement.where(revisions.c.removed > 0)


@cache
def _select_appended(engine: str) -> Statement:
    between = (updates.c.seq >= number("low"), updates.c.seq < number("high"))
    statement = sa.select(*load.update_columns(engine)).where(*in_revision(updates), *between)
    return statement.order_by(updates.c.seq).limit(number("size"))


@cache
def _select_state_only_in_one() -> Statement:
    # A name has one version at a time, and of most names both revisions have the same one.
    in_one, in_other = (sa.and_(*in_revision(state, revision)[1:]) for revision in ("revision", "other"))
    statement = sa.select(state.c.kind, state.c.name, state.c.value).where(state.c.context_id == text("context"))
    return statement.where(in_one, sa.not_(in_other), load.is_kept()).order_by(state.c.kind, state.c.name)


@cache
def _select_given(engine: str, table: sa.Table) -> Statement:
    columns = load.update_columns(engine) if table is updates else [models.c[name] for name in row_codec.MODEL_COLUMNS]
    given = (table.c.context_id == text("context"), engines.is_in_list(engine, table.c.seq, "seqs"))
    return sa.select(*columns).where(*given).order_by(table.c.seq)
