"""The checkpoint saver: what it keeps, how much of it, and for whom."""

from __future__ import annotations

import asyncio
import json
import operator
import os
from functools import reduce
from itertools import pairwise
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import START, StateGraph

from taskctx_sql import Store, open_store
from taskctx_sql.errors import InvalidArgumentError, StoreClosedError
from taskctx_sql.integrations.langgraph import ContextSaver
from tests.integrations.langgraph.checkpoints import key, put, thread, values_of
from tests.integrations.langgraph.graphs import agent, call_of_add

Config = dict[str, Any]


async def bytes_of(store: Store, user: str, prefix: str = "") -> int:
    return sum(len(json.dumps(entry.value)) for entry in await store.state(key(user), prefix=prefix))


def test_a_graph_goes_on_where_another_process_left_it(database_url: str, user: str) -> None:
    for turn in ("one", "two"):
        with ContextSaver.from_conn_string(database_url, user_id=user) as saver:
            graph = agent([call_of_add(f"call-{turn}"), AIMessage("three")]).compile(checkpointer=saver)
            result = graph.invoke({"messages": [HumanMessage(turn)]}, thread())
    assert [message.content for message in result["messages"]] == ["one", "", "3", "three", "two", "", "3", "three"]
    assert [message.type for message in result["messages"]][:4] == ["human", "ai", "tool", "ai"]


async def test_the_history_of_a_thread_has_an_update_for_each_checkpoint(
    store: Store, saver: ContextSaver, user: str
) -> None:
    graph = agent([AIMessage("hello")]).compile(checkpointer=saver)
    await graph.ainvoke({"messages": [HumanMessage("hi")]}, thread())
    steps = [checkpoint async for checkpoint in saver.alist(thread())]
    updates = (await store.load(key(user))).history
    assert [update.update_type for update in updates] == ["checkpoint"] * 3
    assert [update.data["checkpoint_id"] for update in updates] == [step.checkpoint["id"] for step in reversed(steps)]
    assert [(update.data["source"], update.data["step"]) for update in updates] == [
        ("input", -1),
        ("loop", 0),
        ("loop", 1),
    ]
    (summary,) = await store.contexts(user, labels={"framework": "langgraph", "thread": "t1"})
    assert summary.chat_id == "langgraph/t1"


async def test_a_list_that_grows_is_stored_once(store: Store, saver: ContextSaver, user: str) -> None:
    config, messages, sizes = thread(), list[AnyMessage](), []
    for step in range(30):
        messages = [*messages, HumanMessage(f"message {step:03} " + "x" * 500, id=str(step))]
        config = await put(saver, config, step, messages=messages)
        sizes.append(await bytes_of(store, user))
    added = [after - before for before, after in pairwise(sizes)]
    assert max(added) < 1.2 * min(added)
    assert (await values_of(saver, thread()))["messages"] == messages
    # An earlier checkpoint has the list as it was, and so has another process.
    history = [found async for found in ContextSaver(store, user_id=user).alist(thread())]
    lengths = [len(found.checkpoint["channel_values"]["messages"]) for found in history]
    assert lengths == list(range(30, 0, -1))


async def test_another_process_adds_to_a_list_what_is_new(store: Store, saver: ContextSaver, user: str) -> None:
    messages = [HumanMessage("x" * 200, id=str(index)) for index in range(50)]
    config = await put(saver, thread(), 1, messages=messages)
    before = await bytes_of(store, user, "list/")
    other = ContextSaver(store, user_id=user)
    config = await put(other, config, 2, messages=[*messages, HumanMessage("new")])
    assert await bytes_of(store, user, "list/") - before < before / 10
    assert (await values_of(saver, config))["messages"][-1].content == "new"


async def test_a_message_changed_in_place_is_stored_as_it_is_now(saver: ContextSaver) -> None:
    messages = [HumanMessage(str(index), id=str(index)) for index in range(5)]
    first = await put(saver, thread(), 1, messages=messages)
    messages[3].content = "changed"
    messages[4].additional_kwargs["deep"] = ["changed"]
    second = await put(saver, first, 2, messages=[*messages, AIMessage("new")])
    found = (await values_of(saver, second))["messages"]
    assert [message.content for message in found] == ["0", "1", "2", "changed", "4", "new"]
    assert found[4].additional_kwargs == {"deep": ["changed"]}
    assert [message.content for message in (await values_of(saver, first))["messages"]] == ["0", "1", "2", "3", "4"]


