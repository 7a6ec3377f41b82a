"""A context with nothing behind it: a list of dataclasses, as the original keeps them."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)


@dataclass
class Update:
    timestamp: float
    update_type: str
    data: Any
    metadata: dict[str, Any]


class PlainContext:
    """The least that adding, trimming and showing a history take."""

    def __init__(self) -> None:
        self.history: list[Update] = []

    def add_context_update(self, update_type: str, data: Any, metadata: dict[str, Any] | None = None) -> None:
        self.history.append(Update(timestamp=time.time(), update_type=update_type, data=data, metadata=metadata or {}))
        # The original logs each.
        logger.debug(f"added {update_type}")

    def optimize_context(self, max_size: int = 0) -> bool:
        kept: dict[str, Update] = {}
        size = 0
        for update in reversed(self.history):
            text = json.dumps(update.data)
            if text not in kept and size + len(text) <= max_size:
                kept[text] = update
                size += len(text)
        removed = len(kept) < len(self.history)
        self.history = list(reversed(kept.values()))
        return removed

    def to_dict(self) -> dict[str, Any]:
        return {"context_history": [vars(update) for update in self.history]}
