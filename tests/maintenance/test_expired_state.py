"""Named values that have expired: counted, and removed for good."""

from __future__ import annotations

import pytest

from taskctx_sql import ContextKey, SqlStore
from taskctx_sql.errors import InvalidArgumentError, RowLevelSecurityError
from taskctx_sql.maintenance import erase, examine, prune
from taskctx_sql.model import Retention, StateChange
from taskctx_sql.sql.schema import tables
from tests.support.command import taskctx
from tests.support.contract import new_delta
from tests.support.rows import everything, rows_of

NOW = 1_900_000_000.0
EXPIRED = Retention(expired=True)


async def put(store: SqlStore, user: str, chat: str, **ends: float | None) -> ContextKey:
    """Set values by name with the time at which they expire."""
    key = ContextKey(user, chat)
    changes = [StateChange(name, name, expires_at=end) for name, end in ends.items()]
    await store.save(new_delta(key, state=changes))
    return key


async def names(store: SqlStore, user: str) -> list[str]:
    """The names of all versions of values of a user."""
    return sorted(row[2] for row in await rows_of(store, tables.state, user))


async def test_what_has_expired_goes_in_batches_and_nothing_else(database: SqlStore, user: str) -> None:
    key = await put(database, user, "c1", old=NOW - 1, then=NOW, later=NOW + 1, never=None)
    await put(database, user, "c1", old=None)
    await put(database, user, "c2", **{f"n{number}": NOW - number for number in range(10)})
    await put(database, f"{user}-other", "c1", old=NOW - 1)
    counted = await prune(database, EXPIRED, user_id=user, now=NOW, dry_run=True)
    assert counted.rows == {"taskctx_state": 12}
    assert len(await names(database, user)) == 15
    done = await prune(database, EXPIRED, user_id=user, now=NOW, batch=5)
    assert (done.rows, done.batches) == ({"taskctx_state": 12}, 3)
    assert await names(database, user) == ["later", "never", "old"]
    assert await names(database, f"{user}-other") == ["old"]
    assert [entry.name for entry in await database.state(key)] == ["later", "never", "old"]
    # Earlier revisions stay whole: what has expired is in none of them.
    assert [entry.name for entry in await database.state(key, revision=1)] == ["later", "never"]
    assert (await prune(database, EXPIRED, user_id=user, now=NOW)).rows == {}


async def test_a_context_that_goes_is_not_counted_twice(database: SqlStore, user: str) -> None:
    await put(database, user, "c1", a=1.0, b=None)
    both = Retention(max_age=0, expired=True)
    would = await prune(database, both, user_id=user, now=NOW, dry_run=True)
    assert would.rows["taskctx_state"] == 2
    assert (await prune(database, both, user_id=user, now=NOW)).rows == would.rows
    assert not any((await everything(database, user)).values())


async def test_many_values_and_versions_go_in_bounded_batches(database: SqlStore, user: str) -> None:
    for _ in range(3):
        await put(database, user, "c1", **dict.fromkeys((f"n{number}" for number in range(60)), None))
    receipt = await erase(database, user, batch=25)
    assert receipt.rows["taskctx_state"] == 180
    assert not any((await everything(database, user)).values())
    for _ in range(3):
        await put(database, user, "c1", **dict.fromkeys((f"n{number}" for number in range(60)), None))
    done = await prune(database, Retention(removed_age=0), user_id=user, now=NOW, batch=25)
    # 180 rows are gone through, 25 at a time.
    assert (done.rows, done.batches) == ({"taskctx_state": 120}, 8)
    assert len(await names(database, user)) == 60


async def test_the_doctor_counts_what_has_expired_and_the_command_removes_it(
    database: SqlStore, database_url: str, user: str
) -> None:
    await put(database, user, "c1", a=1.0, b=2.0)
    (finding,) = [one for one in (await examine(database)).findings if one.check == "expired"]
    assert finding.level == "note"
    assert "state entries that nobody reads any more" in finding.message
    assert "prune --expired" in finding.remedy
    result = taskctx("prune", "--expired", "--yes", "--user", user, "-d", database_url)
    assert "2 state entries" in result.stdout
    assert await names(database, user) == []


def test_a_retention_needs_a_limit() -> None:
    with pytest.raises(InvalidArgumentError, match="expired"):
        Retention()


@pytest.mark.wide
async def test_under_row_level_security_a_users_own_go(tenant_store: SqlStore, user: str) -> None:
    mine, theirs = ContextKey(user, "c1"), ContextKey(f"{user}-other", "c1")
    for key in (mine, theirs):
        await tenant_store.save(new_delta(key, state=[StateChange("a", 1, expires_at=1.0), StateChange("b", 2)]))
    with pytest.raises(RowLevelSecurityError):
        await prune(tenant_store, EXPIRED)
    assert (await prune(tenant_store, EXPIRED, user_id=user)).rows == {"taskctx_state": 1}
    assert (await prune(tenant_store, EXPIRED, user_id=user)).rows == {}
    assert (await prune(tenant_store, EXPIRED, user_id=theirs.user_id, dry_run=True)).rows == {"taskctx_state": 1}
    assert [entry.name for entry in await tenant_store.state(mine)] == ["b"]
