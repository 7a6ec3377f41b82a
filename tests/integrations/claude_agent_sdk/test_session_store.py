from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from unittest.mock import Mock

import claude_agent_sdk as sdk
import pytest
from claude_agent_sdk.testing import run_session_store_conformance

from taskctx_sql import ContextKey, Store, open_store
from taskctx_sql.errors import StoreClosedError
from taskctx_sql.integrations.claude_agent_sdk import ContextSessionStore
from tests.integrations.claude_agent_sdk.transcript import SESSION, TURN, Playing, answered, asked, key, text, tool_use
from tests.support.counted_calls import count_reads


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as opened:
        yield opened


@pytest.fixture
def sessions(store: Store, user: str) -> ContextSessionStore:
    return ContextSessionStore(store, user_id=user)


async def updates(store: Store, key: ContextKey, *types: str) -> list[Any]:
    return [update for update in (await store.load(key)).history if update.update_type in types]


async def runs(store: Store, key: ContextKey) -> list[tuple[str, str | None]]:
    return [(run.outcome, run.error) for run in await store.reports.context_runs(key)]


async def test_it_keeps_the_contract_of_the_sdk(store: Store, user: str) -> None:
    numbers = itertools.count()
    await run_session_store_conformance(lambda: ContextSessionStore(store, user_id=f"{user}-{next(numbers)}"))


async def test_a_query_is_mirrored_and_read_back(sessions: ContextSessionStore, tmp_path: Any) -> None:
    project = sdk.project_key_for_directory()
    options = sdk.ClaudeAgentOptions(session_store=sessions, env={"CLAUDE_CONFIG_DIR": str(tmp_path)})
    playing = Playing(str(tmp_path / "projects"), TURN)
    messages = [message async for message in sdk.query(prompt="How many?", options=options, transport=playing)]
    assert isinstance(messages[-1], sdk.ResultMessage)
    assert await sessions.load({"project_key": project, "session_id": SESSION}) == TURN


async def test_the_functions_of_the_sdk_work_on_it(sessions: ContextSessionStore) -> None:
    project = sdk.project_key_for_directory()
    await sessions.append(key(project), TURN)
    await sdk.rename_session_via_store(sessions, SESSION, "Files")
    (listed,) = await sdk.list_sessions_from_store(sessions)
    assert (listed.session_id, listed.summary, listed.first_prompt) == (SESSION, "Files", "How many files are there?")
    assert listed.created_at == 1767323040250
    fork = await sdk.fork_session_via_store(sessions, SESSION)
    assert len(await sdk.list_sessions_from_store(sessions)) == 2
    await sdk.delete_session_via_store(sessions, SESSION)
    assert [info.session_id for info in await sdk.list_sessions_from_store(sessions)] == [fork.session_id]


