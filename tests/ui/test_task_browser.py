"""A task in a real browser: what is saved appears, the slider moves, and nothing hostile runs."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskctx_sql import ContextKey, ContextUpdate, Store, open_store
from taskctx_sql.ui.links import ServerLinks
from taskctx_sql.ui.server import application
from tests.ui.conftest import PATIENCE
from tests.ui.test_live import restore, served
from tests.ui.test_tasks import HOSTILE

pytestmark = pytest.mark.wide
LINKS = ServerLinks()


@pytest.fixture
async def store(sqlite_url: str) -> AsyncIterator[Store]:
    async with open_store(sqlite_url) as opened:
        yield opened


@pytest.fixture
def sqlite_url(tmp_path: Any) -> str:
    return f"sqlite:///{tmp_path}/tasks.db"


@pytest.fixture
async def window() -> AsyncIterator[tuple[Any, list[str]]]:
    """A page of a browser, and what its console says."""
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("TASKCTX_TEST_BROWSER"):
            pytest.fail("there is no Chromium: run `apt-get install chromium`")
        pytest.skip("there is no Chromium, and TASKCTX_TEST_BROWSER does not ask for one")
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 360, "height": 800})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        yield page, said
        await browser.close()


async def test_what_is_saved_appears_and_the_slider_moves(store: Store, window: tuple[Any, list[str]]) -> None:
    page, said = window
    key = ContextKey("u", HOSTILE[:200])
    update = ContextUpdate(1.0, HOSTILE, {"content": HOSTILE}, {"group": HOSTILE, "name": HOSTILE})
    for number in range(3):
        text = ContextUpdate(2.0, "message", f"answer {number} {HOSTILE}", {"role": "assistant"})
        await store.write(key, updates=[update, text], state={HOSTILE: HOSTILE}, title=HOSTILE[:200])
    async with asyncio.timeout(60), served(application(store, token=None, patience=PATIENCE)) as port:
        here = f"http://127.0.0.1:{port}"
        await page.goto(here + LINKS.task(key.user_id, key.chat_id))
        await page.wait_for_selector("[data-status]:not([hidden])")
        await store.write(key, updates=[ContextUpdate(3.0, "message", f"now {HOSTILE}", {"role": "user"})])
        await page.wait_for_selector("[data-entries] >> text=now")
        await page.wait_for_selector("[data-live=tiles] >> text=7")
        await restore(store, key, 3)
        await page.wait_for_selector("[data-entries] .gone >> text=removed in revision 5")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        await page.locator("input[name=revision]").fill("2")
        await page.wait_for_url("**revision=2*")
        assert "answer 1" in await page.locator("[data-entries]").inner_text()
        assert "answer 2" not in await page.locator("[data-entries]").inner_text()
        for address in (LINKS.task("u", key.chat_id, part="details"), LINKS.changes("u", key.chat_id, 1, 3)):
            await page.goto(here + address)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    assert said == []
