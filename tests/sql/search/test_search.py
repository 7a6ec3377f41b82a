"""The search: which updates it finds, in which order, and what it shows of them."""

from __future__ import annotations

import pytest

from taskctx_sql import ContextKey, SqlStore
from taskctx_sql.errors import InvalidArgumentError
from tests.sql.search.oracle import expect_answers, fill


async def test_hits_are_those_that_looking_at_each_text_finds(sql_store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c1")
    texts = await fill(sql_store, key)
    await expect_answers(sql_store, key, texts)


async def test_a_hit_shows_the_text_around_its_first_match(sql_store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c1")
    await sql_store.label(key, title="A title")
    long = "before " * 100 + "the needle\nAND\x07 a Needle " + "after " * 100
    await sql_store.write(key, updates=[("message", {"other": "x", "text": long}), ("message", {"needle": 7})])
    key_hit, hit = await sql_store.search("needle", user_id=user)
    assert (hit.title, hit.rank) == ("A title", None)
    assert [hit.snippet[begin:end] for begin, end in hit.matches] == ["needle", "Needle"]
    assert hit.snippet.startswith("…")
    assert hit.snippet.endswith("…")
    assert "the needle AND  a Needle after" in hit.snippet
    assert len(hit.snippet) <= 202
    assert (key_hit.snippet, key_hit.matches) == ("needle", ((0, 6),))
    (hit,) = await sql_store.search('"needle":7', user_id=user)
    assert [hit.snippet[begin:end] for begin, end in hit.matches] == ['"needle":7']


async def test_hits_are_ordered_by_relevance(sql_store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c1")
    filler = "something else " * 50
    texts = ["port port", f"airport {filler}", f"a port {filler}", "an airport", "nothing"]
    await sql_store.write(key, updates=[("message", text) for text in texts])
    hits = await sql_store.search("port", user_id=user, order="relevance")
    assert [hit.seq for hit in hits] == [1, 3, 4, 2]
    assert [hit.rank for hit in hits] == sorted((hit.rank or 0 for hit in hits), reverse=True)
    assert [hit async for hit in sql_store.search("port", user_id=user, order="relevance")] == hits
    assert await sql_store.search("port", user_id=user, order="relevance", after=hits[1], limit=1) == hits[2:3]
    found = sql_store.search("port", user_id=user)
    assert (await found.count(), await found.count(at_most=3)) == (4, 3)


@pytest.mark.parametrize("wrong", ["", "  \n", "x" * 1_001, " ".join(map(str, range(33)))])
async def test_a_text_without_words_or_with_too_many_is_refused(sql_store: SqlStore, wrong: str) -> None:
    with pytest.raises(InvalidArgumentError, match="text="):
        await sql_store.search(wrong)
    with pytest.raises(InvalidArgumentError, match="order="):
        await sql_store.search("a", order="oldest")  # type: ignore[arg-type]