async def test_a_list_of_summaries_takes_no_read_for_each_session(
    store: Store, sessions: ContextSessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await sessions.append(
            {"project_key": "p", "session_id": f"s{number}"}, [asked(f"u{number}", f"Question {number}")]
        )
    reads = count_reads(store, monkeypatch)
    found = await sessions.list_session_summaries("p")
    assert [one["data"]["first_prompt"] for one in found] == [f"Question {number}" for number in reversed(range(5))]
    # A page and the one after it.
    assert reads == {"contexts": 2}


@pytest.mark.parametrize("is_fresh", [False, True])
async def test_an_entry_is_appended_once(store: Store, user: str, is_fresh: bool) -> None:
    sessions = ContextSessionStore(store, user_id=user)
    await sessions.append(key(), TURN[:4])
    again = ContextSessionStore(store, user_id=user) if is_fresh else sessions
    await again.append(key(), TURN[2:])
    await again.append(key(), TURN[1:])
    assert await again.load(key()) == TURN
    assert len((await store.load(sessions.key(key()))).models) == 2


async def test_a_session_is_read_only_when_an_entry_may_be_in_it(
    store: Store, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Mock(wraps=store.updates)
    await ContextSessionStore(store, user_id=user).append(key(), TURN)
    monkeypatch.setattr(store, "updates", reads)
    fresh = ContextSessionStore(store, user_id=user)
    later = [asked(f"later-{number}", "And now?", 50 + number) for number in range(3)]
    for entry in later[:2]:
        await fresh.append(key(), [entry])
    assert reads.call_count == 0
    # An older entry that the session has, and one that it does not have.
    missed = asked("missed", "Wait.", 1)
    await fresh.append(key(), [TURN[1], missed, later[0], later[2]])
    assert reads.call_count == 1
    assert await fresh.load(key()) == [*TURN, *later[:2], missed, later[2]]


async def test_entries_without_a_uuid_are_always_appended(sessions: ContextSessionStore) -> None:
    tag: Any = {"type": "tag", "tag": "red"}
    await sessions.append(key(), [asked("u1", "Hello"), tag])
    await sessions.append(key(), [tag])
    assert await sessions.load(key()) == [asked("u1", "Hello"), tag, tag]


async def test_processes_that_append_to_one_session_keep_everything(store: Store, user: str) -> None:
    processes = [ContextSessionStore(store, user_id=user) for _ in range(4)]
    await asyncio.gather(
        *(
            process.append(key(), [asked("same", "Same"), asked(f"{number}-{turn}", f"{number}-{turn}")])
            for turn in range(3)
            for number, process in enumerate(processes)
        )
    )
    loaded = await processes[0].load(key())
    assert sorted(entry["uuid"] for entry in loaded or ()) == sorted(
        ["same", *(f"{number}-{turn}" for number in range(4) for turn in range(3))]
    )
    for number in range(4):
        assert [entry["uuid"] for entry in loaded or () if entry["uuid"].startswith(f"{number}-")] == [
            f"{number}-{turn}" for turn in range(3)
        ]
    (summary,) = await processes[1].list_session_summaries("p")
    assert summary["data"]["first_prompt"] in {"Same", *(f"{number}-0" for number in range(4))}


async def test_an_entry_that_one_append_has_twice_is_appended_once(sessions: ContextSessionStore) -> None:
    entry: Any = {"type": "user", "uuid": "u1", "message": {"role": "user", "content": "Hello"}}
    await sessions.append(key(), [entry, entry])
    assert await sessions.load(key()) == [entry]


async def test_turns_written_before_another_process_intervened_are_not_written_again(store: Store, user: str) -> None:
    class Interrupted(ContextSessionStore):
        """One whose first turn is followed by what another process appends."""

        others: list[Any]

        async def _write(self, *arguments: Any) -> None:
            await super()._write(*arguments)
            while self.others:
                await ContextSessionStore(store, user_id=user).append(key(), [self.others.pop()])

    # Without a uuid, only the appending process can tell what it has written.
    said = [("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4")]
    turns: list[Any] = [{"type": role, "message": {"role": role, "content": text}} for role, text in said]
    tag: Any = {"type": "tag", "tag": "red"}
    sessions = Interrupted(store, user_id=user)
    sessions.others = [tag]
    await sessions.append(key(), turns)
    assert await sessions.load(key()) == [*turns[:2], tag, *turns[2:]]


async def test_each_message_is_one_use_of_its_model(store: Store, sessions: ContextSessionStore) -> None:
    for entry in TURN:
        await sessions.append(key(), [entry])
    uses = [use for _, use in (await store.load(sessions.key(key()))).models]
    assert [(use["model_id"], use["provider_id"], use["input_tokens"]) for use in uses] == [
        ("claude-sonnet-4-5", "anthropic", 1110),
        ("claude-sonnet-4-5", "anthropic", 1110),
    ]
    assert (uses[0]["cached_read_tokens"], uses[0]["cached_write_tokens"]) == (1000, 100)
    assert uses[0]["timestamp"] == 1767323041.25


async def test_the_last_entry_of_a_message_says_its_usage(store: Store, sessions: ContextSessionStore) -> None:
    await sessions.append(key(), TURN)
    uses = [use for _, use in (await store.load(sessions.key(key()))).models]
    assert [use["output_tokens"] for use in uses] == [30, 5]


async def test_tool_calls_are_open_until_their_results_come(store: Store, sessions: ContextSessionStore) -> None:
    place = sessions.key(key())
    await sessions.append(key(), TURN[:5])
    assert [(call.call_id, call.name) for call in await store.open_calls(place)] == [
        ("call_1", "Bash"),
        ("call_2", "Bash"),
    ]
    await sessions.append(key(), TURN[5:])
    assert await store.open_calls(place) == []
    calls = await updates(store, place, "tool_call")
    assert calls[0].data == {"name": "Bash", "arguments": {"command": "ls | wc -l"}}
    failed = await updates(store, place, "tool_result")
    assert [update.metadata.get("error") for update in failed] == [None, "not allowed"]


async def test_a_turn_is_a_run(store: Store, sessions: ContextSessionStore) -> None:
    interrupted = asked("u5", "[Request interrupted by user]", 11)
    refused = {**answered("a6", "msg_3", [text("Overloaded")], 13), "isApiErrorMessage": True}
    turns = [*TURN, asked("u4", "And now?", 10), interrupted, asked("u6", "Still there?", 12), refused]
    await sessions.append(key(), [*turns, asked("u7", "Hello?", 20)])
    assert await runs(store, sessions.key(key())) == [
        ("completed", None),
        ("cancelled", None),
        ("failed", "Overloaded"),
        ("unfinished", None),
    ]
    await sessions.append(key(), [answered("a7", "msg_4", [tool_use("call_9")], 21)])
    await sessions.append(key(), [answered("a8", "msg_5", [text("Yes.")], 22)])
    assert (await runs(store, sessions.key(key())))[-1] == ("completed", None)
    errors = await store.reports.errors(user_id=sessions.key(key()).user_id)
    assert [(error.kind, error.message) for error in errors].count(("update", "Overloaded")) == 1


async def test_a_subagent_is_a_context_of_its_own_with_its_session_as_parent(
    store: Store, sessions: ContextSessionStore, user: str
) -> None:
    subagent = key(subpath="subagents/agent-1")
    await sessions.append(key(), TURN)
    await sessions.append(subagent, [asked("s1", "Count.")])
    found = {context.chat_id: context.labels for context in await store.contexts(user)}
    assert found[sessions.key(subagent).chat_id]["parent"] == sessions.key(key()).chat_id
    assert found[sessions.key(key()).chat_id] == {
        "framework": "claude_agent_sdk",
        "project": "p",
        "session": SESSION,
        "transcript": "session",
    }


async def test_the_users_title_stands(store: Store, sessions: ContextSessionStore, user: str) -> None:
    titles: list[Any] = [{"aiTitle": "Counting"}, {"customTitle": "Files"}, {"aiTitle": "Counting files"}]
    for title in titles:
        await sessions.append(key(), [title | {"type": "title"}])
    assert [context.title for context in await store.contexts(user)] == ["Files"]


async def test_a_store_that_fails_raises_its_own_error(database_url: str, user: str) -> None:
    async with open_store(database_url) as store:
        sessions = ContextSessionStore(store, user_id=user)
    with pytest.raises(StoreClosedError):
        await sessions.append(key(), [asked("u1", "Hello")])


async def test_a_transcript_that_another_process_made_anew_is_read_again(store: Store, user: str) -> None:
    ours, others = (ContextSessionStore(store, user_id=user) for _ in range(2))
    place = key("p1")
    for knows in (partial(ours.append, place, TURN), partial(ours.load, place)):
        await knows()
        await others.delete(place)
        # At the same revision as before, and without the entry that this process knows.
        await others.append(place, TURN[:-1])
        await ours.append(place, TURN[-2:])
        assert await others.load(place) == TURN
