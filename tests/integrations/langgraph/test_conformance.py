"""The framework's conformance package, whole."""

from __future__ import annotations

from collections.abc import AsyncIterator

from langgraph.checkpoint.conformance import checkpointer_test, validate

from taskctx_sql import open_store
from taskctx_sql.integrations.langgraph import ContextSaver


async def test_the_saver_has_every_capability_and_passes_every_test(database_url: str, user: str) -> None:
    async with open_store(database_url) as store:
        made = iter(range(100))

        @checkpointer_test(name="ContextSaver")
        async def saver() -> AsyncIterator[ContextSaver]:
            yield ContextSaver(store, user_id=f"{user}-{next(made)}")

        report = await validate(saver)
    results = report.results.values()
    assert [failure for result in results for failure in result.failures or ()] == []
    assert all(result.passed for result in results), report.to_dict()
    assert sum(result.tests_passed for result in results) >= 60
