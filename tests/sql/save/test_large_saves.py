"""Saves to Postgres whose updates are sent apart from the call."""

from __future__ import annotations

import pytest

from taskctx_sql import ContextKey, Store
from taskctx_sql.errors import StaleContextError
from taskctx_sql.sql.save import postgres_writer
from tests.conftest import ON_POSTGRES
from tests.support.contract import all_rows, expect_reload, loaded, new_delta, new_run, stored

pytestmark = pytest.mark.parametrize("kind", ON_POSTGRES, indirect=True)


@pytest.fixture(autouse=True, params=["updates", "characters"])
def small_limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves of more than three updates, or 300 characters, are large."""
    monkeypatch.setattr(postgres_writer, "MAX_UPDATES", 3 if request.param == "updates" else 1_000)
    monkeypatch.setattr(postgres_writer, "MAX_CHARACTERS", 300 if request.param == "characters" else 1_000_000)


def texts(count: int) -> list[str]:
    return [f"{number:>100}" for number in range(count)]


async def test_all_of_it_is_saved(store: Store, user: str) -> None:
    context = await loaded(store, user)
    for data in texts(60):
        context.add_context_update("message", data)
    context.track_file_operation("a", "read")
    context.track_model_usage("m", "p", "x")
    context.metadata["a"] = 1
    await context.save()
    await expect_reload(store, context)
    # What an edit writes anew is large, too.
    del context.context_history[1]
    context.context_history[0].data = "edited"
    await context.save()
    await expect_reload(store, context)
    assert [row.seq for row in await all_rows(store, context.key)] == list(range(63, 124))


async def test_a_copy_of_it_writes_nothing(store: Store, user: str) -> None:
    key = ContextKey(user, "c")
    delta = new_delta(key, *texts(60))
    first = await store.save(delta)
    later = await store.save(new_delta(key, "later", base=first.base))
    again = await store.save(delta)
    assert (again.revision, again.first_seq) == (first.revision, first.first_seq)
    assert await stored(store, key) == [*texts(60), "later"]
    assert (await store.load(key)).revision == later.revision


async def test_one_that_is_refused_writes_nothing(store: Store, user: str) -> None:
    key, run = ContextKey(user, "c"), new_run()
    seen = await store.save(new_delta(key, "first"))
    await store.save(new_delta(key, "second"))
    with pytest.raises(StaleContextError):
        await store.save(new_delta(key, *texts(60), base=seen.base, run=run, if_unchanged=True))
    assert await stored(store, key) == ["first", "second"]
    await store.save(new_delta(key, *texts(60), base=seen.base, run=run))
    assert await stored(store, key) == ["first", "second", *texts(60)]
