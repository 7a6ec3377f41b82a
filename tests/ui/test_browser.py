"""The page in a real browser: no error, nothing hostile runs, keys, a phone, the dark."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import ContextKey, ContextUpdate, blocking, open_store
from tests.support.waiting import SOON
from tests.ui import many
from tests.ui.test_security import HOSTILE

pytestmark = pytest.mark.wide
VIEWS = ("/", "/tasks", "/runs", "/calls", "/models", "/tools", "/errors", "/files", "/users", "/search?q=script", "/x")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests of this module."""
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("TASKCTX_TEST_BROWSER"):
            pytest.fail("there is no Chromium: run `apt-get install chromium`")
        pytest.skip("there is no Chromium, and TASKCTX_TEST_BROWSER does not ask for one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield opened
        opened.close()


@contextmanager
def served(database: Path) -> Iterator[str]:
    """Serve a database as a person does, and yield the address that is printed; Ctrl-C ends it."""
    command = [sys.executable, "-W", "error", "-m", "taskctx_sql", "ui", str(database), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=2 * SOON)
        assert (server.returncode, errors) == (0, "")


@pytest.fixture(scope="module")
def address(filled_sqlite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("browsed") / "tasks.db"
    shutil.copy(filled_sqlite.removeprefix("sqlite:///"), path)
    with open_store(f"sqlite:///{path}") as store:
        key = ContextKey(HOSTILE[:200], HOSTILE[:250])
        updates = [ContextUpdate(1.79e9, kind, HOSTILE, {}) for kind in ("error", HOSTILE)]
        models = [{"model_id": HOSTILE, "timestamp": 1.79e9, "cost": 1.0}]
        blocking(
            store.write(
                key, updates=updates, models=models, title=(HOSTILE + "long" * 100)[:255], labels={"a": HOSTILE}
            )
        )
    with served(path) as printed:
        yield printed


@pytest.fixture(scope="module")
def many_tasks(sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a hundred thousand tasks."""
    path = tmp_path_factory.mktemp("many") / "tasks.db"
    shutil.copy(sqlite_file, path)
    many.fill(path)
    with served(path) as printed:
        yield printed


@contextmanager
def window(browser: Any, address: str, **options: Any) -> Iterator[tuple[Any, str, list[str]]]:
    """Yield a page, the server's address, and what the console says."""
    context = browser.new_context(**options)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))

    def failed(request: Any) -> None:
        # What a page that is left was still asking for is aborted.
        if request.failure != "net::ERR_ABORTED":
            said.append(f"failed: {request.url}")

    page.on("requestfailed", failed)
    page.goto(address)
    assert "token" not in page.url
    yield page, page.url.rstrip("/"), said
    context.close()


def whole(page: Any, address: str) -> None:
    """Open an address, and wait until nothing of it is still being read."""
    page.goto(address)
    # Not by a function, which the policy forbids.
    page.wait_for_selector("meta[http-equiv=refresh]", state="detached")


@pytest.mark.parametrize("width", [1280, 360])
def test_every_view_is_without_errors_and_fits(browser: Any, address: str, width: int) -> None:
    with window(browser, address, viewport={"width": width, "height": 740}) as (page, server, said):
        for view in VIEWS:
            whole(page, f"{server}{view}{'&' if '?' in view else '?'}period=all")
            # A browser says of itself that an address is missing.
            assert [line for line in said if view != "/x" or "404" not in line] == [], view
            assert page.evaluate("document.documentElement.scrollWidth") <= width, view
            assert page.title() != "it ran"
            assert page.locator("h1").count() == 1


def test_a_script_that_ran_would_be_seen(browser: Any, address: str) -> None:
    with window(browser, address) as (page, _, said):
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title = 1\">')")
        page.wait_for_timeout(200)
        assert any("Content Security Policy" in line for line in said)


def test_lists_are_walked_by_keys(browser: Any, address: str) -> None:
    with window(browser, address) as (page, server, _):
        whole(page, f"{server}/tasks?period=all")
        page.keyboard.press("j")
        page.keyboard.press("j")
        second = page.evaluate("document.activeElement.closest('tr').rowIndex")
        page.keyboard.press("k")
        assert (second, page.evaluate("document.activeElement.closest('tr').rowIndex")) == (2, 1)
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.name") == "q"
        page.keyboard.type("jk ferry")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(r"/search\?"))
        assert "q=jk+ferry" in page.url
        # The first key of a page leads past the bar.
        page.keyboard.press("Escape")
        page.goto(server)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"


