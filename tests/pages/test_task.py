"""The views of one task: what they collect is right, bounded, and as it was, on both engines."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, ContextUpdate, SqlStore, TaskContext
from taskctx_sql.errors import ContextNotFoundError, InvalidArgumentError, RevisionNotFoundError
from taskctx_sql.pages.changes import collect_changes
from taskctx_sql.pages.conversation import collect_conversation
from taskctx_sql.pages.task import collect_details, collect_history, collect_task, collect_update
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.schema import updates
from tests.conftest import Clock


def said(text: str, role: str, at: float) -> ContextUpdate:
    return ContextUpdate(at, "message", {"content": text}, {"role": role})


@pytest.fixture
async def key(sql_store: SqlStore, user: str) -> ContextKey:
    """A task of three saves: a question, a call that fails, and an answer that replaces the first one."""
    key = ContextKey(user, "task")
    await sql_store.write(key, updates=[said("Where is it?", "user", 10.0)], title="An order", labels={"team": "a"})
    call = ContextUpdate(11.0, "tool_call", {"arguments": {"n": 1}}, {"group": "1", "name": "find"})
    result = ContextUpdate(13.5, "tool_result", {"error": "away"}, {"group": "1", "error": "away"})
    use = {"model_id": "m", "timestamp": 14.0, "duration": 2.0, "input_tokens": 5, "cost": 0.5}
    await sql_store.write(key, updates=[call, result, said("Here.", "assistant", 16.0)], models=[use], state={"n": 1})
    await sql_store.write(key, updates=[said("There.", "assistant", 17.0)], remove_updates=[4], state={"n": 2})
    return key


async def test_a_task_says_what_it_was_asked_and_what_came_of_it(sql_store: SqlStore, key: ContextKey) -> None:
    view = await collect_task(sql_store, key)
    assert view.head.context.title == "An order"
    assert view.asked is not None
    assert (view.asked.role, view.asked.text) == ("user", "Where is it?")
    assert view.ended is not None
    assert view.ended.text == "There."
    assert (view.head.newest, view.head.revision, view.head.cost) == (3, 3, 0.5)
    assert [entry.seq for entry in view.conversation.entries] == [1, 2, 3, 4, 5]
    assert [entry.removed_in for entry in view.conversation.entries] == [None, None, None, 3, None]
    steps = {step.name: step for step in view.waterfall.steps}
    assert (steps["find"].outcome, steps["find"].duration, steps["find"].seq) == ("failed", 2.5, 2)
    assert (steps["m"].started_at, steps["m"].ended_at) == (14.0, 16.0)
    assert view.waterfall.longest[0].name == "find"


async def test_a_task_is_as_it_was_in_a_revision(sql_store: SqlStore, key: ContextKey) -> None:
    view = await collect_task(sql_store, key, revision=2)
    assert view.head.shown is not None
    assert (view.head.shown.revision, view.head.newest) == (2, 3)
    assert [entry.text for entry in view.conversation.entries if entry.is_said] == ["Where is it?", "Here."]
    assert view.ended is not None
    assert view.ended.text == "Here."
    details = await collect_details(sql_store, key, revision=2)
    assert [(value.name, value.value) for value in details.values] == [("n", "1")]
    with pytest.raises(RevisionNotFoundError):
        await collect_task(sql_store, key, revision=4)
    with pytest.raises(ContextNotFoundError):
        await collect_task(sql_store, ContextKey(key.user_id, "none"))


async def test_what_changed_stands_side_by_side(sql_store: SqlStore, key: ContextKey, user: str) -> None:
    changes = await collect_changes(sql_store, key, 2, 3)
    assert ([entry.text for entry in changes.removed], [entry.text for entry in changes.added]) == (
        ["Here."],
        ["There."],
    )
    (value,) = changes.sections["Named values"]
    assert (value.name, value.old, value.new) == ("n", "1", "2")
    assert (await collect_changes(sql_store, key, 2, 2)).is_empty
    async with TaskContext({"user_id": user, "chat_id": "edits"}, store=sql_store, clock=Clock()) as context:
        for text in ("a", "b", "c"):
            context.add_context_update("message", text)
        context.metadata["gone"] = None
        context.track_file_operation("f.txt", "read")
        await context.save()
        context.context_history[0].data = "edited"
        del context.metadata["gone"]
        context.track_file_operation("f.txt", "write")
        await context.save()
    edited = await collect_changes(sql_store, context.key, 1, 2)
    assert [(before.text, after.text) for before, after in edited.edited] == [("a", "edited")]
    assert not edited.removed
    assert [entry.update_type for entry in edited.added] == ["file_operation"]
    (gone,) = edited.sections["Metadata"]
    assert (gone.old, gone.new) == ("null", None)
    (file,) = edited.sections["Files"]
    assert file.old is not None
    assert file.new is not None
    assert '"read"' in file.old
    assert '"write"' in file.new


async def test_a_comparison_is_limited_and_says_how_much_there_is(sql_store: SqlStore, user: str) -> None:
    key = ContextKey(user, "long")
    for number in range(3):
        texts = [said(f"{number} {part}", "user", float(part)) for part in range(20)]
        uses = [{"model_id": str(part)} for part in range(20)]
        await sql_store.write(key, updates=texts, models=uses)
    found = await sql_store.difference(key, 1, 3, limit=5)
    assert [stored.seq for stored in found.added] == [21, 22, 23, 24, 25]
    assert found.counts == {"added": 40, "added_models": 40}
    back = await sql_store.difference(key, 3, 1, limit=5)
    assert [stored.seq for stored in back.removed] == [21, 22, 23, 24, 25]
    assert back.counts == {"removed": 40, "removed_models": 40}
    with pytest.raises(InvalidArgumentError, match="limit"):
        await sql_store.difference(key, 1, 2, limit=0)
    await sql_store.write(key, remove_updates=list(range(1, 11)))
    shorter = await sql_store.difference(key, 1, 4, limit=5)
    assert [stored.seq for stored in shorter.removed] == [1, 2, 3, 4, 5]
    assert shorter.counts == {"added": 40, "removed": 10, "added_models": 40}
    assert not (await sql_store.difference(key, 1, 4)).counts


async def test_a_long_history_is_read_in_pages(sql_store: SqlStore, user: str) -> None:
    key = ContextKey(user, "pages")
    await sql_store.write(key, updates=[said(str(number), "user", float(number)) for number in range(1, 26)])
    newest = await collect_conversation(sql_store, key, size=10)
    assert ([entry.seq for entry in newest.entries], newest.newer) == (list(range(16, 26)), None)
    middle = await collect_conversation(sql_store, key, seq=newest.older, size=10)
    assert [entry.seq for entry in middle.entries] == list(range(6, 16))
    assert (middle.older, middle.newer, middle.last_seq) == (1, 16, 25)
    first = await collect_conversation(sql_store, key, seq=middle.older, size=10)
    assert (first.older, first.newer) == (None, 11)
    history = await collect_history(sql_store, key)
    assert [revision.revision for revision in history.revisions] == [1]


async def test_one_broken_update_costs_its_own_line_only(
    sql_store: SqlStore, key: ContextKey, engine: AsyncEngine
) -> None:
    table: Any = updates
    damage = sa.update(table).where(table.c.context_id == row_codec.context_id(key), table.c.seq == 5)
    async with engine.begin() as connection:
        await connection.execute(damage.values(data='{"content": "Ther', metadata='{"__datetime__": "never"}'))
    view = await collect_task(sql_store, key)
    assert [entry.is_broken for entry in view.conversation.entries] == [False, False, False, False, True]
    assert view.conversation.entries[-1].data == '{"content": "Ther'
    changes = await collect_changes(sql_store, key, 2, 3)
    assert [(entry.is_broken, "Ther" in entry.data) for entry in changes.added] == [(True, False)]
    one = await collect_update(sql_store, key, 5)
    assert (one.before, one.after, one.text) == (4, None, '{"content": "Ther')
