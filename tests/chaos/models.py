"""Runs random programs on each kind of store."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import Store
from tests.chaos.databases import database
from tests.chaos.programs import Programs
from tests.chaos.trial import Result, Setup, Trial
from tests.chaos.world import World
from tests.support.connections import ON_SQLITE, OVER, PLAIN, Connection

STEPS = 30


def run_programs(connection: Connection, count: int) -> int:
    """Run random programs on a store; return how many saves they made.

    Raises:
        AssertionError: One came out differently than the model; the shortest such program is in its notes.
    """
    engine: AsyncEngine | None = None

    async def open_one() -> Store:
        nonlocal engine
        engine = engine or connection.engine()
        return await connection.open(engine)

    with asyncio.Runner() as runner:
        world = World(runner, open_one)
        try:
            world.open()
            run_state_machine_as_test(
                type("ProgramsHere", (Programs,), {"world": world}),
                settings=settings(
                    max_examples=count,
                    stateful_step_count=STEPS,
                    deadline=None,
                    database=None,
                    # A failure that depends on timing would be made smaller for minutes.
                    phases=(Phase.generate,),
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            world.close()
            if engine is not None:
                runner.run(engine.dispose())
    return world.saves


async def compare_programs(setup: Setup, *, kind: str) -> Result:
    result = Result(cycles=setup.cycles)
    async with _connection(setup, kind, result) as connection:
        try:
            # On a thread of their own: they have an event loop of their own.
            result.acknowledged = await asyncio.to_thread(run_programs, connection, setup.cycles)
        except Exception as error:
            # Also hypothesis's own, about a failure that does not come every time.
            result.problems.append(
                f"a program came out otherwise: {''.join(traceback.format_exception(error, limit=-3))}"
            )
    return result


@asynccontextmanager
async def _connection(setup: Setup, kind: str, result: Result) -> AsyncIterator[Connection]:
    if kind == "json":
        yield Connection(kind, f"json:///{setup.folder}/programs")
        return
    async with database(setup, "postgres" if kind == PLAIN else "sqlite", result) as connection:
        yield connection if kind == PLAIN else replace(connection, kind=kind)


TRIALS = [
    Trial(
        f"model-{kind.replace(' ', '-')}",
        f"random programs against a plain model: {kind}",
        500,
        25,
        partial(compare_programs, kind=kind),
        over=OVER if kind == PLAIN else (),
    )
    for kind in ("json", *ON_SQLITE, PLAIN)
]
