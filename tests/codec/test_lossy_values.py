"""What is stored as its text, with a warning; in strict mode it is refused."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import PureWindowsPath
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from taskctx_sql import ContextKey, Store, TaskContext, codec
from taskctx_sql.errors import LossyValueWarning, UnstorableValueError
from tests.conftest import Opener
from tests.support.contract import new_delta, stored
from tests.support.foreign_types import Fraction, Frozen, Mute, Nanoseconds, NoTime, Opaque, Rounded, cycle
from tests.support.values import HOSTILE, nested


@dataclasses.dataclass
class Broken:
    x: int = 1

    def __getattribute__(self, name: str) -> Any:
        if name == "x":
            raise RuntimeError("no x")
        return super().__getattribute__(name)


class Lying(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")


LOSSY = [
    (Nanoseconds(2026, 1, 2), "2026-01-02 00:00:00.000000789"),
    (NoTime(1, 1, 1), "NoTime"),
    ({NoTime(1, 1, 1): 1}, {"NoTime": 1}),
    (Fraction(microseconds=1), "1500 ns"),
    (Rounded(1 / 3), "0.3333333333333333333333"),
    (PureWindowsPath("C:/a"), "C:\\a"),
    ({PureWindowsPath("C:/a"): 1}, {"C:\\a": 1}),
    (Opaque(), "opaque"),
    (Mute(), "<Mute without a text>"),
    (1 + 2j, "(1+2j)"),
    (cycle(), {"a": [1, "{...}"]}),
    (Exception("e"), "e"),
    (float, "<class 'float'>"),
    ([1, Opaque(), 2], [1, "opaque", 2]),
    ({Frozen(1): 2}, {"Frozen(x=1)": 2}),
    ({Frozen(1), 3}, {"Frozen(x=1)", 3}),
    ({(1, Frozen(1)): 2}, {(1, "Frozen(x=1)"): 2}),
]


@pytest.mark.parametrize(("value", "expected"), LOSSY, ids=lambda value: type(value).__name__)
async def test_anything_else_is_stored_as_its_text_with_one_warning_a_type(
    store: Store, user: str, value: Any, expected: Any
) -> None:
    key = ContextKey(user, "c1")
    with pytest.warns(LossyValueWarning) as caught:
        await store.save(new_delta(key, "before", value, value, "after"))
    assert len(caught) == 1
    assert await stored(store, key) == ["before", expected, expected, "after"]


async def test_a_value_nested_too_deep_costs_no_neighbour(store: Store, user: str) -> None:
    key = ContextKey(user, "c1")
    with pytest.warns(LossyValueWarning):
        await store.save(new_delta(key, "before", nested(100_000), nested(100_000, "dict"), "after"))
    found = await stored(store, key)
    assert (found[0], found[3]) == ("before", "after")
    for value in found[1:3]:
        while isinstance(value, list | dict):
            value = value[0] if isinstance(value, list) else value["k"]
        assert "nested too deep" in value


async def test_a_value_whose_own_methods_fail_costs_no_neighbour(store: Store, user: str) -> None:
    key = ContextKey(user, "c1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossyValueWarning)
        await store.save(new_delta(key, "before", Broken(), Lying(a=1), {"in": Mute()}, "after"))
    found = await stored(store, key)
    assert (found[0], found[-1]) == ("before", "after")
    assert found[2] == {"a": 1}


@pytest.mark.parametrize("value", [Opaque(), cycle(), {"a": [0, Mute()]}, nested(5000)], ids=lambda v: type(v).__name__)
async def test_strict_mode_names_the_update_and_the_place(reopened: Opener, user: str, value: Any) -> None:
    key = ContextKey(user, "c1")
    async with reopened(strict=True) as store:
        with pytest.raises(UnstorableValueError) as caught:
            await store.save(new_delta(key, "fine", {"list": [1, value]}))
        assert await stored(store, key) == []
    assert caught.value.place.startswith("new update 1 ('message').data['list'][1]")
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("value", [NoTime(1, 1, 1), Nanoseconds(2026, 1, 2), [Fraction(1)], {"a": Rounded(0.1)}])
async def test_strict_mode_refuses_what_is_more_than_the_type_it_is_one_of(
    reopened: Opener, user: str, value: Any
) -> None:
    async with reopened(strict=True) as store:
        with pytest.raises(UnstorableValueError):
            await store.save(new_delta(ContextKey(user, "c1"), value))


async def test_a_warning_that_is_an_error_refuses_the_save_each_time(store: Store, user: str) -> None:
    context = TaskContext({"user_id": user, "chat_id": "c1"}, store=store)
    context.add_context_update("message", {"in": [Opaque()]})
    with warnings.catch_warnings():
        warnings.simplefilter("error", LossyValueWarning)
        for _ in range(2):
            with pytest.raises(LossyValueWarning):
                await context.save()
    assert await stored(store, context.key) == []
    assert context.has_unsaved_changes
    with pytest.warns(LossyValueWarning):
        await context.save()
    assert await stored(store, context.key) == [{"in": ["opaque"]}]


def _undo(context: TaskContext, part: str) -> None:
    """Take out what `_add_opaque` put in."""
    match part:
        case "history":
            context.context_history.pop()
        case "metadata":
            del context.metadata["opaque"]
        case "toggles":
            del context.metadata_toggles["opaque"]
        case "files":
            del context.file_tracker["opaque"]
        case "models":
            context.model_tracker.pop()


def _add_opaque(context: TaskContext, part: str) -> None:
    match part:
        case "history":
            context.add_context_update("message", Opaque())
        case "metadata":
            context.metadata["opaque"] = Opaque()
        case "toggles":
            context.metadata_toggles["opaque"] = cast(bool, Opaque())
        case "files":
            context.file_tracker["opaque"] = {"by": Opaque()}
        case "models":
            context.model_tracker.append({"by": Opaque()})


@pytest.mark.parametrize("part", ["history", "metadata", "toggles", "files", "models"])
async def test_after_a_warning_that_is_an_error_the_value_can_be_taken_out(store: Store, user: str, part: str) -> None:
    if part != "history" and not store.features:
        part = "history"
    context = TaskContext({"user_id": user, "chat_id": "c1"}, store=store)
    context.add_context_update("message", "before")
    await context.save()
    _add_opaque(context, part)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LossyValueWarning)
        with pytest.raises(LossyValueWarning):
            await context.save()
        # A load puts on top of what is stored what is unsaved here, and sends nothing.
        await context.load()
        _undo(context, part)
        context.add_context_update("message", "after")
        await context.save()
    assert await stored(store, context.key) == ["before", "after"]
    assert not context.has_unsaved_changes


async def test_strict_mode_takes_all_that_comes_back(reopened: Opener, user: str) -> None:
    key = ContextKey(user, "c1")
    async with reopened(strict=True) as store:
        await store.save(new_delta(key, *HOSTILE))
        assert len(await stored(store, key)) == len(HOSTILE)


def test_a_time_of_day_in_a_zone_is_told_as_lossy() -> None:
    import datetime

    with pytest.raises(UnstorableValueError):
        codec.encode(datetime.time(1, 2, tzinfo=ZoneInfo("Europe/Berlin")), strict=True)
