"""Keys of a dict and members of a set that would be read back as one, such as an enum and its value."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from taskctx_sql.codec.foreign_values import is_same, text_of
from taskctx_sql.codec.fresh_stack import with_fresh_stack
from taskctx_sql.codec.tags import from_tag


def stand_ins(members: Sequence[Any], trees: Sequence[Any]) -> dict[int, str]:
    """Return the texts that must replace some of them, by index, so that as many are read back.

    Of those that would be read back as one, the one that is read back unchanged stays, or else the first.

    Args:
        members: The keys, or the members of a set.
        trees: The tree of each, as JSON writes it.
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
