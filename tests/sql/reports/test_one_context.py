"""The reports about one context: pages of its updates, uses of models and named values, now and as they were."""

from __future__ import annotations

from typing import Any

import pytest

from taskctx_sql import ContextKey, ContextUpdate, SqlStore, TaskContext
from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.reports import ContextMetadata


@pytest.fixture
async def key(sql_store: SqlStore, user: str) -> ContextKey:
    """A context of three revisions: five updates, two more and one less, and then named values."""
    key = ContextKey(user, "c")
    await sql_store.write(key, updates=[ContextUpdate(n, "message", f"text {n}", {"n": n}) for n in range(1, 6)])
    uses = [{"model_id": f"m{n}", "timestamp": float(n), "duration": 0.5, "cost": n} for n in (1, 2, 3)]
    more = [ContextUpdate(n, "event", {"long": "x" * 50}, {}) for n in (6, 7)]
    await sql_store.write(key, updates=more, remove_updates=[2], models=uses)
    await sql_store.write(key, state={"a": 1, "b": "y" * 30, "c": None})
    return key


async def test_a_timeline_is_read_in_pages_from_either_end(sql_store: SqlStore, key: ContextKey) -> None:
    async def seqs(**asked: Any) -> list[int]:
        return [entry.seq for entry in await sql_store.reports.timeline(key, **asked)]

    assert await seqs() == [1, 2, 3, 4, 5, 6, 7]
    assert await seqs(limit=2) == [6, 7]
    assert await seqs(limit=2, before=6) == [4, 5]
    assert await seqs(limit=2, after=3, oldest=True) == [4, 5]
    assert await seqs(revision=1) == [1, 2, 3, 4, 5]
    assert await seqs(revision=1, limit=2) == [4, 5]
    assert await seqs(revision=2) == await seqs(revision=3) == [1, 3, 4, 5, 6, 7]
    assert await seqs(revision=9) == []


async def test_a_timeline_says_where_an_update_is_from_and_how_long_it_is(sql_store: SqlStore, key: ContextKey) -> None:
    _, second, *_, seventh = await sql_store.reports.timeline(key, max_characters=10)
    assert (second.data, second.data_characters, second.metadata) == ('"text 2"', 8, '{"n":2}')
    assert (second.removed, second.added_in, second.removed_in, second.copy_of) == (True, 1, 2, None)
    assert (seventh.data, seventh.data_characters) == ('{"long":"x', 61)
    assert (seventh.removed, seventh.added_in, seventh.metadata_characters) == (False, 2, 2)
    (whole,) = await sql_store.reports.timeline(key, after=6)
    assert len(whole.data) == whole.data_characters
    await sql_store.fork(key, "copy")
    forked = await sql_store.reports.timeline(ContextKey(key.user_id, "copy"))
    assert len(forked) == 6
    assert all(entry.copy_of == entry.seq for entry in forked)


async def test_the_newest_uses_of_models_come_in_order(sql_store: SqlStore, key: ContextKey) -> None:
    uses = await sql_store.reports.model_uses(key, limit=2)
    assert [(use.seq, use.model_id, use.timestamp, use.duration, use.cost, use.removed) for use in uses] == [
        (2, "m2", 2.0, 0.5, 2.0, False),
        (3, "m3", 3.0, 0.5, 3.0, False),
    ]


async def test_named_values_are_read_in_pages_and_as_they_were(sql_store: SqlStore, key: ContextKey) -> None:
    await sql_store.write(key, state={"a": 2}, remove_state=["c"])
    values = await sql_store.reports.named_values(key, max_characters=5)
    assert [(value.name, value.value, value.characters) for value in values] == [("a", "2", 1), ("b", '"yyyy', 32)]
    before = await sql_store.reports.named_values(key, revision=3)
    assert [(value.name, value.value, value.revision) for value in before] == [
        ("a", "1", 3),
        ("b", f'"{"y" * 30}"', 3),
        ("c", "null", 3),
    ]
    assert [value.name for value in await sql_store.reports.named_values(key, revision=3, after="a", limit=1)] == ["b"]
    assert await sql_store.reports.named_values(key, revision=1) == []


async def test_files_and_metadata_are_as_they_are_and_as_they_were(sql_store: SqlStore, user: str) -> None:
    key = ContextKey(user, "files")
    async with TaskContext({"user_id": user, "chat_id": "files", "metadata": {"n": 1}}, store=sql_store) as context:
        for operation in ("read", "write"):
            context.track_file_operation("a.txt", operation, "agent")
            context.metadata["n"] = operation
            await context.save()
    newest, before = await sql_store.reports.tracked_files(key)
    assert (newest.path, newest.operation, newest.source, newest.removed) == ("a.txt", "write", "agent", False)
    assert (before.operation, before.removed, before.revision) == ("read", True, newest.revision - 1)
    assert [(file.operation, file.removed) for file in await sql_store.reports.tracked_files(key, revision=1)] == [
        ("read", False)
    ]
    assert (await sql_store.reports.metadata(key)).metadata == '{"n":"write"}'
    assert (await sql_store.reports.metadata(key, revision=1)).metadata == '{"n":"read"}'
    assert await sql_store.reports.metadata(ContextKey(user, "none")) == ContextMetadata("{}", "{}")


async def test_a_part_of_no_size_is_refused(sql_store: SqlStore, key: ContextKey) -> None:
    reports = sql_store.reports
    of_updates: list[dict[str, Any]] = [{"after": -1}, {"revision": 0}, {"max_characters": 0}]
    of_values: list[dict[str, Any]] = [{"limit": -1}, {"after": "\0"}, {"revision": 0}]
    wrong: list[Any] = [
        *(reports.timeline(key, **asked) for asked in of_updates),
        *(reports.named_values(key, **asked) for asked in of_values),
        reports.model_uses(key, limit=-1),
    ]
    for refused in wrong:
        with pytest.raises(InvalidArgumentError):
            await refused
