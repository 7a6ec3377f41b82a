"""A ContextWriter's last write of a run can record the run's end, and a later one can go on with the run."""

from __future__ import annotations

import pytest

from taskctx_sql import ContextKey, ContextWriter, SqlStore
from taskctx_sql.errors import StaleContextError


@pytest.mark.parametrize(("outcome", "error"), [("completed", None), ("failed", "ValueError: no")])
async def test_the_last_write_of_a_run_ends_it_and_the_next_write_begins_another(
    sql_store: SqlStore, user: str, outcome: str, error: str | None
) -> None:
    key = ContextKey(user, "c1")
    writer = ContextWriter(sql_store, key)
    await writer.write(updates=[("message", 1)])
    saved = await writer.write(updates=[("message", 2)], outcome=outcome, error=error)  # type: ignore[arg-type]
    assert saved.revision == writer.revision == 2
    await writer.end()
    await writer.write(updates=[("message", 3)])
    runs = await sql_store.reports.context_runs(key)
    found = sorted((run.saves, run.outcome, run.error) for run in runs)
    assert found == sorted([(2, outcome, error), (1, "unfinished", None)])
    assert [stored.update.data for stored in (await sql_store.load(key)).updates] == [1, 2, 3]


async def test_a_write_that_is_refused_leaves_the_run_as_it_was(sql_store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c1")
    writer = ContextWriter(sql_store, key)
    await writer.write(updates=[("message", 1)])
    await sql_store.write(key, updates=[("message", 2)])
    with pytest.raises(StaleContextError):
        await writer.write(updates=[("message", 3)], if_revision=writer.revision)
    await writer.write(updates=[("message", 4)], if_revision=2)
    assert sorted(run.saves for run in await sql_store.reports.context_runs(key)) == [1, 2]
    assert [stored.update.data for stored in (await sql_store.load(key)).updates] == [1, 2, 4]


async def test_a_write_can_go_on_with_the_run_that_has_ended(sql_store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c1")
    writer = ContextWriter(sql_store, key)

    async def runs() -> list[tuple[int, str, str | None]]:
        return [(run.saves, run.outcome, run.error) for run in await sql_store.reports.context_runs(key)]

    await writer.write(updates=[("message", 1)], outcome="failed", error="ValueError: no", resume=True)
    assert await runs() == [(1, "failed", "ValueError: no")]
    await writer.write(updates=[("message", 2)], resume=True)
    assert await runs() == [(2, "unfinished", None)]
    await writer.write(state={"usage": 5})
    await writer.end()
    await writer.write(updates=[("message", 3)], outcome="cancelled", resume=True)
    assert await runs() == [(4 + 1, "cancelled", None)]
