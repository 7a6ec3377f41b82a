"""A loaded history is read by several threads at once, and each sees the same."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskctx_sql import ContextKey, ContextUpdate, Store
from taskctx_sql.errors import CorruptRecordError
from taskctx_sql.model import Source, unread_updates
from tests.support.contract import loaded, new_delta

HOW_MANY = 2_000


@pytest.fixture(autouse=True)
def threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(work: Callable[[int], Any], threads: int = 6) -> list[Any]:
    """Do the work on several threads, which begin together, and return what came of each."""
    start, found = threading.Barrier(threads), []

    def run(number: int) -> None:
        start.wait()
        try:
            found.append(work(number))
        except Exception as error:
            found.append(error)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return found


async def test_a_loaded_history_is_read_by_threads_at_once(store: Store, user: str) -> None:
    datas = [{"n": number, "more": (number,)} for number in range(HOW_MANY)]
    await store.save(new_delta(ContextKey(user, "c1"), *datas))
    for _ in range(3):
        history = (await loaded(store, user)).context_history

        def read(number: int, history: Any = history) -> list[Any]:
            # Some ask for one field first, and some for the other.
            if number % 2:
                return [(update.metadata, update.data)[::-1] for update in history]
            return [(update.data, update.metadata) for update in history]

        found = await asyncio.to_thread(at_once, read)
        assert [error for error in found if isinstance(error, Exception)] == []
        assert [data for data, _ in found[0]] == datas
        for other in found[1:]:
            assert all(one[0] is two[0] and one[1] is two[1] for one, two in zip(found[0], other, strict=True))


async def test_what_one_thread_sets_is_not_undone_by_the_reading_of_another(store: Store, user: str) -> None:
    await store.save(new_delta(ContextKey(user, "c1"), *range(HOW_MANY)))
    context = await loaded(store, user)

    def work(number: int) -> None:
        for update in context.context_history:
            if number == 0:
                update.data = "edited"
            assert update.metadata == {}
            assert isinstance(update.data, int | str)

    assert await asyncio.to_thread(at_once, work) == [None] * 6
    assert {update.data for update in context.context_history} == {"edited"}
    await context.save()
    assert {update.data for update in (await loaded(store, user)).context_history} == {"edited"}


def unread(read: Callable[[int, bytes], dict[str, Any]]) -> ContextUpdate:
    (update,) = unread_updates([1.0], ["message"], [1], [b"text"], Source(read))
    return update


def test_reading_an_update_may_read_it_again_on_the_way() -> None:
    # A collection of garbage may run a program's code anywhere.
    def read(seq: int, text: bytes) -> dict[str, Any]:
        deeper.append(1)
        return {"data": update.data if len(deeper) < 3 else ["data"], "metadata": {}}

    deeper: list[int] = []
    update = unread(read)
    first = update.data
    assert first == ["data"]
    assert update.data is first


def test_what_is_set_while_an_update_is_read_stays() -> None:
    def read(seq: int, text: bytes) -> dict[str, Any]:
        if not reads:
            update.data = "set"
        reads.append(text)
        return {"data": "read", "metadata": {"read": len(reads)}}

    reads: list[bytes] = []
    update = unread(read)
    assert update.metadata == {"read": 2}
    assert update.data == "set"
    # It is read no more, and the text is not kept.
    assert (update.metadata, reads) == ({"read": 2}, [b"text", b"text"])
    assert type(update) is ContextUpdate


def test_an_update_that_cannot_be_read_says_so_each_time() -> None:
    def read(seq: int, text: bytes) -> dict[str, Any]:
        raise CorruptRecordError(ContextKey("u", "c"), f"update seq {seq}", "damaged")

    update = unread(read)
    for _ in range(2):
        with pytest.raises(CorruptRecordError):
            _ = update.data
    update.data = "mended"
    assert update.data == "mended"
    with pytest.raises(CorruptRecordError):
        _ = update.metadata
    assert not hasattr(update, "other")
