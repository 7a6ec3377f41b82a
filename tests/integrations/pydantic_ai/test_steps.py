from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("pydantic_ai_harness")

from pydantic_ai import Agent
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage
from pydantic_ai_harness.media import DiskMediaStore
from pydantic_ai_harness.step_persistence import (
    ContinuableSnapshot,
    InMemoryStepStore,
    RunRecord,
    StepEvent,
    StepPersistence,
    StepStore,
    ToolEffectRecord,
    continue_run,
)

from taskctx_sql import SqlStore
from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.integrations.pydantic_ai import ContextStepStore
from tests.support.counted_calls import count_reads

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def steps(sql: SqlStore, user: str) -> ContextStepStore:
    return ContextStepStore(sql, user_id=user)


@pytest.fixture
def again(sql: SqlStore, user: str) -> Callable[..., ContextStepStore]:
    """Makes a store as another process would, which knows nothing."""
    return lambda **given: ContextStepStore(sql, user_id=user, **given)


def asked(text: str) -> ModelMessage:
    return ModelRequest(parts=[UserPromptPart(text, timestamp=NOW)])


def answered(text: str, at: datetime = NOW) -> ModelMessage:
    return ModelResponse(
        parts=[TextPart(text)], timestamp=at, model_name="gpt-5", usage=RequestUsage(input_tokens=3, output_tokens=1)
    )


def snapshot(messages: list[ModelMessage], *, run_id: str = "r1", step: int = 0, **given: Any) -> ContinuableSnapshot:
    return ContinuableSnapshot(run_id=run_id, step_index=step, messages=messages, timestamp=NOW, **given)


def event(kind: Any, *, run_id: str = "r1", step: int = 0, **given: Any) -> StepEvent:
    return StepEvent(run_id=run_id, kind=kind, step_index=step, timestamp=NOW, **given)


def test_it_is_a_step_store(steps: ContextStepStore) -> None:
    assert isinstance(steps, StepStore)


async def test_results_that_the_store_closed_calls_with_are_no_events(sql: SqlStore, steps: ContextStepStore) -> None:
    started = event("tool_call_started", tool_call_id="c1", tool_name="find")
    await steps.append_event(started)
    assert len(await sql.close_calls(steps.key("r1"))) == 1
    assert await steps.list_events(run_id="r1") == [started]


async def test_records_come_back_equal(steps: ContextStepStore) -> None:
    run = RunRecord(run_id="r1", conversation_id="c/1", parent_run_id="r0", metadata={"a": "b"}, registration_id="x")
    events = [
        event("run_started", conversation_id="c/1", agent_name="helper", metadata={"k": "v"}, idempotency_key="k1"),
        event("tool_call_started", tool_call_id="t1", tool_name="find"),
        event("tool_call_failed", tool_call_id="t1", tool_name="find", error="gone"),
    ]
    effect = ToolEffectRecord(tool_call_id="t1", tool_name="find", run_id="r1", status="completed", ended_at=NOW)
    kept = snapshot([asked("a"), answered("b")], step=3, agent_name="helper", idempotency_key="0:3:complete")
    await steps.register_run(run)
    for one in events:
        await steps.append_event(one)
    await steps.record_tool_effect(effect)
    await steps.save_snapshot(kept)
    assert await steps.get_run(run_id="r1") == run
    assert await steps.list_events(run_id="r1") == events
    assert await steps.get_tool_effect(run_id="r1", tool_call_id="t1") == effect
    assert await steps.latest_snapshot(run_id="r1") == kept


async def test_nothing_is_there_before_it_is_written(steps: ContextStepStore) -> None:
    assert await steps.get_run(run_id="r1") is None
    assert await steps.latest_snapshot(run_id="r1", include_interrupted=True) is None
    assert await steps.get_tool_effect(run_id="r1", tool_call_id="t1") is None
    assert await steps.list_runs() == []
    assert await steps.list_events(run_id="r1") == []
    assert await steps.list_snapshots(run_id="r1") == []
    assert await steps.list_unresolved_tool_effects(run_id="r1") == []


async def test_a_run_is_registered_once(steps: ContextStepStore, again: Callable[..., ContextStepStore]) -> None:
    await steps.append_event(event("run_started"))
    await steps.register_run(RunRecord(run_id="r1", started_at=NOW))
    for store in (steps, again()):
        with pytest.raises(ValueError, match="already in the store"):
            await store.register_run(RunRecord(run_id="r1"))
    assert await steps.get_run(run_id="r1") == RunRecord(run_id="r1", started_at=NOW)


