"""Messages and runs of Pydantic AI's agents in the tables of this library. Needs the extra ``pydantic-ai``.

    agent = Agent("openai:gpt-5", capabilities=[ContextHistory(store)])
    await agent.run("Hello", conversation_id="c1")

`ContextHistory`
    a capability that gives a run the messages of its conversation, and saves each new one as it comes.
`Conversation`
    the same by hand: messages for ``message_history``, and back.
`ContextStepStore`
    the store of ``StepPersistence``, the harness's capability. Only it needs the package ``pydantic-ai-harness``.
"""

from typing import TYPE_CHECKING, Any

from taskctx_sql.integrations.requirements import needs

with needs("pydantic-ai-slim", "pydantic-ai"):
    from taskctx_sql.integrations.pydantic_ai.conversation import Conversation
    from taskctx_sql.integrations.pydantic_ai.history import ContextHistory

if TYPE_CHECKING:
    from taskctx_sql.integrations.pydantic_ai.steps import ContextStepStore

__all__ = ["ContextHistory", "ContextStepStore", "Conversation"]


def __getattr__(name: str) -> Any:
    if name == "ContextStepStore":
        from taskctx_sql.integrations.pydantic_ai.steps import ContextStepStore

        return ContextStepStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
