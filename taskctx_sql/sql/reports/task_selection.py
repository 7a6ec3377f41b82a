"""The tasks that a list shows: found in the tables, so that only those of a page are added up.

The view of the tasks adds up each of them, which a whole database has too many of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypedDict

import sqlalchemy as sa

from taskctx_sql import codec
from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.model import check_labels, check_title
from taskctx_sql.model.report_filters import Filters
from taskctx_sql.model.report_rows import OUTCOMES, ActiveUser, Outcome
from taskctx_sql.sql import engines, incomplete, row_codec
from taskctx_sql.sql.reports.clauses import in_period, of_owner, rounded
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, state, updates, views


class TaskFilters(TypedDict, total=False):
    """Which tasks, besides whose and when.

    Attributes:
        outcome: Only those with this outcome, the worst of their runs.
        labels: Only those that have all of these labels.
        title: Only those with this text in their title.
        model: Only those that used this model.
        tool: Only those that called this tool.
        begun: Whether those of the period are the ones that began in it, and not all that were worked on in it.
    """

    outcome: Outcome | None
    labels: Mapping[str, str] | None
    title: str | None
    model: str | None
    tool: str | None
    begun: bool


def select_tasks(filters: Filters, chosen: TaskFilters) -> sa.Select[Any]:
    """Return the SELECT of the ids and times of tasks, with the column by which they are sorted."""
    first = "created_at"
    last = first if chosen.get("begun") else "updated_at"
    found = sa.select(contexts.c.context_id, contexts.c.created_at).where(
        incomplete.is_there(),
        *of_owner(contexts, filters),
        *in_period(contexts, filters, first, last),
        *_of_outcome(chosen.get("outcome")),
        *labeled(contexts, chosen.get("labels"), chosen.get("title")),
        *_having(chosen),
    )
    # What is no column is refused where the rows are put in order.
    name = str(filters.get("sort") or "").removeprefix("-")
    return found.add_columns(_SORTED[name]().label(name)) if name in _SORTED else found


def select_days(filters: Filters) -> sa.Select[Any]:
    """Return the SELECT of the tasks that began and the errors on each day of the period."""
    begun, errors = views.contexts, views.errors
    nothing = sa.literal_column("0", sa.BigInteger)
    is_run = sa.func.count(sa.case((errors.c.kind == "run", 1)))
    counted = sa.union_all(
        sa.select(begun.c.day, sa.func.count().label("tasks"), nothing.label("errors"), nothing.label("failed_runs"))
        .where(*of_owner(begun, filters), *in_period(begun, filters, "created_at", "created_at"))
        .group_by(begun.c.day),
        sa.select(errors.c.day, nothing, sa.func.count(), is_run)
        .where(*of_owner(errors, filters), *in_period(errors, filters, "timestamp", "timestamp"))
        .group_by(errors.c.day),
    ).subquery("counted")
    sums = (
        sa.cast(sa.func.sum(counted.c[name]), sa.BigInteger).label(name) for name in ("tasks", "errors", "failed_runs")
    )
    return sa.select(counted.c.day, *sums).group_by(counted.c.day)


def select_active_users(filters: Filters) -> sa.Select[Any]:
    """Return the SELECT of the users whose last save was in the period, as `ActiveUser` has them."""
    owned = of_owner(contexts, filters)
    # There are few of them, and they have an index.
    failed = (
        sa.select(contexts.c.user_id, sa.func.count().label("failed_runs"))
        .select_from(sa.join(runs, contexts, runs.c.context_id == contexts.c.context_id))
        .where(runs.c.outcome == sa.literal_column("'failed'"), incomplete.is_there(), *owned)
        .group_by(contexts.c.user_id)
        .subquery("failed")
    )
    users = (
        sa.select(
            contexts.c.user_id,
            sa.func.count().label("contexts"),
            # Each update has had a number.
            sa.cast(sa.func.sum(contexts.c.next_seq - 1), sa.BigInteger).label("updates"),
            sa.func.min(contexts.c.created_at).label("created_at"),
            sa.func.max(contexts.c.updated_at).label("updated_at"),
        )
        .where(incomplete.is_there(), *owned)
        .group_by(contexts.c.user_id)
        .subquery("users")
    )
    failures = sa.func.coalesce(failed.c.failed_runs, 0).label("failed_runs")
    columns = {**users.c, "failed_runs": failures}
    return (
        sa.select(*(columns[name] for name in ActiveUser.__dataclass_fields__))
        .select_from(users.outerjoin(failed, failed.c.user_id == users.c.user_id))
        .where(*in_period(users, filters, "updated_at", "updated_at"))
    )


def select_titles(context_ids: Sequence[str]) -> sa.Select[Any]:
    """Return the SELECT of the titles of tasks: context id, title."""
    labels = views.labels
    return sa.select(labels.c.context_id, labels.c.value).where(
        labels.c.name == "title", labels.c.context_id.in_(list(context_ids))
    )


def labeled(
    table: sa.FromClause, labels: Mapping[str, str] | None, title: str | None
) -> Iterator[sa.ColumnElement[bool]]:
    """Yield the conditions for labels and a title."""
    check_labels(labels)
    check_title(title)
    for name, value in (labels or {}).items():
        # As text, which is in the index of labels.
        is_label = (state.c.kind == sa.literal_column("'label'"), state.c.removed_in.is_(None), state.c.name == name)
        having = sa.select(state.c.context_id).where(*is_label, state.c.value == codec.encode(value))
        yield engines.only_compared(table.c.context_id).in_(having)
    if title is not None:
        of_context = views.labels.c.context_id == table.c.context_id
        found = sa.select(views.labels.c.value).where(of_context, views.labels.c.name == "title")
        yield engines.contains(found.scalar_subquery(), title, case_sensitive=False)


def as_text(argument: str, value: object) -> str:
    """Return a text to look for as columns have it, or raise InvalidArgumentError."""
    if not isinstance(value, str):
        raise InvalidArgumentError(argument, value, "a string")
    return str(row_codec.column_text(value))


def check_outcome(outcome: Outcome | None) -> None:
    """Raise InvalidArgumentError if an outcome is none of a run."""
    if outcome is not None and outcome not in OUTCOMES:
        raise InvalidArgumentError("outcome", outcome, f"one of {', '.join(OUTCOMES)}")


def _of_outcome(outcome: Outcome | None) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for the worst outcome of a task's runs: one that some run has, and none a worse one."""
    check_outcome(outcome)
    if outcome is None:
        return []

    def is_it(name: Outcome) -> sa.ColumnElement[bool]:
        # Literals, so that the index of failed runs is used.
        return runs.c.outcome.is_(None) if name == "unfinished" else runs.c.outcome == sa.literal_column(f"'{name}'")

    if outcome == "completed":
        # Nearly all tasks are, so each is looked at until a page is full.
        of_task = sa.select(runs.c.context_id).where(runs.c.context_id == contexts.c.context_id)
        return [of_task.exists(), ~of_task.where(runs.c.outcome.is_distinct_from(outcome)).exists()]

    def has(name: Outcome) -> sa.ColumnElement[bool]:
        return contexts.c.context_id.in_(sa.select(runs.c.context_id).where(is_it(name)))

    worse = OUTCOMES[: OUTCOMES.index(outcome)]
    return [has(outcome), *(sa.not_(has(name)) for name in worse)]


