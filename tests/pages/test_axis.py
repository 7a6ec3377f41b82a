"""The axis of a waterfall: to scale, with idle time cut out, and labels that fit."""

from __future__ import annotations

from itertools import pairwise

import pytest

from taskctx_sql.pages.axis import Axis, Interval
from taskctx_sql.pages.steps import Step
from taskctx_sql.pages.waterfall import ROWS, arranged

DAY = 86_400.0


def test_a_time_is_placed_to_scale_from_a_millisecond_to_a_year() -> None:
    for unit in (0.001, 1.0, DAY, 365 * DAY):
        axis = Axis([(0.0, 10 * unit, True), (0.0, 4 * unit, False), (4 * unit, 10 * unit, False)])
        assert axis.gaps == []
        assert [axis.place(part * unit) for part in (0, 4, 10)] == pytest.approx([0, 40, 100])
        assert 2 <= len(axis.ticks()) <= 11
        assert axis.place(-DAY) == 0
        assert axis.place(1e12) == pytest.approx(100)


def test_days_between_runs_are_cut_and_said() -> None:
    runs: list[Interval] = [(start, start + 10, True) for start in (0.0, 2 * DAY, 2 * DAY + 11)]
    steps: list[Interval] = [(start, start + 9.5, False) for start, _, _ in runs if start is not None]
    axis = Axis([*runs, *steps])
    (gap,) = axis.gaps
    assert gap.text == "1 d 23 h"
    assert gap.width == pytest.approx(3)
    # The ten seconds before the cut are as long as the ten seconds after it.
    assert axis.place(10) - axis.place(0) == pytest.approx(axis.place(2 * DAY + 10) - axis.place(2 * DAY))
    assert axis.place(2 * DAY) - axis.place(10) == pytest.approx(3)


def test_waiting_within_a_run_is_cut_only_if_it_is_much_longer_than_the_work() -> None:
    def gaps(wait: float) -> int:
        work: list[Interval] = [(0.0, 10.0, False), (10 + wait, 20 + wait, False), (0.0, 20 + wait, True)]
        return len(Axis(work).gaps)

    assert (gaps(30), gaps(3_000)) == (0, 1)


def test_what_has_not_ended_lasts_until_it_was_last_heard_of() -> None:
    axis = Axis([(0.0, None, True), (1.0, 2.0, False)], until=10.0)
    assert axis.end == 10
    assert Axis([(0.0, 4.0, True)], until=10.0).end == 4
    assert Axis([]).place(5) == 0
    assert Axis([(float("nan"), None, False), (None, None, False)]).ticks() == Axis([]).ticks()


def test_many_gaps_leave_room_for_what_happened() -> None:
    axis = Axis([(number * DAY, number * DAY + 1, False) for number in range(50)])
    assert len(axis.gaps) == 49
    assert sum(gap.width for gap in axis.gaps) == pytest.approx(30)
    places = [tick.place for tick in axis.ticks()]
    assert all(after - before >= 15 for before, after in pairwise(places))


def test_steps_follow_their_runs_and_pages_show_the_newest() -> None:
    runs = [Step("run", "Run", start, start + 50.0, run_id=f"r{start}") for start in (0.0, 100.0)]
    calls = [Step("tool", "t", float(at), at + 1.0, run_id="r0.0", seq=at) for at in (3, 1)]
    calls.append(Step("tool", "lost", 60.0, 61.0, run_id="unknown"))
    task = Step("task", "sub-task", 110.0, 130.0, chat_id="c")
    fall = arranged(runs, [*calls, task])
    assert [(step.kind, step.started_at) for step in fall.steps] == [
        *(("run", 0.0), ("tool", 1.0), ("tool", 3.0), ("tool", 60.0), ("run", 100.0), ("task", 110.0))
    ]
    assert fall.longest[0] == task
    many = [Step("tool", "t", float(at), at + 0.5, seq=at) for at in range(150)]
    newest, first = arranged([], many), arranged([], many, page=1)
    assert (newest.page, newest.pages, newest.count) == (3, 3, 150)
    assert [step.seq for step in newest.steps] == list(range(150 - ROWS, 150))
    assert (first.first, [step.seq for step in first.steps]) == (0, list(range(150 - 2 * ROWS)))
    assert first.longest == newest.longest


def test_stretches_of_one_minute_are_told_apart() -> None:
    axis = Axis([(1000.0, 1000.001, False), (1000.4, 1000.405, False)])
    assert len(axis.gaps) == 1
    labels = [tick.label for tick in axis.ticks()]
    assert labels[0] == "01-01 00:16"
    assert len(set(labels)) == len(labels)
