from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from agents import Runner
from agents.memory import Session as AgentsSession
from agents.memory import SessionSettings

from taskctx_sql import ContextKey, Store
from taskctx_sql.errors import UnstorableValueError
from taskctx_sql.integrations.openai_agents import ContextSession, SessionClosedError
from tests.integrations.openai_agents.conftest import add, said, scripted

Sessions = Callable[..., ContextSession]

ITEMS: list[Any] = [
    said("user", "What is 1 + 2? é\u0301 \U0001f600"),
    {"type": "reasoning", "id": "r1", "summary": [], "encrypted_content": "xyz"},
    {"type": "function_call", "call_id": "call-1", "name": "add", "arguments": '{"a": 1, "b": 2}', "id": None},
    {"type": "function_call_output", "call_id": "call-1", "output": "3"},
    {"type": "web_search_call", "id": "w1", "status": "completed", "action": {"type": "search", "query": "x"}},
    {"type": "compaction", "encrypted_content": "abc", "nested": {"$type": "tuple", "n": 1.0, "big": 2**60}},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "3", "annotations": []}]},
]


async def test_it_is_a_session_of_the_sdk(session: ContextSession) -> None:
    assert isinstance(session, AgentsSession)


async def test_items_come_back_exactly(session: ContextSession, session_of: Sessions) -> None:
    await session.add_items(ITEMS)
    assert await session_of().get_items() == ITEMS
    assert await session_of("c2").get_items() == []


async def test_each_item_is_an_update_of_its_type(session: ContextSession, sql: Store) -> None:
    await session.add_items(ITEMS)
    updates = [row.update async for row in sql.updates(session.key)]
    kinds = ["message", "reasoning", "tool_call", "tool_result", "tool_call", "event", "message"]
    assert [update.update_type for update in updates] == kinds
    common = {"framework": "openai_agents"}
    assert [update.metadata for update in updates] == [
        {**common, "role": "user"},
        common,
        {**common, "group": "call-1", "name": "add"},
        {**common, "group": "call-1"},
        {**common, "name": "web_search_call"},
        common,
        {**common, "role": "assistant"},
    ]


async def test_a_conversation_is_found_by_its_labels(session: ContextSession, sql: Store) -> None:
    await session.add_items(ITEMS)
    (found,) = await sql.contexts(session.key.user_id, labels={"framework": "openai_agents", "session": "c1"})
    assert found.chat_id == "openai_agents/c1" == session.key.chat_id


async def test_a_context_can_be_named(sql: Store, user: str) -> None:
    session = ContextSession("c1", sql, key=ContextKey(user, "mine"))
    await session.add_items(ITEMS[:1])
    assert len((await sql.load(ContextKey(user, "mine"))).history) == 1


async def test_the_newest_items_are_returned(session_of: Sessions) -> None:
    session = session_of(session_settings={"limit": 2})
    await session.add_items([said("user", str(number)) for number in range(5)])
    assert [item["content"] for item in await session.get_items()] == ["3", "4"]
    assert [item["content"] for item in await session.get_items(3)] == ["2", "3", "4"]
    assert await session.get_items(0) == []
    session.session_settings = SessionSettings()
    assert len(await session.get_items()) == 5


async def test_unknown_settings_are_refused(session_of: Sessions) -> None:
    with pytest.raises(TypeError, match="limitt"):
        session_of(session_settings={"limitt": 1})


async def test_each_item_is_taken_out_once(session: ContextSession, session_of: Sessions) -> None:
    await session.add_items([said("user", str(number)) for number in range(6)])
    popped = await asyncio.gather(*(session_of().pop_item() for _ in range(8)))
    contents: list[Any] = [item["content"] for item in popped if item]
    assert sorted(contents) == list("012345")
    assert await session.get_items() == []


async def test_the_newest_item_is_taken_out_and_not_what_hooks_wrote(session: ContextSession) -> None:
    await session.add_items(ITEMS[:1])
    await session.record(updates=[("handoff", {})])
    assert await session.pop_item() == ITEMS[0]
    assert await session.pop_item() is None


async def test_a_cleared_session_is_empty_and_its_record_is_not(session: ContextSession, sql: Store) -> None:
    await session.add_items(ITEMS)
    await session.clear_session()
    assert await session.get_items() == []
    await session.add_items(ITEMS[:1])
    assert await session.get_items() == ITEMS[:1]
    assert len((await sql.load(session.key, revision=1)).history) == len(ITEMS)


async def test_appends_of_many_sessions_all_succeed(session: ContextSession, session_of: Sessions) -> None:
    await asyncio.gather(*(session_of().add_items([said("user", str(number))] * 2) for number in range(20)))
    found = [item["content"] for item in await session.get_items()]
    assert found[::2] == found[1::2]
    assert len(set(found)) == 20


async def test_an_item_that_would_come_back_as_another_is_refused(session: ContextSession) -> None:
    with pytest.raises(UnstorableValueError):
        await session.add_items([said("user", object())])
    assert await session.get_items() == []


