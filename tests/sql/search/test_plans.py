"""How the engines look up what is searched for: by the index, and what is joined by its keys, however much there is."""

from __future__ import annotations

import re
import uuid
from typing import Any, Final

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, SqlStore
from taskctx_sql.model.report_filters import Filters
from taskctx_sql.sql.schema import search_portion
from taskctx_sql.sql.search.indexed import IndexedHits
from taskctx_sql.sql.search.question import Question

QUESTIONS: Final = (
    Question("word", Filters()),
    Question("word", Filters(user_id="u1")),
    Question('"a phrase" word', Filters(user_id="u1", chat_id="c1")),
    Question("word", Filters(since=1.0, until=2.0), update_type="message"),
)


async def plan_of(
    engine: AsyncEngine, statement: sa.Select[Any] | str, given: dict[str, Any] | None = None, off: str = ""
) -> str:
    """Return the plan of a statement, as the engine prints it, without a kind of scan on Postgres."""
    explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
    if isinstance(statement, str):
        found: Any = sa.text(explain + statement)
    else:
        literal = {"render_postcompile": True, "literal_binds": True}
        found = sa.text(explain + str(statement.compile(engine, compile_kwargs=literal)).replace(":", "\\:"))
    async with engine.connect() as connection:
        if engine.dialect.name != "sqlite":
            # Of a few rows all would be read.
            for kind in ("seqscan", *off.split()):
                await connection.execute(sa.text(f"SET LOCAL enable_{kind} = off"))
        return "\n".join(str(row[-1]) for row in await connection.execute(found, given or {}))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("index")
async def test_on_sqlite_rows_are_looked_up_by_what_waits_or_by_what_the_index_finds(engine: AsyncEngine) -> None:
    last = {"context_id": "c", "seq": 1}
    for statement in search_portion.STATEMENTS:
        plan = await plan_of(engine, statement, last)
        assert "SEARCH q USING PRIMARY KEY" in plan
        # The numbers of one time are a range.
        assert looked_up(plan) <= {"context_id=? AND seq=?", "rowid>? AND rowid<?"}, plan
    for question in QUESTIONS:
        hits = IndexedHits("sqlite", None, question)
        plan = await plan_of(engine, hits.on_sqlite(None))
        # In the order of the numbers, so that a search for the newest ends with the last one it returns.
        assert re.search(r"SCAN taskctx_search_index VIRTUAL TABLE INDEX \d+:M", plan), plan
        assert "TEMP B-TREE" not in plan
        assert looked_up(plan) == {"context_id=? AND seq=?", "context_id=?", "rowid=?"}, plan
        assert looked_up(await plan_of(engine, hits.waiting(None))) == {"context_id=? AND seq=?", "context_id=?"}


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.usefixtures("index")
async def test_on_postgres_terms_are_only_computed_for_the_index(engine: AsyncEngine) -> None:
    for question in QUESTIONS:
        hits = IndexedHits("postgresql", None, question)
        first = hits.first_on_postgres(None, 50)
        assert first is not None
        for statement in (first, hits.on_postgres(None)):
            plan = await plan_of(engine, statement)
            assert "Bitmap Index Scan on taskctx_search_index" in plan
            # However many rows it expects of the index, it does not look up rows of the index by what it has joined.
            plan = await plan_of(engine, statement, off="bitmapscan hashjoin mergejoin")
            assert "taskctx_search_rows_pkey" not in plan
        assert "taskctx_search_rows_time_idx" in await plan_of(engine, hits.among_newest(None))
    # Nothing is long enough for the index.
    assert IndexedHits("postgresql", None, Question("ab", Filters())).first_on_postgres(None, 50) is None


@pytest.mark.usefixtures("index")
async def test_a_search_asks_the_index(engine: AsyncEngine, sql_store: SqlStore, user: str) -> None:
    # Others' updates stay in a database of Postgres's.
    word = uuid.uuid4().hex
    await sql_store.write(ContextKey(user, "c1"), updates=[("message", word)])
    asked: list[str] = []
    sa.event.listen(engine.sync_engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    wanted = "MATCH" if engine.dialect.name == "sqlite" else "taskctx_search_terms"
    kinds: list[dict[str, Any]] = [
        {"user_id": user},
        {"user_id": user, "chat_id": "c1"},
        {"update_type": "message", "since": 1.0},
    ]
    for filters in kinds:
        asked.clear()
        assert [hit.seq for hit in await sql_store.search(word, **filters)] == [1]
        assert any(wanted in statement for statement in asked), asked


def looked_up(plan: str) -> set[str]:
    """Return the conditions by which tables other than the queue are searched."""
    assert not re.search(r"SCAN (u|r|taskctx_updates|taskctx_contexts|taskctx_search_rows)\b", plan), plan
    return set(re.findall(r"SEARCH (?!q\b).*?\((.*?)\)$", plan, re.MULTILINE))
