"""Types whose own methods refuse, or say that they are equal to nothing or to others, end no call and lose nothing."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import pytest

from taskctx_sql import ContextKey, ContextUpdate, Store, TaskContext
from taskctx_sql.errors import LossyValueWarning, UnstorableValueError
from tests.conftest import Opener
from tests.support.contract import new_delta, stored
from tests.support.foreign_types import Color, Level, Meters, Money, Mute, Opaque, Tagged
from tests.support.values import picture


class Refusing:
    """A class that refuses all that anybody may want to know."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no answer")

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __bool__(self) -> bool:
        raise RuntimeError("neither")


@pytest.mark.filterwarnings("ignore::taskctx_sql.errors.LossyValueWarning")
async def test_a_class_that_refuses_everything_ends_no_call(store: Store, user: str) -> None:
    no: Any = Refusing()
    context = TaskContext({"user_id": user, "chat_id": "c1"}, store=store, clock=lambda: 1.5)
    for _ in range(2):
        context.track_model_usage(no, no, no, input_tokens=no, output_tokens=no, cost=no, duration=no)
        context.track_file_operation(no, no, no)
        context.add_context_update(no, {no: no}, {"group": no, no: no})
        context.add_context_update("m", no)
    context.file_tracker["a"] = {no: 1, "operation": 2, "source": 3, "timestamp": 4}
    context.model_tracker.append({no: 1, "model_id": no})
    context.metadata[no] = context.metadata_toggles[no] = no
    await context.save()
    context.metadata["a"] = no
    context.context_history[0].metadata = {"seen": no}
    assert str(context.optimize_context(10, dry_run=True))
    await context.save()
    await context.load(max_chars=1_000)
    await context.load()
    assert not context.has_unsaved_changes
    context.optimize_context(0)
    await context.save()
    assert await stored(store, context.key) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Money(5), "5"),
        (Meters(1.5), "1.5"),
        (Tagged("a", 1), "a"),
        ({Tagged("a", 1): 1}, {"a": 1}),
        ([Money(5)], ["5"]),
    ],
)
async def test_what_is_equal_to_no_text_and_no_number_is_stored_as_its_text_with_a_warning(
    store: Store, reopened: Opener, user: str, value: Any, text: Any
) -> None:
    key = ContextKey(user, "c1")
    with pytest.warns(LossyValueWarning, match="more than"):
        await store.save(new_delta(key, value))
    assert await stored(store, key) == [text]
    async with reopened(strict=True) as strict:
        with pytest.raises(UnstorableValueError):
            await strict.save(new_delta(ContextKey(user, "c2"), value))


BECOME_ONE: list[tuple[Any, Any]] = [
    ({Color.RED: 1, "red": 2}, {"Color.RED": 1, "red": 2}),
    ({"red": 2, Color.RED: 1}, {"red": 2, "Color.RED": 1}),
    ({Level.LOW: 1, 1: 2}, {"Level.LOW": 1, 1: 2}),
    ({Level.LOW: 1, True: 2}, {"Level.LOW": 1, True: 2}),
    ({Opaque(): 1, Opaque(): 2, "opaque": 3}, {"opaque (2)": 1, "opaque (3)": 2, "opaque": 3}),
    ({Mute(): 1, Mute(): 2}, {"<Mute without a text>": 1, "<Mute without a text> (2)": 2}),
    ({Tagged("a", 1): 1, Tagged("a", 2): 2}, {"a": 1, "a (2)": 2}),
    ({Color.RED, "red"}, {"Color.RED", "red"}),
    ({"in": frozenset({Level.LOW, 1})}, {"in": frozenset({"Level.LOW", 1})}),
    ({(Level.LOW,), (1,)}, {f"({Level.LOW!r},)", (1,)}),
    ({frozenset({Color.RED}): 1, frozenset({"red"}): 2}, {f"frozenset({{{Color.RED!r}}})": 1, frozenset({"red"}): 2}),
]


@pytest.mark.parametrize(("value", "expected"), BECOME_ONE, ids=lambda value: type(value).__name__)
async def test_keys_and_members_that_would_become_one_stay_apart(
    store: Store, user: str, value: Any, expected: Any
) -> None:
    key = ContextKey(user, "c1")
    with pytest.warns(LossyValueWarning):
        await store.save(new_delta(key, value))
    assert [picture(found) for found in await stored(store, key)] == [picture(expected)]


@pytest.mark.parametrize("value", [value for value, _ in BECOME_ONE], ids=lambda value: type(value).__name__)
async def test_strict_mode_refuses_keys_and_members_that_would_become_one(
    reopened: Opener, user: str, value: Any
) -> None:
    async with reopened(strict=True) as store:
        with pytest.raises(UnstorableValueError):
            await store.save(new_delta(ContextKey(user, "c1"), value))


class Unshown:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


async def test_a_type_that_cannot_be_shown_costs_no_save(store: Store, user: str) -> None:
    key = ContextKey(user, "c1")
    kinds: list[Any] = [Unshown(), 10**5000]
    updates = [ContextUpdate(10**5000, kind, (1,), {}) for kind in kinds]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossyValueWarning)
        await store.save(dataclasses.replace(new_delta(key), updates=updates))
    assert await stored(store, key) == [(1,), (1,)]
