"""Known types, which are stored as their content."""

from __future__ import annotations

import dataclasses
import enum
import warnings
from collections import OrderedDict, namedtuple
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pydantic
import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, ContextUpdate, SqlStore, Store, TaskContext, codec
from taskctx_sql.errors import LossyValueWarning
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.schema import tables
from tests.conftest import Opener
from tests.support.contract import new_delta, stored
from tests.support.foreign_types import Color, Name, RealNumber, WholeNumber
from tests.support.values import picture


class Number(enum.IntEnum):
    ONE = 1


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


Pair = namedtuple("Pair", "a b")

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
