"""Integers of any size, and decimals, whatever the program may print and compute with."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Context, Decimal, Inexact, Overflow, localcontext
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import ContextKey, Store, TaskContext, codec, open_store
from tests.support.contract import new_delta, stored
from tests.support.values import picture


@pytest.mark.parametrize("digits", [1, 5, 100])
async def test_what_a_program_sets_decimals_to_changes_no_value(store: Store, user: str, digits: int) -> None:
    values: list[Any] = [
        timedelta(days=123, seconds=4567, microseconds=890123),
        -timedelta(microseconds=1),
        timedelta.max,
    ]
    values += [timedelta.min, timedelta(microseconds=10**12 + 1), Decimal("1.234567891E-30")]
    key = ContextKey(user, "c1")
    with localcontext(Context(prec=digits, Emax=2, Emin=-2, traps=[Inexact, Overflow], capitals=0)):
        await store.save(new_delta(key, values))
        assert await stored(store, key) == [values]
    assert await stored(store, key) == [values]


@contextlib.contextmanager
def digits(number: int) -> Iterator[None]:
    """Let the program print and read integers of so many digits; 0: of any number."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(number)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize("reader", [640, 4300, 0])
@pytest.mark.parametrize("writer", [640, 4300, 0])
async def test_an_integer_comes_back_whatever_programs_may_print(
    store: Store, user: str, writer: int, reader: int
) -> None:
    values = [10**639, 10**640, 10**1000, -(10**4299), 10**4300, -(10**6000) + 7]
    look_alikes = [{"__int__": hex(value)} for value in (2, *values)]
    key = ContextKey(user, "c1")
    with digits(writer):
        await store.save(new_delta(key, *values, look_alikes))
    with digits(reader):
        found = await stored(store, key)
    assert [picture(value) for value in found] == [picture(value) for value in [*values, look_alikes]]


async def test_a_file_of_the_original_with_integers_of_any_size_is_read(tmp_path: Path) -> None:
    with digits(0):
        text = json.dumps([{"timestamp": 1.5, "update_type": "m", "data": [10**5000, {"__set__": 1}], "metadata": {}}])
    (tmp_path / "context_history_c1.json").write_text(text)
    async with open_store(f"json:///{tmp_path}") as store:
        context = TaskContext({"chat_id": "c1"}, store=store)
        await context.load()
        assert context.context_history[0].data == [10**5000, {"__set__": 1}]
        context.context_history[0].metadata = {"seen": True}
        await context.save()
        assert await stored(store, context.key) == [[10**5000, {"__set__": 1}]]


def test_an_integer_that_would_cost_far_more_than_its_size_is_refused() -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match="digits"):
        codec.read_file_text("9" * 1_000_000)
    assert time.process_time() - began < 2


async def test_a_key_of_any_size_comes_back(store: Store, user: str) -> None:
    key = ContextKey(user, "c1")
    value = {10**5000: "large", "k" * 10_000: 1}
    await store.save(new_delta(key, value, {"a": {-(10**5000): 1}}))
    assert (await stored(store, key))[0] == value
