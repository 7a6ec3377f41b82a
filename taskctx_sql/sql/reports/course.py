"""What a context's course adds up to, each in one pass over its rows, and its newest runs and calls of tools."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.model import TOKEN_PARTS
from taskctx_sql.model.report_rows import ToolCall
from taskctx_sql.sql import incomplete
from taskctx_sql.sql.reports.clauses import columns_of, rounded
from taskctx_sql.sql.reports.report import total
from taskctx_sql.sql.reports.summed import DailySums
from taskctx_sql.sql.schema import contexts, files, revisions, runs, updates, views
from taskctx_sql.sql.schema.usage_parts import MODEL

_TOKENS: Final = ("input_tokens", "output_tokens", *TOKEN_PARTS)


def select_totals(context_id: str) -> sa.Select[Any]:
    """Return the SELECT of a context's numbers, in the order of `ContextTotals`."""

    def of(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
        found = sa.select(sa.func.count()).select_from(table).where(table.c.context_id == context_id, *conditions)
        return found.scalar_subquery()

    def ended(*conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
        return of(runs, *conditions)

    removed = sa.select(total(sa.func.coalesce(revisions.c.removed, 0))).where(revisions.c.context_id == context_id)
    at = sa.select(updates.c.timestamp).where(updates.c.context_id == context_id).limit(1)
    return sa.select(
        # Each row has had a seq, and none is deleted before its context is, or is pruned.
        contexts.c.next_seq - 1,
        sa.func.coalesce(removed.scalar_subquery(), 0),
        of(updates, updates.c.update_type == sa.literal_column("'error'")),
        at.order_by(updates.c.seq).scalar_subquery(),
        at.order_by(updates.c.seq.desc()).scalar_subquery(),
        ended(),
        ended(runs.c.outcome == "failed"),
        ended(runs.c.outcome.is_(None)),
        ended(runs.c.outcome == "cancelled"),
        of(files, files.c.removed_in.is_(None)),
    ).where(contexts.c.context_id == context_id, incomplete.is_there())


def select_models(context_id: str) -> sa.Select[Any]:
    """Return the SELECT of the sums of each model, provider and mode, as `ModelUsage` has them, the dearest first."""
    uses = views.uses.c
    names = [uses.model_id, uses.provider_id, uses.mode]
    estimated = sa.case((uses.price_list.is_not(None), uses.cost))
    sums = {name: uses[name] for name in (*_TOKENS, "cost", "duration")} | {"estimated_cost": estimated}
    added = {name: sa.func.coalesce(total(_sane(column, name)), 0).label(name) for name, column in sums.items()}
    calls = sa.func.count().label("calls")
    columns = (
        *(sa.null().label("day"), *names, calls, *(added[name] for name in _TOKENS[:2]), added["cost"]),
        *(added["duration"], *(added[name] for name in TOKEN_PARTS), added["estimated_cost"]),
        sa.func.count(uses.error).label("failures"),
    )
    found = sa.select(*columns).where(uses.context_id == context_id)
    return found.group_by(*names).order_by(added["cost"].desc(), *names)


def select_models_summed(sums: DailySums, context_id: str) -> sa.Select[Any]:
    """Return the same from the daily sums."""
    rows = sums.of_contexts([context_id], "model", MODEL).subquery("sums").c
    names, cost = [rows[name] for name in MODEL], rounded(rows.cost)
    return sa.select(
        *(sa.null().label("day"), *names, rows.calls, *(rows[name] for name in _TOKENS[:2]), cost),
        *(rounded(rows.duration), *(rows[name] for name in TOKEN_PARTS), rounded(rows.estimated_cost), rows.failures),
    ).order_by(cost.desc(), *names)


def _sane(column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
    """Return a number if it is one that can be, as the views have it."""
    low, high = (0, 1_000_000_000_000) if name in _TOKENS else (-1e12, 1e12)
    return sa.case((column.between(low, high), column))


def select_calls(context_id: str, limit: int) -> sa.Select[Any]:
    """Return the SELECT of a context's newest calls of tools, the newest first."""
    view = views.calls
    of_context = (updates.c.context_id == context_id, updates.c.update_type == sa.literal_column("'tool_call'"))
    # Where they begin, so that only theirs are looked up.
    newest = sa.select(updates.c.seq).where(*of_context).order_by(updates.c.seq.desc()).limit(limit).subquery("newest")
    first = sa.select(sa.func.coalesce(sa.func.min(newest.c.seq), 0)).scalar_subquery()
    rows = sa.select(*columns_of(ToolCall, view)).where(view.c.context_id == context_id, view.c.copied == 0)
    return rows.where(view.c.seq >= first).order_by(view.c.seq.desc()).limit(limit)


def select_runs(context_id: str, limit: int) -> sa.Select[Any]:
    """Return the SELECT of a context's newest runs, in the order of `LastRun`, the newest first."""
    outcome = sa.func.coalesce(runs.c.outcome, "unfinished")
    whole = sa.exists().where(contexts.c.context_id == context_id, incomplete.is_there())
    columns = (runs.c.run_id, runs.c.started_at, runs.c.ended_at, outcome, runs.c.error)
    found = sa.select(*columns).where(runs.c.context_id == context_id, whole)
    return found.order_by(runs.c.started_at.desc(), runs.c.run_id).limit(limit)
