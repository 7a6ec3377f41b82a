"""A database with what a command can show."""

from __future__ import annotations

import pytest

from taskctx_sql import task_context


@pytest.fixture
def told(database_url: str, user: str) -> str:
    """A database with two chats of a user."""
    for chat in ("c1", "c2"):
        with (
            pytest.raises(KeyError),
            task_context({"user_id": user, "chat_id": chat}, database_url=database_url) as ctx,
        ):
            ctx.add_context_update("message", f"Say [bold]{chat}[/bold] \x1b[31mred")
            ctx.track_file_operation(f"{chat}.txt", "write", "agent")
            ctx.track_model_usage("gpt-4", "openai", "chat", input_tokens=1000, cost=0.1)
            ctx.add_context_update("tool_call", {"name": "search"}, metadata={"group": chat, "name": "search"})
            ctx.add_context_update("error", "broke")
            raise KeyError(chat)
    return database_url
