"""One timer guards many timeouts, one after the other."""

from __future__ import annotations

import asyncio

import pytest

from taskctx_sql.sql.postgres_connection import Alarm


async def guarded(alarm: Alarm, seconds: float | None, work: float) -> float:
    """Work for so long under a timeout; return how long it took."""
    begun = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(None) as limit:
            alarm.guard(limit, seconds)
            await asyncio.sleep(work)
    finally:
        alarm.release()
    return asyncio.get_running_loop().time() - begun


async def test_each_has_its_own_time() -> None:
    alarm = Alarm()
    begun = asyncio.get_running_loop().time()
    await guarded(alarm, 0.2, 0)
    # A shorter one, then a longer one, than the one that the timer was set for.
    for seconds in (0.05, 0.4):
        with pytest.raises(TimeoutError):
            await guarded(alarm, seconds, 60)
    assert 0.45 <= asyncio.get_running_loop().time() - begun < 10
    # The timer of the one before does not end this one.
    await guarded(alarm, 0.01, 0)
    assert await guarded(alarm, None, 0.05) >= 0.05
    assert await guarded(alarm, 60, 0.05) >= 0.05


async def test_a_cancellation_stays_one() -> None:
    alarm = Alarm()
    task = asyncio.ensure_future(guarded(alarm, 60, 60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    alarm.stop()


async def test_thousands_leave_one_timer_behind() -> None:
    timers: list[asyncio.TimerHandle] = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def noted(*args: object, **options: object) -> asyncio.TimerHandle:
        timers.append(call_at(*args, **options))  # type: ignore[arg-type]
        return timers[-1]

    loop.call_at = noted  # type: ignore[method-assign]
    try:
        alarm = Alarm()
        for _ in range(1_000):
            await guarded(alarm, 60, 0)
        assert len(timers) == 1
        alarm.stop()
        assert timers[0].cancelled()
    finally:
        loop.call_at = call_at  # type: ignore[method-assign]