async def test_an_element_replaced_by_one_that_is_equal_in_python_is_another_one(saver: ContextSaver) -> None:
    config = await put(saver, thread(), 1, values=["first", 1])
    for value in (True, 1.0, "1", {1}, [1], b"1", None, AIMessage("1"), HumanMessage("1"), 1):
        config = await put(saver, config, 2, values=["first", value])
        _, found = (await values_of(saver, config))["values"]
        assert (type(found), found) == (type(value), value)


async def test_a_list_shrinks_changes_at_its_end_and_is_emptied(store: Store, saver: ContextSaver, user: str) -> None:
    config, seen = thread(), []
    lists = [["a", "b", "c"], ["a", "b"], ["a", "b", "d"], ["a"], ["a", "e", "f"], [], ["g"], ["h", "g"]]
    for step, value in enumerate([*lists, *([f"last {number}"] * 3 for number in range(20))]):
        config = await put(saver, config, step, values=value)
        seen.append((config, value))
    for saver_of_one in (saver, ContextSaver(store, user_id=user)):
        for config, value in seen:
            assert (await values_of(saver_of_one, config))["values"] == value


async def test_a_list_whose_last_element_always_changes_is_written_anew_now_and_then(
    store: Store, saver: ContextSaver, user: str
) -> None:
    config, beginning = thread(), [f"element {number}" for number in range(20)]
    for step in range(60):
        config = await put(saver, config, step, values=[*beginning, f"step {step}"])
    growths = {entry.name.split("/")[3] for entry in await store.state(key(user), prefix="list/")}
    # So that reading the list reads a bounded part of what is not in it any more.
    assert 2 <= len(growths) <= 4


async def test_forks_go_on_from_one_list_and_stay_apart(saver: ContextSaver) -> None:
    trunk = await put(saver, thread(), 1, values=["a", "b"])
    one = await put(saver, trunk, 2, values=["a", "b", "one"])
    two = await put(saver, trunk, 2, values=["a", "b", "two"])
    one = await put(saver, one, 3, values=["a", "b", "one", "more"])
    assert (await values_of(saver, one))["values"] == ["a", "b", "one", "more"]
    assert (await values_of(saver, two))["values"] == ["a", "b", "two"]
    assert (await values_of(saver, trunk))["values"] == ["a", "b"]


async def test_a_large_value_that_does_not_change_is_stored_once(store: Store, saver: ContextSaver, user: str) -> None:
    document = "x" * 10_000
    config = await put(saver, thread(), 1, document=document, number=1)
    for step in range(2, 20):
        config = await put(saver, config, step, number=step)
    assert await bytes_of(store, user) < 30_000
    assert await values_of(saver, config) == {"document": document, "number": 19}


