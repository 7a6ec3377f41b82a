"""``python -m tests.chaos explore``: the exploration from the command line."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from rich.console import Console

from tests.chaos.explore.exploring import explore
from tests.chaos.explore.figures import Found, memory, row, table
from tests.chaos.explore.places import NAMES, Place
from tests.chaos.explore.points import Action
from tests.chaos.explore.programs import STEPS
from tests.chaos.explore.statements import Fault
from tests.support.connections import ON_POSTGRES, ON_SQLITE, OPTIONS, Connection, available, new_connection
from tests.support.postgres import Server

WHATS = [one.name for one in (*Action, *Fault)]
# After so long a new database is used, so that what the programs leave in one does not slow the next.
PLACE_SECONDS = 300.0


@contextmanager
def new_place(kind: str, server_url: str) -> Iterator[Place]:
    """Yield a new place of a kind; the URL is that of a Postgres server or of a Citus, where it needs one."""
    with tempfile.TemporaryDirectory(prefix="taskctx-explore-") as folder:
        if kind == "json":
            yield Place(Connection(kind, f"json:///{folder}/tasks"), f"json:///{folder}/tasks-copy")
        elif kind in ON_SQLITE:
            yield Place(Connection(kind, f"sqlite:///{folder}/tasks.db"), f"sqlite:///{folder}/tasks-copy.db")
        else:
            with asyncio.Runner() as runner, ExitStack() as stack:
                both = []
                for _ in range(2):
                    made = new_connection(kind, server_url)
                    both.append(runner.run(made.__aenter__()))
                    stack.callback(lambda opened: runner.run(opened.__aexit__(None, None, None)), made)
                # A copy names no schema.
                yield Place(both[0], "" if both[0].schema else both[1].address)


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar="[KIND]...")
@click.option("--minutes", type=click.FloatRange(min=0), default=5.0, help="How long, on each kind of store.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="The first program; with --number the only one.")
@click.option("--number", type=click.IntRange(min=0), help="Only this one of the program's points: 0 is none.")
@click.option("--points", type=click.IntRange(min=1), default=60, help="How many of each program, at the most.")
@click.option("--step", type=click.Choice(list(STEPS)), help="Only programs that have this step.")
@click.option("--what", type=click.Choice(WHATS), help="Do only this at the points.")
@click.option("--first", "only_first", is_flag=True, help="End at the first failure.")
@click.option("--postgres-url", envvar="TASKCTX_TEST_POSTGRES_URL", help="A server; without it one of our own is used.")
@click.option("--citus-url", envvar="TASKCTX_TEST_CITUS_URL", help="The coordinator of a Citus, to explore there, too.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(
    names: tuple[str, ...],
    minutes: float,
    seed: int,
    number: int | None,
    points: int,
    step: str | None,
    what: str | None,
    only_first: bool,
    postgres_url: str | None,
    citus_url: str | None,
    json_path: Path | None,
) -> None:
    """Do one thing at each step and statement of programs on each KIND of store, or all; exit with 1 if any is wrong.

    A failure is named by its seed and number: `explore KIND --seed SEED --number NUMBER` runs it again.
    """
    rows, tables = [], []
    logger = logging.getLogger("taskctx_sql")
    with ExitStack() as stack:
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
        # Whoever ends it early gets the databases removed, too.
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)))
        chosen = [OPTIONS[name] for name in names] or ["json", *ON_SQLITE, *available(citus_url)]
        for kind in chosen:
            if kind in ON_POSTGRES and postgres_url is None:
                postgres_url = stack.enter_context(Server()).url
            started, found = time.monotonic(), Found()
            seeds = itertools.count(seed) if number is None else iter([seed])
            while (left := started + minutes * 60 - time.monotonic()) > 0:
                with new_place(kind, (citus_url if kind == "citus" else postgres_url) or "") as place:
                    some = explore(
                        place,
                        seeds,
                        number=number,
                        a_program=points,
                        seconds=min(left, PLACE_SECONDS),
                        step=step,
                        what=what,
                        only_first=only_first,
                        tell=Teller(kind, found, started),
                    )
                found.add(some)
                if number is not None or (only_first and found.failed):
                    break
            for failed_seed, failed_number, text in found.failures:
                click.echo(f"  --seed {failed_seed} --number {failed_number}: {text}")
            tables.append(row(kind, found, time.monotonic() - started))
            failures = [{"seed": at, "number": nth, "what": text} for at, nth, text in found.failures]
            rows.append({**tables[-1], "by what was done": dict(found.points), "failures": failures})
    Console(width=200).print(table(tables))
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=1))
    sys.exit(1 if any(one["verdict"] != "ok" for one in rows) else 0)


class Teller:
    """Reports failures as they come, and how far an exploration is: always on a terminal, otherwise once a minute."""

    def __init__(self, kind: str, before: Found, started: float) -> None:
        self._kind, self._before, self._started = kind, before, started
        self._told = time.monotonic()
        self._reported = 0

    def __call__(self, found: Found) -> None:
        for seed, number, text in found.failures[self._reported :]:
            click.echo(f"{self._kind}: --seed {seed} --number {number}: {text}", err=True)
        self._reported = len(found.failures)
        now = time.monotonic()
        if now - self._told < (1 if sys.stderr.isatty() else 60):
            return
        self._told = now
        programs = self._before.programs + found.programs
        points = self._before.points.total() + found.points.total()
        failed = self._before.failed + found.failed
        line = f"{self._kind}: {(now - self._started) / 60:.1f} min, {programs:,} programs, {points:,} points"
        line = f"{line}, {failed:,} failed, {memory():,} MB"
        click.echo(f"\r{line}" if sys.stderr.isatty() else line, err=True, nl=not sys.stderr.isatty())
