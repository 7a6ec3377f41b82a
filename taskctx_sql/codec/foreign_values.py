"""What can be known of values whose classes are not ours, which may raise anything from their methods."""

from __future__ import annotations

import dataclasses
import operator
from collections import Counter
from collections.abc import Iterable
from numbers import Integral, Rational, Real
from typing import Any, Final

# How many members of a set, or keys of a dict, may have one hash: each of them is compared with all before it.
MAX_SAME_HASH: Final = 100
# How much of a value a message shows.
SHOWN_VALUE: Final = 200


def text_of(value: Any) -> str:
    """Return ``str(value)``, or a stand-in if the value's own class refuses."""
    try:
        return str.__str__(str(value))
    except Exception:
        return f"<{type(value).__name__} without a text>"


def shown(value: Any) -> str:
    """Return ``repr(value)`` for a message, cut if it is long, or a stand-in if the value's own class refuses."""
    try:
        text = str.__str__(repr(value))
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= SHOWN_VALUE else f"{text[:SHOWN_VALUE]}..."


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are equal; not so if the class of one refuses to say, or says something that is no answer."""
    try:
        return bool(one == other)
    except Exception:
        return False


def fields_of(value: Any) -> dict[str, Any] | None:
    """Return the fields of a dataclass, or None."""
    if isinstance(value, type) or not dataclasses.is_dataclass(value):
        return None
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def is_model(value: Any) -> bool:
    """Whether a value is a pydantic model, whose ``model_dump()`` is its content: a dict, or what its root is."""
    kind = type(value)
    return hasattr(kind, "model_fields") and hasattr(kind, "model_dump")


def plain_scalar(value: str | int | float) -> str | int | float:
    """Return what a value of a class that is one of these holds as one of these."""
    if isinstance(value, str):
        return str.__str__(value)
    return int.__index__(value) if isinstance(value, int) else float.__float__(value)


def number_of(value: Any) -> int | float | None:
    """Return the plain number that a number of another library (numpy's, say) is equal to, or None."""
    if isinstance(value, Integral):
        return operator.index(value)
    if isinstance(value, Real) and not isinstance(value, Rational):
        number = float(value)
        return number if number == value or (number != number and value != value) else None
    return None


def are_crowded(members: Iterable[Any]) -> bool:
    """Whether so many have one hash that a set of them would cost far more than its size.

    Nobody's values do by chance; somebody who means harm can write numbers that do.
    """
    hashes = list(map(hash, members))
    return len(hashes) > MAX_SAME_HASH and max(Counter(hashes).values()) > MAX_SAME_HASH
