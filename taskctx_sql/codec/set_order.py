"""A stable order of the members of a set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Any

from taskctx_sql.codec.foreign_values import text_of


class SetOrder:
    """Sorts the members of sets by their content, so that equal sets have equal texts."""

    def __init__(self) -> None:
        """Start with an empty cache."""
        # Of tuples and frozensets, by identity; the caller holds what contains them meanwhile.
        self._digests: dict[int, str] = {}

    def sort(self, members: Collection[Any]) -> list[Any]:
        """Return the members in their order."""
        return list(members) if len(members) < 2 else sorted(members, key=self._key)

    def _key(self, item: Any) -> tuple[str, str]:
        # A nested text would contain those of its parts, and be built again at each level.
        text = self._digest(item) if isinstance(item, tuple | frozenset) else text_of(item)
        return type(item).__name__, text

    def _digest(self, item: Any) -> str:
        if not isinstance(item, tuple | frozenset):
            return f"{type(item).__name__} {text_of(item)}"
        if id(item) not in self._digests:
            try:
                own: Any = tuple if isinstance(item, tuple) else frozenset
                parts = [self._digest(part) for part in own.__iter__(item)]
            except RecursionError:
                # Deeper parts do not count.
                return ""
            if isinstance(item, frozenset):
                parts.sort()
            content = json.dumps([type(item).__name__, *parts]).encode()
            self._digests[id(item)] = hashlib.sha256(content).hexdigest()
        return self._digests[id(item)]
