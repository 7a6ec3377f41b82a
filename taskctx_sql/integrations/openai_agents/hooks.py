"""Hooks that record what an agent's run does: its use of models, and when tools were called."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from agents import (
    Agent,
    AgentHookContext,
    AgentHooks,
    ModelResponse,
    RunContextWrapper,
    RunHooks,
    Tool,
    default_tool_error_function,
)
from agents.models import get_default_model
from agents.usage import Usage

from taskctx_sql.integrations import recording
from taskctx_sql.integrations.openai_agents.items import FRAMEWORK

if TYPE_CHECKING:
    from taskctx_sql.integrations.openai_agents.history import History
    from taskctx_sql.integrations.openai_agents.turn import Turn

_LOGGER: Final = logging.getLogger(__name__)
# What the SDK returns for a tool that raised an exception, unless the tool has a function of its own for that.
_TOOL_FAILED: Final = default_tool_error_function(RunContextWrapper(None), Exception())


class _Recorder:
    """What both kinds of hooks do. The usage is one object in all contexts of a run, so that it identifies the run."""

    def __init__(self, session: History, model: str | None) -> None:
        self._session = session
        self._model = model
        # When models were called, by the contexts they were called in.
        self._called: dict[int, float] = {}

    def see_run(self, context: RunContextWrapper[Any]) -> Turn:
        return self._session.see_run(context.usage)

    def call_model(self, context: RunContextWrapper[Any]) -> None:
        self.see_run(context)
        self._called[id(context)] = time.time()

    async def record_use(self, context: RunContextWrapper[Any], agent: Agent[Any], response: ModelResponse) -> None:
        ended = time.time()
        began = self._called.pop(id(context), ended)
        use = model_use(self._model or model_of(agent), agent.name, response.usage, began, ended - began)
        await self._record(models=[use])

    def call_tool(self, context: RunContextWrapper[Any]) -> None:
        if (call_id := getattr(context, "tool_call_id", None)) is not None:
            self.see_run(context).begin_tool(call_id)

    def end_tool(self, context: RunContextWrapper[Any], result: object) -> None:
        if (call_id := getattr(context, "tool_call_id", None)) is not None:
            self.see_run(context).end_tool(call_id, _TOOL_FAILED if result == _TOOL_FAILED else None)

    async def record_handoff(self, source: Agent[Any], target: Agent[Any]) -> None:
        handoff = recording.update(FRAMEWORK, recording.HANDOFF, {"from": source.name, "to": target.name})
        await self._record(updates=[handoff])

    def end_run(self, context: RunContextWrapper[Any]) -> None:
        turn = self.see_run(context)
        turn.is_finished, turn.usage = True, usage_of(context.usage)

    async def _record(self, **content: Any) -> None:
        try:
            await self._session.record(**content)
        except Exception:
            # The SDK passes it on, so that the run ends with it.
            _LOGGER.exception("what an agent's run used could not be recorded in session %r", self._session.session_id)
            raise


class _Hooks:
    """What hooks for a run and for an agent share."""

    def __init__(self, session: History, *, model: str | None = None) -> None:
        """Record into the current branch of a session.

        Args:
            session: The session that the run is given, too.
            model: What the model is called in the record; by default the agent's model. A model that is set in the
                run's configuration is not known to hooks, and belongs here.
        """
        self._recorder = _Recorder(session, model)

    async def on_llm_start(
        self, context: RunContextWrapper[Any], agent: Agent[Any], system_prompt: str | None, input_items: list[Any]
    ) -> None:
        """Note when the model is called."""
        self._recorder.call_model(context)

    async def on_llm_end(self, context: RunContextWrapper[Any], agent: Agent[Any], response: ModelResponse) -> None:
        """Record the use of the model."""
        await self._recorder.record_use(context, agent, response)

    async def on_tool_start(self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool) -> None:
        """Note when the tool is called."""
        self._recorder.call_tool(context)

    async def on_tool_end(self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool, result: object) -> None:
        """Note when the tool has its result."""
        self._recorder.end_tool(context, result)


class RecordingHooks(_Hooks, RunHooks[Any]):
    """Hooks for a run: ``Runner.run(agent, ..., session=session, hooks=session.hooks())``.

    Each use of a model is recorded at once, with its tokens by kind, its cost and its duration, and each handoff. Tool
    calls and their results are items of the session; they get the times at which they happened.
    """

    async def on_agent_start(self, context: AgentHookContext[Any], agent: Agent[Any]) -> None:
        """Note that a run began."""
        self._recorder.see_run(context)

    async def on_handoff(self, context: RunContextWrapper[Any], from_agent: Agent[Any], to_agent: Agent[Any]) -> None:
        """Record the handoff."""
        await self._recorder.record_handoff(from_agent, to_agent)

    async def on_agent_end(self, context: AgentHookContext[Any], agent: Agent[Any], output: Any) -> None:
        """Note that the run has its output."""
        self._recorder.end_run(context)


class RecordingAgentHooks(_Hooks, AgentHooks[Any]):
    """The same for one agent: ``Agent(..., hooks=session.agent_hooks())``. Do not use both for a run."""

    async def on_start(self, context: AgentHookContext[Any], agent: Agent[Any]) -> None:
        """Note that a run began."""
        self._recorder.see_run(context)

    async def on_handoff(self, context: RunContextWrapper[Any], agent: Agent[Any], source: Agent[Any]) -> None:
        """Record the handoff."""
        await self._recorder.record_handoff(source, agent)

    async def on_end(self, context: AgentHookContext[Any], agent: Agent[Any], output: Any) -> None:
        """Note that the run has its output."""
        self._recorder.end_run(context)


def model_of(agent: Agent[Any]) -> str:
    """Return the name of an agent's model."""
    model = agent.model if agent.model is not None else get_default_model()
    return model if isinstance(model, str) else str(getattr(model, "model", type(model).__name__))


def model_use(model: str, mode: str, usage: Usage, began: float, duration: float | None) -> dict[str, Any]:
    """Return a use of a model as it is recorded.

    Args:
        model: Its name, with prefixes of the SDK as in "litellm/anthropic/claude-sonnet-4".
        mode: What it was used for: the agent's name.
        usage: Its tokens.
        began: When it was called, seconds since the epoch, UTC.
        duration: How long it took, in seconds.
    """
    provider, separator, name = model.removeprefix("litellm/").removeprefix("any-llm/").partition("/")
    return recording.model_use(
        name if separator else model,
        provider if separator else "openai",
        mode,
        timestamp=began,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_read_tokens=usage.input_tokens_details.cached_tokens,
        cached_write_tokens=getattr(usage.input_tokens_details, "cache_write_tokens", None),
        reasoning_tokens=usage.output_tokens_details.reasoning_tokens,
        duration=duration,
    )


def usage_of(usage: Usage) -> dict[str, Any]:
    """Return the usage of a run as it is kept for its turn."""
    details = {
        name: None if found is None else found.model_dump(mode="json", exclude_none=True)
        for name in ("input_tokens_details", "output_tokens_details")
        for found in [getattr(usage, name, None)]
    }
    counts = ("requests", "input_tokens", "output_tokens", "total_tokens")
    return {name: getattr(usage, name) or 0 for name in counts} | details
