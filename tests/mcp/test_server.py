"""The server for agents, asked by the official client."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from taskctx_sql import ContextKey, open_store
from taskctx_sql.mcp import record_server
from taskctx_sql.mcp.answers import MAX_VALUE
from taskctx_sql.stores import Store

TOOLS = {"search", "list", "show", "cost", "diff"}


async def fill(store: Store, user: str) -> None:
    """Write a task in three revisions, and one of somebody else."""
    key = ContextKey(user, "c1")
    use = {"model_id": "m1", "provider_id": "p", "mode": "x", "input_tokens": 10, "output_tokens": 2, "cost": 0.5}
    labels = {"team": "a"}
    await store.write(key, updates=[("message", f"the customs form of {user}")], title="Customs", labels=labels)
    await store.write(key, updates=[("message", "x" * 10_000)], models=[use], state={"step": 1})
    await store.write(key, updates=[("error", {"why": "refused"})], remove_updates=[1], state={"step": 2})
    await store.write(ContextKey(f"{user} other", "c1"), updates=[("message", f"the customs form of {user}")])


async def answer(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return " ".join(getattr(part, "text", "") for part in result.content)


async def test_an_agent_finds_and_reads_its_record(database_url: str, user: str) -> None:
    async with open_store(database_url) as store, Client(record_server(store)) as client:
        await fill(store, user)
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == TOOLS
        assert all(tool.annotations and tool.annotations.read_only_hint and tool.description for tool in tools)

        found = await answer(client, "search", text=f'customs "form of {user}"')
        assert {hit["user"] for hit in found["hits"]} == {user, f"{user} other"}
        assert found["hits"][0]["snippet"]
        assert not found["more"]
        (hit,) = (await answer(client, "search", text="customs", user=user, since="1d"))["hits"]
        assert (hit["seq"], hit["removed"], hit["title"]) == (1, True, "Customs")

        listed = await answer(client, "list", user=user, labels={"team": "a"}, title="cust")
        assert (listed["of"], listed["tasks"][0]["labels"]["title"]) == (1, "Customs")

        for other in ({"labels": {"team": "b"}}, {"title": "form"}, {"until": "1d"}):
            assert await answer(client, "list", user=user, **other) == {"tasks": [], "of": 0}

        newest = (await answer(client, "show", user=user, chat="c1", limit=2))["updates"]
        assert [update["seq"] for update in newest] == [2, 3]
        shown = await answer(client, "show", user=user, chat="c1", limit=1)
        assert (shown["task"]["cost"], shown["updates"][0]["data"], shown["earlier"]) == (0.5, {"why": "refused"}, 3)
        (before,) = (await answer(client, "show", user=user, chat="c1", limit=1, before=3))["updates"]
        assert (len(before["data"]["beginning"]), before["data"]["characters"]) == (MAX_VALUE, 10_002)

        cost = await answer(client, "cost", by="model", user=user)
        assert [(row["name"], row["cost"]) for row in cost["rows"]] == [("m1", 0.5)]
        assert cost["totals"]["cost"] == 0.5
        for other in ({"chat": "c2"}, {"until": "1d"}):
            assert (await answer(client, "cost", by="model", user=user, **other))["rows"] == []

        changed = await answer(client, "diff", user=user, chat="c1", old=2, new=3)
        assert [update["seq"] for update in changed["removed"]["shown"]] == [1]
        assert changed["state"] == {"shown": {"step": {"old": 1, "new": 2}}, "of": 1}


async def test_what_goes_wrong_is_told_with_its_remedy(database_url: str, user: str) -> None:
    async with open_store(database_url) as store, Client(record_server(store, user_id=user)) as client:
        await fill(store, user)
        # Of this user only, whoever is asked for.
        assert [hit["user"] for hit in (await answer(client, "search", text="customs"))["hits"]] == [user]
        assert f"{user} other" in await refusal(client, "show", user=f"{user} other", chat="c1")
        assert "check the user and the chat" in await refusal(client, "show", user=user, chat="none")
        assert "9 " in await refusal(client, "diff", user=user, chat="c1", old=1, new=9)
        assert "time span ago" in await refusal(client, "list", since="yesterday")
        assert "limit" in await refusal(client, "list", limit=1_000)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_command_serves_over_its_input_and_output(database_url: str, user: str) -> None:
    async with open_store(database_url) as store:
        await fill(store, user)
    command = ["-W", "error", "-m", "taskctx_sql", "mcp", "-d", database_url, "--user", user]
    async with Client(StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))) as client:
        assert (await answer(client, "list"))["of"] == 1
