"""Claude Agent SDK: its sessions and their subagents' transcripts as contexts, and the import of transcripts.

`ContextSessionStore` is the SDK's ``SessionStore``; `import_transcripts` imports a folder like ``~/.claude/projects``,
as ``taskctx import`` does.
"""

from __future__ import annotations

from taskctx_sql.integrations.requirements import needs

with needs("claude-agent-sdk", "claude-agent-sdk"):
    from taskctx_sql.integrations.claude_agent_sdk.session_store import ContextSessionStore
    from taskctx_sql.integrations.claude_agent_sdk.transcripts import import_transcripts

__all__ = ["ContextSessionStore", "import_transcripts"]
