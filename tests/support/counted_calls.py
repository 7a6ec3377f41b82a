"""Counting the calls of a store."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from taskctx_sql import Store

# Each of them is a round trip, or several.
_READS = ("contexts", "state", "load", "updates", "data", "revisions")


def count_reads(store: Store, patch: pytest.MonkeyPatch) -> Counter[str]:
    """Return the counts of a store's reads from now on, by the name of the method."""
    counts: Counter[str] = Counter()

    def counted(name: str) -> Any:
        method = getattr(store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return method(*args, **kwargs)

        return call

    for name in _READS:
        patch.setattr(store, name, counted(name))
    return counts
