"""Every value comes back equal and of the same type, from every store; what cannot is told, and costs no neighbour."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
import sqlite3
import sys
import threading
import time
import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Context, Decimal, Inexact, Overflow, localcontext
from numbers import Integral, Real
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, cast
from zoneinfo import ZoneInfo

import pydantic
import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskctx_sql import ContextKey, ContextUpdate, SqlStore, Store, TaskContext, codec, open_store
from taskctx_sql.codec import encoder
from taskctx_sql.errors import LossyValueWarning, UnstorableValueError
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.schema import tables
from tests.conftest import ON_CITUS, Opener, wide
from tests.support.contract import new_delta, stored
from tests.support.values import HOSTILE, VALUES, nested, picture


@pytest.fixture(autouse=True)
def warned_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_warned", set())


# Property: a round trip through each store.

_seen: dict[str, int] = {}

# To a store. TASKCTX_TEST_VALUES=10000 is the long form.
HOW_MANY = int(os.environ.get("TASKCTX_TEST_VALUES", "2000"))


@pytest.fixture(params=("json", "sqlite", "postgres", *wide("psycopg", *ON_CITUS)))
def kind(request: pytest.FixtureRequest) -> str:
    """Each driver in turn: how it is connected makes no difference to a value."""
    return str(request.param)


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
    assert _same_nesting(again, value)


def _same_nesting(one: Any, other: Any) -> bool:
    # Level by level: comparing such values by == would need a stack of their depth.
    while type(one) in (list, dict):
        assert type(one) is type(other)
        one, other = (one[0], other[0]) if isinstance(one, list) else (one["k"], other["k"])
    return bool(one == other)


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


# What a database holds.


@settings(max_examples=300)
@given(value=VALUES)
@example(value={"a": [float("nan"), "\x00", "\ud800", 10**5000, {1: 2}]})
def test_the_text_is_json_that_both_engines_compute_with(value: Any) -> None:
    text = codec.encode(value)
    text.encode()
    assert "\x00" not in text
    strict = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert strict is not None or value is None
    connection = sqlite3.connect(":memory:")
    assert connection.execute("SELECT json_valid(?)", (text,)).fetchone() == (1,)
    connection.close()


async def test_postgres_takes_each_hostile_value_as_jsonb(postgres_url: str, user: str) -> None:
    async with open_store(postgres_url) as store:
        assert isinstance(store, SqlStore)
        await store.save(new_delta(ContextKey(user, "c1"), *HOSTILE, nested(encoder.MAX_DEPTH - 1)))
        column = sa.func.jsonb_typeof(sa.cast(tables.updates.c.data, sa.dialects.postgresql.JSONB))
        mine = tables.updates.c.context_id == row_codec.context_id(ContextKey(user, "c1"))
        found = await store.query(sa.select(column).where(mine))
    assert len(found) >= len(HOSTILE)


def test_plain_values_stay_readable() -> None:
    assert codec.encode({"a": [1, 2.5, None, True, "é🙂"]}) == '{"a":[1,2.5,null,true,"é🙂"]}'
    assert codec.encode((1, {"x"})) == '{"__tuple__":[1,{"__set__":["x"]}]}'


# What is stored as something else.


class Color(enum.Enum):
    RED = "red"


class Level(enum.Enum):
    LOW = 1


class Number(enum.IntEnum):
    ONE = 1


class Name(str):
    __slots__ = ()


@dataclasses.dataclass
class Point:
    x: int
    y: Any


class Model(pydantic.BaseModel):
    name: str
    tags: set[str]


class Steps(pydantic.RootModel[list[int]]):
    pass


class Names(pydantic.RootModel[dict[str, Steps]]):
    pass


class Plan(pydantic.BaseModel):
    steps: Steps


class WholeNumber:
    """A number as numpy's: no int, but one that says that it is whole."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    __int__ = __index__

    def __float__(self) -> float:
        return float(self.value)

    def __round__(self) -> int:
        return self.value

    def __le__(self, other: int) -> bool:
        return self.value <= other

    def __ge__(self, other: int) -> bool:
        return self.value >= other


Integral.register(WholeNumber)


