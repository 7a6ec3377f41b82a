"""What is too large is refused by name, and costs nothing else."""

from __future__ import annotations

import pytest

from taskctx_sql import Feature, Store, limits
from taskctx_sql.errors import LimitExceededError
from tests.support.contract import expect_reload, loaded, stored


async def test_a_value_that_is_too_large_is_named_and_nothing_is_written(
    store: Store, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_VALUE_CHARACTERS", 1000)
    context = await loaded(store, user)
    context.add_context_update("message", "before")
    context.add_context_update("message", {"text": "x" * 1000})
    with pytest.raises(LimitExceededError, match=r"new update 1 \('message'\).* the limit is 1,000: .*file") as caught:
        await context.save()
    assert (caught.value.limit, caught.value.size > 1000) == (1000, True)
    assert (await store.load(context.key)).revision == 0
    assert len(context.context_history) == 2
    context.context_history[1].data = "x" * 500
    await context.save()
    await expect_reload(store, context)


async def test_metadata_that_is_too_large_is_named(store: Store, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if Feature.METADATA not in store.features:
        return
    monkeypatch.setattr(limits, "MAX_VALUE_CHARACTERS", 1000)
    context = await loaded(store, user)
    context.metadata["text"] = "x" * 1000
    with pytest.raises(LimitExceededError, match="metadata"):
        await context.save()
    del context.metadata["text"]
    await context.save()
    await expect_reload(store, context)


async def test_a_save_of_too_many_rows_is_refused_and_can_be_made_smaller(
    store: Store, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_SAVE_ROWS", 10)
    context = await loaded(store, user)
    for number in range(15):
        context.add_context_update("message", number)
    with pytest.raises(LimitExceededError, match=r"new rows in one save: 15, and the limit is 10: .*in parts"):
        await context.save()
    rest = context.context_history[10:]
    del context.context_history[10:]
    await context.save()
    context.context_history.extend(rest)
    await context.save()
    assert await stored(store, context.key) == list(range(15))


async def test_a_context_tracks_no_more_files_than_it_can(
    store: Store, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_TRACKED_FILES", 10)
    context = await loaded(store, user)
    for number in range(11):
        context.track_file_operation(str(number), "read")
    with pytest.raises(LimitExceededError, match="files tracked in one context: 11, and the limit is 10"):
        await context.save()
    del context.file_tracker["0"]
    await context.save()
    assert len(await stored(store, context.key)) == 11


async def test_what_is_allowed_is_enough(store: Store, user: str) -> None:
    context = await loaded(store, user)
    context.add_context_update("message", "é" * 20_000_000)
    await context.save()
    again = await loaded(store, user)
    assert again.context_history[0].data == "é" * 20_000_000
