"""Costs by what contexts have: themselves, their user, a label, or the root of the tree that they are in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.model.cost_rows import CostBy
from taskctx_sql.sql import engines, incomplete
from taskctx_sql.sql.reports.clauses import rounded
from taskctx_sql.sql.reports.report import total
from taskctx_sql.sql.reports.summed import added_up
from taskctx_sql.sql.reports.task_selection import as_text
from taskctx_sql.sql.schema import contexts, state, views
from taskctx_sql.sql.schema.usage_parts import AMOUNTS, WHOLE

SUMS: Final = (*WHOLE, "cost", "estimated_cost")
NO_TEXT: Final = sa.literal_column("''", sa.Text)
NULL_TEXT: Final = sa.cast(sa.null(), sa.Text)
NO_DAY: Final = sa.cast(sa.null(), sa.Date)

_ADDED: Final = ("tasks", *SUMS)
# Less than any sum of costs.
_LEAST: Final = -1e300


class Uses(NamedTuple):
    """What contexts used in a period: ``context_id``, ``tasks`` and the sums, which are not rounded.

    Attributes:
        of: Returns the tables of all contexts, or of those whose ids a SELECT has. No context is in two of them.
        are_by_context: Whether there is one row of each context, and not one of each of its days.
    """

    of: Callable[[sa.Select[Any] | None], Sequence[sa.FromClause]]
    are_by_context: bool


def select_by(by: CostBy, label: str | None, uses: Uses, user_id: str | None) -> sa.Select[Any]:
    """Return the SELECT of the costs by "user", "label", "task" or "tree", with the columns of `Cost`."""
    if by == "label":
        return _by_label(uses, as_text("label", label))
    if by == "tree":
        return _of_contexts(_by_root(uses, _members(user_id), _ADDED))
    each = _by_context(uses, _ADDED)
    if by == "task":
        return _of_contexts(each)
    user = contexts.c.user_id
    rows = each.join(contexts, contexts.c.context_id == each.c.context_id)
    return sa.select(*named((NO_DAY, user, user, NULL_TEXT)), *_totals(each)).select_from(rows).group_by(user)


def select_dearest(by: CostBy, uses: Uses, user_id: str | None, count: int) -> sa.Select[Any]:
    """Return the SELECT of the costs of those tasks, or trees, that cost at least as much as so many do.

    At first only costs are added up. Only for these few are the other sums, and how they are called, by which those
    that cost the same are ordered.
    """
    members = _members(user_id) if by == "tree" else None

    def each(names: Sequence[str], among: sa.Select[Any] | None = None) -> sa.Subquery:
        return _by_context(uses, names, among) if members is None else _by_root(uses, members, names, among)

    costs = sa.select(each(("cost",))).cte("costs")
    last = sa.select(costs.c.cost).order_by(costs.c.cost.desc()).limit(1).offset(max(count - 1, 0)).subquery("last")
    # Not rounded, which takes as long as the rest: a little less than the last of them may be the same when rounded.
    least = sa.select(last.c.cost - sa.func.abs(last.c.cost, type_=sa.Double) * 1e-12 - 1e-8).scalar_subquery()
    dearest = sa.select(costs.c.context_id).where(costs.c.cost >= sa.func.coalesce(least, _LEAST, type_=sa.Double))
    return _of_contexts(each(_ADDED, dearest))


def named(shown: Sequence[sa.ColumnElement[Any]]) -> Iterator[sa.ColumnElement[Any]]:
    """Yield the day, the name, the user and the chat of a row as `Cost` has them."""
    return (column.label(name) for column, name in zip(shown, ("day", "name", "user_id", "chat_id"), strict=True))


def _of_contexts(each: sa.FromClause) -> sa.Select[Any]:
    """Return the SELECT of the costs of contexts, of each of which there is one row."""
    rows = each.join(contexts, contexts.c.context_id == each.c.context_id)
    shown = named((NO_DAY, contexts.c.chat_id, contexts.c.user_id, contexts.c.chat_id))
    sums = {name: each.c[name] for name in _ADDED} | {name: rounded(each.c[name]) for name in AMOUNTS if name in SUMS}
    return sa.select(*shown, *(sums[name].label(name) for name in _ADDED)).select_from(rows)


def _by_context(uses: Uses, names: Sequence[str], among: sa.Select[Any] | None = None) -> sa.Subquery:
    """Return some of the sums of each context, or of each of some."""
    rows = uses.of(among)
    if uses.are_by_context:
        each = [sa.select(one.c.context_id, *(one.c[name] for name in names)) for one in rows]
    else:
        each = [_added_up_by_context(one, names) for one in rows]
    return sa.union_all(*each).subquery("each")


def _added_up_by_context(rows: sa.FromClause, names: Sequence[str]) -> sa.Select[Any]:
    # By their ids in the order of an index, SQLite would look up each row.
    key = engines.only_compared(rows.c.context_id)
    return sa.select(rows.c.context_id, *added_up(rows, names)).group_by(key)


def _by_root(uses: Uses, members: sa.CTE, names: Sequence[str], roots: sa.Select[Any] | None = None) -> sa.Subquery:
    """Return some of the sums of each tree, or of each with one of some roots, by the id of the root."""
    below = sa.select(members.c.context_id)
    below = below if roots is None else below.where(members.c.root_id.in_(roots))
    root = members.c.root_id.label("context_id")
    # Most contexts are in no tree: only the others are joined. A tree may have some of each table.
    of_trees = (
        sa.select(root, *(rows.c[name] for name in names)).join_from(
            rows, members, members.c.context_id == rows.c.context_id
        )
        for rows in uses.of(below)
    )
    merged = sa.union_all(*of_trees).subquery("of_trees")
    each = [sa.select(merged.c.context_id, *added_up(merged, names)).group_by(merged.c.context_id)]
    for rows in uses.of(roots):
        alone = rows.c.context_id.not_in(sa.select(members.c.context_id))
        each.append(_added_up_by_context(rows, names).where(alone))
    return sa.union_all(*each).subquery("each")


def _by_label(uses: Uses, label: str) -> sa.Select[Any]:
    """Return the SELECT of the costs by a label: first by its JSON text, and then by the text that this is."""
    each = []
    for number, rows in enumerate(uses.of(None)):
        of = state.alias(f"label_{number}")
        is_it = (of.c.kind == sa.literal_column("'label'"), of.c.name == label, of.c.removed_in.is_(None))
        joined = rows.outerjoin(of, sa.and_(of.c.context_id == rows.c.context_id, *is_it))
        one = sa.func.min(sa.case((of.c.value.is_not(None), rows.c.context_id))).label("one")
        each.append(sa.select(one, *added_up(rows, _ADDED)).select_from(joined).group_by(of.c.value))
    merged = sa.union_all(*each).subquery("merged")
    texts = sa.select(views.labels.c.value).where(
        views.labels.c.context_id == merged.c.one, views.labels.c.name == label
    )
    value = sa.func.coalesce(texts.scalar_subquery(), NO_TEXT).label("value")
    labeled = sa.select(value, *(merged.c[name] for name in _ADDED)).subquery("labeled")
    shown = named((NO_DAY, labeled.c.value, NULL_TEXT, NULL_TEXT))
    return sa.select(*shown, *_totals(labeled)).group_by(labeled.c.value)


def _totals(rows: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    return [total(rows.c[name]).label(name) for name in _ADDED]


def _members(user_id: str | None) -> sa.CTE:
    """Return the root of the tree of each context that is in one with others, one's own or everybody's."""
    parent, above, trees, named = state.alias("of_parent"), contexts.alias("above"), views.trees, state.alias("named")
    # Those that others name as their parent.
    parents = sa.select(named.c.parent_id).where(named.c.parent_id.is_not(None), named.c.removed_in.is_(None))
    has_parent = sa.exists().where(
        parent.c.context_id == contexts.c.context_id,
        parent.c.kind == "label",
        parent.c.name == "parent",
        parent.c.removed_in.is_(None),
        parent.c.parent_id != parent.c.context_id,
        above.c.context_id == parent.c.parent_id,
        above.c.revision > 0,
    )

    def wanted(view: sa.FromClause) -> list[sa.ColumnElement[bool]]:
        return [view.c.context_id.in_(parents), *([] if user_id is None else [view.c.user_id == user_id])]

    roots = sa.union_all(
        sa.select(contexts.c.context_id).where(incomplete.is_there(), *wanted(contexts), ~has_parent),
        # Of circles.
        sa.select(trees.c.context_id).where(trees.c.is_root == 1, trees.c.parent_id.is_not(None), *wanted(trees)),
    ).subquery("roots")
    members = sa.select(roots.c.context_id.label("root_id"), roots.c.context_id).cte("members", recursive=True)
    child, its = state.alias("child"), contexts.alias("its")
    below = (
        sa.select(members.c.root_id, child.c.context_id)
        .join(child, sa.and_(child.c.parent_id == members.c.context_id, child.c.removed_in.is_(None)))
        .join(its, sa.and_(its.c.context_id == child.c.context_id, its.c.revision > 0))
        .where(child.c.context_id != members.c.root_id)
    )
    return members.union_all(below)
