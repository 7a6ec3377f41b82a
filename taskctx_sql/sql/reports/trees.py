"""The tree that a context is in: who is above it, who is below, and what they add up to.

It is read level by level, by the index of the parents, so it takes a round trip for each level and no recursion, which
Citus would not have. Of a tree that is too large, what is around the context is read first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql import codec
from taskctx_sql.model import PARENT, ContextKey
from taskctx_sql.model.report_rows import OUTCOMES
from taskctx_sql.model.tree_rows import TreeNode
from taskctx_sql.sql import incomplete, row_codec
from taskctx_sql.sql.reports.clauses import rounded
from taskctx_sql.sql.reports.report import Query, total
from taskctx_sql.sql.reports.summed import DailySums
from taskctx_sql.sql.reports.task_selection import worst_outcome
from taskctx_sql.sql.schema import contexts, state, updates, views

# How many contexts a statement asks for.
_AT_A_TIME: Final = 500
# With a limit, so many contexts at the most are read above one, a round trip each.
_MOST_ABOVE: Final = 100
_PARENT_OF_CONTEXT: Final = sa.and_(
    state.c.kind == "label", state.c.name == PARENT, state.c.removed_in.is_(None), state.c.parent_id.is_not(None)
)


@dataclass(slots=True)
class _Place:
    """Where a context is in the tree; ``parent_key`` is that of a parent that may not have been read."""

    key: ContextKey
    parent: str | None
    parent_key: ContextKey | None
    depth: int
    children: list[str] = field(default_factory=list)


class _Own(NamedTuple):
    """What a task has itself."""

    created_at: float
    title: str | None
    outcome: str | None
    errors: int
    first_at: float | None
    last_at: float | None
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    @property
    def times(self) -> list[float]:
        """When its first and its last update were."""
        return [at for at in (self.first_at, self.last_at) if at is not None]

    @property
    def duration(self) -> float | None:
        """How many seconds are between them."""
        return max(self.times) - min(self.times) if self.times else None


_NOTHING: Final = _Own(0.0, None, None, 0, None, None)


class _Node(NamedTuple):
    """A node, and when the first and the last update of it or below it were."""

    shown: TreeNode
    first_at: float | None
    last_at: float | None


async def read_tree(
    query: Query, key: ContextKey, limit: int | None = None, sums: DailySums | None = None
) -> list[TreeNode]:
    """Return the tree that a context is in, each task after its parent and before its next sibling.

    With a limit, of at most so many tasks: those above the context, itself, those below it, and then others. What they
    used is from the daily sums, if they are given.
    """
    path, above = await _find_path(query, key, limit)
    places = _places(path, above)
    own_id = row_codec.context_id(key)
    await _find_below(query, places, [own_id], limit)
    await _find_below(query, places, [context_id for context_id in places if context_id != own_id], limit)
    found: dict[str, _Own] = {}
    for some in _batches(list(places)):
        selected = _select_uses(some) if sums is None else _select_uses_summed(sums, some)
        uses = {row.context_id: row[1:] for row in await query(selected, user_id=key.user_id)}
        for context_id, *row in await query(_select_tasks(some), user_id=key.user_id):
            found[context_id] = _Own(*row, *uses.get(context_id, ()))
    return _nodes(places, found) if found else []


async def _find_path(query: Query, key: ContextKey, limit: int | None) -> tuple[list[ContextKey], ContextKey | None]:
    """Return the contexts from the top, which may be missing, to one, and the parent of the top if that is not read.

    The top of a circle has the smallest id. With a limit, there is room for as many that are below.
    """
    path = {row_codec.context_id(key): key}
    while True:
        context_id = next(reversed(path))
        rows = await query(_select_parent(context_id), user_id=key.user_id)
        if not rows or rows[0].parent_id == context_id:
            return list(path.values())[::-1], None
        parent_id, parent = rows[0].parent_id, ContextKey(key.user_id, codec.decode(rows[0].value))
        if parent_id in path:
            ids = list(path)
            top = ids.index(min(ids[ids.index(parent_id) :]))
            return list(path.values())[top::-1], None
        if limit is not None and len(path) >= min(limit // 2 + 1, _MOST_ABOVE):
            return list(path.values())[::-1], parent
        path[parent_id] = parent


def _places(path: Sequence[ContextKey], above: ContextKey | None) -> dict[str, _Place]:
    """Return the places of the contexts from the top to one."""
    places: dict[str, _Place] = {}
    parent_id: str | None = None
    for depth, key in enumerate(path):
        context_id = row_codec.context_id(key)
        if parent_id is not None:
            places[parent_id].children.append(context_id)
        places[context_id] = _Place(key, parent_id, above, depth)
        parent_id, above = context_id, key
    return places


async def _find_below(query: Query, places: dict[str, _Place], level: Sequence[str], limit: int | None) -> None:
    """Add the contexts below some, level by level, until there are so many."""
    while level:
        upper, level = level, []
        for some in _batches(upper):
            if limit is not None and len(places) >= limit:
                return
            user_id = places[some[0]].key.user_id
            for context_id, parent_id, chat_id in await query(_select_children(some, limit), user_id=user_id):
                if context_id not in places and (limit is None or len(places) < limit):
                    parent = places[parent_id]
                    parent.children.append(context_id)
                    places[context_id] = _Place(ContextKey(user_id, chat_id), parent_id, parent.key, parent.depth + 1)
                    level.append(context_id)


def _nodes(places: Mapping[str, _Place], found: Mapping[str, _Own]) -> list[TreeNode]:
    nodes: dict[str, _Node] = {}
    for context_id, place in reversed(list(places.items())):
        # All that are below it were read after it.
        below = [nodes[child] for child in place.children]
        nodes[context_id] = _node(place, found.get(context_id), below)

    def age(context_id: str) -> tuple[float, str]:
        return found.get(context_id, _NOTHING).created_at, context_id

    root_id = next(iter(places))
    in_order: list[TreeNode] = []
    waiting = [root_id]
    while waiting:
        context_id = waiting.pop()
        in_order.append(nodes[context_id].shown)
        waiting.extend(sorted(places[context_id].children, key=age, reverse=True))
    return in_order


def _node(place: _Place, row: _Own | None, below: Sequence[_Node]) -> _Node:
    """Return the node of a context whose row is None if it is missing, and of what is below it."""
    own = row or _NOTHING
    times = [*own.times, *(at for node in below for at in (node.first_at, node.last_at) if at is not None)]
    first_at, last_at = (min(times), max(times)) if times else (None, None)
    outcomes = {own.outcome, *(node.shown.outcome for node in below)}

    def added(name: str) -> int:
        return sum((int(getattr(node.shown, name)) for node in below), int(getattr(own, name)))

    shown = TreeNode(
        key=place.key,
        parent=place.parent_key,
        depth=place.depth,
        is_missing=row is None,
        title=own.title,
        tasks=(row is not None) + sum(node.shown.tasks for node in below),
        outcome=next((outcome for outcome in OUTCOMES if outcome in outcomes), None),
        errors=added("errors"),
        calls=added("calls"),
        input_tokens=added("input_tokens"),
        output_tokens=added("output_tokens"),
        # As the views round it.
        cost=round(own.cost + sum(node.shown.cost for node in below), 9),
        duration=None if first_at is None or last_at is None else last_at - first_at,
        own_outcome=own.outcome,
        own_errors=own.errors,
        own_cost=own.cost,
        own_duration=own.duration,
        started_at=min(own.times, default=None),
        ended_at=max(own.times, default=None),
    )
    return _Node(shown, first_at, last_at)


def _select_parent(context_id: str) -> sa.Select[Any]:
    there = sa.and_(contexts.c.context_id == state.c.context_id, incomplete.is_there())
    selected = sa.select(state.c.parent_id, state.c.value).select_from(sa.join(state, contexts, there))
    return selected.where(state.c.context_id == context_id, _PARENT_OF_CONTEXT)


def _select_children(context_ids: Sequence[str], limit: int | None) -> sa.Select[Any]:
    there = sa.and_(contexts.c.context_id == state.c.context_id, incomplete.is_there())
    selected = sa.select(state.c.context_id, state.c.parent_id, contexts.c.chat_id)
    selected = selected.select_from(sa.join(state, contexts, there))
    # In no order, so that not all of them are read for a few.
    return selected.where(state.c.parent_id.in_(context_ids), state.c.removed_in.is_(None)).limit(limit)


def _select_tasks(context_ids: Sequence[str]) -> sa.Select[Any]:
    """Return the SELECT of what tasks have themselves but for uses of models, in the order of `_Own`."""
    of_context = (updates.c.context_id == contexts.c.context_id,)
    is_error = updates.c.update_type == sa.literal_column("'error'")
    at = sa.select(updates.c.timestamp).where(*of_context).limit(1)
    title = sa.select(views.labels.c.value).where(
        views.labels.c.context_id == contexts.c.context_id, views.labels.c.name == "title"
    )
    return sa.select(
        contexts.c.context_id,
        contexts.c.created_at,
        title.scalar_subquery(),
        worst_outcome(contexts.c.context_id),
        sa.select(sa.func.count()).select_from(updates).where(*of_context, is_error).scalar_subquery(),
        at.order_by(updates.c.seq).scalar_subquery(),
        at.order_by(updates.c.seq.desc()).scalar_subquery(),
    ).where(contexts.c.context_id.in_(context_ids), incomplete.is_there())


def _select_uses(context_ids: Sequence[str]) -> sa.Select[Any]:
    """Return the SELECT of the sums of what tasks used of models, in the order of `_Own`."""
    uses = views.uses.c
    tokens = (sa.case((uses[name].between(0, 10**12), uses[name])) for name in ("input_tokens", "output_tokens"))
    cost = sa.case((uses.cost.between(-1e12, 1e12), uses.cost))
    sums = (sa.func.coalesce(total(column), 0) for column in (*tokens, cost))
    selected = sa.select(uses.context_id, sa.func.count(), *sums)
    return selected.where(uses.context_id.in_(context_ids)).group_by(uses.context_id)


def _select_uses_summed(sums: DailySums, context_ids: Sequence[str]) -> sa.Select[Any]:
    """Return the same from the daily sums."""
    rows = sums.of_contexts(context_ids, "day", ("context_id",)).subquery("sums").c
    return sa.select(rows.context_id, rows.calls, rows.input_tokens, rows.output_tokens, rounded(rows.cost))


def _batches(context_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (context_ids[start : start + _AT_A_TIME] for start in range(0, len(context_ids), _AT_A_TIME))
