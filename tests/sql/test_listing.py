"""How contexts are listed: by which index, and with the same answer whichever is used."""

from __future__ import annotations

from typing import Any

import pytest

from taskctx_sql import ContextKey, SqlStore
from taskctx_sql.errors import RowLevelSecurityError
from taskctx_sql.sql import engines
from taskctx_sql.sql.load import listing
from taskctx_sql.sql.plan import Statement, compiled

VALUES = {
    **{"user": "u", "limit": 10, "last_created_at": 1e9, "last": "x", "part": "t", "since": 1e9},
    "at": 1e9,
    **{"name_0": "framework", "value_0": '"x"', "name_1": "thread", "value_1": '"t"'},
}


@pytest.fixture
async def labeled(sql_store: SqlStore, user: str) -> SqlStore:
    """Contexts of two users, of which a third has each label."""
    for number in range(12):
        labels = {"framework": user, "third": f"{user} {number % 3}", "own": f"{number}"}
        await sql_store.write(
            ContextKey(f"{user}-{number % 2}", f"c{number:02}"), labels=labels, title=f"Task {number}"
        )
    return sql_store


@pytest.mark.parametrize("few", [0, 5, 1000])
async def test_the_answer_is_the_same_whichever_index_is_read(
    labeled: SqlStore, user: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "FEW", few)

    async def chats(of: str | None, **asked: Any) -> list[str]:
        found: list[Any] = []
        while page := await labeled.contexts(of, **asked, limit=3, after=found[-1] if found else None):
            found += page
        return [one.chat_id for one in found]

    everybody = {"framework": user}
    assert await chats(None, labels=everybody) == [f"c{number:02}" for number in reversed(range(12))]
    assert await chats(None, labels=everybody | {"third": f"{user} 1"}) == ["c10", "c07", "c04", "c01"]
    assert await chats(f"{user}-1", labels=everybody | {"third": f"{user} 1"}) == ["c07", "c01"]
    assert await chats(f"{user}-1", labels={"third": f"{user} 1"}, title="task 7") == ["c07"]
    assert await chats(f"{user}-1", labels={"third": f"{user} 1", "own": "2"}) == []
    moment = (await labeled.contexts(f"{user}-0", labels={"own": "8"}))[0].updated_at
    assert await chats(None, labels=everybody, updated_since=moment) == ["c11", "c10", "c09", "c08"]


FORMS = [
    listing._Form("", of_user, continues, labels, by_label, by_title=True, since=True)
    for of_user in (False, True)
    for continues in (False, True)
    for labels, by_label in ((0, None), (2, None), (2, 1))
]
FORMS += [FORMS[0]._replace(values="named"), FORMS[-1]._replace(values="all")]


@pytest.mark.parametrize("form", FORMS)
async def test_a_page_is_read_by_an_index(sql_store: SqlStore, form: listing._Form) -> None:
    engine, _ = sql_store.engine_and_schema()
    select: Statement = listing._select(form._replace(engine=sql_store.engine_name))
    statement = compiled("sqlite" if sql_store.engine_name == "sqlite" else engine.dialect.driver, select)
    values = tuple(statement.values(VALUES | {"names": engines.list_value(sql_store.engine_name, ["n"])}))
    async with engine.connect() as connection:
        if sql_store.engine_name == "sqlite":
            rows = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement.sql}", values)).all()
            plan = "\n".join(str(row[-1]) for row in rows)
            # In the order of the index, unless by a label, of which there are few.
            assert ("USE TEMP B-TREE FOR ORDER BY" in plan) == (form.by_label is not None), plan
            assert "taskctx_state_live_idx" in plan, plan
        else:
            # With a few rows in a table any planner would rather read and sort all of them.
            for setting in ("seqscan", "sort", "bitmapscan"):
                await connection.exec_driver_sql(f"SET LOCAL enable_{setting} = off")
            if form.of_user:
                # Nor does it matter to it which index it reads all of.
                await connection.exec_driver_sql("DROP INDEX taskctx_contexts_created_at_context_id_idx")
            plan = "\n".join(
                str(row[0]) for row in await connection.exec_driver_sql(f"EXPLAIN {statement.sql}", values)
            )
    scans = [line for line in plan.splitlines() if "SCAN taskctx_" in line or "Seq Scan" in line]
    assert [line for line in scans if "USING INDEX" not in line] == [], plan
    by_order = "user_id_created_at" if form.of_user else "contexts_created_at"
    assert (by_order in plan) == (form.by_label is None), plan
    assert form.by_label is None or "taskctx_state_label_idx" in plan, plan


async def test_row_level_security_lists_one_user_at_a_time(tenant_store: SqlStore, user: str) -> None:
    store = tenant_store
    await store.write(
        ContextKey(user, "c"), labels={"framework": "x"}, state={"n": 1}, updates=[("tool_call", 1, {"group": "1"})]
    )
    await store.write(ContextKey(f"{user}-2", "c"), labels={"framework": "x"}, state={"n": 2})
    (found,) = await store.contexts(user, labels={"framework": "x"}, state=["n"])
    assert (found.chat_id, found.labels, found.state) == ("c", {"framework": "x"}, {"n": 1})
    assert [call.call_id for call in await store.open_calls(user_id=user)] == ["1"]
    for call in (store.contexts(None), store.open_calls()):
        with pytest.raises(RowLevelSecurityError, match="Name the user"):
            await call
