"""The newest updates that fit: which ones is decided by their sizes, and only those are read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from taskctx_sql.model import Ask, Kept, Members, Selection, UpdateSize, Window, choose
from taskctx_sql.sql import engines
from taskctx_sql.sql.load.as_of import in_revision
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.schema import updates

Columns = tuple[sa.ColumnElement[Any], ...]


def chosen(
    engine: str, then: dict[str, Any], next_seq: int, selection: Selection, columns: Columns
) -> Plan[tuple[Sequence[Any], bool]]:
    """Return the steps that read what a selection chooses, oldest first, and whether there are earlier updates.

    Args:
        engine: Whose SQL.
        then: Which context, and in which revision.
        next_seq: Beyond its newest update.
        selection: What is asked for.
        columns: What to read of each update.
    """

    def read(ask: Ask) -> Plan[list[UpdateSize]]:
        rows = yield _heads(engine, ask, then, selection)
        return [UpdateSize(*row) for row in rows or ()]

    found = yield from choose(selection, next_seq, read)
    if not found.seqs:
        return [], found.earlier
    seqs = engines.list_value(engine, found.seqs)
    return (yield Step(_select(engine, columns), {**then, "seqs": seqs}, reads=True)) or [], found.earlier


def _heads(engine: str, ask: Ask, then: dict[str, Any], selection: Selection) -> Step:
    """Return the step that reads what is asked for."""
    typed = selection.types is not None
    asked = dict(then)
    if typed:
        asked["types"] = engines.list_value(engine, [*(selection.types or ()), *selection.keep_types])
    match ask:
        case Window(low, high):
            return Step(_select_window(engine, typed=typed), {**asked, "low": low, "high": high}, reads=True)
        case Members(group):
            return Step(_select_members(engine, typed=typed), {**asked, "name": group}, reads=True)
        case Kept():
            kept = engines.list_value(engine, selection.keep_types)
            return Step(_select_kept(engine), {**then, "types": kept}, reads=True)


@cache
def _head(engine: str, *, typed: bool) -> sa.Select[tuple[Any, ...]]:
    statement = sa.select(updates.c.seq, sa.func.length(updates.c.data), engines.group_of_update(engine))
    statement = statement.where(*in_revision(updates)).order_by(updates.c.seq)
    return statement.where(engines.is_in_list(engine, updates.c.update_type, "types")) if typed else statement


@cache
def _select_window(engine: str, *, typed: bool) -> Statement:
    return _head(engine, typed=typed).where(updates.c.seq >= number("low"), updates.c.seq < number("high"))


@cache
def _select_members(engine: str, *, typed: bool) -> Statement:
    # Not null as well, since only those are in the index.
    group = engines.group_of_update(engine)
    return _head(engine, typed=typed).where(group == text("name"), group.is_not(None))


@cache
def _select_kept(engine: str) -> Statement:
    return _head(engine, typed=True)


@cache
def _select(engine: str, columns: Columns) -> Statement:
    chosen = engines.is_in_list(engine, updates.c.seq, "seqs")
    return sa.select(*columns).where(*in_revision(updates), chosen).order_by(updates.c.seq)
