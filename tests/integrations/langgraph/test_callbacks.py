"""The callback handler: what is recorded of models, tools and invocations."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from taskctx_sql import ContextKey, SqlStore, Store, open_store
from taskctx_sql.errors import StoreClosedError
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.langgraph import ContextCallbackHandler, ContextSaver
from taskctx_sql.sql.schema import tables
from tests.integrations.langgraph.graphs import agent, call_of_add


@pytest.fixture
async def handler(store: Store, user: str) -> ContextCallbackHandler:
    return ContextCallbackHandler(store, user_id=user)


def config(handler: ContextCallbackHandler, thread: str = "t1") -> Any:
    return {"configurable": {"thread_id": thread}, "callbacks": [handler]}


def key(user: str, thread: str = "t1") -> ContextKey:
    return identity.key("langgraph", user, thread)


QUESTION: Any = {"messages": [HumanMessage("What is 1 + 2?")]}


async def test_messages_tools_and_models_are_recorded(
    store: SqlStore, handler: ContextCallbackHandler, user: str
) -> None:
    await agent([call_of_add(), AIMessage("three")]).compile().ainvoke(QUESTION, config(handler))
    loaded = await store.load(key(user))
    assert [(update.update_type, update.metadata.get("role")) for update in loaded.history] == [
        ("message", "user"),
        ("message", "assistant"),
        ("tool_call", None),
        ("tool_result", None),
        ("message", "assistant"),
    ]
    call, result = loaded.history[2:4]
    assert call.metadata == {"framework": "langgraph", "group": "call-1", "name": "add"}
    assert call.data == {"name": "add", "arguments": {"a": 1, "b": 2}}
    assert result.metadata == {"framework": "langgraph", "group": "call-1"}
    assert result.data["data"]["content"] == "3"
    (_, first), (_, second) = loaded.models
    assert {name: first[name] for name in first if name not in ("timestamp", "duration", "cost", "price_list")} == {
        "model_id": "gpt-4o-mini",
        "provider_id": "openai",
        "mode": "model",
        "input_tokens": 100,
        "output_tokens": 20,
        "cached_read_tokens": 60,
        "cached_write_tokens": 10,
        "reasoning_tokens": 8,
        "audio_tokens": 5,
    }
    assert 0 <= first["duration"] < 60
    assert "input_tokens" not in second
    assert await store.open_calls(key(user)) == []


async def runs(store: SqlStore, user: str) -> list[tuple[Any, Any]]:
    of_user = sa.select(tables.runs.c.outcome, tables.runs.c.error).join(
        tables.contexts, tables.contexts.c.context_id == tables.runs.c.context_id
    )
    statement = of_user.where(tables.contexts.c.user_id == user).order_by(tables.runs.c.started_at)
    return [tuple(row) for row in await store.query(statement)]


async def test_an_invocation_is_one_run_with_what_the_saver_writes(
    store: SqlStore, handler: ContextCallbackHandler, user: str
) -> None:
    saver = ContextSaver(store, user_id=user)
    for turn in range(2):
        graph = agent([call_of_add(f"call-{turn}"), AIMessage("three")]).compile(checkpointer=saver)
        await graph.ainvoke(QUESTION, config(handler))
    assert await runs(store, user) == [("completed", None), ("completed", None)]
    kinds = [update.update_type for update in (await store.load(key(user))).history]
    assert kinds.count("checkpoint") == 10
    assert kinds.count("message") == 6


async def test_a_failed_invocation_says_why(store: SqlStore, handler: ContextCallbackHandler, user: str) -> None:
    graph = agent([]).compile()
    with pytest.raises(RuntimeError):
        await graph.ainvoke(QUESTION, config(handler))
    loaded = await store.load(key(user))
    assert [update.update_type for update in loaded.history] == ["message", "error"]
    ((outcome, error),) = await runs(store, user)
    assert outcome == "failed"
    assert error.startswith("RuntimeError: ")
    assert loaded.history[1].data["error"].startswith("StopIteration: ")


async def test_a_tool_that_fails_has_a_result_that_says_so(
    store: SqlStore, handler: ContextCallbackHandler, user: str
) -> None:
    @tool
    def add(a: int, b: int) -> int:
        """Fail."""
        raise ZeroDivisionError("no numbers")

    with pytest.raises(ZeroDivisionError):
        await agent([call_of_add()], [add]).compile().ainvoke(QUESTION, config(handler))
    result = (await store.load(key(user))).history[-1]
    assert result.update_type == "tool_result"
    assert result.metadata["error"] == "ZeroDivisionError: no numbers"
    assert await store.open_calls(key(user)) == []


async def test_a_call_that_waits_for_a_person_is_open_until_the_graph_goes_on(
    store: SqlStore, handler: ContextCallbackHandler, user: str
) -> None:
    @tool
    def add(a: int, b: int) -> int:
        """Ask a person."""
        return int(interrupt("What is it?"))

    graph = agent([call_of_add(), AIMessage("three")], [add]).compile(checkpointer=ContextSaver(store, user_id=user))
    await graph.ainvoke(QUESTION, config(handler))
    (call,) = await store.open_calls(key(user))
    assert (call.call_id, call.name) == ("call-1", "add")
    other = ContextCallbackHandler(store, user_id=user)
    await graph.ainvoke(Command(resume=3), config(other))
    assert await store.open_calls(key(user)) == []
    kinds = [update.update_type for update in (await store.load(key(user))).history]
    assert (kinds.count("tool_call"), kinds.count("tool_result")) == (1, 1)
    assert [outcome for outcome, _ in await runs(store, user)] == ["completed", "completed"]


async def test_the_user_may_be_in_the_metadata_and_the_context_named(store: SqlStore, user: str) -> None:
    graph = agent([AIMessage("one"), AIMessage("two")]).compile()
    handler = ContextCallbackHandler(store)
    with_user: Any = {**config(handler), "metadata": {"user_id": user}}
    await graph.ainvoke(QUESTION, with_user)
    assert (await store.load(key(user))).history
    named = ContextKey(user, "a chat of ours")
    await graph.ainvoke(QUESTION, config(ContextCallbackHandler(store, key=named)))
    assert len((await store.load(named)).history) == 2


def test_sync_graphs_are_recorded_too(database_url: str, user: str) -> None:
    with open_store(database_url) as store:
        handler = ContextCallbackHandler(store, user_id=user)
        agent([call_of_add(), AIMessage("three")]).compile().invoke(QUESTION, config(handler))
    with open_store(database_url) as store:
        from taskctx_sql import blocking

        assert len(blocking(store.load(key(user))).history) == 5


async def test_a_model_by_itself_is_a_run_too(store: SqlStore, handler: ContextCallbackHandler, user: str) -> None:
    from tests.integrations.langgraph.graphs import Model

    model = Model(messages=iter([AIMessage("hello")]))
    await model.ainvoke("hi", {"callbacks": [handler], "metadata": {"thread_id": "t1"}})
    assert [update.update_type for update in (await store.load(key(user))).history] == ["message"]
    assert await runs(store, user) == [("completed", None)]


async def test_what_cannot_be_recorded_fails_the_invocation_unless_that_is_switched_off(
    database_url: str, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(database_url) as store:
        handler = ContextCallbackHandler(store, user_id=user)
        lenient = ContextCallbackHandler(store, user_id=user, raise_error=False)
    graph = StateGraph(MessagesState)
    graph.add_node("node", lambda state: {"messages": [AIMessage("hello")]})
    graph.add_edge(START, "node")
    with pytest.raises(StoreClosedError):
        await graph.compile().ainvoke(QUESTION, config(handler))
    result = await graph.compile().ainvoke(QUESTION, config(lenient))
    assert result["messages"][-1].content == "hello"
    assert "StoreClosedError" in caplog.text