def test_a_filter_is_applied_when_it_is_chosen(browser: Any, address: str) -> None:
    with window(browser, address) as (page, server, said):
        whole(page, f"{server}/tasks?period=all")
        page.select_option("select[name=outcome]", "failed")
        page.wait_for_url(re.compile("outcome=failed"))
        assert "title=" not in page.url
        assert said == []


def test_without_scripts_everything_is_there(browser: Any, address: str) -> None:
    with window(browser, address, java_script_enabled=False) as (page, server, _):
        page.goto(f"{server}/tasks?period=all")
        page.fill("input[name=model]", "gpt-4o")
        page.click("text=Filter")
        assert "model=gpt-4o" in page.url
        page.fill("input[name=q]", "ferry")
        page.press("input[name=q]", "Enter")
        assert page.locator("mark").count() or "Being searched" in page.content()


def test_the_dark_is_dark(browser: Any, address: str) -> None:
    colors = {}
    for scheme in ("light", "dark"):
        with window(browser, address, color_scheme=scheme) as (page, _, _):
            colors[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colors == {"light": "rgb(245, 246, 248)", "dark": "rgb(15, 20, 27)"}


def rows(page: Any) -> list[str]:
    """Return the tasks of a list, as their titles."""
    return list(page.locator("table.rows tbody td.first a").all_inner_texts())


def test_a_hundred_thousand_tasks_are_looked_through_a_page_at_a_time(browser: Any, many_tasks: str) -> None:
    with window(browser, many_tasks) as (page, server, said):
        page.set_default_timeout(120_000)
        whole(page, f"{server}/tasks?period=all")
        assert rows(page) == [f"order {number}" for number in range(50)]
        assert "1 to 50 of 10,000 or more" in page.locator(".counted").inner_text()
        page.click("text=Next")
        page.wait_for_url(re.compile("page=2"))
        page.wait_for_selector("meta[http-equiv=refresh]", state="detached")
        assert rows(page) == [f"order {number}" for number in range(50, 100)]
        whole(page, f"{server}/tasks?period=all&page={many.TASKS // 50}")
        assert rows(page)[-1] == f"order {many.TASKS - 1}"
        whole(page, f"{server}/tasks?period=all&page={many.TASKS // 50 + 1}")
        assert rows(page) == []
        assert page.locator("text=Next").count() == 0

        # Sorted by what has no index, and filtered by what has one.
        whole(page, f"{server}/tasks?sort=cost")
        assert (rows(page)[0], len(rows(page))) == (f"order {many.DEAREST}", 50)
        whole(page, f"{server}/tasks?period=7d")
        page.select_option("select[name=outcome]", "failed")
        page.wait_for_url(re.compile("outcome=failed"))
        page.wait_for_selector("meta[http-equiv=refresh]", state="detached")
        assert rows(page) == [f"order {number * many.FAILED}" for number in range(50)]
        whole(page, f"{server}/tasks?title=order+99999&period=all")
        assert (rows(page), page.locator(".counted span").inner_text()) == (["order 99999"], "1 to 1 of 1")

        whole(page, f"{server}/?period=24h")
        tiles = {text.split("\n")[1]: text.split("\n")[0] for text in page.locator(".tile").all_inner_texts()}
        day = [number for number in range(2_000) if number * many.APART < 86_400]
        # Time goes by: at most an hour.
        assert len(day) - 80 < int(tiles["tasks"].replace(",", "")) <= len(day), tiles
        assert page.locator("table tbody tr").count() < 50
        links = {link.get_attribute("href") for link in page.locator("main a[href^='/']").all()}
        leading = {re.split("[?&=]", link)[0]: link for link in sorted(links)}
        assert {"/task", "/tasks", "/errors", "/costs"} <= leading.keys()
        for link in leading.values():
            whole(page, server + link)
            assert page.locator("h1").count() == 1
            assert page.locator("table.rows tbody tr").count() <= 50
        # A task that is left is no longer followed.
        assert [line for line in said if "/task/events" not in line] == []
