"""Takes every message that Pydantic AI's tests read back through a conversation in our store."""

from __future__ import annotations

import os
import uuid
from typing import Any

import pydantic_ai.messages
import pytest
from pydantic_ai.messages import ModelMessage

from taskctx_sql import blocking, open_store
from taskctx_sql.integrations.pydantic_ai import Conversation

# Their detector of blocking calls, which only their own code shall pass.
os.environ["BLOCKBUSTER_ENABLED"] = "false"

_THEIRS = pydantic_ai.messages.ModelMessagesTypeAdapter


async def _kept(messages: list[ModelMessage]) -> list[ModelMessage]:
    async with open_store(os.environ["TASKCTX_SUITE_DATABASE_URL"]) as store:
        conversation_id = uuid.uuid4().hex
        await Conversation(store, conversation_id).add(messages)
        return await Conversation(store, conversation_id).messages()


class _Keeping:
    """Their adapter, whose results come out of our store."""

    def validate_python(self, *args: Any, **given: Any) -> list[ModelMessage]:
        return blocking(_kept(_THEIRS.validate_python(*args, **given)))

    def validate_json(self, *args: Any, **given: Any) -> list[ModelMessage]:
        return blocking(_kept(_THEIRS.validate_json(*args, **given)))

    def __getattr__(self, name: str) -> Any:
        return getattr(_THEIRS, name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Only those that read messages back.
    items[:] = [item for item in items if "ModelMessagesTypeAdapter" in item.function.__code__.co_names]
    for item in items:
        item.module.ModelMessagesTypeAdapter = _Keeping()
