"""Inspect values of any class. Their methods may raise anything."""

from __future__ import annotations

import dataclasses
import operator
from collections import Counter
from collections.abc import Iterable
from numbers import Integral, Rational, Real
from typing import Any, Final

# How many members of a set, or keys of a dict, may share a hash: each is compared with all before it.
MAX_SAME_HASH: Final = 100
# The length of a value in a message.
SHOWN_VALUE: Final = 200


def text_of(value: Any) -> str:
    """Return ``str(value)``, or a placeholder if the value's class raises."""
    try:
        return str.__str__(str(value))
    except Exception:
        return f"<{type(value).__name__} without a text>"


def shown(value: Any) -> str:
    """Return ``repr(value)`` for a message, cut if it is long, or a placeholder if the value's class raises."""
    try:
        text = str.__str__(repr(value))
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= SHOWN_VALUE else f"{text[:SHOWN_VALUE]}..."


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are equal; False if comparing them raises."""
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
    """Whether a value is a pydantic model; ``model_dump()`` returns its content."""
    kind = type(value)
    return hasattr(kind, "model_fields") and hasattr(kind, "model_dump")


def plain_scalar(value: str | int | float) -> str | int | float:
    """Return the plain str, int or float that a value of a subclass holds."""
    if isinstance(value, str):
        return str.__str__(value)
    return int.__index__(value) if isinstance(value, int) else float.__float__(value)


def number_of(value: Any) -> int | float | None:
    """Return the int or float that equals a number of another library, such as numpy, or None."""
    if isinstance(value, Integral):
        return operator.index(value)
    if isinstance(value, Real) and not isinstance(value, Rational):
        number = float(value)
        return number if number == value or (number != number and value != value) else None
    return None


def are_crowded(members: Iterable[Any]) -> bool:
    """Whether so many share a hash that a set of them would take far more time than its size suggests.

    That does not happen by chance, but an attacker can choose numbers for it.
    """
    hashes = list(map(hash, members))
    return len(hashes) > MAX_SAME_HASH and max(Counter(hashes).values()) > MAX_SAME_HASH
