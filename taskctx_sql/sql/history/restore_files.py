"""The tracked files of a restore."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.history.copies import insert_copies, remove, remove_given
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.schema import files


def files_then(engine: str, known: dict[str, Any]) -> Plan[None]:
    """Return the plan that tracks the files as the revision had them."""
    yield Step(_remove_since(), known)
    yield Step(_copy_then(), known)


def files_without(engine: str, known: dict[str, Any]) -> Plan[None]:
    """Return the plan that gives each path the version that the revision removed, unless it was changed since."""
    rows = (yield Step(_select_versions(), known, reads=True)) or ()
    added = {path: version for path, added_in, _, version in rows if added_in == known["then"]}
    removed = {path: version for path, _, removed_in, version in rows if removed_in == known["then"]}
    current = {path: version for path, _, removed_in, version in rows if removed_in is None}
    changed = [path for path in {**added, **removed} if current.get(path) == added.get(path)]
    if changed:
        given = {**known, "given": engines.list_value(engine, changed)}
        yield Step(remove_given(engine, files, "path_id"), given)
        yield Step(_copy_removed(engine), given)


def _version() -> sa.ColumnElement[int]:
    """Which version of a path a row holds: copies of a version are equal."""
    return sa.func.coalesce(files.c.copy_of, files.c.added_in)


def _copy(*condition: sa.ColumnElement[bool]) -> Statement:
    new = {"added_in": number("now"), "removed_in": sa.null(), "run_id": text("run"), "copy_of": _version()}
    return insert_copies(files, files, new, files.c.context_id == text("context"), *condition)


@cache
def _remove_since() -> Statement:
    return remove(files, files.c.added_in > number("then"))


@cache
def _copy_then() -> Statement:
    # Only those removed since: the others are still tracked.
    return _copy(files.c.added_in <= number("then"), files.c.removed_in > number("then"))


@cache
def _select_versions() -> Statement:
    added_in, removed_in, then = files.c.added_in, files.c.removed_in, number("then")
    touched = sa.or_(added_in == then, removed_in == then, removed_in.is_(None))
    selected = sa.select(files.c.path_id, added_in, removed_in, _version())
    return selected.where(files.c.context_id == text("context"), touched)


@cache
def _copy_removed(engine: str) -> Statement:
    return _copy(files.c.removed_in == number("then"), engines.is_in_list(engine, files.c.path_id, "given"))
