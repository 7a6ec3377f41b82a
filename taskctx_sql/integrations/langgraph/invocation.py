"""One invocation of a graph, and what is written of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage, convert_to_messages, message_to_dict
from langchain_core.outputs import LLMResult
from langgraph.errors import GraphBubbleUp

from taskctx_sql import ContextKey, Store
from taskctx_sql.integrations import recording
from taskctx_sql.integrations.langgraph.row import FRAMEWORK
from taskctx_sql.integrations.langgraph.writers import writer_of

_ROLES: Final[Mapping[str, recording.Role]] = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


@dataclass(frozen=True, slots=True)
class Model:
    """A model that was called.

    Attributes:
        model_id: Its name, as far as it is known before it answers.
        provider_id: Its provider, or "unknown".
        mode: The node of the graph that called it.
        started_at: When, seconds since the epoch, UTC.
    """

    model_id: str
    provider_id: str
    mode: str
    started_at: float


class Invocation:
    """Writes what happens in an invocation of a graph, as one run of the context.

    Attributes:
        root: The id of the outermost run.
    """

    def __init__(self, store: Store, key: ContextKey, labels: Mapping[str, str], root: UUID) -> None:
        self.root = root
        self._store, self._key, self._labels = store, key, labels
        self._writer = writer_of(store, key)
        self._models: dict[UUID, Model] = {}
        # The ids of tool calls, by run; and those that are written already, since a message had them.
        self._tools: dict[UUID, str] = {}
        self._calls: set[str] = set()

    async def _write(self, updates: Sequence[recording.Update], models: Sequence[Mapping[str, Any]] = ()) -> None:
        await self._writer.write(updates=updates, models=models, labels=self._labels or None)
        self._labels = {}

    async def messages(self, messages: Sequence[Any]) -> None:
        """Write the messages that the invocation begins with."""
        await self._write([_message(message) for message in convert_to_messages(messages)])

    def model_starts(
        self, run_id: UUID, serialized: Mapping[str, Any] | None, metadata: Mapping[str, Any], named: Mapping[str, Any]
    ) -> None:
        """Remember a model that is called."""
        parameters = named.get("invocation_params") or {}
        names = (metadata.get("ls_model_name"), parameters.get("model"), parameters.get("model_name"))
        kind = ((serialized or {}).get("id") or ["model"])[-1]
        self._models[run_id] = Model(
            str(next(filter(None, names), kind)),
            str(metadata.get("ls_provider") or "unknown"),
            str(metadata.get("langgraph_node") or "graph"),
            time.time(),
        )

    async def model_ends(self, run_id: UUID, response: LLMResult) -> None:
        """Write what a model answered, the calls of tools in it, and what it used."""
        model = self._models.pop(run_id)
        generation = response.generations[0][0]
        message = getattr(generation, "message", None) or AIMessage(generation.text)
        updates = [_message(message)]
        for call in getattr(message, "tool_calls", ()):
            if call["id"] is not None:
                updates.append(recording.tool_call(FRAMEWORK, call["id"], call["name"], call["args"]))
                self._calls.add(call["id"])
        await self._write(updates, [_use(model, message, response.llm_output or {})])

    async def model_fails(self, run_id: UUID, error: BaseException) -> None:
        """Write that a model failed."""
        model = self._models.pop(run_id)
        data = {"model_id": model.model_id, "error": _text(error)}
        await self._write([recording.update(FRAMEWORK, recording.ERROR, data)])

    async def tool_starts(self, run_id: UUID, call_id: str, name: str, arguments: Any) -> None:
        """Write that a tool is called, unless the message that calls it was written."""
        self._tools[run_id] = call_id
        if call_id in self._calls:
            return
        self._calls.add(call_id)
        # A graph that goes on after an interrupt calls the tools of a message that another invocation wrote.
        if all(call.call_id != call_id for call in await self._store.open_calls(self._key)):
            await self._write([recording.tool_call(FRAMEWORK, call_id, name, arguments)])

    async def tool_ends(self, run_id: UUID, output: Any) -> None:
        """Write what a tool returned, which may say that it failed."""
        failed = isinstance(output, ToolMessage) and output.status == "error"
        await self._tool_result(run_id, output, error=str(output.content) if failed else None)

    async def tool_fails(self, run_id: UUID, error: BaseException) -> None:
        """Write that a tool failed."""
        if isinstance(error, GraphBubbleUp):
            # An interrupt: the call stays open until the graph goes on.
            self._tools.pop(run_id)
            return
        await self._tool_result(run_id, None, error=_text(error))

    async def _tool_result(self, run_id: UUID, output: Any, error: str | None) -> None:
        call_id = self._tools.pop(run_id)
        if isinstance(output, BaseMessage):
            output = message_to_dict(output)
        elif not isinstance(output, str | int | float | dict | list | None):
            output = str(output)
        result = recording.update(FRAMEWORK, recording.TOOL_RESULT, output, call_id=call_id, error=error)
        await self._write([result])

    async def end(self, error: BaseException | None) -> None:
        """End the run."""
        if error is None or isinstance(error, GraphBubbleUp):
            await self._writer.end()
        elif isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
            await self._writer.end("cancelled")
        else:
            await self._writer.end("failed", _text(error))


def _message(message: BaseMessage) -> recording.Update:
    return recording.update(FRAMEWORK, recording.MESSAGE, message_to_dict(message), role=_ROLES.get(message.type))


def _use(model: Model, message: BaseMessage, output: Mapping[str, Any]) -> dict[str, Any]:
    """Return the use of a model that answered."""
    said = message.response_metadata
    usage = getattr(message, "usage_metadata", None) or _older_usage(output)
    read, written = usage.get("input_token_details") or {}, usage.get("output_token_details") or {}
    return recording.model_use(
        str(said.get("model_name") or said.get("model") or model.model_id),
        str(said.get("model_provider") or model.provider_id),
        model.mode,
        timestamp=model.started_at,
        input_tokens=usage.get("input_tokens"),
        output_tokens=usage.get("output_tokens"),
        cached_read_tokens=read.get("cache_read"),
        cached_write_tokens=read.get("cache_creation"),
        reasoning_tokens=written.get("reasoning"),
        audio_tokens=read.get("audio"),
        duration=time.time() - model.started_at,
    )


def _older_usage(output: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a model says that has no usage in its messages."""
    usage = output.get("token_usage") or {}
    return {"input_tokens": usage.get("prompt_tokens"), "output_tokens": usage.get("completion_tokens")}


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
