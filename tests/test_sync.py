"""The sync face forwards to an event loop on a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator

import pytest

from taskctx_sql import blocking


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


def test_the_result_comes_back() -> None:
    assert blocking(double(4)) == 8


def test_an_error_comes_back() -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        blocking(fail())


def test_an_async_iterator_becomes_an_iterator() -> None:
    assert list(blocking(count(3))) == [0, 1, 2]


def test_an_iterator_given_up_is_closed() -> None:
    closed: list[bool] = []

    async def rows() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    for _ in blocking(rows()):
        break
    assert closed == [True] or closed == []
    iterator = blocking(rows())
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert closed[-1] is True


async def test_it_works_inside_another_loop() -> None:
    assert blocking(double(4)) == 8


def test_waiting_for_itself_is_refused() -> None:
    async def inner() -> None:
        blocking(double(1))

    with pytest.raises(RuntimeError, match="use await there"):
        blocking(inner())


def test_all_threads_share_one_loop() -> None:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    found: list[asyncio.AbstractEventLoop] = []
    threads = [threading.Thread(target=lambda: found.append(blocking(loop()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_loop_of_its_own() -> None:
    assert blocking(double(1)) == 2
    child = os.fork()
    if child == 0:
        os._exit(blocking(double(21)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