async def test_runs_are_listed_by_parent_and_conversation_in_the_order_they_started(steps: ContextStepStore) -> None:
    runs = [
        RunRecord(
            run_id=f"r{number}", started_at=NOW - timedelta(hours=number), parent_run_id=parent, conversation_id=c
        )
        for number, (parent, c) in enumerate([(None, "c1"), ("r0", "c1"), ("r0", "c2")])
    ]
    for run in runs:
        await steps.register_run(run)
    assert await steps.list_runs() == runs[::-1]
    assert await steps.list_runs(parent_run_id="r0") == [runs[2], runs[1]]
    assert await steps.list_runs(conversation_id="c1") == [runs[1], runs[0]]
    assert await steps.list_runs(parent_run_id="r0", conversation_id="c2") == [runs[2]]


async def test_a_list_of_runs_takes_no_read_for_each(
    sql: SqlStore, steps: ContextStepStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [RunRecord(run_id=f"r{number}", started_at=NOW + timedelta(hours=number)) for number in range(5)]
    for run in runs:
        await steps.register_run(run)
    # One that is not registered.
    await steps.append_event(event("run_started", run_id="r5"))
    reads = count_reads(sql, monkeypatch)
    assert await steps.list_runs() == runs
    # A page and the one after it.
    assert reads == {"contexts": 2}


async def test_what_is_written_again_with_its_key_is_written_once(
    steps: ContextStepStore, again: Callable[..., ContextStepStore]
) -> None:
    for store in (steps, steps, again()):
        await store.append_event(event("run_started", idempotency_key="0"))
        await store.save_snapshot(snapshot([asked("a")], idempotency_key="0:0:complete"))
    assert len(await steps.list_events(run_id="r1")) == len(await steps.list_snapshots(run_id="r1")) == 1


async def test_two_processes_write_to_one_run(steps: ContextStepStore, again: Callable[..., ContextStepStore]) -> None:
    stores = [steps, again()]
    messages = [asked("a")]
    for number in range(4):
        messages = [*messages, answered(str(number))]
        await asyncio.gather(
            stores[number % 2].save_snapshot(snapshot(messages, step=number)),
            stores[(number + 1) % 2].append_event(event("model_request_started", step=number)),
        )
    kept = await again().list_snapshots(run_id="r1")
    assert [one.messages for one in kept] == [messages[: number + 2] for number in range(4)]
    assert [one.step_index for one in await again().list_events(run_id="r1")] == [0, 1, 2, 3]


async def test_a_message_is_written_once_however_many_snapshots_have_it(sql: SqlStore, steps: ContextStepStore) -> None:
    messages = [asked("a")]
    for number in range(5):
        messages = [*messages, answered(str(number), NOW + timedelta(seconds=number))]
        await steps.save_snapshot(snapshot(messages, step=number))
    # Compacted, and with one message twice.
    await steps.save_snapshot(snapshot([messages[0], messages[5], messages[0]], step=9))
    loaded = await sql.load(steps.key("r1"))
    assert sum(update.update_type == "message" for update in loaded.history) == 6
    newest = await steps.latest_snapshot(run_id="r1")
    assert newest is not None
    assert newest.messages == [messages[0], messages[5], messages[0]]
    assert [one.step_index for one in await steps.list_snapshots(run_id="r1")] == [0, 1, 2, 3, 4, 9]


async def test_a_message_that_left_the_history_gives_its_number_to_no_other(
    sql: SqlStore, steps: ContextStepStore, again: Callable[..., ContextStepStore]
) -> None:
    messages = [asked("a"), answered("b"), answered("c")]
    await steps.save_snapshot(snapshot(messages))
    first = (await sql.load(steps.key("r1"))).seqs[0]
    await sql.write(steps.key("r1"), remove_updates=[first])
    await again().save_snapshot(snapshot([*messages[1:], answered("d")], step=1))
    newest = await steps.latest_snapshot(run_id="r1")
    assert newest is not None
    assert newest.messages == [*messages[1:], answered("d")]


async def test_tokens_are_counted_in_the_run_that_used_them(sql: SqlStore, steps: ContextStepStore) -> None:
    later = NOW + timedelta(seconds=1)
    before, own = answered("b", NOW - timedelta(days=1)), answered("c", later)
    await steps.register_run(RunRecord(run_id="r1", started_at=NOW))
    await steps.save_snapshot(snapshot([asked("a"), before, asked("a"), own], agent_name="helper"))
    ((_, use),) = (await sql.load(steps.key("r1"))).models
    assert (use["model_id"], use["mode"], use["timestamp"]) == ("gpt-5", "helper", later.timestamp())


async def test_an_interrupted_snapshot_is_read_only_if_asked_for(steps: ContextStepStore) -> None:
    await steps.save_snapshot(snapshot([asked("a")], step=1))
    await steps.save_snapshot(snapshot([asked("a"), asked("b")], step=2, state="interrupted"))
    newest = [await steps.latest_snapshot(run_id="r1", include_interrupted=asked) for asked in (False, True)]
    assert [one and one.step_index for one in newest] == [1, 2]


@pytest.mark.parametrize("states", ["cccc", "ciii", "icii", "iiii", "ccic"])
@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_as_many_snapshots_are_kept_as_in_the_harness_own_store(
    steps: ContextStepStore, again: Callable[..., ContextStepStore], states: str, limit: int
) -> None:
    theirs = InMemoryStepStore(max_snapshots_per_run=limit)
    for step, state in enumerate(states):
        one = snapshot(
            [asked("a")],
            step=step,
            state="complete" if state == "c" else "interrupted",
            idempotency_key=f"{step}:{step}:{state}",
        )
        # As by a new process each time, and with each write repeated.
        for _ in range(2):
            await again(max_snapshots_per_run=limit).save_snapshot(one)
        await theirs.save_snapshot(one)
    await again(max_snapshots_per_run=limit).save_snapshot(
        snapshot([asked("a")], step=0, idempotency_key=f"0:0:{states[0]}")
    )
    assert await steps.list_snapshots(run_id="r1", include_interrupted=True) == await theirs.list_snapshots(
        run_id="r1", include_interrupted=True
    )


async def test_tool_effects_that_began_and_did_not_end(steps: ContextStepStore) -> None:
    for number in range(3):
        record = ToolEffectRecord(
            tool_call_id=f"t{number}", tool_name="send", run_id="r1", status="started", started_at=NOW
        )
        await steps.record_tool_effect(record)
    await steps.record_tool_effect(replace(record, status="completed"))
    assert [one.tool_call_id for one in await steps.list_unresolved_tool_effects(run_id="r1")] == ["t0", "t1"]


async def test_large_files_go_to_a_media_store(
    sql: SqlStore, again: Callable[..., ContextStepStore], tmp_path: Any
) -> None:
    steps = again(media_store=DiskMediaStore(tmp_path), media_threshold_bytes=100)
    picture = ModelRequest(parts=[UserPromptPart([BinaryContent(b"\xff" * 200, media_type="application/pdf")])])
    await steps.save_snapshot(snapshot([picture]))
    (update,) = (await sql.load(steps.key("r1"), types=("message",))).history
    assert len(str(update.data)) < 1_000
    found = await steps.latest_snapshot(run_id="r1")
    assert found is not None
    assert found.messages == [picture]


def test_a_number_of_snapshots_below_one_is_refused(again: Callable[..., ContextStepStore]) -> None:
    for wrong in (0, -1, 1.5):
        with pytest.raises(InvalidArgumentError, match="max_snapshots_per_run"):
            again(max_snapshots_per_run=wrong)


async def test_an_agents_run_is_recorded_and_goes_on(sql: SqlStore, steps: ContextStepStore) -> None:
    agent = Agent(TestModel(), name="helper", capabilities=[StepPersistence(store=steps, run_id="r1")])

    @agent.tool_plain
    def double(x: int) -> int:
        return 2 * x

    result = await agent.run("hello", conversation_id="c1")
    key = steps.key("r1")
    assert (await continue_run(steps, run_id="r1")) == result.all_messages()
    kinds = [one.kind for one in await steps.list_events(run_id="r1")]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_completed"
    assert await sql.open_calls(key) == []
    (run,) = await sql.reports.context_runs(key)
    assert run.outcome == "completed"
    (summary,) = await sql.contexts(key.user_id, labels={"framework": "pydantic_ai", "conversation": "c1"})
    assert summary.chat_id == key.chat_id


async def test_a_call_that_a_crash_left_open_is_listed(sql: SqlStore, steps: ContextStepStore) -> None:
    call = ModelResponse(parts=[ToolCallPart("send", {}, "t1")], timestamp=NOW)
    await steps.append_event(event("tool_call_started", tool_call_id="t1", tool_name="send"))
    await steps.save_snapshot(snapshot([asked("a"), call], state="interrupted"))
    assert [(one.call_id, one.name) for one in await sql.open_calls(steps.key("r1"))] == [("t1", "send")]


async def test_a_run_that_failed_says_why(sql: SqlStore, steps: ContextStepStore) -> None:
    await steps.append_event(event("run_failed", error="ValueError: no"))
    (run,) = await sql.reports.context_runs(steps.key("r1"))
    assert (run.outcome, run.error) == ("failed", "ValueError: no")
