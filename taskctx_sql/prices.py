"""Costs of model uses, estimated from the list of prices of the package genai-prices, in US dollars.

It needs the extra ``prices``. Nothing is estimated for `TaskContext.track_model_usage` before `enable` is called.
Integrations estimate by themselves, where the package is installed and their framework gives no cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import pairwise
from typing import Final

from taskctx_sql.errors import MissingPackageError

__all__ = ["Price", "disable", "enable", "estimate", "is_enabled"]

_PACKAGE: Final = "genai_prices"
_is_enabled = False


@dataclass(frozen=True, slots=True)
class Price:
    """What a model use costs.

    Attributes:
        cost: The cost in US dollars.
        price_list: What it was estimated from: a package and its version, such as "genai-prices 0.2.3", and if the
            package updated its list meanwhile, the day of that.
    """

    cost: float
    price_list: str


def enable() -> None:
    """Let `TaskContext.track_model_usage` estimate costs that it is not given, from now on, in this process.

    They are in US dollars, so the costs that your program gives should be, too.

    Raises:
        MissingPackageError: genai-prices is not installed.
    """
    global _is_enabled
    if not _is_installed():
        raise MissingPackageError("genai-prices", "prices")
    # Takes part of a second, which the first estimate, perhaps on an event loop, need not take then.
    import genai_prices.data

    assert genai_prices.data.providers
    _is_enabled = True


def disable() -> None:
    """Estimate no cost for `TaskContext.track_model_usage` any more."""
    global _is_enabled
    _is_enabled = False


def is_enabled() -> bool:
    """Return whether `TaskContext.track_model_usage` estimates costs."""
    return _is_enabled


def estimate(
    model_id: str,
    provider_id: str | None = None,
    *,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    cached_read_tokens: int | None = None,
    cached_write_tokens: int | None = None,
    reasoning_tokens: int | None = None,
    audio_tokens: int | None = None,
    at: float | None = None,
) -> Price | None:
    """Return what a use of a model costs by the list of prices, or None if that cannot be told.

    That is the case if the package is not installed, the model or its provider is not in the list, no tokens are
    given, the parts are more than the whole, or the price depends on which of the tokens of audio were read and
    which were written.

    Args:
        model_id: The model.
        provider_id: Its provider; without one, that which the list has for the model.
        input_tokens: The number of tokens it read, those from and into a cache and those of audio among them.
        output_tokens: The number of tokens it wrote, those of reasoning and of audio among them.
        cached_read_tokens: How many of ``input_tokens`` came from a cache.
        cached_write_tokens: How many of ``input_tokens`` were written into a cache.
        reasoning_tokens: How many of ``output_tokens`` were reasoning.
        audio_tokens: How many of both were audio.
        at: When it was used, seconds since the epoch, UTC; now by default.
    """
    given = (input_tokens, output_tokens, cached_read_tokens, cached_write_tokens, reasoning_tokens, audio_tokens)
    # Trackers take whatever they are given.
    if not isinstance(model_id, str) or not all(isinstance(count, int | None) for count in given):
        return None
    if not model_id or not (input_tokens or output_tokens) or not _is_installed():
        return None
    counts = {
        "input_tokens": input_tokens or 0,
        "output_tokens": output_tokens or 0,
        "cache_read_tokens": cached_read_tokens or 0,
        "cache_write_tokens": cached_write_tokens or 0,
        "output_reasoning_tokens": reasoning_tokens or 0,
    }
    audio = audio_tokens or 0
    # As many as possible read, and as many as possible written: between these is whatever it was.
    read = {min(audio, counts["input_tokens"]), audio - min(audio, counts["output_tokens"])}
    ways = [{"input_audio_tokens": number, "output_audio_tokens": audio - number} for number in sorted(read)]
    try:
        found = [_price(model_id, provider_id or None, counts | (way if audio else {}), at) for way in ways]
    except (LookupError, ValueError, ArithmeticError, OSError):
        return None
    is_known = all(one == other for one, other in pairwise(found)) and math.isfinite(found[0].cost)
    return found[0] if is_known else None


def _is_installed() -> bool:
    return find_spec(_PACKAGE) is not None


def _price(model_id: str, provider_id: str | None, counts: dict[str, int], at: float | None) -> Price:
    import genai_prices

    # Zeros are left out: some models have no price at all for what they do not have.
    usage = genai_prices.Usage(**{name: count for name, count in counts.items() if count})
    moment = None if at is None else datetime.fromtimestamp(at, UTC)
    found = genai_prices.calc_price(usage, model_id, provider_id=provider_id, genai_request_timestamp=moment)
    version = f"genai-prices {genai_prices.__version__}"
    updated = found.auto_update_timestamp
    return Price(float(found.total_price), version if updated is None else f"{version} of {updated:%Y-%m-%d}")