class Cipher:
    """One that never gives the same bytes twice, as those that are used."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        nonce = os.urandom(1)
        return "xor", nonce + bytes(byte ^ nonce[0] ^ 0x55 for byte in plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        return bytes(byte ^ ciphertext[0] ^ 0x55 for byte in ciphertext[1:])


async def test_what_is_encrypted_is_not_readable_and_lists_still_grow(store: Store, user: str) -> None:
    saver = ContextSaver(store, user_id=user, serde=EncryptedSerializer(Cipher()))
    config, values = thread(), list[str]()
    for step in range(20):
        values = [*values, f"secret {step}"]
        config = await put(saver, config, step, values=values, word="secret word")
    stored = await store.state(key(user))
    assert "secret" not in json.dumps([entry.value for entry in stored])
    assert sum(len(entry.value["elements"]) for entry in stored if entry.name.startswith("list/")) == 20
    assert await values_of(saver, config) == {"values": values, "word": "secret word"}


async def test_of_a_task_the_first_write_at_a_place_counts_but_for_special_channels(store: Store, user: str) -> None:
    for saver in (ContextSaver(store, user_id=user), ContextSaver(store, user_id=user)):
        config = await put(saver, thread(), 1, value=1) if await saver.aget_tuple(thread()) is None else thread()
        latest = await saver.aget_tuple(thread())
        assert latest is not None
        config = latest.config
        await saver.aput_writes(config, [("a", 1)], "task")
        await saver.aput_writes(config, [("a", 2), ("b", [3])], "task", "path")
        await saver.aput_writes(config, [("__interrupt__", "first")], "task")
        await saver.aput_writes(config, [("__interrupt__", "second")], "task")
        found = await saver.aget_tuple(config)
        assert found is not None
        assert found.pending_writes == [
            ("task", "__interrupt__", "second"),
            ("task", "a", 1),
            ("task", "b", [3]),
        ]


async def test_a_saver_of_no_user_takes_the_user_from_the_configuration(store: Store, user: str) -> None:
    saver, name = ContextSaver(store), f"t-{user}"
    config = await put(saver, thread(name, user_id=user), 1, value=1)
    assert config["configurable"]["user_id"] == user
    assert await values_of(ContextSaver(store, user_id=user), thread(name)) == {"value": 1}
    await put(saver, config, 2, value=2)
    (latest, first) = [found async for found in saver.alist(thread(name, user_id=user))]
    assert latest.parent_config == first.config == config
    await saver.acopy_thread(name, f"{name}-copy")
    assert await values_of(saver, thread(f"{name}-copy", user_id=user)) == {"value": 2}
    await saver.adelete_thread(name)
    assert await saver.aget_tuple(thread(name, user_id=user)) is None


async def test_reading_takes_few_calls_of_the_store(
    store: Store, saver: ContextSaver, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, document = thread(), "x" * 1_000
    for step in range(30):
        config = await put(
            saver, config, step, v=4, values=[f"{number}" for number in range(step + 1)], document=document
        )
        await saver.aput_writes(config, [("values", ["new"])], "task")
    calls: list[Any] = []
    state = type(store).state

    def counted(*given: Any, **options: Any) -> Any:
        calls.append(given)
        return state(*given, **options)

    monkeypatch.setattr(type(store), "state", counted)
    found = await saver.aget_tuple(thread())
    assert found is not None
    assert found.checkpoint["channel_values"] == {"values": [f"{number}" for number in range(30)], "document": document}
    assert found.pending_writes == [("task", "values", ["new"])]
    assert len(calls) == 1
    # What another program has written is not known yet.
    again = ContextSaver(store, user_id=user)
    calls.clear()
    assert await again.aget_tuple(thread()) == found
    assert len(calls) == 3
    calls.clear()
    assert len([found async for found in again.alist(thread(), limit=20)]) == 20
    assert len(calls) <= 2


async def test_ids_of_checkpoints_may_be_any_texts(saver: ContextSaver, store: Store, user: str) -> None:
    ids = ["a", "a b", "a!", "a!b", "a-b", "a/b", "a0"]
    for checkpoint_id in ids:
        checkpoint: Any = empty_checkpoint() | {"id": checkpoint_id}
        config = await saver.aput(thread(), checkpoint, {"source": "loop", "step": 1}, {})
        await saver.aput_writes(config, [("values", checkpoint_id)], "task!/1")
    for reader in (saver, ContextSaver(store, user_id=user)):
        found = {one.checkpoint["id"]: one.pending_writes async for one in reader.alist(thread())}
        assert found == {one: [("task!/1", "values", one)] for one in ids}
        for checkpoint_id in ids:
            one = await reader.aget_tuple(thread(checkpoint_id=checkpoint_id))
            assert one is not None
            assert one.pending_writes == [("task!/1", "values", checkpoint_id)]


class Deltas(TypedDict):
    values: Annotated[
        list[str], DeltaChannel(lambda value, writes: reduce(operator.add, writes, value), snapshot_frequency=4)
    ]


def delta_graph(saver: ContextSaver) -> Any:
    graph = StateGraph(Deltas)
    graph.add_node("node", lambda state: {"values": [f"{len(state['values'])}"]})
    graph.add_edge(START, "node")
    return graph.compile(checkpointer=saver)


async def test_delta_channels_are_put_together_and_survive_pruning(store: Store, saver: ContextSaver) -> None:
    graph = delta_graph(saver)
    for turn in range(7):
        result = await graph.ainvoke({"values": [f"turn {turn}"]}, thread())
    before = [found.checkpoint["id"] async for found in saver.alist(thread())]
    await saver.aprune(["t1"])
    after = [found.checkpoint["id"] async for found in saver.alist(thread())]
    assert after[0] == before[0]
    assert 1 <= len(after) < len(before)
    assert (await graph.aget_state(thread())).values == result
    assert len(result["values"]) == 14


async def test_pruning_removes_what_only_removed_checkpoints_have(store: Store, saver: ContextSaver, user: str) -> None:
    config, document = thread(), "x" * 1_000
    for step in range(10):
        config = await put(saver, config, step, values=[f"{step}"] * 3, document=f"{document}{step}")
        await saver.aput_writes(config, [("values", ["new"])], "task")
    await saver.aprune(["t1"])
    kinds = [entry.name.partition("/")[0] for entry in await store.state(key(user))]
    # The second one of the checkpoint is that of the writes.
    assert sorted(kinds) == ["channel", "checkpoint", "checkpoint", "list"]
    (left,) = [found async for found in saver.alist(thread())]
    assert left.parent_config is None
    assert left.checkpoint["channel_values"] == {"values": ["9"] * 3, "document": f"{document}9"}
    config = await put(saver, left.config, 11, values=["9", "9", "9", "10"])
    assert (await values_of(saver, config))["values"] == ["9", "9", "9", "10"]
    with pytest.raises(InvalidArgumentError, match="'keep_latest' or 'delete'"):
        await saver.aprune(["t1"], strategy="oldest")


async def test_a_checkpoint_of_an_old_version_gets_what_the_one_before_sent(saver: ContextSaver) -> None:
    first = await put(saver, thread(), 1, value=1)
    await saver.aput_writes(first, [("__pregel_tasks", "sent")], "task")
    second = await put(saver, first, 2, value=2)
    assert (await values_of(saver, second)).get("__pregel_tasks") == ["sent"]
    await saver.aprune(["t1"])
    assert (await values_of(saver, second)).get("__pregel_tasks") == ["sent"]


async def test_sync_code_calls_the_saver_in_threads_and_not_in_the_stores_loop(saver: ContextSaver) -> None:
    graph = agent([AIMessage("hello")]).compile(checkpointer=saver)
    result = await asyncio.to_thread(graph.invoke, {"messages": [HumanMessage("hi")]}, thread())
    assert result["messages"][-1].content == "hello"
    assert len(await asyncio.to_thread(lambda: list(saver.list(thread())))) == 3
    with pytest.raises(asyncio.InvalidStateError, match="await the method whose name begins with `a`"):
        saver.get_tuple(thread())


def test_a_saver_of_sync_code_serves_any_event_loop(database_url: str, user: str) -> None:
    with ContextSaver.from_conn_string(database_url, user_id=user) as saver:
        graph = agent([AIMessage("hello")]).compile(checkpointer=saver)
        asyncio.run(graph.ainvoke({"messages": [HumanMessage("hi")]}, thread()))

        async def steps() -> int:
            return len([found async for found in saver.alist(thread(), limit=2)])

        assert asyncio.run(steps()) == 2


async def test_a_failure_of_the_store_reaches_the_graphs_caller(database_url: str, user: str) -> None:
    async with open_store(database_url) as store:
        saver = ContextSaver(store, user_id=user)
    graph = agent([AIMessage("hello")]).compile(checkpointer=saver)
    with pytest.raises(StoreClosedError):
        await graph.ainvoke({"messages": [HumanMessage("hi")]}, thread())


async def test_filters_look_into_metadata(saver: ContextSaver) -> None:
    config = thread()
    for step in range(4):
        checkpoint = empty_checkpoint()
        metadata: Any = {"source": "loop", "step": step, "parents": {"": f"{step}"}, "tags": ["a", f"{step}"]}
        metadata["deep"] = {"number": step}
        config = await saver.aput(config, checkpoint, metadata, {})

    async def steps(**wanted: Any) -> list[int]:
        return [found.metadata["step"] async for found in saver.alist(thread(), filter=wanted)]

    assert await steps(source="loop") == [3, 2, 1, 0]
    assert await steps(parents={"": "2"}) == [2]
    assert await steps(tags=["1"]) == [1]
    assert await steps(step="1") == []
    assert await steps(**{"deep.number": 2}) == [2]
    assert await steps(nothing=None) == []