async def test_a_closed_session_is_refused(session_of: Sessions) -> None:
    session = session_of()
    await session.close()
    await session.close()
    with pytest.raises(SessionClosedError, match="'c1' is closed"):
        await session.add_items([])


async def test_a_session_opens_its_store_by_address(database_url: str, user: str) -> None:
    async with ContextSession("c1", database_url, user_id=user) as session:
        first = asyncio.gather(session.get_items(), session.add_items(ITEMS))
        await first
        assert await session.get_items() == ITEMS


async def test_each_turn_is_a_run_of_the_record(session: ContextSession, sql: Store) -> None:
    await session.add_items([said("user", "one")])
    await session.add_items([said("assistant", "1")])
    await session.add_items([said("assistant", "That is all.")])
    await session.add_items([said("user", "two"), ITEMS[2], ITEMS[3]])
    await session.add_items([said("user", "three")])
    await session.close(ValueError("no three"))
    runs = await sql.reports.context_runs(session.key)
    assert [(run.outcome, run.error, run.updates) for run in runs] == [
        ("completed", None, 3),
        ("completed", None, 3),
        ("failed", "ValueError: no three", 1),
    ]


async def test_a_turn_that_was_answered_is_one_save(
    sql: Store, user: str, session_of: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[Any] = []
    save = sql.save

    async def counted(delta: Any) -> Any:
        saves.append(delta)
        return await save(delta)

    monkeypatch.setattr(sql, "save", counted)
    session = session_of()
    for turn in range(2):
        await session.add_items([said("user", str(turn)), said("assistant", str(turn))])
    assert len(saves) == 2
    assert await session_of().get_items(1) == [said("assistant", "1")]
    (found,) = await sql.contexts(user, labels={"session": "c1"})
    assert found.revision == 2
    assert [run.outcome for run in await sql.reports.context_runs(session.key)] == ["completed"] * 2


async def test_labels_are_written_once(session: ContextSession, session_of: Sessions, sql: Store) -> None:
    await session.add_items(ITEMS[:1])
    later = session_of()
    await later.get_items()
    await later.add_items(ITEMS[:1])
    labels = await sql.state(session.key, kind="label")
    assert [(label.name, label.value, label.revision) for label in labels] == [
        ("framework", "openai_agents", 1),
        ("session", "c1", 1),
    ]


async def test_usage_that_is_stored_after_a_turn_belongs_to_its_run(session: ContextSession, sql: Store) -> None:
    result = await Runner.run(scripted("Hi."), "Hello", session=session)
    await session.store_run_usage(result)
    (run,) = await sql.reports.runs(user_id=session.key.user_id)
    assert (run.outcome, run.input_tokens) == ("completed", 100)


async def test_a_run_of_an_agent_goes_on_where_the_last_one_ended(
    session: ContextSession, session_of: Sessions
) -> None:
    agent = scripted([("add", {"a": 1, "b": 2}, "call-1")], "It is 3.", "As I said, 3.", tools=[add])
    await Runner.run(agent, "What is 1 + 2?", session=session)
    result = await Runner.run(agent, "Again?", session=session_of())
    assert result.final_output == "As I said, 3."
    kinds = [item.get("type", item.get("role")) for item in await session.get_items()]
    assert kinds == ["user", "function_call", "function_call_output", "message", "user", "message"]


async def test_calls_that_a_crash_left_open_are_closed(session: ContextSession, sql: Store) -> None:
    open_call: Any = {"type": "function_call", "call_id": "call-1", "name": "add", "arguments": "{}"}
    computer: Any = {"type": "computer_call", "call_id": "call-2", "id": "x", "action": {"type": "click"}}
    answered: list[Any] = [
        {"type": "custom_tool_call", "call_id": "call-3", "name": "grep", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "call-3", "output": "y"},
    ]
    await session.add_items([said("user", "Go."), open_call, computer, *answered, *ITEMS[4:5]])
    assert [call.call_id for call in await sql.open_calls(session.key)] == ["call-1", "call-2"]
    closed = await session.close_open_calls()
    assert closed == [{"type": "function_call_output", "call_id": "call-1", "output": "interrupted"}]
    assert (await session.get_items())[-1] == closed[0]
    agent = scripted("Sorry, I was interrupted.")
    await Runner.run(agent, "What happened?", session=session)
    sent = [item.get("type") for item in agent.model.calls[-1].input]  # type: ignore[union-attr]
    assert sent.count("function_call") == sent.count("function_call_output") == 1
    assert "computer_call" not in sent


async def test_results_that_the_store_closed_calls_with_are_no_items(sql: Store, session: ContextSession) -> None:
    call: Any = {"type": "function_call", "call_id": "call-1", "name": "add", "arguments": "{}"}
    # What it has for its data, an item may have, too.
    other: Any = {"error": "interrupted"}
    await session.add_items([said("user", "Add"), other, call])
    await sql.close_calls(session.key)
    assert await session.get_items() == [said("user", "Add"), other, call]
    assert await session.get_items(2) == [other, call]
    assert await session.pop_item() == call
    assert await session.get_items(1) == [other]
