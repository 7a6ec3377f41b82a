"""A session of the SDK whose conversation can be branched, and read by its turns."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from agents import TResponseInputItem
from agents.result import RunResultBase

from taskctx_sql import ContextKey
from taskctx_sql.integrations import recording
from taskctx_sql.integrations.openai_agents.branches import Branches, utc
from taskctx_sql.integrations.openai_agents.history import USAGE, usage_name
from taskctx_sql.integrations.openai_agents.hooks import (
    RecordingAgentHooks,
    RecordingHooks,
    model_of,
    model_use,
    usage_of,
)
from taskctx_sql.integrations.openai_agents.items import (
    is_user_message,
    item_type,
    result_of,
    tool_name,
    tool_usage,
    turns,
    update_of,
)

# How much of a message get_conversation_turns shows.
_PREVIEW = 100


class ContextSession(Branches):
    """A conversation of the Agents SDK, kept as a context: the SDK's ``Session`` protocol, with branches and usage.

        session = ContextSession("conversation_123", "sqlite:///agents.db", user_id="ann")
        result = await Runner.run(agent, "Hello", session=session, hooks=session.hooks())

    Each item is an update, and comes back as it was. Each turn, from a message of the user to the next one, is a run.
    It ends when hooks see the end of the agent's run; without hooks, with a message of the assistant. Enter the session
    with ``async with``, or call `close`, so that a last turn without one ends, too; an error in the block is why it
    failed. Any number of sessions, also of several processes, may append to one conversation.
    """

    def hooks(self, *, model: str | None = None) -> RecordingHooks:
        """Return hooks for a run with this session, which record its use of models and when tools were called.

        Args:
            model: What the model is called in the record; by default as the agent calls it.
        """
        return RecordingHooks(self, model=model)

    def agent_hooks(self, *, model: str | None = None) -> RecordingAgentHooks:
        """Return the same as hooks of one agent."""
        return RecordingAgentHooks(self, model=model)

    async def get_conversation_turns(self, branch_id: str | None = None) -> list[dict[str, Any]]:
        """Return the turns of a branch, in order.

        Args:
            branch_id: The branch; the current one by default.

        Returns:
            For each its number as "turn", the beginning of the user's message as "content" and all of it as
            "full_content", its "timestamp" in UTC, and "can_branch".
        """
        found = []
        for turn, (_, at, item) in enumerate(await self._messages(branch_id), 1):
            content = item.get("content", "")
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            preview = text if len(text) <= _PREVIEW else f"{text[:_PREVIEW]}..."
            facts = {"turn": turn, "content": preview, "full_content": content}
            found.append({**facts, "timestamp": utc(at), "can_branch": True})
        return found

    async def find_turns_by_content(self, search_term: str, branch_id: str | None = None) -> list[dict[str, Any]]:
        """Return the turns whose message contains a text; the case of ASCII letters does not matter.

        Args:
            search_term: The text.
            branch_id: The branch; the current one by default.

        Returns:
            What `get_conversation_turns` returns; "content" is the whole message, as text.
        """
        pattern = re.compile(re.escape(search_term), re.IGNORECASE | re.ASCII)
        found = []
        for turn in await self.get_conversation_turns(branch_id):
            content = turn["full_content"]
            texts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
            if any(map(pattern.search, texts)):
                whole = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
                found.append({**turn, "content": whole})
        return found

    async def get_conversation_by_turns(self, branch_id: str | None = None) -> dict[int, list[dict[str, str | None]]]:
        """Return the "type" and "tool_name" of each item of a branch, by the number of its turn."""
        found: dict[int, list[dict[str, str | None]]] = {}
        items = [row.update.data for row in await self._rows(await self._branch_key(branch_id))]
        for item, turn in zip(items, turns(items), strict=True):
            found.setdefault(turn, []).append({"type": item_type(item), "tool_name": tool_name(item)})
        return found

    async def get_tool_usage(self, branch_id: str | None = None) -> list[tuple[str, int, int]]:
        """Return (the tool, how often it was called, the turn) for each tool and turn of a branch."""
        return tool_usage(row.update.data for row in await self._rows(await self._branch_key(branch_id)))

    async def store_run_usage(self, result: RunResultBase) -> None:
        """Record what a run used, as the usage of the newest turn. Runs with hooks of this session need no call.

        Args:
            result: What the run returned.

        Raises:
            StoreError: The store failed.
        """
        key, usage = await self._current_key(), result.context_wrapper.usage
        message = await self._newest_message(key)
        if message is not None:
            uses = [] if self._has_seen(usage) else _uses(result)
            state = {usage_name(message): usage_of(usage)}
            await self.record(models=uses, state=state, outcome="completed")

    async def get_session_usage(self, branch_id: str | None = None) -> dict[str, int] | None:
        """Return the sums of "requests", "input_tokens", "output_tokens", "total_tokens" and "total_turns".

        Args:
            branch_id: Of this branch; of all branches by default.

        Returns:
            The sums, or None if no usage is known.
        """
        branches = [branch_id] if branch_id is not None else [name for name, _ in await self._branches()]
        usages = [usage for name in branches for _, usage in await self._usages(name)]
        counts = ("requests", "input_tokens", "output_tokens", "total_tokens")
        sums = {name: sum(usage[name] for usage in usages) for name in counts}
        return {**sums, "total_turns": len(usages)} if usages else None

    async def get_turn_usage(
        self, user_turn_number: int | None = None, branch_id: str | None = None
    ) -> list[dict[str, Any]] | dict[str, Any]:
        """Return the usage of the turns of a branch, with the SDK's details.

        Args:
            user_turn_number: Only of this turn.
            branch_id: The branch; the current one by default.

        Returns:
            The usage of the turn, empty if it is not known; or of each turn, with its "user_turn_number".
        """
        usages = await self._usages(branch_id)
        if user_turn_number is not None:
            return next((usage for turn, usage in usages if turn == user_turn_number), {})
        return [{"user_turn_number": turn, **usage} for turn, usage in usages]

    async def close_open_calls(self, error: str = "interrupted") -> list[TResponseInputItem]:
        """Close the tool calls of the current branch that have no result, as a crash leaves them.

        A call gets a result that says so, in the SDK's format for its kind. The SDK leaves calls without a result out
        of what the model gets; closed ones are in it. Do not call it while a run may still answer them, such as one
        that waits for an approval.

        Args:
            error: What the results say.

        Returns:
            The results.

        Raises:
            StoreError: The store failed.
        """
        store, key = await self._store(), await self._current_key()
        results: list[Any] = []
        for call in await store.open_calls(key):
            async for row in store.updates(key, after=call.seq - 1, before=call.seq + 1):
                if (result := result_of(row.update.data, error)) is not None:
                    results.append(result)
        if results:
            await self.record(updates=[update_of(result, error) for result in results])
        return results

    async def _messages(self, branch_id: str | None) -> list[tuple[int, float, Any]]:
        """Return the seq, the time and the item of each message of the user: of each turn's beginning."""
        store, key = await self._store(), await self._branch_key(branch_id)
        rows = store.updates(key, types=[recording.MESSAGE])
        return [
            (row.seq, row.update.timestamp, row.update.data) async for row in rows if is_user_message(row.update.data)
        ]

    async def _newest_message(self, key: ContextKey) -> int | None:
        if self._turn.seq is not None:
            return self._turn.seq
        store = await self._store()
        async for row in store.updates(key, types=[recording.MESSAGE], newest_first=True):
            if is_user_message(row.update.data):
                return row.seq
        return None

    async def _usages(self, branch_id: str | None) -> list[tuple[int, dict[str, Any]]]:
        """Return the number and the usage of each turn whose usage is known."""
        store, key = await self._store(), await self._branch_key(branch_id)
        known = {entry.name: entry.value for entry in await store.state(key, prefix=USAGE)}
        names = [usage_name(seq) for seq, _, _ in await self._messages(branch_id)] if known else []
        return [(turn, known[name]) for turn, name in enumerate(names, 1) if name in known]


def _uses(result: RunResultBase) -> list[dict[str, Any]]:
    """Return a run's uses of models. The SDK does not say when they were, and by which agent."""
    agent, at = result.last_agent, time.time()
    return [model_use(model_of(agent), agent.name, response.usage, at, None) for response in result.raw_responses]
