"""What brings the search index and the daily sums up to date: a failure is told once, and does not end it."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from taskctx_sql.sql.backends import catch_up
from taskctx_sql.sql.backends.catch_up import CatchUp
from tests.support.waiting import until


class Portions:
    """A part of a database that fails as long as it is told to, and is there or not."""

    def __init__(self) -> None:
        self.fails, self.is_there = True, True
        self.asked = self.done = 0

    async def portion(self, most: int) -> int:
        self.asked += 1
        if self.fails:
            raise ValueError("no room")
        self.done += 1
        return 0

    async def find(self) -> bool:
        return self.is_there


@pytest.fixture
def portions(monkeypatch: pytest.MonkeyPatch) -> Portions:
    """No pauses, so that each save is taken up at once."""
    monkeypatch.setattr(catch_up, "IDLE", 0.0)
    monkeypatch.setattr(catch_up, "LOOK_SECONDS", 0.0)
    return Portions()


async def _save(catching: CatchUp, portions: Portions) -> None:
    asked = portions.asked
    catching.note()
    await until(lambda: portions.asked > asked)
    await until(lambda: catching._task is None)


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_failures_are_one_warning_until_it_succeeds_again(
    portions: Portions, caplog: pytest.LogCaptureFixture
) -> None:
    catching = CatchUp("daily sums", portions.portion, portions.find)
    said = "cannot bring the daily sums up to date: ValueError: no room"
    for _ in range(3):
        await _save(catching, portions)
    assert _warnings(caplog) == [said]
    portions.fails = False
    await _save(catching, portions)
    assert portions.done == 1
    portions.fails = True
    await _save(catching, portions)
    assert _warnings(caplog) == [said, said]
    await catching.close()


async def test_a_part_that_another_program_dropped_is_no_failure(
    portions: Portions, caplog: pytest.LogCaptureFixture
) -> None:
    catching = CatchUp("search index", portions.portion, portions.find)
    catching.is_there, portions.is_there = True, False
    await _save(catching, portions)
    assert not catching.is_there
    assert _warnings(caplog) == []
    await catching.close()


@pytest.mark.parametrize(("took", "pause"), [(0.1, 0.1), (2.0, 28.0)])
async def test_a_long_transaction_is_followed_by_a_long_pause_at_rest_too(
    took: float, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, pauses, left = 0.0, [], 2

    async def portion(most: int) -> int:
        nonlocal now, left
        now, left = now + took, left - 1
        return left

    async def is_there() -> bool:
        return True

    async def open_after(self: CatchUp, seconds: float) -> bool:
        nonlocal now
        now += seconds
        pauses.append(seconds)
        return True

    monkeypatch.setattr(CatchUp, "_is_open_after", open_after)
    monkeypatch.setattr(catch_up, "time", SimpleNamespace(monotonic=lambda: now))
    catching = CatchUp("daily sums", portion, is_there)
    catching.is_there = True
    catching.note()
    await until(lambda: catching._task is None)
    assert pauses == [catch_up.IDLE, pytest.approx(pause)]
