"""Which items, namespaces and checkpoints a search is for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any, Final

from langgraph.store.base import MatchCondition

_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}

_MISSING: Final = object()


def matches(value: Any, wanted: Any) -> bool:
    """Whether a value is what a filter asks for: equal, or as its operators say.

    Numbers are compared with numbers and texts with texts; of any other two, none is greater.

    Raises:
        ValueError: The filter has an unknown operator.
    """
    if isinstance(wanted, Mapping):
        if any(str(name).startswith("$") for name in wanted):
            return all(_compare(value, name, operand) for name, operand in wanted.items())
        return isinstance(value, Mapping) and all(matches(_at(value, name), part) for name, part in wanted.items())
    if isinstance(wanted, list | tuple):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(wanted)
            and all(matches(*pair) for pair in zip(value, wanted, strict=True))
        )
    return _equal(value, wanted)


def contains(found: Any, wanted: Any) -> bool:
    """Whether a value of metadata has all that is wanted of it: of a mapping the names, of a list the elements."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            contains(_at(found, name, _MISSING), value) for name, value in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return isinstance(found, list | tuple) and all(any(contains(one, value) for one in found) for value in wanted)
    return _equal(found, wanted)


def _at(value: Mapping[str, Any], name: str, missing: object = None) -> Any:
    """Return what a mapping has by a name, which may be a path with dots to what is deeper in it."""
    if name in value or "." not in name:
        return value.get(name, missing)
    first, _, rest = name.partition(".")
    below = value.get(first)
    return _at(below, rest, missing) if isinstance(below, Mapping) else missing


def _compare(value: Any, name: str, operand: Any) -> bool:
    if name == "$eq":
        return _equal(value, operand)
    if name == "$ne":
        return not _equal(value, operand)
    if name not in _ORDERS:
        raise ValueError(f"Unsupported operator: {name}. The operators are $eq, $ne, {', '.join(_ORDERS)}")
    comparable = (_is_number(value) and _is_number(operand)) or (isinstance(value, str) and isinstance(operand, str))
    return comparable and _ORDERS[name](value, operand)


def _equal(value: Any, other: Any) -> bool:
    # Python takes True for 1, which JSON does not.
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def fits(namespace: tuple[str, ...], conditions: Iterable[MatchCondition]) -> bool:
    """Whether a namespace begins and ends as the conditions say; a "*" stands for any one label.

    Raises:
        ValueError: A condition is neither about the beginning nor about the end.
    """
    return all(_fits(namespace, condition) for condition in conditions)


def _fits(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    path = condition.path
    if condition.match_type == "prefix":
        part = namespace[: len(path)]
    elif condition.match_type == "suffix":
        part = namespace[max(len(namespace) - len(path), 0) :]
    else:
        raise ValueError(f"Unsupported match type: {condition.match_type}")
    return len(part) == len(path) and all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))
