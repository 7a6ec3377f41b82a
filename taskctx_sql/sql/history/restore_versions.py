"""The tracked files and the named values of a restore, which have one version at a time by their key."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.sql.history.copies import insert_copies, remove
from taskctx_sql.sql.plan import Plan, Rows, Statement, Step, number, read_value, text
from taskctx_sql.sql.schema import files, state

# The tables, and the columns of their keys.
_KEYS: Final = {files: ("path_id",), state: ("kind", "name")}


def versions_then(known: dict[str, Any]) -> Plan[int]:
    """Return the plan that makes the versions current that the revision had, and returns how many values changed."""
    changed_state = yield from read_value(_count_changed(state), known)
    for table in _KEYS:
        yield Step(_remove_since(table), known)
        yield Step(_copy_then(table), known)
    return int(changed_state)


def versions_without(known: dict[str, Any]) -> Plan[int]:
    """Return the plan that gives each key the version that the revision removed, unless it was changed since.

    It returns how many values changed.
    """
    changed_state = 0
    for table in _KEYS:
        rows = (yield Step(_select_versions(table), known, reads=True)) or ()
        added = {tuple(key): version for *key, added_in, _, version in rows if added_in == known["then"]}
        removed = {tuple(key): version for *key, _, removed_in, version in rows if removed_in == known["then"]}
        current = {tuple(key): version for *key, _, removed_in, version in rows if removed_in is None}
        changed = [key for key in {**added, **removed} if current.get(key) == added.get(key)]
        if changed:
            names = (*known, *(f"of_{name}" for name in _KEYS[table]))
            given = Rows(names, [(*known.values(), *key) for key in changed])
            yield Step(_remove_key(table), given)
            yield Step(_copy_removed(table), given)
        if table is state:
            changed_state = len(changed)
    return changed_state


def _version(table: sa.Table) -> sa.ColumnElement[int]:
    """Which version a row holds: copies of a version are equal."""
    return sa.func.coalesce(table.c.copy_of, table.c.added_in)


def _of_key(table: sa.Table) -> Iterator[sa.ColumnElement[bool]]:
    return (table.c[name] == text(f"of_{name}") for name in _KEYS[table])


def _copy(table: sa.Table, *condition: sa.ColumnElement[bool]) -> Statement:
    new = {"added_in": number("now"), "removed_in": sa.null(), "run_id": text("run"), "copy_of": _version(table)}
    return insert_copies(table, table, new, table.c.context_id == text("context"), *condition)


@cache
def _count_changed(table: sa.Table) -> Statement:
    later = sa.and_(table.c.removed_in.is_(None), table.c.added_in > number("then"))
    missing = sa.and_(table.c.added_in <= number("then"), table.c.removed_in > number("then"))
    keys = sa.select(*(table.c[name] for name in _KEYS[table])).distinct()
    keys = keys.where(table.c.context_id == text("context"), sa.or_(later, missing))
    return sa.select(sa.func.count()).select_from(keys.subquery())


@cache
def _remove_since(table: sa.Table) -> Statement:
    return remove(table, table.c.added_in > number("then"))


@cache
def _copy_then(table: sa.Table) -> Statement:
    # Only those removed since: the others are still current.
    return _copy(table, table.c.added_in <= number("then"), table.c.removed_in > number("then"))


@cache
def _select_versions(table: sa.Table) -> Statement:
    added_in, removed_in, then = table.c.added_in, table.c.removed_in, number("then")
    touched = sa.or_(added_in == then, removed_in == then, removed_in.is_(None))
    selected = sa.select(*(table.c[name] for name in _KEYS[table]), added_in, removed_in, _version(table))
    return selected.where(table.c.context_id == text("context"), touched)


@cache
def _remove_key(table: sa.Table) -> Statement:
    return remove(table, *_of_key(table))


@cache
def _copy_removed(table: sa.Table) -> Statement:
    return _copy(table, table.c.removed_in == number("then"), *_of_key(table))
