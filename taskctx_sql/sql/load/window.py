"""The newest updates that fit a selection: their sizes are read first, then only the updates that fit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from taskctx_sql.model import Ask, Kept, Selection, UpdateSize, choose
from taskctx_sql.sql import engines
from taskctx_sql.sql.load.as_of import in_revision
from taskctx_sql.sql.load.pages import update_columns
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.schema import updates


def read_window(
    engine: str, then: dict[str, Any], next_seq: int, selection: Selection
) -> Plan[tuple[Sequence[Any], bool]]:
    """Return the plan that reads the selected updates, the oldest first, and whether there are earlier ones."""

    def read_sizes(ask: Ask) -> Plan[list[UpdateSize]]:
        types = None if selection.types is None else [*selection.types, *selection.keep_types]
        if isinstance(ask, Kept):
            types = list(selection.keep_types)
        parameters = {**then, **ask._asdict()}
        if types is not None:
            parameters["types"] = engines.list_value(engine, types)
        rows = yield Step(_select_sizes(engine, ask._fields, typed=types is not None), parameters, reads=True)
        return [UpdateSize(*row) for row in rows or ()]

    chosen = yield from choose(selection, next_seq, read_sizes)
    if not chosen.seqs:
        return [], chosen.earlier
    seqs = engines.list_value(engine, chosen.seqs)
    return (yield Step(_select_given(engine), {**then, "seqs": seqs}, reads=True)) or [], chosen.earlier


@cache
def _select_sizes(engine: str, by: tuple[str, ...], *, typed: bool) -> Statement:
    group = engines.group_of_update(engine)
    statement = sa.select(updates.c.seq, sa.func.length(updates.c.data), group).where(*in_revision(updates))
    if typed:
        statement = statement.where(engines.is_in_list(engine, updates.c.update_type, "types"))
    if "low" in by:
        statement = statement.where(updates.c.seq >= number("low"), updates.c.seq < number("high"))
    if "group" in by:
        # IS NOT NULL lets the planner use the partial index.
        statement = statement.where(group == text("group"), group.is_not(None))
    return statement.order_by(updates.c.seq)


@cache
def _select_given(engine: str) -> Statement:
    given = engines.is_in_list(engine, updates.c.seq, "seqs")
    return sa.select(*update_columns(engine)).where(*in_revision(updates), given).order_by(updates.c.seq)
