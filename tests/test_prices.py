"""Costs that are estimated from a list of prices."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import genai_prices
import pytest

from taskctx_sql import SqlStore, TaskContext, prices
from taskctx_sql.errors import MissingPackageError

LIST = f"genai-prices {genai_prices.__version__}"
# When the price of no model in these tests was another one.
AT = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def enabled() -> Iterator[None]:
    prices.enable()
    assert prices.is_enabled()
    yield
    prices.disable()
    assert not prices.is_enabled()


def listed(model: str, **usage: int) -> float:
    """What the package itself says."""
    found = genai_prices.calc_price(genai_prices.Usage(**usage), model, genai_request_timestamp=AT)
    assert found.total_price > 0
    return float(found.total_price)


def cost(model: str, provider: str | None = None, **tokens: Any) -> float | None:
    price = prices.estimate(model, provider, at=AT.timestamp(), **tokens)
    assert price is None or price.price_list == LIST
    return None if price is None else price.cost


def test_each_kind_of_tokens_has_its_price() -> None:
    plain = cost("claude-sonnet-4-5", "anthropic", input_tokens=1000, output_tokens=100)
    assert plain == listed("claude-sonnet-4-5", input_tokens=1000, output_tokens=100)
    assert plain == cost("claude-sonnet-4-5", input_tokens=1000, output_tokens=100)
    cached = {"cached_read_tokens": 300, "cached_write_tokens": 500}
    found = cost("claude-sonnet-4-5", "anthropic", input_tokens=1000, **cached)
    assert found == listed("claude-sonnet-4-5", input_tokens=1000, cache_read_tokens=300, cache_write_tokens=500)
    # Reasoning is a part of the output.
    assert cost("gpt-4o", "openai", output_tokens=10, reasoning_tokens=5) == listed("gpt-4o", output_tokens=10)


def test_audio_has_a_price_unless_it_depends_on_which_way_it_went() -> None:
    heard = cost("gemini-2.5-flash", "google", input_tokens=1000, audio_tokens=500)
    assert heard == listed("gemini-2.5-flash", input_tokens=1000, input_audio_tokens=500)
    assert heard != cost("gemini-2.5-flash", "google", input_tokens=1000)
    assert cost("gemini-2.5-flash", "google", input_tokens=1000, output_tokens=800, audio_tokens=500) is None
    # Only one of the two can be.
    assert cost("gemini-2.5-flash", "google", input_tokens=1000, output_tokens=0, audio_tokens=500) == heard


@pytest.mark.parametrize(
    "unknown",
    [
        {"model_id": "nobody's", "provider_id": "openai", "input_tokens": 1},
        {"model_id": "gpt-4o", "provider_id": "nobody", "input_tokens": 1},
        {"model_id": "", "input_tokens": 1},
        {"model_id": None, "input_tokens": 1},
        {"model_id": "gpt-4o"},
        {"model_id": "gpt-4o", "input_tokens": 0, "output_tokens": 0},
        {"model_id": "gpt-4o", "input_tokens": 1, "cached_read_tokens": 2},
        {"model_id": "gpt-4o", "input_tokens": 1, "audio_tokens": 5},
        {"model_id": "gpt-4o", "input_tokens": -1},
        {"model_id": "gpt-4o", "input_tokens": "1"},
        {"model_id": "gpt-4o", "input_tokens": 10**5000},
        {"model_id": "gpt-4o", "input_tokens": 1, "at": 1e300},
        {"model_id": "gpt-4o", "input_tokens": 1, "at": float("nan")},
    ],
)
def test_what_cannot_be_told_has_no_price(unknown: dict[str, Any]) -> None:
    assert prices.estimate(**unknown) is None


def test_a_list_that_was_updated_says_when(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = genai_prices.data_snapshot.get_snapshot()
    updated = type(snapshot)(providers=snapshot.providers, from_auto_update=True, timestamp=datetime(2026, 11, 5))
    monkeypatch.setattr(genai_prices.data_snapshot, "_custom_snapshot", updated)
    price = prices.estimate("gpt-4o", "openai", input_tokens=1)
    assert price is not None
    assert price.price_list == f"{LIST} of 2026-11-05"


async def test_a_tracked_use_gets_a_cost_only_once_it_is_enabled(
    sql_store: SqlStore, user: str, request: pytest.FixtureRequest
) -> None:
    async with TaskContext({"user_id": user, "chat_id": "c"}, store=sql_store, clock=AT.timestamp) as context:
        context.track_model_usage("gpt-4o", "openai", "first", input_tokens=1000)
        request.getfixturevalue("enabled")
        context.track_model_usage("gpt-4o", "openai", "second", input_tokens=1000, reasoning_tokens=0, duration=2.0)
        context.track_model_usage("gpt-4o", "openai", "given", input_tokens=1000, cost=5.0)
        context.track_model_usage("mine", "me", "unknown", input_tokens=1000)
        tracked = [dict(use) for use in context.model_tracker]
    expected = listed("gpt-4o", input_tokens=1000)
    assert [(use.get("cost"), use.get("price_list")) for use in tracked] == [
        *((None, None), (expected, LIST), (5.0, None), (None, None)),
    ]
    again = TaskContext({"user_id": user, "chat_id": "c"}, store=sql_store)
    await again.load()
    assert [list(use.items()) for use in again.model_tracker] == [list(use.items()) for use in tracked]
    uses = {use.mode: use for use in await sql_store.reports.models(user_id=user)}
    assert Decimal(str(uses["second"].cost)) == Decimal(str(expected))
    assert (uses["second"].estimated_cost, uses["given"].estimated_cost) == (expected, 0.0)


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "_is_installed", lambda: False)
    with pytest.raises(MissingPackageError, match=r"pip install 'taskctx_sql\[prices\]'"):
        prices.enable()
    assert not prices.is_enabled()
    assert prices.estimate("gpt-4o", "openai", input_tokens=1) is None


def test_nothing_is_imported_before_it_is_used() -> None:
    program = """
import sys, taskctx_sql
from taskctx_sql import prices
context = taskctx_sql.MemoryContext({"user_id": "u", "chat_id": "c"})
context.track_model_usage("gpt-4o", "openai", "chat", input_tokens=1)
assert "genai_prices" not in sys.modules
prices.enable()
assert "genai_prices.data" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
