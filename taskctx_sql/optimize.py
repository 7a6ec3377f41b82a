"""Which updates to keep: pure functions, the reference's rules."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from taskctx_sql import codec
from taskctx_sql.records import ContextUpdate


def updates_to_keep(history: Sequence[ContextUpdate], max_size: int) -> list[ContextUpdate]:
    """Return the updates that the reference's ``optimize_context`` keeps, in their order.

    From the newest to the oldest: of those with equal type and data the newest is kept, and each that still fits
    into ``max_size`` characters of ``str(data)`` in all. One too large is passed over; smaller, older ones may fit.
    """
    seen: set[str] = set()
    kept: list[ContextUpdate] = []
    size = 0
    for update in reversed(history):
        key = f"{update.update_type}:{_data_key(update.data)}"
        if key in seen:
            continue
        seen.add(key)
        data_size = len(_text(update.data))
        if size + data_size <= max_size:
            kept.append(update)
            size += data_size
    kept.reverse()
    return kept


def updates_until(history: Iterable[ContextUpdate], timestamp: float) -> list[ContextUpdate]:
    """Return the updates made at ``timestamp`` (seconds since the epoch, UTC) or before."""
    return [update for update in history if update.timestamp <= timestamp]


def _data_key(data: Any) -> str:
    try:
        return json.dumps(data, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        # What the original raised on. The prefix keeps it apart from every JSON text.
        return f"!{codec.encode(data, warn=False)}"


def _text(data: Any) -> str:
    try:
        return str(data)
    except Exception:
        # A value that has no text of its own still takes the room that its stored form takes.
        return codec.encode(data, warn=False)
