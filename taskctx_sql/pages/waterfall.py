"""The waterfall of a task: its runs, with uses of models, calls of tools, errors and sub-tasks, on one time axis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from taskctx_sql.model import ContextKey
from taskctx_sql.model.context_rows import LastRun, ModelUse
from taskctx_sql.model.report_rows import ToolCall
from taskctx_sql.pages.axis import Axis, Gap
from taskctx_sql.pages.entries import MAX_TEXT, Entry, entries_of
from taskctx_sql.pages.scales import Tick, compact, cost
from taskctx_sql.pages.steps import Step
from taskctx_sql.stores import Store

# How much is read of a task, the newest of each kind, and how many rows are drawn at once.
MAX_STEPS: Final = 1_000
FEW_STEPS: Final = 250
MAX_RUNS: Final = 100
MAX_ERRORS: Final = 100
ROWS: Final = 60
LONGEST: Final = 5


@dataclass(frozen=True, slots=True)
class Waterfall:
    """A page of a waterfall.

    Attributes:
        steps: Its rows, the oldest first; each run is followed by what belongs to it.
        first: How many rows come before them.
        page: Its number, from 1; the last page has the newest rows.
        pages: How many pages there are.
        count: How many rows all pages have.
        cut: What was not read, as words; an empty text if everything was.
        ticks: Labels of the axis.
        gaps: Where the axis leaves out time in which nothing happened.
        longest: The steps that took longest, of all pages.
        span: How many seconds are between the beginning and the end of the axis.
        marked: The place of the moment that is looked at, in percent of the axis; None if it is not on it.
    """

    steps: Sequence[Step]
    first: int
    page: int
    pages: int
    count: int
    cut: str
    ticks: Sequence[Tick]
    gaps: Sequence[Gap]
    longest: Sequence[Step]
    span: float
    marked: float | None


@dataclass(frozen=True, slots=True)
class Course:
    """What a waterfall is drawn from: the newest runs, calls of tools, uses of models and errors, the oldest first.

    Of runs, calls and uses there is one more than is drawn if there are more. ``most`` is how many calls, and how many
    uses, are drawn.
    """

    runs: Sequence[LastRun]
    calls: Sequence[ToolCall]
    uses: Sequence[ModelUse]
    errors: Sequence[Entry]
    most: int

    @property
    def cut(self) -> str:
        """What is not drawn, as words; an empty text if everything is."""
        read = (
            ("runs", self.runs, MAX_RUNS),
            ("calls of tools", self.calls, self.most),
            ("uses of models", self.uses, self.most),
        )
        return ", ".join(f"the newest {count:,} {name}" for name, found, count in read if len(found) > count)

    def steps(self, *, is_noted_after: bool) -> list[Step]:
        """Return its steps; see `waterfall_of`."""
        return [
            *map(_call, self.calls[-self.most :]),
            *(_use(use, is_noted_after=is_noted_after) for use in self.uses[-self.most :]),
            *map(_error, self.errors),
        ]


async def read_course(store: Store, key: ContextKey, *, most: int = MAX_STEPS) -> Course:
    """Return the course of a task, with at most so many calls of tools and uses of models."""
    reports = store.reports
    runs = await reports.last_runs(key, limit=MAX_RUNS + 1)
    calls = await reports.context_calls(key, limit=most + 1)
    uses = await reports.model_uses(key, limit=most + 1)
    errors = await reports.timeline(key, limit=MAX_ERRORS, update_type="error", max_characters=MAX_TEXT)
    return Course(runs, calls, uses, entries_of(errors), most)


def waterfall_of(
    course: Course,
    *,
    page: int | None = None,
    sub_tasks: Iterable[Step] = (),
    moment: float | None = None,
    until: float | None = None,
    is_noted_after: bool = False,
) -> Waterfall:
    """Return a page of a task's waterfall.

    Args:
        course: What is drawn.
        page: The number of the page, from 1; None for the last one, which has the newest rows.
        sub_tasks: The rows of its sub-tasks.
        moment: A time that is marked on the axis.
        until: When it was last heard of what has not ended.
        is_noted_after: Whether the times of uses of models are those of their ends, as `TaskContext` notes them.
    """
    runs = map(_run, course.runs[-MAX_RUNS:])
    steps = [*course.steps(is_noted_after=is_noted_after), *sub_tasks]
    return arranged(runs, steps, page=page, moment=moment, until=until, cut=course.cut)


def arranged(
    runs: Iterable[Step],
    steps: Iterable[Step],
    *,
    page: int | None = None,
    moment: float | None = None,
    until: float | None = None,
    cut: str = "",
) -> Waterfall:
    """Return the waterfall of runs and steps; see `waterfall_of`."""
    rows = list(_in_order(runs, steps))
    pages = max(1, -(-len(rows) // ROWS))
    page = pages if page is None else min(max(page, 1), pages)
    first = max(0, len(rows) - ROWS * (pages - page + 1))
    shown = rows[first : len(rows) - ROWS * (pages - page)]
    leaves = [row for row in rows if row.kind != "run" and row.duration is not None]
    axis = Axis(
        ((step.started_at, step.ended_at, step.kind == "run") for step in shown if step.started_at is not None), until
    )
    return Waterfall(
        steps=[_placed(step, axis) for step in shown],
        first=first,
        page=page,
        pages=pages,
        count=len(rows),
        cut=cut,
        ticks=axis.ticks(),
        gaps=axis.gaps,
        longest=sorted(leaves, key=lambda step: -(step.duration or 0))[:LONGEST],
        span=axis.end - axis.begin,
        marked=None if moment is None or not axis.begin <= moment <= axis.end else axis.place(moment),
    )


def _in_order(runs: Iterable[Step], steps: Iterable[Step]) -> Iterator[Step]:
    """Yield each run, followed by its steps; steps without a run that is known stand where they began."""
    of_run: dict[str, list[Step]] = {}
    heads = [replace(run) for run in runs]
    known = {run.run_id for run in heads}
    for step in sorted(steps, key=_start):
        if step.run_id in known:
            of_run.setdefault(step.run_id, []).append(step)
        else:
            # A sub-task belongs to the run during which it began.
            during = next((run for run in heads if step.kind == "task" and _contains(run, step)), None)
            if during is None:
                heads.append(step)
            else:
                of_run.setdefault(during.run_id, []).append(step)
    for head in sorted(heads, key=_start):
        yield head
        if head.kind == "run":
            yield from sorted(of_run.get(head.run_id, ()), key=_start)


def _start(step: Step) -> float:
    return float("-inf") if step.started_at is None else step.started_at


def _contains(run: Step, step: Step) -> bool:
    began = _start(run) <= _start(step)
    return began and (run.ended_at is None or _start(step) <= run.ended_at)


def _placed(step: Step, axis: Axis) -> Step:
    if step.started_at is None:
        return step
    place = axis.place(step.started_at)
    end = step.ended_at if step.ended_at is not None else axis.end if step.outcome in _RUNNING else step.started_at
    return replace(step, place=place, width=max(axis.place(end) - place, 0.0))


_RUNNING: Final = ("open", "unfinished")


def _run(run: LastRun) -> Step:
    return Step("run", "Run", run.started_at, run.ended_at, run.outcome, run.error or "", run_id=run.run_id)


def _call(call: ToolCall) -> Step:
    name, note = call.name or "(no name)", call.error or ""
    return Step("tool", name, call.started_at, call.ended_at, call.outcome, note, seq=call.seq, run_id=call.run_id)


def _use(use: ModelUse, *, is_noted_after: bool) -> Step:
    started = ended = use.timestamp
    if use.timestamp is not None and use.duration is not None and use.duration >= 0:
        started, ended = (
            (use.timestamp - use.duration, use.timestamp)
            if is_noted_after
            else (use.timestamp, use.timestamp + use.duration)
        )
    counted = ((use.input_tokens, "tokens in"), (use.output_tokens, "out"))
    tokens = " ".join(f"{compact(number)} {word}" for number, word in counted if number is not None)
    parts = (use.mode, tokens, None if use.cost is None else f"cost {cost(use.cost)}")
    note = ", ".join(part for part in parts if part)
    return Step("model", use.model_id or "(no name)", started, ended, note=note, run_id=use.run_id)


def _error(error: Entry) -> Step:
    return Step("error", "Error", error.at, error.at, "failed", error.text, seq=error.seq, run_id=error.run_id)
