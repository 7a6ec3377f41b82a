"""Every value comes back equal and of the same type, from every store; what cannot is told, and costs no neighbour."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskctx_sql import ContextKey, ContextUpdate, Store
from taskctx_sql.codec import encoder
from tests.support.contract import new_delta, stored
from tests.support.values import HOSTILE, VALUES, nested, picture, same_nesting

_seen: dict[str, int] = {}

# To a store. TASKCTX_TEST_VALUES=10000 is the long form.
HOW_MANY = int(os.environ.get("TASKCTX_TEST_VALUES", "2000"))


@settings(max_examples=30)
@given(values=st.lists(VALUES, min_size=10, max_size=10))
@example(values=[{None: {"__set__": []}}])
async def test_arbitrary_values_come_back_as_they_were(store: Store, user: str, kind: str, values: list[Any]) -> None:
    await expect_values(store, user, kind, values)


@pytest.mark.wide
@settings(max_examples=HOW_MANY // 10)
@given(values=st.lists(VALUES, min_size=10, max_size=10))
async def test_many_arbitrary_values_come_back_as_they_were(
    store: Store, user: str, kind: str, values: list[Any]
) -> None:
    await expect_values(store, user, kind, values)


async def expect_values(store: Store, user: str, kind: str, values: list[Any]) -> None:
    number = _seen[kind] = _seen.get(kind, 0) + 1
    key = ContextKey(user, f"c{number}")
    updates = [ContextUpdate(1.5, "message", value, {"value": value}) for value in values]
    await store.save(dataclasses.replace(new_delta(key), updates=updates))
    for value, row in zip(values, (await store.load(key)).updates, strict=True):
        assert picture(row.update.data) == picture(value)
        assert picture(row.update.metadata) == picture({"value": value})
    await store.delete(key)


async def test_each_hostile_value_comes_back_as_it_was(store: Store, user: str) -> None:
    key = ContextKey(user, "c1")
    await store.save(new_delta(key, *HOSTILE))
    found = await stored(store, key)
    assert len(found) == len(HOSTILE)
    for value, again in zip(HOSTILE, found, strict=True):
        assert picture(again) == picture(value)


@pytest.mark.parametrize("kind_of_nesting", ["list", "dict"])
async def test_a_value_nested_to_the_limit_comes_back(store: Store, user: str, kind_of_nesting: str) -> None:
    value = nested(encoder.MAX_DEPTH - 1, kind_of_nesting)
    key = ContextKey(user, "c1")
    await store.save(new_delta(key, value))
    (again,) = await stored(store, key)
    assert same_nesting(again, value)


async def test_strange_types_timestamps_and_paths_come_back(store: Store, user: str) -> None:
    updates = [
        ContextUpdate(timestamp, kind, None, {})  # type: ignore[arg-type]  # callers without types
        for timestamp, kind in [
            (1, "int"), (float("inf"), "inf"), (-0.0, "zero"), (1e300, "a\x00b"), (2.5, "\ud800"), (2.5, ""),
            (2.5, 7), (2.5, None), (None, "none"), ("2026", "text"), (10**30, "big"), (True, "bool"),
        ]
    ]  # fmt: skip
    key = ContextKey(user, "c1")
    await store.save(dataclasses.replace(new_delta(key), updates=updates))
    found = [row.update for row in (await store.load(key)).updates]
    expected = [(picture(update.timestamp), picture(update.update_type)) for update in updates]
    assert [(picture(update.timestamp), picture(update.update_type)) for update in found] == expected
