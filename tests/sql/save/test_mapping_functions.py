"""The functions that merge mappings in Postgres give what the library itself gives, which merges them for SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskctx_sql import ContextKey, codec
from taskctx_sql.codec.tags import TAGS
from taskctx_sql.context import mappings
from taskctx_sql.model import MappingChange
from taskctx_sql.sql.row_codec import merged_text
from taskctx_sql.sql.schema.functions import shipped

# Few keys, so that mappings share some. With any but the first ones, or a tag alone, a mapping is encoded as a list.
KEYS = st.sampled_from(["a", "b", "", "ü", 'quote"', "__int__", "__items__", 1, 2.5, None, "nul\0", "\ud800", (1, "x")])
VALUES = st.recursive(
    st.sampled_from([None, True, 0, -1, 1.0, 1e300, float("nan"), 2**80, "x", "é\n\\", b"bytes", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)
MAPPINGS = st.dictionaries(KEYS, VALUES, max_size=4)
OTHERS = st.sampled_from([[1], "text", 5, None])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


def test_the_functions_know_all_tags() -> None:
    (entries,) = (function for function in shipped() if function.name == "taskctx_entries_v1")
    assert all(tag in entries.body for tag in TAGS)


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=500)
@example(saved=[1], now={}, stored={"__items__": None})
@given(saved=MAPPINGS | OTHERS, now=MAPPINGS | OTHERS, stored=MAPPINGS | OTHERS)
async def test_a_merge(server: asyncpg.Connection, saved: Any, now: Any, stored: Any) -> None:
    change, _ = mappings.mapping_change(now, codec.encode(saved))
    if change is None:
        return
    text, whole = codec.encode(stored), codec.encode(change.whole)
    keys = [codec.encode(list(each)) for each in (change.changed, change.removed)]
    merged = await server.fetchval(
        "SELECT taskctx_merged_v1($1, $2, $3::text::json, $4::text::json)", text, whole, *keys
    )

    assert merged == expected(text, change)


def expected(stored: str, change: MappingChange) -> str:
    return merged_text(ContextKey("u", "c"), "metadata", stored, change, strict=False)


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=500)
@given(before=MAPPINGS | OTHERS, after=MAPPINGS | OTHERS, current=MAPPINGS | OTHERS)
async def test_a_change_that_is_taken_back(server: asyncpg.Connection, before: Any, after: Any, current: Any) -> None:
    texts = [codec.encode(each) for each in (before, after, current)]
    assert await server.fetchval("SELECT taskctx_taken_back_v1($1, $2, $3)", *texts) == mappings.taken_back(*texts)
