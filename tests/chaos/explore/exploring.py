"""Programs one after the other, each run again for every point of it and everything that can be done there."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from taskctx_sql.errors import StoreClosedError
from tests.chaos.explore.figures import Found
from tests.chaos.explore.looking import begin_anew
from tests.chaos.explore.loop import SteppingLoop
from tests.chaos.explore.outcome import NOT_THERE_ANY_MORE, HasEndedError, Outcome, WrongError
from tests.chaos.explore.patience import Pulse
from tests.chaos.explore.places import RETRY_SECONDS, Place
from tests.chaos.explore.points import Action, Injection, Where
from tests.chaos.explore.programs import STEPS, program
from tests.chaos.explore.psycopg_statements import psycopg_watched
from tests.chaos.explore.running import Run
from tests.chaos.explore.statements import WATCH, Fault, watched

AT_STATEMENTS: tuple[Action | Fault, ...] = (Fault.PASSING, Fault.FINAL, *Action)
AT_COMMIT = (Fault.NOT_DONE, Fault.DONE, Fault.LATER)


def _take(found: Found, seed: int, number: int, what: str, outcome: Outcome) -> None:
    found.longest, found.slowest = max(found.longest, outcome.longest), max(found.slowest, outcome.late)
    found.acknowledged += outcome.acknowledged
    if outcome.problems:
        trace = f" ({', then '.join(outcome.trace)})" if outcome.trace else ""
        found.fail(seed, number, f"{what}: {'; '.join(outcome.problems)}{trace}", outcome.problems)


@dataclass(frozen=True)
class Program:
    """A program of a seed on a place: its steps, and how it is run."""

    place: Place
    seed: int
    without: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        return program(self.seed, revisions=self.place.kind != "json", without=self.without)

    @property
    def is_patient(self) -> bool:
        return self.seed % 3 != 0

    @property
    def retry_seconds(self) -> float:
        return RETRY_SECONDS[self.seed % 2]

    def __str__(self) -> str:
        how = "patient" if self.is_patient else "going on"
        return f"{self.place.kind}: {' '.join(self.names)} [{how}, retry_seconds={self.retry_seconds:g}]"

    def run(self, runner: asyncio.Runner, pulse: Pulse, injection: Injection | None) -> Outcome:
        make = partial(
            Run,
            self.place,
            injection,
            pulse,
            patient=self.is_patient,
            retry_seconds=self.retry_seconds,
            strict="mistake" in self.names,
        )
        return runner.run(run(make, [STEPS[name] for name in self.names]))

    def injections(self, counts: dict[Where, int]) -> list[Injection]:
        """All that can be done at its points, in an order of the seed's own."""
        found = [Injection(Where.STEP, at, what) for at in range(1, counts[Where.STEP] + 1) for what in Action]
        found += [
            Injection(Where.STATEMENT, at, what)
            for at in range(1, counts[Where.STATEMENT] + 1)
            for what in AT_STATEMENTS
        ]
        found += [Injection(Where.COMMIT, at, what) for at in range(1, counts[Where.COMMIT] + 1) for what in AT_COMMIT]
        random.Random(self.seed).shuffle(found)
        return found


def explore(
    place: Place,
    seeds: Iterator[int],
    *,
    number: int | None = None,
    runs: int | None = None,
    a_program: int | None = None,
    seconds: float | None = None,
    without: frozenset[str] = frozenset(),
    step: str | None = None,
    what: str | None = None,
    only_first: bool = False,
    tell: Callable[[Found], None] = lambda found: None,
) -> Found:
    """Run the programs of seeds, and each of them again with one thing done at one point.

    Args:
        place: Where.
        seeds: Whose programs.
        number: Only this injection of each program; 0 is the program without any.
        runs: How many at the most.
        a_program: How many of each program at the most: the first ones of its order.
        seconds: How long at the most.
        without: Steps that programs have not.
        step: Only programs that have this one.
        what: Only what has this name is done: that of an `Action` or a `Fault`.
        only_first: Whether to end at the first failure.
        tell: Takes what was found so far.
    """
    found = Found()
    started = time.monotonic()

    def is_over() -> bool:
        if seconds is not None and time.monotonic() - started > seconds:
            return True
        if only_first and found.failed:
            return True
        return runs is not None and found.points.total() + found.failed >= runs

    with ExitStack() as stack:
        watch, pulse = stack.enter_context(watched()), stack.enter_context(Pulse())
        stack.enter_context(psycopg_watched())
        runner = stack.enter_context(asyncio.Runner(loop_factory=SteppingLoop))
        watch.folder = place.folder
        for seed in seeds:
            if is_over():
                break
            one = Program(place, seed, without)
            if step is not None and step not in one.names:
                continue
            plain = one.run(runner, pulse, None)
            _take(found, seed, 0, f"{one}, with nothing done", plain)
            found.programs += 1
            if plain.problems or number == 0:
                continue
            injections = list(enumerate(one.injections(plain.counts), 1))
            if number is not None:
                injections = injections[number - 1 : number]
            if what is not None:
                injections = [(at, injection) for at, injection in injections if injection.what.name == what]
            for at, injection in injections[:a_program]:
                if is_over():
                    break
                outcome = one.run(runner, pulse, injection)
                found.points[injection.what.name] += 1
                _take(found, seed, at, f"{one}, {injection}", outcome)
                tell(found)
    WATCH.folder = ""
    return found


async def run(make: Callable[[], Run], steps: list[Callable[[Run], Coroutine[Any, Any, None]]]) -> Outcome:
    """Run the steps of a program."""
    one = make()
    try:
        await one.begin()
        for step in steps:
            try:
                try:
                    await step(one)
                except NOT_THERE_ANY_MORE as error:
                    one.outcome.trace.append(f"{type(error).__name__}")
                await one.after_step()
            except (HasEndedError, StoreClosedError):
                if one.closing is None:
                    raise
                await begin_anew(one)
        await one.end()
    except WrongError as error:
        one.wrong(*filter(None, [str(error)]))
    except Exception as error:
        one.wrong(f"it ended with {type(error).__name__}: {error}")
    one.outcome.fired = one.points.fired
    try:
        await one.close()
    except Exception as error:
        one.wrong(f"closing ended with {type(error).__name__}: {error}")
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    return one.outcome
