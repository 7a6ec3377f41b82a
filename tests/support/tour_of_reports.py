"""The stops of the tour at lists, reports and searches."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from taskctx_sql import ContextKey, SqlStore
from tests.support import tour  # noqa: F401  # its stops come first
from tests.support.guide import KEY, USER, Guide, context, fill, stop


@stop("list", crosses="a user's contexts are on all machines", table="")
async def _(store: SqlStore, guide: Guide) -> None:
    first = await store.contexts(USER, limit=1, state=["a"])
    assert await store.contexts(USER, limit=1, state=None)
    assert await store.contexts(USER, after=first[0])
    assert not await store.contexts(None, labels={"tour": "no", "or": "so"}, title="tour", updated_since=0.0)


@stop("report", crosses="reports are about many contexts", table="")
async def _(store: SqlStore, guide: Guide) -> None:
    filters: Any = {"user_id": USER, "since": 0, "until": 2_000_000_000.0, "limit": 1}
    reports = store.reports
    several: list[Any] = [
        *(reports.contexts, reports.tasks, reports.runs, reports.models, reports.files, reports.activity),
        *(reports.errors, reports.largest, reports.busiest, reports.users, reports.active_users),
        *(reports.calls, reports.tools),
    ]
    for report in several:
        found = await report(**filters)
        if found:
            await report(after=found[-1], **filters)
            assert (await report(**filters).totals())["rows"] >= len(found)
    assert await reports.activity()
    assert await reports.largest(limit=1)
    assert await reports.contexts(**filters).count()
    assert not await reports.contexts(labels={"tour": "no"}, title="tour", **filters)
    assert not await reports.calls(outcome="open", tool="tour", **filters)
    (task,) = await reports.tasks(model="m", **filters)
    assert await reports.tasks(outcome="completed", **filters)
    assert not await reports.tasks(outcome="failed", **filters)
    assert not await reports.tasks(tool="tour", **filters)
    for column in ("updates", "cost"):
        assert await reports.tasks(sort=column, **filters)
    assert await reports.days(**filters)
    assert not await reports.titles([task.context_id])
    assert await reports.running(**filters)
    assert await reports.updates(**filters)
    for report in (reports.tasks, reports.models):
        async with aclosing(report(user_id=USER).portions(1)) as portions:
            assert await anext(portions)
    for sensitive in (True, False):
        assert await store.search("number", case_sensitive=sensitive, update_type="message", **filters)


@stop("report what tasks cost", crosses="it is added up over many tasks", table="")
async def _(store: SqlStore, guide: Guide) -> None:
    filters: Any = {"user_id": USER, "since": 0, "limit": 1}
    for by in ("day", "model", "user", "task"):
        assert await store.reports.costs(by, **filters)
    assert await store.reports.costs("label", label="tour", **filters)
    assert await store.reports.speed(**filters)
    await store.label(KEY, parent="above")
    assert len(await store.reports.tree(KEY)) == 2
    if not guide.is_citus:
        # They are recursive.
        assert await store.reports.trees(**filters)
        assert await store.reports.costs("tree", **filters)


@stop("report on a context")
async def _(store: SqlStore, guide: Guide) -> None:
    found = await context(store, "reported on")
    fill(found)
    found.metadata["a"] = 1
    await found.save()
    reports, key = store.reports, found.key
    for report in (
        *(reports.timeline, reports.updates_by_type, reports.files_by_operation, reports.context_runs),
        *(reports.model_uses, reports.tracked_files, reports.context_models),
    ):
        assert await report(key)
    assert await reports.timeline(key, before=10, revision=1, update_type="message", max_characters=1)
    assert await reports.named_values(ContextKey(USER, "written"))
    for revision in (None, 1):
        assert (await reports.metadata(key, revision=revision)).metadata != "{}"
    assert await reports.context_totals(key)
    assert await reports.last_runs(key, limit=1)
    assert await reports.context_calls(key, limit=1) == []