class RealNumber:
    """A number as numpy's float32."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return float(self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == other)

    def __hash__(self) -> int:
        return hash(self.value)


Real.register(RealNumber)


Pair = namedtuple("Pair", "a b")


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: int


CONVERTED = [
    (Color.RED, "red"),
    (Number.ONE, 1),
    (Name("n"), "n"),
    (Point(1, (2,)), {"x": 1, "y": (2,)}),
    (Model(name="m", tags={"t"}), {"name": "m", "tags": {"t"}}),
    (Steps([1, 2]), [1, 2]),
    (Names({"a": Steps([1])}), {"a": [1]}),
    (Plan(steps=Steps([1])), {"steps": [1]}),
    ({"in": [Steps([1])]}, {"in": [[1]]}),
    (WholeNumber(7), 7),
    ({WholeNumber(7): (WholeNumber(2**70),)}, {7: (2**70,)}),
    (RealNumber(0.25), 0.25),
    (Pair(1, 2), (1, 2)),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (bytearray(b"x"), b"x"),
    (memoryview(b"x"), b"x"),
    (PurePosixPath("a/b"), Path("a/b")),
    ({Color.RED: Point(1, 2)}, {"red": {"x": 1, "y": 2}}),
]


@pytest.mark.parametrize(("value", "expected"), CONVERTED, ids=lambda value: type(value).__name__)
async def test_a_known_type_is_stored_as_its_content(store: Store, user: str, value: Any, expected: Any) -> None:
    key = ContextKey(user, "c1")
    await store.save(new_delta(key, value))
    assert [picture(found) for found in await stored(store, key)] == [picture(expected)]


class Opaque:
    def __str__(self) -> str:
        return "opaque"


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no text")


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


def cycle() -> Any:
    value: dict[str, Any] = {"a": [1]}
    value["a"].append(value)
    return value


class Nanoseconds(datetime):
    """A time that is more than a datetime, as pandas' are."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nanoseconds) and super().__eq__(other)

    __hash__ = datetime.__hash__

    def __str__(self) -> str:
        return "2026-01-02 00:00:00.000000789"


class NoTime(datetime):
    """No time at all, and a datetime by its class."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = datetime.__hash__

    def __str__(self) -> str:
        return "NoTime"


class Fraction(timedelta):
    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = timedelta.__hash__

    def __str__(self) -> str:
        return "1500 ns"


class Rounded(RealNumber):
    """A number that no float is equal to."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = RealNumber.__hash__

    def __str__(self) -> str:
        return "0.3333333333333333333333"


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


class Kind(enum.StrEnum):
    NOTE = "note"


@pytest.mark.parametrize("change", ["edit", "remove"])
@pytest.mark.parametrize(
    ("timestamp", "kind_of_update"),
    [
        (1.5, Kind.NOTE),
        (1.5, Color.RED),
        (RealNumber(1.5), "m"),
        (Decimal("1.50"), "m"),
        (1.5, Name("m")),
        (1.5, ["m"]),
    ],
)
async def test_an_entry_is_known_again_whatever_its_time_and_type_are(
    address: str, reopened: Opener, user: str, timestamp: Any, kind_of_update: Any, change: str
) -> None:
    data = {"user_id": user, "chat_id": "c1"}
    async with reopened() as store, reopened() as of_another:
        context, other = TaskContext(data, store=store), TaskContext(data, store=of_another)
        context.context_history.append(ContextUpdate(timestamp, kind_of_update, "first", {}))
        await context.save()
        other.add_context_update("m", "other")
        await other.save()
        if change == "edit":
            context.context_history[0].data = "edited"
        else:
            del context.context_history[0]
        await context.save()
        # A row gets a new seq. A file is written as a whole, so there it stays in its place.
        edited = ["edited", "other"] if address.startswith("json") else ["other", "edited"]
        assert await stored(store, context.key) == (["other"] if change == "remove" else edited)


async def test_types_that_are_no_text_are_of_no_type_that_is_asked_for(store: Store, user: str) -> None:
    context = TaskContext({"user_id": user, "chat_id": "c1"}, store=store)
    for kind_of_update in (["m"], {"a": 1}, None, 5, "m"):
        context.add_context_update(cast(str, kind_of_update), codec.shown(kind_of_update))
    await context.save()
    for keep in ([], ["m"]):
        again = TaskContext({"user_id": user, "chat_id": "c1"}, store=store)
        await again.load(types=["m"], keep_types=keep)
        assert [update.data for update in again.context_history] == ["'m'"]


class Tagged(str):
    """A text that is equal to one with the same tag only."""

    tag: int

    def __new__(cls, text: str, tag: int) -> Tagged:
        made = super().__new__(cls, text)
        made.tag = tag
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tagged) and str.__eq__(self, other) and self.tag == other.tag

    def __hash__(self) -> int:
        return hash((str.__hash__(self), self.tag))


