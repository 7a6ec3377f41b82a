from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from agents import Runner

from taskctx_sql import Store
from taskctx_sql.integrations.openai_agents import BranchError, ContextSession, TurnNotFoundError
from tests.integrations.openai_agents.conftest import add, said, scripted

Sessions = Callable[..., ContextSession]

CALL: list[Any] = [
    {"type": "function_call", "call_id": "call-1", "name": "add", "namespace": "math", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call-1", "output": "3"},
]
TURNS: list[list[Any]] = [
    [said("user", "First question"), *CALL, said("assistant", "First answer")],
    [said("user", [{"type": "input_text", "text": "Second QUESTION"}]), said("assistant", "Second answer")],
    [said("user", "Third"), said("assistant", "Third answer")],
]
ALL = [item for turn in TURNS for item in turn]


@pytest.fixture
async def talk(session: ContextSession) -> ContextSession:
    """A session with three turns."""
    for turn in TURNS:
        await session.add_items(turn)
    return session


async def test_a_branch_has_what_came_before_its_turn_and_goes_on_by_itself(talk: ContextSession) -> None:
    assert await talk.create_branch_from_turn(3, "other/way") == talk.current_branch == "other/way"
    assert await talk.get_items() == TURNS[0] + TURNS[1]
    await talk.add_items([said("user", "Instead")])
    assert await talk.get_items(1) == [said("user", "Instead")]
    assert await talk.get_items(branch_id="main") == ALL
    await talk.switch_to_branch("main")
    assert await talk.get_items() == ALL
    assert await talk.get_items(branch_id="nowhere") == []


async def test_branches_are_listed_the_oldest_first(talk: ContextSession, session_of: Sessions) -> None:
    await talk.create_branch_from_turn(2, "a")
    await talk.add_items([said("user", "x")])
    await talk.create_branch_from_turn(2, "b")
    found = await session_of().list_branches()
    facts = [(branch["branch_id"], branch["message_count"], branch["user_turns"]) for branch in found]
    assert facts == [("main", len(ALL), 3), ("a", 5, 2), ("b", 4, 1)]
    assert [branch["is_current"] for branch in await talk.list_branches()] == [False, False, True]
    assert found[0]["created_at"] < found[1]["created_at"]


async def test_a_fork_is_of_the_chat_it_came_from(talk: ContextSession, sql: Store) -> None:
    await talk.create_branch_from_turn(2, "a")
    labels = {"session": "c1", "branch": "a", "parent": talk.key.chat_id}
    (found,) = await sql.contexts(talk.key.user_id, labels=labels)
    assert found.chat_id == "openai_agents/c1/a"


async def test_a_branch_is_created_from_the_turn_that_contains_a_text(talk: ContextSession) -> None:
    name = await talk.create_branch_from_content("second question")
    assert name.startswith("branch_from_turn_2_")
    assert await talk.get_items() == TURNS[0]
    with pytest.raises(TurnNotFoundError, match="No user turns found containing 'third'"):
        await talk.create_branch_from_content("third")


@pytest.mark.parametrize("turn", [0, 4, -1])
async def test_a_turn_that_is_not_there_makes_no_branch(talk: ContextSession, turn: int) -> None:
    with pytest.raises(TurnNotFoundError, match=f"Turn {turn} does not contain a user message"):
        await talk.create_branch_from_turn(turn, "a")
    assert len(await talk.list_branches()) == 1
    assert await talk.create_branch_from_turn(1, "a") == "a"


async def test_a_name_is_used_once(talk: ContextSession, session_of: Sessions) -> None:
    await talk.create_branch_from_turn(2, "a")
    for used in ("a", "main"):
        with pytest.raises(BranchError, match=f"Branch ID '{used}' has already been used"):
            await session_of().create_branch_from_turn(3, used)
    with pytest.raises(BranchError, match="cannot be empty"):
        await talk.create_branch_from_turn(1, " ")
    await talk.delete_branch("a", force=True)
    assert talk.current_branch == "main"
    with pytest.raises(BranchError, match="already been used"):
        await talk.create_branch_from_turn(2, "a")


async def test_a_deleted_branch_is_gone(talk: ContextSession, session_of: Sessions) -> None:
    await talk.create_branch_from_turn(2, "a")
    with pytest.raises(BranchError, match="Cannot delete current branch 'a'"):
        await talk.delete_branch("a")
    with pytest.raises(BranchError, match="Cannot delete the 'main' branch"):
        await talk.delete_branch("main")
    await session_of().delete_branch("a")
    with pytest.raises(BranchError, match="'a' does not exist"):
        await talk.add_items([said("user", "lost")])
    assert (talk.current_branch, await talk.get_items()) == ("main", ALL)
    for call in (talk.switch_to_branch, talk.delete_branch):
        with pytest.raises(BranchError, match="'a' does not exist"):
            await call("a")
    assert await talk.get_items(branch_id="a") == []


async def test_clearing_ends_the_branches_for_every_session(talk: ContextSession, session_of: Sessions) -> None:
    await talk.create_branch_from_turn(2, "a")
    await session_of().clear_session()
    await talk.add_items([said("user", "new")])
    assert talk.current_branch == "main"
    assert await session_of().get_items() == [said("user", "new")]
    assert [branch["branch_id"] for branch in await talk.list_branches()] == ["main"]


async def test_turns_can_be_read_and_searched(talk: ContextSession) -> None:
    turns = await talk.get_conversation_turns()
    assert [(turn["turn"], turn["full_content"]) for turn in turns] == [
        (number, turn[0]["content"]) for number, turn in enumerate(TURNS, 1)
    ]
    assert turns[1]["content"] == '[{"type": "input_text", "text": "Second QUESTION"}]'
    assert [turn["turn"] for turn in await talk.find_turns_by_content("question")] == [1, 2]
    assert await talk.find_turns_by_content("100%") == []
    grouped = await talk.get_conversation_by_turns()
    assert grouped[1][:2] == [{"type": "user", "tool_name": None}, {"type": "function_call", "tool_name": "math.add"}]
    assert await talk.get_tool_usage() == [("math.add", 1, 1)]


async def test_a_long_message_is_shown_in_part(session: ContextSession) -> None:
    await session.add_items([said("user", "x" * 200)])
    (turn,) = await session.get_conversation_turns()
    assert (turn["content"], len(turn["full_content"])) == ("x" * 100 + "...", 200)


async def test_a_branch_has_the_usage_of_its_own_turns(session: ContextSession) -> None:
    agent = scripted([("add", {"a": 1, "b": 2}, "call-1")], "3", "4", "5", tools=[add])
    for question in ("1 + 2?", "1 + 3?"):
        await Runner.run(agent, question, session=session, hooks=session.hooks())
    first = await session.get_turn_usage(1)
    assert isinstance(first, dict)
    assert (first["requests"], first["input_tokens"], first["total_tokens"]) == (2, 200, 260)
    assert first["output_tokens_details"]["reasoning_tokens"] == 10
    await session.create_branch_from_turn(2, "a")
    assert await session.get_turn_usage() == []
    await Runner.run(agent, "1 + 4?", session=session, hooks=session.hooks())
    usages = await session.get_turn_usage()
    assert isinstance(usages, list)
    (usage,) = usages
    assert (usage["user_turn_number"], usage["requests"]) == (2, 1)
    sums = {"requests": 1, "input_tokens": 100, "output_tokens": 30, "total_tokens": 130, "total_turns": 1}
    assert await session.get_session_usage("a") == sums
    assert await session.get_session_usage() == {name: count * 4 for name, count in sums.items()} | {"total_turns": 3}


async def test_usage_goes_with_its_turn(session: ContextSession) -> None:
    result = await Runner.run(scripted("Hi."), "Hello", session=session)
    await session.store_run_usage(result)
    assert len(await session.get_turn_usage()) == 1
    await session.pop_item()
    assert len(await session.get_turn_usage()) == 1
    await session.pop_item()
    await session.add_items([said("user", "another")])
    assert await session.get_turn_usage(1) == {}
    assert await session.get_session_usage() is None
