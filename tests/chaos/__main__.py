"""``python -m tests.chaos``: run the tests of the harness, and print what each found.

``python -m tests.chaos explore`` and ``rolling`` are commands of their own: see `tests.chaos.explore` and `rolling`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from tests.chaos.explore.command import main as explore
from tests.chaos.figures import figures, table
from tests.chaos.rolling import main as rolling
from tests.chaos.trial import Result, Setup, Trial
from tests.chaos.trials import TRIALS
from tests.chaos.writer import BREAKS
from tests.support.connections import OPTIONS, OVER, PLAIN, available, option
from tests.support.postgres import Server

CITUS = "TASKCTX_TEST_CITUS_URL"


def chosen(names: Sequence[str]) -> list[Trial]:
    """Return the tests whose names begin with one of these; all without any."""
    for name in names:
        if not any(trial.name.startswith(name) for trial in TRIALS):
            raise click.BadParameter(f"no test is called {name}; --list names them")
    return [trial for trial in TRIALS if not names or trial.name.startswith(tuple(names))]


def kinds_of(trial: Trial, over: str | None, citus_url: str | None) -> list[str]:
    """Return the kinds of connections over which to run a test; "" stands for one that does not ask."""
    if not over:
        return [PLAIN if trial.over else ""]
    wanted = available(citus_url) if over == "all" else [OPTIONS[over]]
    return [kind for kind in wanted if kind in trial.over]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--list", "only_list", is_flag=True, help="Name the tests, and end.")
@click.option(
    "--connection",
    "over",
    type=click.Choice(["all", *map(option, OVER)]),
    help="Run only tests of Postgres, over this kind of connection or over all of them.",
)
@click.option("--cycles", type=click.IntRange(min=1), help="How often the fault happens; without it, what proves it.")
@click.option("--short", is_flag=True, help="As few cycles as the wide tests run.")
@click.option("--break", "breaks", type=click.Choice(list(BREAKS)), help="Break the code, to see it caught.")
@click.option("--postgres-url", envvar="TASKCTX_TEST_POSTGRES_URL", help="A server; without it one of our own is used.")
@click.option("--citus-url", envvar=CITUS, help="The coordinator of a Citus, for the tests that need one.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(
    names: tuple[str, ...],
    only_list: bool,
    over: str | None,
    cycles: int | None,
    short: bool,
    breaks: str | None,
    postgres_url: str | None,
    citus_url: str | None,
    json_path: Path | None,
) -> None:
    """Show that nothing acknowledged is lost: run the tests called NAME (the beginning will do), or all.

    Exits with 1 if any is bad.
    """
    trials = chosen(names)
    if only_list:
        for trial in trials:
            needs = f" (needs {CITUS})" if trial.on_citus else ""
            click.echo(f"{trial.name:24}{trial.cycles:>7,} cycles: {trial.what}{needs}")
        return
    if not citus_url:
        for trial in (trial for trial in trials if trial.on_citus):
            click.echo(f"{trial.name}: not run, as neither --citus-url nor {CITUS} names a Citus", err=True)
        trials = [trial for trial in trials if not trial.on_citus]
    if not trials:
        raise click.UsageError("there is nothing to run")
    turns = [(trial, kind) for trial in trials for kind in kinds_of(trial, over, citus_url)]
    if not turns:
        raise click.UsageError("there is nothing to run over this kind of connection")
    console = Console(stderr=True)
    rows, complaints = [], []
    with ExitStack() as stack:
        # Outages are what happens here all the time.
        logger = logging.getLogger("taskctx_sql")
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
        # Whoever ends this run, its servers, writers and folders go with it.
        stack.callback(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        status = stack.enter_context(console.status("Starting"))

        def server() -> str:
            nonlocal postgres_url
            if postgres_url is None:
                postgres_url = stack.enter_context(Server()).url
            return postgres_url

        for trial, kind in turns:
            started = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="taskctx-chaos-") as folder:
                setup = Setup(
                    cycles=cycles or (trial.short if short else trial.cycles),
                    folder=Path(folder),
                    tell=lambda line, name=trial.name: status.update(f"{name}: {line}"),  # type: ignore[misc]
                    postgres_url=server,
                    breaks=breaks or "",
                    citus_url=citus_url or "",
                    over=kind or PLAIN,
                )
                try:
                    result = asyncio.run(trial.run(setup))
                except Exception as error:
                    result = Result(problems=[f"it ended with {type(error).__name__}: {error}"])
            row = figures(trial.name, kind, result)
            rows.append(row)
            complaints += [(f"{trial.name} {kind}".rstrip(), complaint) for complaint in result.complaints]
            console.print(
                f"{trial.name} {kind}".rstrip() + f": {row['verdict']} after {time.monotonic() - started:.0f} s"
            )
    Console(width=None if sys.stdout.isatty() else 150).print(table(rows))
    for name, complaint in complaints:
        click.echo(f"{name}: {complaint}", err=True)
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=1))
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["explore"]:
        explore(sys.argv[2:], prog_name="python -m tests.chaos explore")
    if sys.argv[1:2] == ["rolling"]:
        rolling(sys.argv[2:], prog_name="python -m tests.chaos rolling")
    main()
