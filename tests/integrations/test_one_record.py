"""What several frameworks wrote into one database, through what works on every context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agents import set_tracing_disabled
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.usage import RequestUsage

from taskctx_sql import Retention, Store, maintenance, open_store, transfer
from taskctx_sql.integrations.a2a import ContextTaskStore
from taskctx_sql.integrations.claude_agent_sdk import ContextSessionStore
from taskctx_sql.integrations.langgraph import ContextSaver
from taskctx_sql.integrations.openai_agents import ContextSession
from taskctx_sql.integrations.pydantic_ai import Conversation
from tests.integrations.a2a import tasks
from tests.integrations.claude_agent_sdk import transcript
from tests.integrations.langgraph.checkpoints import put, thread

MESSAGES: list[ModelMessage] = [
    ModelRequest(parts=[UserPromptPart("How much?")]),
    ModelResponse(parts=[TextPart("Much")], usage=RequestUsage(input_tokens=9), model_name="m", provider_name="p"),
]


@pytest.fixture(autouse=True)
def _without_tracing() -> None:
    set_tracing_disabled(True)


async def write(store: Store, user: str) -> None:
    """Let each framework write what this user did, with entries that are taken out and replaced again."""
    session = ContextSession("c1", store, user_id=user)
    await session.add_items([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    await session.add_items([{"role": "user", "content": "c"}, {"role": "user", "content": "popped"}])
    await session.pop_item()
    await session.create_branch_from_turn(2, "other")
    await session.add_items([{"role": "user", "content": "d"}])
    saver, config = ContextSaver(store, user_id=user), thread()
    for step in range(4):
        config = await put(saver, config, step, n=step, large="x" * 2_000, messages=list(range(step)))
        await saver.aput_writes(config, [("n", step), ("raw", b"\xff")], f"task {step}")
    sessions = ContextSessionStore(store, user_id=user)
    await sessions.append(transcript.key(), transcript.TURN)
    await sessions.append(transcript.key(subpath="subagents/agent-1"), transcript.TURN[:2])
    await Conversation(store, "c1", user_id=user).add(MESSAGES)
    saved, caller = tasks.task(user), tasks.called_by(user)
    for state in (tasks.SUBMITTED, tasks.WORKING, tasks.COMPLETED):
        saved.status.CopyFrom(tasks.status(state, str(state)))
        saved.artifacts.append(tasks.artifact(f"{state}", "one"))
        await ContextTaskStore(store).save(saved, caller)


async def read(store: Store, user: str) -> dict[str, Any]:
    """Return what each framework gets to see for this user."""
    found: dict[str, Any] = {}
    session = ContextSession("c1", store, user_id=user)
    found["openai_agents"] = await session.get_items()
    found["openai_agents branches"] = [
        (branch["branch_id"], branch["message_count"]) for branch in await session.list_branches()
    ]
    saver = ContextSaver(store, user_id=user)
    found["langgraph"] = [
        (one.config, one.checkpoint, one.metadata, one.pending_writes) async for one in saver.alist(thread())
    ]
    sessions = ContextSessionStore(store, user_id=user)
    found["claude_agent_sdk"] = await sessions.load(transcript.key())
    found["claude_agent_sdk subkeys"] = await sessions.list_subkeys(transcript.key())
    found["claude_agent_sdk subagent"] = await sessions.load(transcript.key(subpath="subagents/agent-1"))
    found["pydantic_ai"] = await Conversation(store, "c1", user_id=user).messages()
    found["a2a"] = await ContextTaskStore(store).get(user, tasks.called_by(user))
    return found


async def test_a_copy_a_pruning_and_an_erasure_leave_what_they_should(
    database_url: str, tmp_path: Path, user: str
) -> None:
    other, target = f"{user}-2", f"sqlite:///{tmp_path}/other.db"
    async with open_store(database_url) as store:
        await write(store, user)
        await write(store, other)
        mine, theirs = await read(store, user), await read(store, other)
        assert all(mine.values())
        for name in (user, other):
            await transfer.copy(database_url, target, user_id=name)
        async with open_store(target) as copied:
            assert (await read(copied, user), await read(copied, other)) == (mine, theirs)
        pruned = await maintenance.prune(store, Retention(removed_age=0), user_id=user)
        assert pruned.rows["taskctx_updates"] == 2
        assert await read(store, user) == mine
        await maintenance.erase(store, user)
        assert not any((await read(store, user)).values())
        assert await read(store, other) == theirs


async def test_under_row_level_security_each_user_sees_only_what_is_theirs(tenant_url: str, user: str) -> None:
    other = f"{user}-2"
    async with open_store(tenant_url) as store:
        await write(store, user)
        assert not any((await read(store, other)).values())
        await write(store, other)
        mine, theirs = await read(store, user), await read(store, other)
        assert all(mine.values())
        assert all(theirs.values())
        # The same session and thread of another user is another one.
        await maintenance.erase(store, user)
        assert not any((await read(store, user)).values())
        assert await read(store, other) == theirs
