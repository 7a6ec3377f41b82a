"""Keys of a dict, and members of a set, that would come back as one: an enum and its value, say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from taskctx_sql.codec.foreign_values import is_same, text_of
from taskctx_sql.codec.fresh_stack import with_fresh_stack
from taskctx_sql.codec.tags import from_tag


def stand_ins(members: Sequence[Any], trees: Sequence[Any]) -> dict[int, str]:
    """Return the texts that must stand for some of them so that as many come back, by their places.

    Of those that would come back as one, the one that comes back as itself stays, or else the first.

    Args:
        members: The keys, or the members of a set.
        trees: What JSON writes for each.
    """
    found: list[Any] = with_fresh_stack(lambda: json.loads(json.dumps(trees), object_hook=from_tag))
    staying: dict[Any, int] = {}
    for at, value in enumerate(found):
        known = staying.setdefault(value, at)
        if known != at and not _is_itself(members[known], value) and _is_itself(members[at], value):
            staying[value] = at
    texts: dict[int, str] = {}
    taken, numbers = set(staying), Counter[str]()
    for at, value in enumerate(found):
        if staying[value] != at:
            texts[at] = text = text_of(members[at])
            while texts[at] in taken:
                numbers[text] += 1
                texts[at] = f"{text} ({numbers[text] + 1})"
            taken.add(texts[at])
    return texts


def _is_itself(value: Any, found: Any) -> bool:
    return type(value) is type(found) and is_same(value, found)
