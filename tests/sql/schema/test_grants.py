"""What the pages grant to the accounts that read reports is enough for what they promise, and for no more."""

from __future__ import annotations

from typing import Any

import pytest

from taskctx_sql import ContextKey, Store, open_store, schema
from taskctx_sql.errors import StoreError
from taskctx_sql.pages import collect_frozen, render_frozen
from tests.support import accounts
from tests.support.accounts import filled
from tests.support.command import taskctx
from tests.support.contract import new_delta

REPORTS = ("contexts", "tasks", "runs", "models", "files", "activity", "errors", "largest", "busiest", "users")


async def expect_reports(store: Store, user_id: str | None = None) -> None:
    """Read every report, with what a table prints of it."""
    filters: Any = {"user_id": user_id}
    for name in REPORTS:
        report = getattr(store.reports, name)
        assert await report(**filters), name
        assert (await report(**filters, limit=1).totals())["rows"] >= 1, name
        assert [row async for row in report(**filters, sort="user_id" if name in ("runs", "tasks") else None)], name


async def test_an_analyst_reads_every_report_and_no_data(empty_postgres_url: str, user: str) -> None:
    await schema.upgrade(empty_postgres_url)
    key = ContextKey(user, "c1")
    async with open_store(empty_postgres_url) as store:
        await filled(store, key)
    async with accounts.analyst(empty_postgres_url) as analyst:
        async with open_store(analyst) as store:
            await expect_reports(store)
            assert "may not read the tasks" in render_frozen(await collect_frozen(store))
            reports, delta = store.reports, new_delta(key, 1)
            for refused in (store.search("secret"), reports.timeline(key), store.load(key), store.save(delta)):
                with pytest.raises(StoreError, match="permission denied"):
                    await refused
        for name in (name for name in REPORTS if name != "contexts"):
            done = taskctx("report", name, "-d", analyst)
            assert (done.returncode, done.stderr) == (0, ""), name
        assert taskctx("list", "-d", analyst).returncode == 0


async def test_under_row_level_security_an_analyst_reads_the_reports_of_all_users(guarded_url: str, user: str) -> None:
    async with open_store(guarded_url) as store:
        for number in range(2):
            await filled(store, ContextKey(f"{user}-{number}", "c1"))
    async with accounts.analyst(guarded_url) as analyst, open_store(analyst) as store:
        # A view shows what its reader may see, and these grants are not enough for it.
        with pytest.raises(StoreError, match="permission denied"):
            await store.reports.calls(user_id=f"{user}-0")
    async with accounts.analyst(guarded_url, of_all_users=True) as analyst, open_store(analyst) as store:
        await expect_reports(store)
        assert {row.user_id for row in await store.reports.tasks()} >= {f"{user}-0", f"{user}-1"}
        with pytest.raises(StoreError, match="permission denied"):
            await store.save(new_delta(ContextKey(user, "c2"), 1))


async def test_the_application_reads_reports_with_what_is_granted_to_it(tenant_url: str, user: str) -> None:
    async with open_store(tenant_url) as store:
        await filled(store, ContextKey(user, "c1"))
        await expect_reports(store, user)
