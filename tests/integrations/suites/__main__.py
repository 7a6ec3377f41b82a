"""``python -m tests.integrations.suites NAME``: a framework's own test suite, over one of our stores.

It prints what passed, and for each test that does not pass the reason, from the table beside the suite's definition. It
exits with 1 if another test fails, or if one of the table's passes.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from taskctx_sql import schema
from tests.benchmarks.servers import databases, postgres
from tests.integrations.frameworks import PACKAGES
from tests.integrations.suites.run import Result, run
from tests.integrations.suites.source import prepare
from tests.integrations.suites.suite import Engine, Suite

# A framework with a second package has a second suite, named after both.
NAMES = sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem.startswith(tuple(PACKAGES)))


@contextmanager
def database(engine: Engine, server: str | None, folder: Path) -> Iterator[str]:
    """Yield the URL of a database at the newest schema."""
    if engine == "sqlite":
        url = f"sqlite:///{folder}/tasks.db"
        asyncio.run(schema.upgrade(url))
        yield url
        return
    with postgres(server) as named, asyncio.Runner() as runner:
        made = databases(named, 1)
        (url,) = runner.run(made.__aenter__())
        try:
            runner.run(schema.upgrade(url))
            yield url
        finally:
            runner.run(made.__aexit__(None, None, None))


def show(result: Result) -> None:
    """Print what passed, and why the others did not."""
    for reason, count in Counter(result.known.values()).most_common():
        click.echo(f"\n{count} known: {reason}")
        for test in (test for test, why in result.known.items() if why == reason):
            click.echo(f"    {test}")
    for title, tests in (("FAILED", result.unknown), ("PASSED, though known not to", result.mended)):
        for test in tests:
            click.echo(f"{title}: {test}")
    counts = f"{len(result.passed)} passed, {len(result.known)} known not to pass"
    click.echo(f"\n{counts}, {len(result.unknown)} failed, {len(result.skipped)} skipped by the suite")


@click.command(help=__doc__)
@click.argument("name", type=click.Choice(NAMES))
@click.option("--engine", type=click.Choice(["sqlite", "postgres"]), default="sqlite", show_default=True)
@click.option("--source", help="A checkout of the framework, or a .tar.gz of one, instead of fetching it.")
@click.option("--postgres", "server", metavar="URL", help="A Postgres server; one of its own by default.")
@click.option("--own", is_flag=True, help="Leave the framework's own store in place, to see what it passes.")
@click.option("-k", "chosen", metavar="EXPRESSION", help="Run only the tests that pytest's -k chooses.")
def main(name: str, engine: Engine, source: str | None, server: str | None, own: bool, chosen: str | None) -> None:
    """Run a suite."""
    suite: Suite = importlib.import_module(f"tests.integrations.suites.{name}").SUITE
    with tempfile.TemporaryDirectory(prefix="taskctx-suite-") as folder, database(engine, server, Path(folder)) as url:
        tests = prepare(suite, source, Path(folder))
        result = run(suite, tests, engine, url, own=own, options=("-k", chosen) if chosen else ())
    show(result)
    sys.exit(0 if result.as_expected else 1)


if __name__ == "__main__":
    main()
