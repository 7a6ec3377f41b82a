"""Parts of a view that take long: they are waited for a moment, and keep nothing waiting that is quick."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from taskctx_sql.pages import parts
from taskctx_sql.pages.parts import PatientParts
from tests.support.waiting import SOON

SHORT = 0.001


class Long:
    """Reads that go on until they are let go."""

    def __init__(self) -> None:
        self.begun, self.may_end = 0, asyncio.Event()

    async def read(self) -> str:
        self.begun += 1
        await self.may_end.wait()
        return "long"


@pytest.fixture
async def long() -> Long:
    return Long()


async def quick() -> str:
    for _ in range(20):
        await asyncio.sleep(0)
    return "quick"


async def until_there(known: PatientParts, key: str, read: Callable[[], Awaitable[str]]) -> str:
    async with asyncio.timeout(SOON):
        while (found := await known.of_view().get(key, read)) is None:
            pass
    return found


async def test_a_part_is_there_when_it_has_been_read(long: Long) -> None:
    known = PatientParts(SHORT)
    assert await known.of_view().get("a", long.read) is None
    long.may_end.set()
    assert await until_there(known, "a", long.read) == "long"
    assert long.begun == 1
    await known.close()


async def test_what_takes_long_does_not_keep_what_is_quick_waiting(long: Long) -> None:
    known = PatientParts(SHORT)
    for number in range(parts.AT_ONCE):
        assert await known.of_view().get(number, long.read) is None
    assert await until_there(known, "quick", quick) == "quick"
    await known.close()


async def test_no_more_is_read_at_once_than_leaves_readers_for_others(long: Long) -> None:
    known = PatientParts(SHORT)
    for number in range(parts.MOST + 2):
        assert await known.of_view().get(number, long.read) is None
    async with asyncio.timeout(SOON):
        while long.begun < parts.MOST:  # noqa: ASYNC110  # its turn comes with time
            await asyncio.sleep(SHORT)
    assert await known.of_view().get("one more", quick) is None
    assert long.begun == parts.MOST
    long.may_end.set()
    assert await until_there(known, "one more", quick) == "quick"
    await known.close()


async def test_a_view_that_took_long_before_waits_for_a_moment_all_the_same() -> None:
    known = PatientParts(SOON)
    late = parts._PartsOfView(known, time.monotonic() - 1)
    assert await late.get("a", quick) == "quick"
    await known.close()