def worst_outcome(context_id: sa.ColumnElement[str]) -> sa.ScalarSelect[str | None]:
    """Return the worst outcome of the runs of a context; NULL without any."""
    found = sa.func.coalesce(runs.c.outcome, "unfinished")
    rank = sa.func.min(sa.case({name: place for place, name in enumerate(OUTCOMES)}, value=found))
    names = sa.case(dict(enumerate(OUTCOMES)), value=rank)
    return sa.select(names).where(runs.c.context_id == context_id).scalar_subquery()


def _having(chosen: TaskFilters) -> Iterator[sa.ColumnElement[bool]]:
    # Task by task, until a page is full: most models and tools are those of many tasks. The limit, which is none, keeps
    # Postgres from reading what all of them used first.
    if (model := chosen.get("model")) is not None:
        named = sa.func.coalesce(models.c.model_id, "") == as_text("model", model)
        yield sa.select(models.c.seq).where(*_of_task(models, named, _is_used())).offset(0).exists()
    if (tool := chosen.get("tool")) is not None:
        calls = views.calls
        is_call = (calls.c.name == as_text("tool", tool), calls.c.copied == 0)
        yield sa.select(calls.c.seq).where(calls.c.context_id == contexts.c.context_id, *is_call).offset(0).exists()


def _is_used() -> sa.ColumnElement[bool]:
    """Return the condition for uses of models that count, as the views have it."""
    removed_by = (
        sa.select(revisions.c.operation)
        .where(revisions.c.context_id == models.c.context_id, revisions.c.revision == models.c.removed_in)
        .scalar_subquery()
    )
    return sa.and_(
        models.c.copy_of.is_(None),
        sa.or_(models.c.removed_in.is_(None), removed_by.in_(("restore", "undo"))),
    )


def _of_task(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.context_id == contexts.c.context_id, *conditions


def _number_of(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(table).where(*_of_task(table, *conditions)).scalar_subquery()


def _sum_of(name: str, least: float, most: float, *, is_whole: bool) -> sa.ColumnElement[Any]:
    column = models.c[name]
    summed = sa.func.sum(sa.case((column.between(least, most), column)))
    value = sa.func.coalesce(sa.cast(summed, sa.BigInteger), 0) if is_whole else rounded(sa.func.coalesce(summed, 0))
    return sa.select(value).where(*_of_task(models, _is_used())).scalar_subquery()


def _tokens_of(name: str) -> Callable[[], sa.ColumnElement[Any]]:
    return lambda: _sum_of(name, 0, 1_000_000_000_000, is_whole=True)


# The columns by which tasks can be sorted without adding up the rest of them, as their view computes them.
_SORTED: Final[dict[str, Callable[[], sa.ColumnElement[Any]]]] = {
    "updated_at": lambda: contexts.c.updated_at,
    "saves": lambda: contexts.c.revision,
    "updates": lambda: _number_of(updates),
    "errors": lambda: _number_of(updates, updates.c.update_type == sa.literal_column("'error'")),
    "runs": lambda: _number_of(runs),
    "failed_runs": lambda: _number_of(runs, runs.c.outcome == "failed"),
    "files": lambda: _number_of(files, files.c.removed_in.is_(None)),
    "calls": lambda: _number_of(models, _is_used()),
    "input_tokens": _tokens_of("input_tokens"),
    "output_tokens": _tokens_of("output_tokens"),
    "cost": lambda: _sum_of("cost", -1e12, 1e12, is_whole=False),
}
