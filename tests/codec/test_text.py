"""The text that is stored: JSON that both engines compute with, the same for equal values, and safe to read."""

from __future__ import annotations

import json
import sqlite3
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings

from taskctx_sql import ContextKey, SqlStore, codec, open_store
from taskctx_sql.codec import encoder
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.schema import tables
from tests.support.contract import new_delta
from tests.support.values import HOSTILE, VALUES, nested, same_nesting


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


def test_a_value_can_be_coded_under_a_long_stack() -> None:
    value = nested(encoder.MAX_DEPTH - 1)

    def deep(frames: int) -> Any:
        return deep(frames - 1) if frames else codec.decode(codec.encode(value))

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(deep(700)))
    thread.start()
    thread.join()
    assert same_nesting(found[0], value)


@pytest.mark.parametrize(
    "text", ['{"__set__": 1}', '{"__datetime__": "x"}', '{"__int__": "zz"}', "{", '{"__items__": [1]}']
)
def test_a_text_that_was_not_written_by_us_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # json's own is one
        codec.decode(text)
