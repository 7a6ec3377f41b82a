"""The newest updates that fit a selection: their sizes are read first, then only the updates that fit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from taskctx_sql.model import Ask, Kept, Members, Selection, UpdateSize, Window, choose
from taskctx_sql.sql import engines
from taskctx_sql.sql.load.as_of import in_revision
from taskctx_sql.sql.load.updates import update_columns
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.schema import updates


def read_window(
    engine: str, then: dict[str, Any], next_seq: int, selection: Selection
) -> Plan[tuple[Sequence[Any], bool]]:
    """Return the plan that reads the selected updates, the oldest first, and whether there are earlier ones.

    Args:
        engine: The dialect's name.
        then: The context and the revision, as parameters.
        next_seq: The seq after the newest update.
        selection: Which updates.
    """

    def read_sizes(ask: Ask) -> Plan[list[UpdateSize]]:
        rows = yield _sizes(engine, ask, then, selection)
        return [UpdateSize(*row) for row in rows or ()]

    chosen = yield from choose(selection, next_seq, read_sizes)
    if not chosen.seqs:
        return [], chosen.earlier
    seqs = engines.list_value(engine, chosen.seqs)
    return (yield Step(_select_given(engine), {**then, "seqs": seqs}, reads=True)) or [], chosen.earlier


def _sizes(engine: str, ask: Ask, then: dict[str, Any], selection: Selection) -> Step:
    typed = selection.types is not None
    parameters = dict(then)
    if typed:
        parameters["types"] = engines.list_value(engine, [*(selection.types or ()), *selection.keep_types])
    match ask:
        case Window(low, high):
            return Step(_select_window(engine, typed=typed), {**parameters, "low": low, "high": high}, reads=True)
        case Members(group):
            return Step(_select_members(engine, typed=typed), {**parameters, "name": group}, reads=True)
        case Kept():
            kept = engines.list_value(engine, selection.keep_types)
            return Step(_select_kept(engine), {**then, "types": kept}, reads=True)


@cache
def _select_sizes(engine: str, *, typed: bool) -> sa.Select[tuple[Any, ...]]:
    statement = sa.select(updates.c.seq, sa.func.length(updates.c.data), engines.group_of_update(engine))
    statement = statement.where(*in_revision(updates)).order_by(updates.c.seq)
    return statement.where(engines.is_in_list(engine, updates.c.update_type, "types")) if typed else statement


@cache
def _select_window(engine: str, *, typed: bool) -> Statement:
    return _select_sizes(engine, typed=typed).where(updates.c.seq >= number("low"), updates.c.seq < number("high"))


@cache
def _select_members(engine: str, *, typed: bool) -> Statement:
    # IS NOT NULL lets the planner use the partial index.
    group = engines.group_of_update(engine)
    return _select_sizes(engine, typed=typed).where(group == text("name"), group.is_not(None))


@cache
def _select_kept(engine: str) -> Statement:
    return _select_sizes(engine, typed=True)


@cache
def _select_given(engine: str) -> Statement:
    given = engines.is_in_list(engine, updates.c.seq, "seqs")
    return sa.select(*update_columns(engine)).where(*in_revision(updates), given).order_by(updates.c.seq)