class Money(int):
    """A number that is equal to no other kind of number."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and int(self) == int(other)

    def __hash__(self) -> int:
        return int.__hash__(self)


class Meters(float):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Meters) and float(self) == float(other)

    def __hash__(self) -> int:
        return float.__hash__(self)


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


async def test_a_key_of_metadata_that_is_an_enum_is_changed_by_whoever_changed_it(sql_store: Store, user: str) -> None:
    data = {"user_id": user, "chat_id": "c1"}
    one, other = (TaskContext(data, store=sql_store) for _ in range(2))
    one.metadata.update(cast(dict[str, Any], {Color.RED: 1, "a": 1}))
    await one.save()
    await other.load()
    other.metadata["red"] = 2
    await other.save()
    one.metadata["a"] = 2
    await one.save()
    await other.load()
    assert other.metadata == {"red": 2, "a": 2}


async def test_a_key_of_any_size_comes_back(store: Store, user: str) -> None:
    key = ContextKey(user, "c1")
    value = {10**5000: "large", "k" * 10_000: 1}
    await store.save(new_delta(key, value, {"a": {-(10**5000): 1}}))
    assert (await stored(store, key))[0] == value


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


# What a stored value may cost.

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


COUNTS = [
    (WholeNumber(10), 10), (10.0, 10), (10.6, 11), (Decimal("10"), 10), (Decimal("1E999999"), None), (True, None),
    (float("nan"), None), (Decimal("sNaN"), None), (float("inf"), None), ("10", None), (2**63, None), (9.3e18, None),
]  # fmt: skip


@pytest.mark.parametrize(("count", "expected"), COUNTS, ids=lambda value: str(value)[:24])
async def test_a_count_of_tokens_is_a_number_in_sql_whatever_made_it(
    sql_store: SqlStore, user: str, count: Any, expected: int | None
) -> None:
    context = TaskContext({"user_id": user, "chat_id": "c1"}, store=sql_store)
    duration: Any = RealNumber(0.25)
    context.track_model_usage("m", "p", "chat", input_tokens=count, duration=duration)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossyValueWarning)
        await context.save()
    mine = tables.models.c.context_id == row_codec.context_id(context.key)
    (row,) = await sql_store.query(sa.select(tables.models.c.input_tokens, tables.models.c.duration).where(mine))
    assert tuple(row) == (expected, 0.25)


async def test_strict_mode_takes_all_that_comes_back(reopened: Opener, user: str) -> None:
    key = ContextKey(user, "c1")
    async with reopened(strict=True) as store:
        await store.save(new_delta(key, *HOSTILE))
        assert len(await stored(store, key)) == len(HOSTILE)


def test_a_time_of_day_in_a_zone_is_told_as_lossy() -> None:
    import datetime

    with pytest.raises(UnstorableValueError):
        codec.encode(datetime.time(1, 2, tzinfo=ZoneInfo("Europe/Berlin")), strict=True)


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


@pytest.mark.parametrize(
    "text",
    [
        '{"__set__": [[]]}', '{"__set__": [1, 1]}', '{"__items__": [["a", 1]]}', '{"__items__": []}',
        '{"__items__": 1}',
        '{"__datetime__": "2026-01-01 00:00"}', '{"__bytes__": "no base64"}', '{"__decimal__": " 1"}',
        '{"__int__": "7"}',
        '{"__path__": "a//b"}', '{"__str__": "a"}', '{"__float__": "nan"}', '{"__uuid__": "x"}', '{"__date__": [1]}',
    ],
)  # fmt: skip
def test_what_the_original_wrote_stays_as_it_is_whatever_it_looks_like(text: str) -> None:
    value = codec.read_file_text(text)
    assert type(value) is dict
    assert json.dumps(codec.to_file_tree(value)) == text


def test_equal_sets_have_equal_texts() -> None:
    assert codec.encode({"b", "a", "c"}) == codec.encode({"c", "b", "a"})
    # A small table of hashes gives them another order than the one they came in.
    members = [
        (1, frozenset({"a", "b"})),
        (1, frozenset({"b", "c"})),
        ("x", 8),
        frozenset({8, 16}),
        frozenset({0, 8}),
        1,
        "1",
    ]
    assert len({codec.encode(set(order)) for order in (members, members[::-1], sorted(members, key=repr))}) == 1


@pytest.mark.parametrize("with_more", [lambda number: number, lambda number: frozenset({number, "more"})])
def test_sets_within_sets_cost_no_more_than_their_size(with_more: Any) -> None:
    value = frozenset({"x" * 1_000_000, 1})
    for number in range(400):
        value = frozenset({value, with_more(number)})
    began = time.process_time()
    text = codec.encode(value)
    assert time.process_time() - began < 5
    assert codec.decode(text) == value


def test_a_value_can_be_coded_under_a_long_stack() -> None:
    value = nested(encoder.MAX_DEPTH - 1)

    def deep(frames: int) -> Any:
        return deep(frames - 1) if frames else codec.decode(codec.encode(value))

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(deep(700)))
    thread.start()
    thread.join()
    assert _same_nesting(found[0], value)


@pytest.mark.parametrize(
    "text", ['{"__set__": 1}', '{"__datetime__": "x"}', '{"__int__": "zz"}', "{", '{"__items__": [1]}']
)
def test_a_text_that_was_not_written_by_us_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # json's own is one
        codec.decode(text)
