"""Channels that are lists: the elements that a version adds are stored, and the others are referred to.

A growth is a list as it grows from version to version. Each version that adds elements writes one entry: the place of
its first element, the elements, and the token of the entry that has those before. A version of the list is a growth,
its length and the token of its last entry. So a version is read with one range of names, however many steps it took,
and a fork goes on from where it left the list, without a copy.

A list that changes elsewhere than at its end begins a new growth once what it no longer needs is more than what it has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskctx_sql import ContextKey
from taskctx_sql.errors import CorruptRecordError
from taskctx_sql.integrations.langgraph import names
from taskctx_sql.integrations.langgraph.values import Encoded, Values
from taskctx_sql.random_ids import new_token

# A growth, a length and a token, as a checkpoint's entry refers to a version of a list.
Reference = list[Any]
# The place of an entry's first element, and the entry's token.
Link = tuple[int, str]
# The place of an entry's first element, and the entry's value.
Piece = tuple[int, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Growth:
    """A version of a list that is stored: what the next version is compared with.

    Attributes:
        id: The growth's.
        links: The entries that have the version's elements.
        fingerprints: Those of the elements.
        superseded: How many elements the growth's entries have that the version does not have.
    """

    id: str
    links: list[Link]
    fingerprints: list[int]
    superseded: int

    @property
    def reference(self) -> Reference:
        """How a checkpoint's entry refers to the version."""
        return [self.id, len(self.fingerprints), self.links[-1][1]]


def grow(before: Growth | None, value: list[Any], values: Values, prefix: str) -> tuple[Growth, dict[str, Any]]:
    """Return a list as it is stored, and the entries to write.

    Args:
        before: The version before, if it is known.
        value: The list, which is not empty.
        values: Encodes the elements.
        prefix: What the names of the channel's growths begin with.
    """
    fingerprints = values.fingerprints(value)
    kept = 0 if before is None else _common(before.fingerprints, fingerprints)
    superseded = 0 if before is None else before.superseded + len(before.fingerprints) - kept
    if before is None or not kept or superseded > len(value):
        before, kept, superseded = Growth(_new_id(), [], [], 0), 0, 0
    links = before.links.copy()
    while links and links[-1][0] >= kept:
        links.pop()
    entries = {}
    if kept < len(value):
        entry = {
            "after": links[-1][1] if links else None,
            "elements": [values.encode(element) for element in value[kept:]],
        }
        links.append((kept, new_token(8)))
        entries[names.place(f"{prefix}{before.id}/", *links[-1])] = entry
    return Growth(before.id, links, fingerprints, superseded), entries


def _new_id() -> str:
    # It rises with time, so that what checkpoints of one time refer to is a range of names.
    return f"{time.time_ns() // 1_000:014x}{new_token(4)}"


def _common(before: Sequence[int], now: Sequence[int]) -> int:
    """Return how many elements at the beginning are the same."""
    if before == now[: len(before)]:
        return len(before)
    return next(place for place, known in enumerate(before) if place == len(now) or known != now[place])


def piece(name: str, value: dict[str, Any]) -> tuple[str, str, Piece]:
    """Return the name of an entry's growth, the entry's token, and what the entry has."""
    growth, place, token = name.rsplit("/", 2)
    return growth, token, (int(place), value)


def is_whole(reference: Reference, pieces: Mapping[str, Piece]) -> bool:
    """Whether a version can be read from these pieces of its growth, by their tokens."""
    _, end, token = reference
    while end:
        if token not in pieces:
            return False
        end, value = pieces[token]
        token = value["after"]
    return True


def read(key: ContextKey, reference: Reference, pieces: Mapping[str, Piece]) -> tuple[list[Encoded], list[Link], int]:
    """Return a version's elements, the entries that have them, and how many elements the entries have that it has not.

    Args:
        key: The thread's, for the error.
        reference: The version.
        pieces: Those of its growth by their tokens, with at least those that the version has.

    Raises:
        CorruptRecordError: An entry is not there.
    """
    growth, length, token = reference
    stored = sum(len(value["elements"]) for start, value in pieces.values() if start < length)
    found: list[list[Encoded]] = []
    links: list[Link] = []
    end = length
    while end:
        if token not in pieces:
            raise CorruptRecordError(key, f"the list {growth}", f"its entry {token} is not there")
        start, value = pieces[token]
        found.append(value["elements"][: end - start])
        links.append((start, token))
        end, token = start, value["after"]
    elements = [element for part in reversed(found) for element in part]
    return elements, links[::-1], stored - len(elements)
