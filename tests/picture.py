"""``python -m tests.picture FILE``: makes the README's picture of the report, of a week of invented nightly runs."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import click

from taskctx_sql import Store, TaskContext, open_store
from taskctx_sql.pages import collect_frozen, render_frozen

START = datetime(2026, 11, 23, 2, tzinfo=UTC).timestamp()
DAY, NIGHTS = 86_400, 7
# Dollars for each token read, and how often each is asked.
MODELS = {"gpt-4": (0.000_03, 2), "claude-sonnet": (0.000_003, 5), "mistral-small": (0.000_000_2, 3)}
FOLDERS = ("invoices", "contracts", "support-mail", "minutes")
FAILED = ((2, "contracts"), (5, "minutes"))
WIDTH, HEIGHT = 1100, 760


class Clock:
    """A time that passes by itself, a little at each call."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        self.now += 0.7
        return self.now


async def one_night(store: Store, folder: str, night: int, clock: Clock, chance: Random) -> None:
    context = TaskContext({"user_id": "night-shift", "chat_id": folder}, store=store, clock=clock)
    with suppress(TimeoutError):
        async with context:
            for number in range(chance.randrange(6, 10 + 3 * night)):
                name = f"{folder}/{night}-{number:03}.pdf"
                context.track_file_operation(name, "read", "nightly")
                model = chance.choices(list(MODELS), [often for _, often in MODELS.values()])[0]
                tokens = chance.randrange(300, 6000)
                context.track_model_usage(
                    model, "gateway", "summary", input_tokens=tokens, cost=round(tokens * MODELS[model][0], 6)
                )
                context.add_context_update("result", {"file": name, "summary": "..."})
                if chance.random() < 0.03:
                    context.add_context_update("error", f"{name} has no text layer")
                await context.save()
            if (night, folder) in FAILED:
                raise TimeoutError("the model gateway did not answer within 30 s")


async def record(database_url: str) -> str:
    """Record a week of nights, and return the report's page."""
    clock, chance = Clock(), Random(2)
    async with open_store(database_url) as store:
        for night in range(NIGHTS):
            for hour, folder in enumerate(FOLDERS):
                clock.now = START + night * DAY + hour * 1200
                await one_night(store, folder, night, clock, chance)
        return render_frozen(await collect_frozen(store))


@click.command()
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
def main(target: Path) -> None:
    """Write the picture to TARGET, a PNG. It needs chromium."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise click.ClickException("there is no chromium to make the picture with")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(asyncio.run(record(f"sqlite:///{folder}/tasks.db")))
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--window-size={WIDTH},{HEIGHT}",
        ]
        command = [browser, *options, f"--screenshot={target.resolve()}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    click.echo(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
