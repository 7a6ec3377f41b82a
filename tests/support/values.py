"""Values of every kind, and what it means that one came back."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

HOSTILE: list[Any] = [
    "\x00", "a\x00b", "\ud800", "\udfff\ud800", "\\u0000", "\\ud800", "\u2028\u2029", "'; DROP TABLE x; --",
    "%s :name ? $1 {}", "🙂", "ｆｕｌｌ", "\r\n\t\x08", "\x7f\x80\x9f", "\ufeff", "\uffff", "", " ", "x" * 100_000,
    math.nan, math.inf, -math.inf, -0.0, 0.0, 1.0, 1e16, 1e22, 5e-324, 1.7976931348623157e308, 0.1, 1e-7,
    0, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**400, 10**4299, 10**4300, -(10**5000), 7**9000,
    True, False, None, [], {}, (), set(), frozenset(), b"", b"\x00\xff", "null", "NaN", "Infinity",
    {"": 1}, {"\x00": 1}, {"\ud800": 1}, {"a": {"\x00": "\ud800"}}, {1: "a", "1": "b"}, {None: 1, "null": 2},
    {True: 1, "true": 2}, {1.5: 1, "1.5": 2}, {(1, 2): "t"}, {frozenset({1}): 1}, {math.inf: 1}, {-0.0: 1},
    {"__set__": [1]}, {"__tuple__": [1, 2]}, {"__bytes__": "AAAA"}, {"__items__": [[1, 2]]}, {"__float__": "nan"},
    {"__datetime__": "2026-01-01T00:00:00"}, {"__int__": "0x10"}, {"__str__": "a\\u0000"}, {"__set__": 1},
    {"__unknown__": 1}, {"__class__": "os.system"}, {"__set__": [1], "more": 1}, {"$type": "System.Object"},
    {"__tuple__": [{"__set__": [1]}]},
    {None: {"__set__": []}}, {1: {2: {"__tuple__": [()]}}}, [{"__path__": "/etc"}], {"__path__": {"__str__": "x"}},
    (1, (2, (3,))), [(), [()]], {"a": (1, [2, {"b": {3}}])}, {1, "1", 1.5, None, (1, 2), b"1"}, frozenset({"a", 1}),
    datetime(2026, 1, 2, 3, 4, 5, 678901), datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=45, seconds=7))), date(1, 1, 1), date(2026, 2, 28),
    time(), time(23, 59, 59, 999999), time(1, 2, tzinfo=UTC), timedelta(), timedelta(microseconds=-1),
    timedelta(days=-999999999), timedelta.max, UUID(int=0), UUID(int=2**128 - 1), Decimal("0.1"), Decimal("-0"),
    Decimal("1E+500"), Decimal("NaN"), Decimal("Infinity"), Decimal("1." + "3" * 200), Path("/a/b"), Path("é x"),
    Path("a\udcff"),
]  # fmt: skip


# Python prints no integer past 4,300 digits, so hypothesis cannot show one that fails.
_SHOWN = [value for value in HOSTILE if not (isinstance(value, int) and value.bit_length() > 14_000)]


def nested(depth: int, kind: str = "list") -> Any:
    """A value with so many levels."""
    value: Any = "bottom"
    for _ in range(depth):
        value = [value] if kind == "list" else {"k": value}
    return value


def same_nesting(one: Any, other: Any) -> bool:
    """Whether both are lists and dicts nested alike, around equal values."""
    # Level by level: comparing such values by == would need a stack of their depth.
    while type(one) in (list, dict):
        assert type(one) is type(other)
        one, other = (one[0], other[0]) if isinstance(one, list) else (one["k"], other["k"])
    return bool(one == other)


_text = st.text(st.characters(exclude_categories=())) | st.sampled_from([v for v in HOSTILE if isinstance(v, str)][:15])
_numbers = (
    st.integers()
    | st.integers(min_value=-(10**40), max_value=10**40)
    | st.floats()
    | st.sampled_from([v for v in _SHOWN if isinstance(v, int | float)])
)
_scalars = st.none() | st.booleans() | _numbers | _text
_typed = (
    st.binary(max_size=20)
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(minutes=-90))))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals()
    | st.builds(Path, st.text(st.characters(categories=["L", "N"]), max_size=8))
)
_hashable = st.recursive(
    _scalars.filter(lambda value: value == value) | st.uuids() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
_keys = _text | st.sampled_from(["__set__", "__items__", "__tuple__", "__str__", "__float__", "a", "b"])


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=4)
        | st.dictionaries(_keys, inner, max_size=4)
        | st.dictionaries(_hashable, inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(_hashable, max_size=3)
        | st.frozensets(_hashable, max_size=3)
    )


VALUES = st.recursive(_scalars | _typed, _containers, max_leaves=12) | st.sampled_from(_SHOWN)


def picture(value: Any) -> Any:
    """What must be the same when a value came back: type, value to the bit, and the order of keys."""
    kind = type(value).__name__
    if isinstance(value, float):
        return (kind, "nan" if math.isnan(value) else value.hex())
    if isinstance(value, Decimal):
        return (kind, str(value))
    if isinstance(value, int):
        return (kind, hex(value))
    if isinstance(value, dict):
        return (kind, [(picture(key), picture(item)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return (kind, [picture(item) for item in value])
    if isinstance(value, set | frozenset):
        return (kind, sorted((picture(item) for item in value), key=repr))
    if isinstance(value, datetime | time):
        return (kind, value.isoformat())
    return (kind, value)
