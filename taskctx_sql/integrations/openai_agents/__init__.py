"""OpenAI's Agents SDK: sessions in the tables of this library, and hooks that record what a run used.

    session = ContextSession("conversation_123", "sqlite:///agents.db")
    result = await Runner.run(agent, "Hello", session=session, hooks=session.hooks())

It needs the extra ``openai-agents``. The page "OpenAI Agents SDK" of the docs says what becomes what.
"""

from taskctx_sql.integrations.requirements import needs

with needs("openai-agents", "openai-agents"):
    from taskctx_sql.integrations.openai_agents.errors import BranchError, SessionClosedError, TurnNotFoundError
    from taskctx_sql.integrations.openai_agents.hooks import RecordingAgentHooks, RecordingHooks
    from taskctx_sql.integrations.openai_agents.session import ContextSession

__all__ = [
    "BranchError",
    "ContextSession",
    "RecordingAgentHooks",
    "RecordingHooks",
    "SessionClosedError",
    "TurnNotFoundError",
]
