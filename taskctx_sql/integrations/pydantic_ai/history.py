"""A capability of Pydantic AI's agents: a conversation that goes on where it stopped, recorded step by step."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.capabilities.abstract import AgentNode, NodeResult, WrapRunHandler
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import AgentDepsT, RunContext

from taskctx_sql import Store
from taskctx_sql.integrations.pydantic_ai.conversation import Conversation


@dataclass
class ContextHistory(AbstractCapability[AgentDepsT]):
    """Gives a run the messages of its conversation, and saves each new one as it comes.

        agent = Agent("openai:gpt-5", capabilities=[ContextHistory(store)])
        await agent.run("Hello", conversation_id="c1")

    A run that is given a ``message_history`` goes on from that, and the conversation becomes what the run made of it.
    A run without a ``conversation_id`` is a conversation of its own.

    Attributes:
        store: An open store.
        user_id: Whose the conversations are.
        limit: Give the model only the newest messages, this many at most.
    """

    store: Store
    user_id: str | None = None
    limit: int | None = None
    id: str | None = field(default="taskctx_sql", kw_only=True)
    _conversation: Conversation | None = field(default=None, repr=False)
    # The run's own list of messages, as its hooks see it.
    _messages: list[ModelMessage] = field(default_factory=list, repr=False)
    _asked_at: float = field(default=0.0, repr=False)
    _duration: float | None = field(default=None, repr=False)

    async def for_run(self, ctx: RunContext[AgentDepsT]) -> ContextHistory[AgentDepsT]:
        """Return the capability of one run."""
        name = ctx.agent.name if ctx.agent is not None else None
        conversation_id = ctx.conversation_id or ctx.run_id or ""
        conversation = Conversation(self.store, conversation_id, user_id=self.user_id, mode=name or "agent")
        return replace(self, _conversation=conversation)

    async def before_run(self, ctx: RunContext[AgentDepsT]) -> None:
        """Give the run the conversation's messages."""
        stored = await self._recorded().messages(limit=self.limit)
        if not ctx.messages:
            ctx.messages.extend(stored)

    async def before_model_request(
        self, ctx: RunContext[AgentDepsT], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Save what the model is asked."""
        self._messages = ctx.messages
        await self._save()
        self._asked_at = time.perf_counter()
        return request_context

    async def after_model_request(
        self, ctx: RunContext[AgentDepsT], *, request_context: ModelRequestContext, response: ModelResponse
    ) -> ModelResponse:
        """Note how long the model took."""
        self._duration = time.perf_counter() - self._asked_at
        return response

    async def after_node_run(
        self, ctx: RunContext[AgentDepsT], *, node: AgentNode[AgentDepsT], result: NodeResult[AgentDepsT]
    ) -> NodeResult[AgentDepsT]:
        """Save what the model answered."""
        self._messages = ctx.messages
        await self._save()
        return result

    async def wrap_run(self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler) -> AgentRunResult[Any]:
        """Save what is left, and record how the run ended."""
        conversation = self._recorded()
        try:
            result = await handler()
        except asyncio.CancelledError:
            await conversation.end("cancelled")
            raise
        except Exception as error:
            # A run that fails before it asks a model has seen no messages, and the conversation stays as it was.
            if self._messages:
                await self._save()
            await conversation.end("failed", f"{type(error).__name__}: {error}")
            raise
        await conversation.save(result)
        return result

    async def _save(self) -> None:
        await self._recorded().save(self._messages, duration=self._duration)
        self._duration = None

    def _recorded(self) -> Conversation:
        assert self._conversation is not None, "a run has its own capability, which for_run made"
        return self._conversation
