"""A plugin of ADK that records what events do not say."""

from __future__ import annotations

import time
from typing import Any

from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.invocation_context import InvocationContext
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.sessions.session import Session
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext
from typing_extensions import override

from taskctx_sql import ContextUpdate, RunOutcome, Write
from taskctx_sql.integrations import recording
from taskctx_sql.integrations.adk.events import tool_result
from taskctx_sql.integrations.adk.reading import key_of
from taskctx_sql.integrations.adk.sessions import ContextSessionService
from taskctx_sql.integrations.adk.turns import Call, Turn


class RunPlugin(BasePlugin):
    """Records how each run of an agent ended, which model was asked and for how long, and which tools failed.

    The session service alone records what events say: tools, tokens and errors; and it takes a run whose last event is
    an answer as completed.
    """

    def __init__(self, service: ContextSessionService, name: str = "taskctx_sql") -> None:
        """Record into the sessions of a service, which the runner uses as well."""
        super().__init__(name=name)
        self._service = service

    @override
    async def before_run_callback(self, *, invocation_context: InvocationContext) -> None:
        self._turn(invocation_context.session, invocation_context.invocation_id).is_followed = True

    @override
    async def after_run_callback(self, *, invocation_context: InvocationContext) -> None:
        await self._end(invocation_context, "completed")

    @override
    async def on_run_error_callback(self, *, invocation_context: InvocationContext, error: Exception) -> None:
        await self._end(invocation_context, "failed", _described(error))

    @override
    async def before_model_callback(self, *, callback_context: CallbackContext, llm_request: LlmRequest) -> None:
        turn = self._turn(callback_context.session, callback_context.invocation_id)
        turn.calls[callback_context.agent_name] = Call(llm_request.model, time.perf_counter())

    @override
    async def after_model_callback(self, *, callback_context: CallbackContext, llm_response: LlmResponse) -> None:
        turn = self._turn(callback_context.session, callback_context.invocation_id)
        call = turn.calls.get(callback_context.agent_name)
        if call is not None:
            call.duration = time.perf_counter() - call.started

    @override
    async def on_tool_error_callback(
        self, *, tool: BaseTool, tool_args: dict[str, Any], tool_context: ToolContext, error: Exception
    ) -> None:
        call_id = tool_context.function_call_id
        if call_id is not None:
            update = tool_result(call_id, tool.name, _described(error))
            await self._write(tool_context.session, tool_context.invocation_id, update)

    def _turn(self, session: Session, invocation_id: str) -> Turn:
        return self._service.turns.of(key_of(session), invocation_id)

    async def _write(self, session: Session, invocation_id: str, update: recording.Update) -> None:
        key = key_of(session)
        async with self._service.turns.lock(key):
            turn = self._turn(session, invocation_id)
            await self._service.write(session, turn, Write(key, [ContextUpdate(time.time(), *update)]))

    async def _end(self, context: InvocationContext, outcome: RunOutcome, error: str | None = None) -> None:
        key = key_of(context.session)
        async with self._service.turns.lock(key):
            turn = self._turn(context.session, context.invocation_id)
            await turn.write(await self._service.open(), Write(key), outcome=outcome, error=error)


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
