"""A conversation with an agent of Pydantic AI: its messages, as they are given to the agent and come from it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart
from pydantic_ai.run import AgentRunResult

from taskctx_sql import ContextKey, ContextWriter, RunOutcome, Store
from taskctx_sql.integrations import identity, recording
from taskctx_sql.integrations.pydantic_ai.messages import (
    FRAMEWORK,
    data_of,
    messages_of,
    model_use_of,
    starts_with_user,
    updates_of,
)


@dataclass
class _Stored:
    """A stored message: its seq, how many updates it has, and itself as JSON and as it was given."""

    seq: int
    rows: int
    data: dict[str, Any]
    message: ModelMessage


class Conversation:
    """The messages of a conversation, which is a context.

        conversation = Conversation(store, "c1", user_id="u1")
        result = await agent.run("Hello", message_history=await conversation.messages())
        await conversation.save(result)

    One object is for one conversation and one task at a time; several may add to the same conversation.
    """

    def __init__(
        self,
        store: Store,
        conversation_id: str,
        *,
        user_id: str | None = None,
        key: ContextKey | None = None,
        mode: str = "chat",
    ) -> None:
        """Keep a conversation in a store.

        Args:
            store: An open store.
            conversation_id: The conversation.
            user_id: Whose it is.
            key: The context, instead of the one that the two ids make.
            mode: The purpose of the uses of models, such as the agent's name.
        """
        self.key: ContextKey = key or identity.key(FRAMEWORK, user_id, conversation_id)
        self.mode = mode
        self._store = store
        self._labels: Mapping[str, str] | None = identity.labels(FRAMEWORK, conversation=conversation_id)
        self._writer = ContextWriter(store, self.key)
        # What is known of the stored messages, the newest last, or None if they were not read yet.
        self._stored: list[_Stored] | None = None

    async def messages(self, *, limit: int | None = None) -> list[ModelMessage]:
        """Return the messages, for an agent's ``message_history``.

        Args:
            limit: Only the newest, this many at most, from a message of the user on.

        Raises:
            CorruptRecordError: A row cannot be read back.
            StoreError: The store failed.
        """
        # One more than wanted shows whether there are earlier ones.
        at_most = None if limit is None else limit + 1
        newest = self._store.updates(self.key, newest_first=True, types=(recording.MESSAGE,), limit=at_most)
        found = [stored async for stored in newest][::-1]
        messages = messages_of(stored.update for stored in found)
        if limit is not None and len(messages) > limit:
            messages = starts_with_user(messages[1:])
        self._stored = [
            _Stored(stored.seq, len(updates_of(message, {}, 0)), stored.update.data, message)
            for stored, message in zip(found[len(found) - len(messages) :], messages, strict=True)
        ]
        return messages

    async def add(self, messages: Sequence[ModelMessage], *, duration: float | None = None) -> None:
        """Append messages, and the uses of models that they report, in one transaction.

        Args:
            messages: New ones, such as ``result.new_messages()``.
            duration: How long the model took for the newest answer among them, in seconds.

        Raises:
            StoreError: The store failed; nothing was appended.
        """
        await self._replace((), list(messages), duration)

    async def save(
        self, result: AgentRunResult[Any] | Sequence[ModelMessage], *, duration: float | None = None
    ) -> None:
        """Make the stored messages those of a result, or these. Only what differs is written.

        A history that a processor shortened or rewrote is stored as it is now; what it replaced stays in the record.
        With a result, the run that was recorded since the first save has ended, as completed.

        Args:
            result: What ``agent.run`` returned, or all messages.
            duration: How long the model took for the newest answer among them, in seconds.

        Raises:
            StoreError: The store failed; nothing was written.
        """
        has_ended = isinstance(result, AgentRunResult)
        messages = list(result.all_messages() if isinstance(result, AgentRunResult) else result)
        if self._stored is None:
            await self.messages()
        stored = self._stored or []
        same = 0
        for known, message in zip(stored, messages, strict=False):
            # A message that is known is not looked at again, except the newest: a run completes it at its end.
            if not (known.message is message and same < len(messages) - 1) and known.data != data_of([message])[0]:
                break
            same += 1
        await self._replace(stored[same:], messages[same:], duration, "completed" if has_ended else None)

    async def close_calls(self, error: str = "interrupted") -> list[ModelMessage]:
        """Answer each tool call that has no result, as after a crash, and return the messages to go on with.

        The run that ends with these answers is recorded as cancelled.

        Args:
            error: What the model is told.

        Raises:
            StoreError: The store failed.
        """
        answers = [
            ToolReturnPart(tool_name=call.name, content=error, tool_call_id=call.call_id, outcome="interrupted")
            for call in await self._store.open_calls(self.key)
        ]
        if answers:
            await self._replace((), [ModelRequest(parts=answers)], None, "cancelled", error)
        return await self.messages()

    async def end(self, outcome: RunOutcome, error: str | None = None) -> None:
        """End the run that was recorded since the first save; `save` has done it if it was given a result."""
        await self._writer.end(outcome, error)

    async def _replace(
        self,
        removed: Sequence[_Stored],
        messages: list[ModelMessage],
        duration: float | None,
        outcome: RunOutcome | None = None,
        error: str | None = None,
    ) -> None:
        if not removed and not messages:
            if outcome is not None:
                await self._writer.end(outcome, error)
            return
        data, at = data_of(messages), time.time()
        groups = [updates_of(message, item, at) for message, item in zip(messages, data, strict=True)]
        # A message that is rewritten was counted when it was new.
        counted = {stored.data["timestamp"] for stored in removed}
        new = [message for message, item in zip(messages, data, strict=True) if item["timestamp"] not in counted]
        uses = [use for message in new if (use := model_use_of(message, self.mode)) is not None]
        if uses and duration is not None:
            uses[-1]["duration"] = duration
        seqs = [seq for stored in removed for seq in range(stored.seq, stored.seq + stored.rows)]
        saved = await self._writer.write(
            updates=[update for group in groups for update in group],
            models=uses,
            remove_updates=seqs,
            labels=self._labels,
            outcome=outcome,
            error=error,
        )
        self._labels = None
        if self._stored is None:
            return
        del self._stored[len(self._stored) - len(removed) :]
        seq = saved.first_seq
        for message, item, group in zip(messages, data, groups, strict=True):
            self._stored.append(_Stored(seq, len(group), item, message))
            seq += len(group)
