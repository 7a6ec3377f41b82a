"""The views: the same columns and the same answers on both engines, and an index whatever one filters by."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, ContextUpdate, SqlStore, TaskContext, codec, open_store, schema
from taskctx_sql.model import report_rows
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.schema import views
from tests.conftest import Clock

# A second before a new year, so that one task has two days.
NEW_YEAR = 1_767_225_600.0


async def answers(store: SqlStore, view: str, user: str) -> list[dict[str, Any]]:
    table = views.metadata.tables[f"taskctx_report_{view}"]
    found = await store.query(sa.select(table).where(table.c.user_id == user).order_by(*table.c))
    return [dict(row._mapping) for row in found]


def context_of(store: SqlStore, user: str, start: float) -> TaskContext:
    return TaskContext({"user_id": user, "chat_id": "c"}, store=store, clock=Clock(start))


@pytest.fixture
async def recorded(sql_store: SqlStore, user: str) -> TaskContext:
    """A task with something of everything."""
    context = context_of(sql_store, user, NEW_YEAR - 1)
    async with context:
        context.track_file_operation("before.txt", "read", "user")
        context.track_model_usage("gpt-4", "openai", "chat", input_tokens=10, output_tokens=2, cost=0.1, duration=1.5)
        context.track_file_operation("a\x00b.txt", "read", "user")
        context.track_model_usage("gpt-4", "openai", "chat", input_tokens=20, cost=0.2)
        context.track_model_usage("local", "me", "chat", cost=float("inf"), input_tokens=10**13)
        context.track_file_operation("between.txt", "write", "agent")
        await context.save()
        context.track_file_operation("after.txt", "write", "agent")
        context._clock = Clock(NEW_YEAR)
        context.add_context_update("error", "plain é")
        context.add_context_update("error", {"message": "task", "error": "not this"})
        context.add_context_update("error", {"error": "last\x00"})
        context.add_context_update("error", {"message": {"nested": [1.0, 2]}})
        await context.save()
        context.context_history = [update for update in context.context_history if update.data != "plain é"]
    with pytest.raises(KeyError):
        async with context:
            raise KeyError("made for this test")
    return context


async def test_a_task_is_summed_up(sql_store: SqlStore, recorded: TaskContext, user: str) -> None:
    (task,) = await answers(sql_store, "tasks", user)
    counts = {name: task[name] for name in ("updates", "removed", "errors", "runs", "failed_runs", "files", "models")}
    assert counts["runs"] == 2
    assert (counts["failed_runs"], task["unfinished_runs"], task["cancelled_runs"], task["outcome"]) == (
        1,
        0,
        0,
        "failed",
    )
    assert counts["files"] == 4
    assert counts["models"] == 2
    # Those after the one that left were written anew.
    assert counts["updates"] - counts["removed"] == len(recorded.context_history) == 10
    assert (task["calls"], task["input_tokens"], task["output_tokens"], task["cost"]) == (3, 30, 2, 0.3)
    # The clock of the database.
    created = datetime.fromtimestamp(task["created_at"], UTC)
    assert (task["day"], task["created_utc"]) == (created.date(), f"{created:%Y-%m-%dT%H:%M:%SZ}")
    assert (task["first_utc"], task["last_utc"]) == ("2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z")
    assert task["duration"] == task["last_at"] - task["first_at"]
    assert 0.9 < task["duration"] < 1.1


async def test_runs_have_their_outcome(sql_store: SqlStore, recorded: TaskContext, user: str) -> None:
    found = sorted(await answers(sql_store, "runs", user), key=lambda run: str(run["outcome"]))
    assert [(run["outcome"], run["error"]) for run in found] == [
        ("completed", None),
        ("failed", "KeyError: 'made for this test'"),
    ]
    assert found[0]["duration"] == found[0]["ended_at"] - found[0]["started_at"]
    assert [(run["calls"], run["input_tokens"], run["output_tokens"], run["cost"]) for run in found] == [
        (3, 30, 2, 0.3),
        (0, 0, 0, 0.0),
    ]
    assert found[0]["started_utc"] == "2025-12-31T23:59:59Z"


async def test_a_run_that_goes_on_is_unfinished(sql_store: SqlStore, user: str) -> None:
    async with context_of(sql_store, user, NEW_YEAR) as context:
        await context.save()
        (run,) = await answers(sql_store, "runs", user)
        (task,) = await answers(sql_store, "tasks", user)
    assert (run["outcome"], run["ended_at"], run["ended_utc"], run["duration"]) == ("unfinished", None, None, None)
    assert (task["outcome"], task["unfinished_runs"], task["failed_runs"]) == ("unfinished", 1, 0)


async def leave(sql_store: SqlStore, user: str, error: BaseException | None) -> None:
    """Make a run that ends in some way."""
    with contextlib.suppress(KeyError, asyncio.CancelledError):
        async with context_of(sql_store, user, NEW_YEAR) as context:
            context.add_context_update("message", 1)
            if error is not None:
                raise error


async def test_a_task_has_the_worst_outcome_of_its_runs(sql_store: SqlStore, user: str) -> None:
    ways = ((None, "completed"), (asyncio.CancelledError(), "cancelled"), (KeyError(), "failed"), (None, "failed"))
    for number, (error, outcome) in enumerate(ways, 1):
        await leave(sql_store, user, error)
        (task,) = await answers(sql_store, "tasks", user)
        assert (task["outcome"], task["runs"]) == (outcome, number)
    (all_of_the_user,) = await answers(sql_store, "users", user)
    assert (task["failed_runs"], task["cancelled_runs"], task["unfinished_runs"]) == (1, 1, 0)
    assert (all_of_the_user["runs"], all_of_the_user["failed_runs"], all_of_the_user["unfinished_runs"]) == (4, 1, 0)


async def test_costs_add_up_in_every_view(sql_store: SqlStore, user: str) -> None:
    for chat in ("a", "b"):
        context = TaskContext({"user_id": user, "chat_id": chat}, store=sql_store)
        for _ in range(2):
            async with context:
                context.track_model_usage("m", "p", "chat", input_tokens=5, cost=0.1)
    for view, rows in {"tasks": 2, "runs": 4, "models": 2, "users": 1}.items():
        found = await answers(sql_store, view, user)
        assert (len(found), round(sum(row["cost"] for row in found), 9)) == (rows, 0.4), view
        assert sum(row["input_tokens"] for row in found) == 20, view


def test_a_row_has_every_column_of_its_view() -> None:
    of_views = {
        "tasks": report_rows.Task,
        "runs": report_rows.TaskRun,
        "files": report_rows.FileActivity,
        "errors": report_rows.ErrorReport,
        "sizes": report_rows.ContextSize,
        "users": report_rows.UserSize,
    }
    for name, row_type in of_views.items():
        view = views.metadata.tables[f"taskctx_report_{name}"]
        assert [field.name for field in fields(row_type)] == view.c.keys(), name


async def test_model_uses_are_summed_by_day_model_provider_and_mode(
    sql_store: SqlStore, recorded: TaskContext, user: str
) -> None:
    found = {row["model_id"]: row for row in await answers(sql_store, "models", user)}
    gpt = found["gpt-4"]
    assert (gpt["day"], gpt["provider_id"], gpt["mode"], gpt["calls"]) == (date(2025, 12, 31), "openai", "chat", 2)
    assert (gpt["input_tokens"], gpt["output_tokens"], gpt["cost"], gpt["duration"]) == (30, 2, 0.3, 1.5)
    # What cannot be meant is left out.
    assert (found["local"]["calls"], found["local"]["cost"], found["local"]["input_tokens"]) == (1, 0.0, 0)


async def test_a_file_has_its_last_operation_run_and_model(
    sql_store: SqlStore, recorded: TaskContext, user: str
) -> None:
    found = {row["path"]: row for row in await answers(sql_store, "files", user)}
    assert {path: row["model_id"] for path, row in found.items()} == {
        "before.txt": None,
        "a\\u0000b.txt": "gpt-4",
        "between.txt": "local",
        "after.txt": "local",
    }
    after = found["after.txt"]
    assert (after["operation"], after["source"], after["state"]) == ("write", "agent", "active")
    assert (after["day"], after["revision"]) == (date(2025, 12, 31), 2)


async def test_activity_counts_removed_updates_too(sql_store: SqlStore, recorded: TaskContext, user: str) -> None:
    found = {(row["day"], row["update_type"]): row for row in await answers(sql_store, "activity", user)}
    assert found[date(2025, 12, 31), "file_operation"]["updates"] == 4
    errors = found[date(2026, 1, 1), "error"]
    assert errors["updates"] - errors["removed"] == 3
    written = sum(
        len(codec.encode(update.data)) + len(codec.encode(update.metadata)) for update in recorded.context_history
    )
    kept = [row["bytes"] for row in found.values() if not row["removed"]]
    assert sum(row["bytes"] for row in found.values()) > written > sum(kept) > 0


async def test_errors_have_their_text_whatever_their_form(
    sql_store: SqlStore, recorded: TaskContext, user: str
) -> None:
    found = [row for row in await answers(sql_store, "errors", user) if not row["removed"]]
    texts = {(row["kind"], row["message"]) for row in found}
    assert texts == {
        ("update", "task"),
        ("update", "last\\u0000"),
        ("update", '{"message":{"nested":[1.0,2]}}'),
        ("run", "KeyError: 'made for this test'"),
    }
    assert {row["message"] for row in await answers(sql_store, "errors", user)} >= {"plain é"}
    assert {row["day"] for row in found} == {date(2026, 1, 1)}


async def test_sizes_are_bytes_and_not_characters(sql_store: SqlStore, user: str) -> None:
    context = context_of(sql_store, user, NEW_YEAR)
    context.add_context_update("message", "é" * 100)
    context.add_context_update("message", "x")
    await context.save()
    (context_size,) = await answers(sql_store, "sizes", user)
    assert (context_size["bytes"], context_size["largest_update"]) == (202 + 2 + 3 + 2, 204)
    (user_size,) = await answers(sql_store, "users", user)
    assert (user_size["contexts"], user_size["updates"], user_size["bytes"]) == (1, 2, 209)
    assert user_size["updated_at"] == context_size["updated_at"]
    # Named values count with all of their versions.
    for value in ("é", 1):
        await sql_store.write(context.key, state={"a": value, "b": None}, labels={"title": "t"})
    (context_size,) = await answers(sql_store, "sizes", user)
    (user_size,) = await answers(sql_store, "users", user)
    assert (context_size["bytes"], context_size["largest_update"]) == (209 + (4 + 4 + 3) + (1 + 4 + 3), 204)
    assert (user_size["bytes"], context_size["state_entries"]) == (context_size["bytes"], 2)


async def test_a_context_without_anything_is_in_the_views(sql_store: SqlStore, user: str) -> None:
    await context_of(sql_store, user, NEW_YEAR).save()
    (task,) = await answers(sql_store, "tasks", user)
    assert (task["updates"], task["first_at"], task["duration"], task["cost"], task["files"]) == (0, None, None, 0.0, 0)
    (size,) = await answers(sql_store, "sizes", user)
    assert (size["bytes"], size["largest_update"]) == (0, 0)


@pytest.mark.parametrize("odd", [float("inf"), -1e300, 1e300, "not a time", None, float("nan"), 253402300800.0, -0.5])
async def test_an_invalid_time_makes_no_view_fail(sql_store: SqlStore, user: str, odd: Any) -> None:
    context = context_of(sql_store, user, NEW_YEAR)
    context.context_history.append(ContextUpdate(odd, "error", {}, {}))
    context.model_tracker.append({"model_id": None, "timestamp": odd, "cost": 1e300})
    context.file_tracker["x"] = {"operation": "read", "source": "me", "timestamp": odd, "state": "active"}
    await context.save()
    expected = date(1970, 1, 1) if odd == -0.5 else None
    for view in ("models", "files", "activity", "errors"):
        (row,) = await answers(sql_store, view, user)
        assert row["day"] == expected
    for view in ("tasks", "sizes", "users"):
        assert len(await answers(sql_store, view, user)) == 1


async def test_the_columns_are_those_that_are_declared_and_documented(engine: AsyncEngine) -> None:
    text = (Path(__file__).parents[3] / "docs/pages/reference/views.md").read_text()
    common = {"context_id", "user_id", "chat_id"}
    async with engine.connect() as connection:
        for name, view in views.metadata.tables.items():
            found = await connection.execute(sa.text(f"SELECT * FROM {name}"))
            assert list(found.keys()) == list(view.c.keys())
            section = text.split(f"**{name}**")[1].split("```sql")[0]
            lines = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
            assert set(re.findall(r"`(\w+)`", "".join(lines))) == set(view.c.keys()) - common


async def test_the_views_are_in_the_given_schema(empty_postgres_url: str, user: str) -> None:
    await schema.upgrade(empty_postgres_url, schema="of choice")
    async with open_store(empty_postgres_url, schema="of choice") as store:
        assert isinstance(store, SqlStore)
        await context_of(store, user, NEW_YEAR).save()
        assert len(await answers(store, "tasks", user)) == 1


async def plans_of(engine: AsyncEngine, statements: list[str]) -> list[str]:
    async with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            plans = [(await connection.execute(sa.text(f"EXPLAIN QUERY PLAN {each}"))).all() for each in statements]
            return ["\n".join(row[3] for row in plan) for plan in plans]
        # With a few rows in a table any planner would rather read it all.
        await connection.execute(sa.text("SET LOCAL citus.propagate_set_commands = 'local'"))
        await connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
        # Nor join all of it in the order of a key.
        await connection.execute(sa.text("SET LOCAL enable_mergejoin = off"))
        # With no rows it would rather read the index of the live files. Nothing of this is committed.
        await connection.execute(
            sa.text(
                "INSERT INTO taskctx_files (context_id, path_id, added_in, position, path, timestamp, run_id) "
                "SELECT 'x', n::text, 1, n, n::text, n * 86400.0, 'r' FROM generate_series(1, 20000) n"
            )
        )
        await connection.execute(
            sa.text(
                "INSERT INTO taskctx_contexts (context_id, user_id, chat_id, metadata, metadata_toggles, revision, "
                "next_seq, next_model, next_position, created_at, updated_at) SELECT n::text, 'x', n::text, '', '', "
                "1, 1, 1, 1, n * 86400.0, 0 FROM generate_series(1, 20000) n"
            )
        )
        # What autovacuum saw of the tables, and when, is chance.
        await connection.execute(sa.text("ANALYZE taskctx_files, taskctx_contexts"))
        return ["\n".join((await connection.execute(sa.text(f"EXPLAIN {each}"))).scalars()) for each in statements]


FILTERED = [
    (view, column)
    for view in views.metadata.tables
    for column in ("user_id", "context_id", "day")
    if column in views.metadata.tables[view].c
]


async def test_every_filter_uses_an_index(engine: AsyncEngine) -> None:
    values = {"day": "2026-01-01"}
    key = row_codec.context_id(ContextKey("u", "c"))
    statements = [f"SELECT * FROM {view} WHERE {column} = '{values.get(column, key)}'" for view, column in FILTERED]
    plans = await plans_of(engine, statements)
    for (view, column), plan in zip(FILTERED, plans, strict=True):
        # There are few incomplete contexts.
        read_whole = re.findall(
            r"(?:SCAN|Seq Scan on) \w*(?:taskctx_(?!report)\w+|\b[a-z]\b).*",
            re.sub(r".*taskctx_contexts_incomplete_idx.*", "", plan),
        )
        assert read_whole == [], f"{view}.{column}: {plan}"
        if column == "day":
            assert re.search(r"taskctx_\w+_(day|failed|call)_idx", plan), f"{view}.{column}: {plan}"
