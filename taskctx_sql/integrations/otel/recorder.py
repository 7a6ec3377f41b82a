"""Spans become contexts: updates, model uses and runs."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from taskctx_sql import ContextKey, ContextUpdate, Run, Store
from taskctx_sql.integrations import identity, recording
from taskctx_sql.integrations.otel.conventions import (
    AUDIO,
    CONVERSATIONS,
    COST,
    DETAILS,
    MODELS,
    PROVIDERS,
    TOKENS,
    USERS,
    Operation,
    plain,
    span_id,
    trace_id,
)
from taskctx_sql.integrations.otel.messages import Message, occurrences, tool_calls, tool_responses

FRAMEWORK: Final = "otel"

# How many contexts and runs are remembered.
_REMEMBERED: Final = 1000
_ROLES: Final[dict[str, recording.Role]] = {
    **{"user": "user", "assistant": "assistant", "model": "assistant", "system": "system", "developer": "system"},
    **{"tool": "tool", "function": "tool"},
}


@dataclass
class _Conversation:
    """What a context has already, so that messages which are sent to the model again are not recorded again.

    Attributes:
        numbers: The number of each message, by its digest and how many equal ones there are before it.
        counts: How many messages there are of each digest.
        calls: The ids of the tool calls.
        results: The ids of those that have a result.
        runs: The run of each trace.
    """

    numbers: dict[tuple[str, int], int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    calls: set[str] = field(default_factory=set)
    results: set[str] = field(default_factory=set)
    runs: dict[str, Run] = field(default_factory=dict)

    def add(self, digest: str) -> int:
        """Note one more message, and return its number, from 0."""
        count = self.counts.get(digest, 0)
        self.counts[digest] = count + 1
        return self.numbers.setdefault((digest, count), len(self.numbers))


class Recorder:
    """Writes spans to a store. The caller makes one call at a time."""

    def __init__(self, store: Store, user_id: str | None) -> None:
        """Write to a store.

        Args:
            store: An open store.
            user_id: Whose contexts they are, where a span names no user.
        """
        self._store, self._user_id = store, user_id
        self._conversations: OrderedDict[ContextKey, _Conversation] = OrderedDict()
        # Parts of one trace may be written by several processes, each with runs of its own.
        self._process = uuid.uuid4().hex[:8]

    async def record(self, operations: Sequence[Operation]) -> None:
        """Write spans that have ended, in the order of their ends: one transaction for each trace.

        Raises:
            StoreError: The store failed. What was written before stays.
        """
        traces: dict[tuple[ContextKey, str], list[Operation]] = {}
        for operation in operations:
            traces.setdefault((self._key(operation), trace_id(operation.span)), []).append(operation)
        for (key, trace), spans in traces.items():
            conversation = await self._conversation(key)
            try:
                await self._write(key, trace, spans, conversation)
            except BaseException:
                # What is remembered has more than what was written.
                self._conversations.pop(key, None)
                raise

    def _key(self, operation: Operation) -> ContextKey:
        user = operation.first(USERS) or self._user_id
        conversation = operation.first(CONVERSATIONS) or trace_id(operation.span)
        return identity.key(FRAMEWORK, None if user is None else str(user), str(conversation))

    async def _conversation(self, key: ContextKey) -> _Conversation:
        if key in self._conversations:
            self._conversations.move_to_end(key)
            return self._conversations[key]
        conversation = self._conversations[key] = _Conversation()
        types = (recording.MESSAGE, recording.TOOL_CALL, recording.TOOL_RESULT)
        for update in (await self._store.load(key, types=types)).history:
            group = str(update.metadata.get("group"))
            if update.update_type == recording.MESSAGE:
                conversation.add(update.metadata["digest"])
            elif update.update_type == recording.TOOL_CALL:
                conversation.calls.add(group)
            else:
                conversation.results.add(group)
        while len(self._conversations) > _REMEMBERED:
            self._conversations.popitem(last=False)
        return conversation

    async def _write(
        self, key: ContextKey, trace: str, operations: Sequence[Operation], conversation: _Conversation
    ) -> None:
        updates: list[ContextUpdate] = []
        for operation in operations:
            updates += _updates(operation, conversation)
        run = self._run(trace, operations, conversation.runs.get(trace))
        conversation_id = operations[0].first(CONVERSATIONS) or trace
        await self._store.write(
            key,
            updates=updates,
            models=[_model_use(operation) for operation in operations if operation.kind == "model"],
            labels=identity.labels(FRAMEWORK, conversation=str(conversation_id)),
            run=run,
        )
        conversation.runs[trace] = run

    def _run(self, trace: str, operations: Sequence[Operation], current: Run | None) -> Run:
        """Return the run that writes these spans of a trace; it ends with the outermost of them."""
        started = min(operation.started_at for operation in operations)
        run = Run(f"{trace}-{self._process}", 1, started) if current is None else current.next_save()
        root = next((operation for operation in operations if operation.span.parent is None), None)
        if root is not None:
            run.ended_at, run.error = root.ended_at, root.error
            run.outcome = "completed" if root.error is None else "failed"
        return run


def _updates(operation: Operation, conversation: _Conversation) -> list[ContextUpdate]:
    """Return what a span adds to a context: what the model was given, the span, and what came of it."""
    if operation.kind == "tool":
        before, after = _tool(operation, conversation)
        numbers = {}
    else:
        instructions, before = _messages(operation.instructions, conversation)
        inputs, more = _messages(operation.inputs, conversation)
        outputs, after = _messages(operation.outputs, conversation, are_new=True)
        before += more
        found = {"instructions": instructions, "inputs": inputs, "outputs": outputs}
        numbers = {name: ranges(some) for name, some in found.items() if some}
        if operation.error is not None:
            after.append(
                recording.update(FRAMEWORK, recording.ERROR, {"error": operation.error}, error=operation.error)
            )
    span = recording.update(FRAMEWORK, recording.EVENT, {"span": span_data(operation), **numbers}, name=operation.name)
    return [
        *(ContextUpdate(operation.started_at, *update) for update in before),
        *(ContextUpdate(operation.ended_at, *update) for update in (span, *after)),
    ]


def _messages(
    messages: Sequence[Message], conversation: _Conversation, *, are_new: bool = False
) -> tuple[list[int], list[recording.Update]]:
    """Return the numbers of messages in a context, and the updates for those that it does not have."""
    numbers, updates = [], []
    for message, (name, equal) in zip(messages, occurrences(messages), strict=True):
        number = None if are_new else conversation.numbers.get((name, equal))
        if number is None:
            number = conversation.add(name)
            role = _ROLES.get(str(message.get("role")))
            update_type, data, metadata = recording.update(FRAMEWORK, recording.MESSAGE, message, role=role)
            updates.append((update_type, data, metadata | {"digest": name}))
        numbers.append(number)
        for call, tool, arguments in tool_calls(message):
            updates += _call(conversation, call, tool, arguments)
        for call, response in tool_responses(message):
            updates += _result(conversation, call, response, None)
    return numbers, updates


def _tool(operation: Operation, conversation: _Conversation) -> tuple[list[recording.Update], list[recording.Update]]:
    call, name, arguments, result = operation.tool
    return _call(conversation, call, name, arguments), _result(conversation, call, result, operation.error)


def _call(conversation: _Conversation, call: str, name: str, arguments: Any) -> list[recording.Update]:
    if call in conversation.calls:
        return []
    conversation.calls.add(call)
    return [recording.tool_call(FRAMEWORK, call, name, arguments)]


def _result(conversation: _Conversation, call: str, result: Any, error: str | None) -> list[recording.Update]:
    if call in conversation.results:
        return []
    conversation.results.add(call)
    return [recording.update(FRAMEWORK, recording.TOOL_RESULT, {"result": result}, call_id=call, error=error)]


def _model_use(operation: Operation) -> dict[str, Any]:
    tokens = {kind: operation.first(names) for kind, names in TOKENS.items()}
    audio = [count for names in AUDIO if (count := operation.first(names)) is not None]
    return recording.model_use(
        str(operation.first(MODELS) or "unknown"),
        str(operation.first(PROVIDERS) or "unknown"),
        operation.name,
        timestamp=operation.started_at,
        cost=operation.first(COST),
        duration=operation.ended_at - operation.started_at,
        audio_tokens=sum(audio) if audio else None,
        **tokens,
    )


def span_data(operation: Operation) -> dict[str, Any]:
    """Return a span as it is kept, without what is in updates of its own; times are nanoseconds since the epoch."""
    span = operation.span
    scope = span.instrumentation_scope
    return {
        "name": span.name,
        "kind": span.kind.name,
        "trace_id": trace_id(span),
        "span_id": span_id(span),
        "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "start_time": span.start_time,
        "end_time": span.end_time,
        "status": span.status.status_code.name,
        "description": span.status.description,
        "attributes": operation.remaining,
        "events": [
            {"name": event.name, "timestamp": event.timestamp, "attributes": plain(event.attributes or {})}
            for event in span.events
            if event.name != DETAILS
        ],
        "scope": None if scope is None else [scope.name, scope.version],
    }


def ranges(numbers: Sequence[int]) -> list[list[int]]:
    """Return numbers as ranges, each with its first and last."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
