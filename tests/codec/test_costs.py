"""What a stored value may cost, whatever it says."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest

from taskctx_sql import ContextKey, Store, codec
from taskctx_sql.errors import LossyValueWarning
from tests.support.contract import new_delta, stored

ONE_HASH = [place * ((1 << 61) - 1) for place in range(1, 20_000)]

SLOW: list[Any] = [
    {"__timedelta__": "1E999999"},
    {"__timedelta__": "-1E-999999"},
    {"__timedelta__": "1" * 100_000},
    {"__decimal__": "1E999999"},
    {"__set__": ONE_HASH},
    {"__frozenset__": ONE_HASH},
    {"__items__": [[member, 1] for member in ONE_HASH]},
    {"__set__": [{"__tuple__": [member]} for member in ONE_HASH]},
    {"__set__": [{"__decimal__": str(member)} for member in ONE_HASH]},
]


@pytest.mark.wide
@pytest.mark.parametrize("value", SLOW, ids=lambda value: str(value)[:24])
async def test_a_small_value_costs_little_whatever_it_says(store: Store, user: str, value: Any) -> None:
    key = ContextKey(user, "c1")
    began = time.process_time()
    await store.save(new_delta(key, value, [value]))
    assert await stored(store, key) == [value, [value]]
    assert time.process_time() - began < 5
    # In a file, or in a row that somebody else wrote, it is no look-alike.
    began = time.process_time()
    codec.read_file_text(json.dumps(value))
    with contextlib.suppress(ValueError):
        codec.decode(json.dumps(value, separators=(",", ":")))
    assert time.process_time() - began < 4


async def test_a_set_of_one_hash_is_stored_as_its_text(store: Store, user: str) -> None:
    key = ContextKey(user, "c1")
    few, many = set(ONE_HASH[:100]), set(ONE_HASH[:101])
    with pytest.warns(LossyValueWarning, match="one hash"):
        await store.save(new_delta(key, few, many, dict.fromkeys(few, 1)))
    found = await stored(store, key)
    assert (found[0], found[1], found[2]) == (few, str(many), dict.fromkeys(few, 1))


@pytest.mark.parametrize(
    "step", [{"__items__": [["a", None]]}, {"__tuple__": [None]}, {"__items__": [["__items__", None]]}]
)
def test_a_value_of_nested_look_alikes_costs_no_more_than_its_size(step: Any) -> None:
    def fill(shape: Any, inner: Any) -> Any:
        if isinstance(shape, dict):
            return {key: fill(item, inner) for key, item in shape.items()}
        if isinstance(shape, list):
            return [fill(item, inner) for item in shape]
        return inner if shape is None else shape

    value: Any = "bottom"
    for _ in range(60):
        value = fill(step, value)
    assert codec.read_file_text(json.dumps(codec.to_file_tree(value))) == value
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize("with_more", [lambda number: number, lambda number: frozenset({number, "more"})])
def test_sets_within_sets_cost_no_more_than_their_size(with_more: Any) -> None:
    value = frozenset({"x" * 1_000_000, 1})
    for number in range(400):
        value = frozenset({value, with_more(number)})
    began = time.process_time()
    text = codec.encode(value)
    assert time.process_time() - began < 5
    assert codec.decode(text) == value
