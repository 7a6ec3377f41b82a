"""``python -m tests.chaos explore``: the exploration from the command line."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from tests.chaos.explore.exploring import Found, explore
from tests.chaos.explore.known import LEFT_OUT, is_left_out
from tests.chaos.explore.places import KINDS, Place
from tests.chaos.server import Server, new_database


@contextmanager
def new_place(kind: str, postgres_url: str) -> Iterator[Place]:
    """Yield a new place of a kind; the URL is that of a Postgres server, where it needs one."""
    with tempfile.TemporaryDirectory(prefix="taskctx-explore-") as folder:
        if kind == "json":
            yield Place(kind, f"json:///{folder}/tasks", f"json:///{folder}/tasks-copy")
        elif kind.startswith("sqlite"):
            yield Place(kind, f"sqlite:///{folder}/tasks.db", f"sqlite:///{folder}/tasks-copy.db")
        else:
            with asyncio.Runner() as runner, ExitStack() as stack:
                addresses = []
                for _ in range(2):
                    database = new_database(postgres_url)
                    addresses.append(runner.run(database.__aenter__()))
                    stack.callback(lambda opened: runner.run(opened.__aexit__(None, None, None)), database)
                yield Place(kind, *addresses)


@click.command()
@click.argument("kinds", nargs=-1, type=click.Choice(KINDS))
@click.option("--minutes", type=click.FloatRange(min=0), default=5.0, help="How long, on each kind of store.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="The first program; with --number the only one.")
@click.option("--number", type=click.IntRange(min=0), help="Only this one of the program's points: 0 is none.")
@click.option("--points", type=click.IntRange(min=1), default=60, help="How many of each program, at the most.")
@click.option("--known", is_flag=True, help="Also what is left out for a known fault.")
@click.option("--postgres-url", envvar="TASKCTX_TEST_POSTGRES_URL", help="A server; without it one of our own is used.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(
    kinds: tuple[str, ...],
    minutes: float,
    seed: int,
    number: int | None,
    points: int,
    known: bool,
    postgres_url: str | None,
    json_path: Path | None,
) -> None:
    """Do one thing at each step and statement of programs on KINDS of stores, or all; exit with 1 if any is wrong.

    A failure is named by its seed and number: `explore KIND --seed SEED --number NUMBER` runs it again.
    """
    rows = []
    logger = logging.getLogger("taskctx_sql")
    with ExitStack() as stack:
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
        for kind in kinds or KINDS:
            if kind.startswith("postgres") and postgres_url is None:
                postgres_url = stack.enter_context(Server()).url
            with new_place(kind, postgres_url or "") as place:
                found = explore(
                    place,
                    itertools.count(seed) if number is None else iter([seed]),
                    number=number,
                    a_program=points,
                    seconds=minutes * 60,
                    leaves_out=(lambda program, injection: False) if known else is_left_out,
                    tell=_tell,
                )
            rows.append(_shown(kind, found))
    if not known:
        click.echo(f"left out: {'; '.join(f'{fault}: {what}' for fault, what in LEFT_OUT.items())}")
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=1))
    sys.exit(1 if any(row["failures"] for row in rows) else 0)


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{line}", err=True, nl=False)


def _shown(kind: str, found: Found) -> dict[str, object]:
    points = found.points.total()
    click.echo(
        f"{kind}: {found.programs:,} programs, {points:,} points, {len(found.failures):,} failures, "
        f"longest call {found.longest:.2f} s"
    )
    for seed, number, what in found.failures:
        click.echo(f"  --seed {seed} --number {number}: {what}")
    return {
        "kind": kind,
        "programs": found.programs,
        "points": points,
        "by what was done": dict(found.points),
        "longest": round(found.longest, 3),
        "failures": [{"seed": seed, "number": number, "what": what} for seed, number, what in found.failures],
    }
