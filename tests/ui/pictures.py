"""``python -m tests.ui.pictures FOLDER``: makes the documentation's pictures of ``taskctx ui``, of made-up tasks."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import click
from playwright.async_api import Browser, async_playwright

from taskctx_sql import clock, open_store, schema
from taskctx_sql.cli.demo_many import TASKS, write_many
from taskctx_sql.ui import server

NOW: Final = datetime(2026, 11, 30, 18, tzinfo=UTC).timestamp()
WIDTH: Final = 1180
# Each with its address, its height, and whether it is dark.
PICTURES: Final = {
    "ui-overview": ("/", 1090, False),
    "ui-tasks": ("/tasks?period=7d&sort=cost", 620, True),
    "ui-search": ("/search?q=customs+form&period=all", 560, False),
    "ui-phone": ("/", 760, True),
    # Of docs/pages/guides/walk.md.
    "walk-day": ("/tasks?begun=1&since=2026-11-29&until=2026-11-29&sort=cost", 520, False),
    "walk-tools": ("/tools?period=all&sort=failures", 640, False),
    "walk-step": ("/task?user=north-2&chat=task-00153", 1560, False),
    "walk-changes": ("/task/changes?user=north-2&chat=task-00153&old=27&new=30", 1080, False),
}


async def take(browser: Browser, address: str, name: str, target: Path) -> None:
    """Take a picture of a view."""
    path, height, is_dark = PICTURES[name]
    width = 380 if name == "ui-phone" else WIDTH
    window = await browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if is_dark else "light"
    )
    page = await window.new_page()
    await page.goto(f"{address}{path}")
    await page.wait_for_selector("meta[http-equiv=refresh]", state="detached")
    await page.screenshot(path=target / f"{name}.png")
    await window.close()


async def make(target: Path, chromium: str) -> None:
    """Fill a database, serve it, and take all pictures."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/tasks.db"
        await schema.upgrade(url, search=True)
        async with open_store(url) as store:
            await write_many(store, TASKS, NOW)
            with clock.replaced(partial(float, NOW)), server.listen("127.0.0.1", 0) as listening:
                application = server.application(store, token=None, patience=60)
                serving = asyncio.create_task(server.serve(application, listening))
                async with async_playwright() as playwright:
                    browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                    for name in PICTURES:
                        await take(browser, f"http://127.0.0.1:{listening.getsockname()[1]}", name, target)
                    await browser.close()
                serving.cancel()
                await asyncio.wait([serving])


@click.command()
@click.argument("target", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(target: Path) -> None:
    """Write the pictures to the folder TARGET. It needs chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise click.ClickException("there is no chromium to make the pictures with")
    asyncio.run(make(target, chromium))


if __name__ == "__main__":
    main()
