"""Members of sets and keys of dicts: their order, and which would be read back as one (an enum and its value)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from taskctx_sql.codec.foreign_values import is_same, text_of
from taskctx_sql.codec.tags import from_tag
from taskctx_sql.concurrency import with_fresh_stack


def stand_ins(members: Sequence[Any], trees: Sequence[Any]) -> dict[int, str]:
    """Return the texts that must replace some of them, by index, so that as many are read back.

    Of those that would be read back as one, the one that is read back unchanged stays, or else the first. ``trees`` has
    the tree of each, as JSON writes it.
    """
    read: list[Any] = with_fresh_stack(lambda: json.loads(json.dumps(trees), object_hook=from_tag))
    staying: dict[Any, int] = {}
    for index, value in enumerate(read):
        known = staying.setdefault(value, index)
        if known != index and not _is_itself(members[known], value) and _is_itself(members[index], value):
            staying[value] = index
    texts: dict[int, str] = {}
    taken, numbers = set(staying), Counter[str]()
    for index, value in enumerate(read):
        if staying[value] != index:
            texts[index] = text = text_of(members[index])
            while texts[index] in taken:
                numbers[text] += 1
                texts[index] = f"{text} ({numbers[text] + 1})"
            taken.add(texts[index])
    return texts


def _is_itself(value: Any, read: Any) -> bool:
    return type(value) is type(read) and is_same(value, read)


class SetOrder:
    """Sorts the members of sets by their content, so that equal sets have equal texts."""

    def __init__(self) -> None:
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
