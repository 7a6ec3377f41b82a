"""What the tests of aiecs share: a store on both engines, a scripted model, and no Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiecs.llm.client_factory import LLMClientFactory
from aiecs.llm.clients.base_client import LLMResponse

from taskctx_sql import Store, open_store
from taskctx_sql.integrations import aiecs


class Scripted:
    """A client of a model that answers at once, as aiecs' protocol for clients asks."""

    provider_name = "scripted"

    def __init__(self, **counted: Any) -> None:
        self.counted = counted

    async def generate_text(self, messages: Any, model: str | None = None, **options: Any) -> LLMResponse:
        return LLMResponse(f"answer to {messages[-1].content}", "scripted", model or "small", **self.counted)

    async def stream_text(self, messages: Any, **options: Any) -> AsyncIterator[str]:
        yield "answer"

    async def get_embeddings(self, texts: list[str], model: str | None = None, **options: Any) -> list[list[float]]:
        return [[0.0] for _ in texts]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(autouse=True)
def of_aiecs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give aiecs a model, and no Redis; afterwards it has its own classes again."""
    monkeypatch.setenv("OPENAI_API_KEY", "for its check of the settings")
    monkeypatch.setenv("REDIS_HOST", "127.0.0.1")
    monkeypatch.setenv("REDIS_PORT", "1")
    counted = {"prompt_tokens": 12, "completion_tokens": 5, "cache_read_tokens": 4, "cost_estimate": 0.25}
    LLMClientFactory.register_custom_provider("scripted", Scripted(**counted))
    yield
    aiecs.uninstall()
    LLMClientFactory._custom_clients.clear()


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[Store]:
    """An open store on each engine."""
    async with open_store(database_url) as store:
        yield store


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let aiecs warn of what is deprecated in itself."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))
