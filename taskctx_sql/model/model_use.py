"""The entries of a context's model tracker: their members, in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# What every entry has.
MODEL_FIELDS: Final = ("model_id", "provider_id", "mode", "timestamp")
# Parts of the tokens of input and output.
TOKEN_PARTS: Final = ("cached_read_tokens", "cached_write_tokens", "reasoning_tokens", "audio_tokens")
# What an entry has where it is known.
TOKEN_KINDS: Final = ("input_tokens", "output_tokens", *TOKEN_PARTS)
MODEL_MEASURES: Final = (*TOKEN_KINDS, "cost", "price_list", "duration")


def model_use(given: Mapping[str, Any], at: float) -> dict[str, Any]:
    """Return an entry of the model tracker: with all fields, and in the order in which columns give it back.

    Args:
        given: What is known of the use. Members that no column has are kept.
        at: The time for one that has none.
    """
    entry = {name: given.get(name) for name in MODEL_FIELDS}
    if entry["timestamp"] is None:
        entry["timestamp"] = at
    entry.update((name, given[name]) for name in MODEL_MEASURES if given.get(name) is not None)
    others = (name for name in given if name not in entry and name not in MODEL_MEASURES)
    entry.update((name, given[name]) for name in others)
    return entry
