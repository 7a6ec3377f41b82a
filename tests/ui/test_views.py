"""The views: each answers, each link leads somewhere, and each number leads to what it counts."""

from __future__ import annotations

import csv
import io
import re
from itertools import combinations_with_replacement
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from taskctx_sql import Store
from taskctx_sql.pages.links import LISTS
from tests.ui.conftest import TASKS
from tests.ui.page import Page


async def page(look: httpx.AsyncClient, address: str) -> Page:
    return Page(await look.get(address))


async def count(look: httpx.AsyncClient, address: str) -> int:
    """How many rows a list says it has."""
    found = await page(look, address)
    if "None in" in found.text:
        return 0
    number = re.search(r"\d+ to \d+ of ([\d,]+)", found.text)
    assert number is not None, found.text
    return int(number[1].replace(",", ""))


async def test_no_link_is_broken(look: httpx.AsyncClient) -> None:
    # Every view with each pair of its parameters: with each set of them there are ten times as many.
    waiting = ["/"]
    visited: set[str] = set()
    seen: set[tuple[str, ...]] = set()
    while waiting:
        address = waiting.pop()
        parts = urlsplit(address)
        assert (parts.scheme, parts.netloc) == ("", "")
        given = parse_qsl(parts.query, keep_blank_values=True)
        names = sorted({"", *(f"{name} {value}" if name in ("by", "part") else name for name, value in given)})
        pairs = {(parts.path, *pair) for pair in combinations_with_replacement(names, 2)}
        if pairs <= seen:
            continue
        seen |= pairs
        visited.add(address)
        answer = await look.get(address)
        assert answer.status_code == 200, (address, answer.text)
        if answer.headers["content-type"].startswith("text/html"):
            found = Page(answer)
            assert len([tag for tag, _ in found.elements if tag == "h1"]) == 1, address
            waiting += [href for href, _ in found.links if not href.startswith("#")]
    paths = {urlsplit(address).path for address in visited}
    assert {"/", "/task", *(f"/{name}" for name in LISTS), "/tasks.csv"} <= paths
    assert len(visited) > 50


async def test_each_number_of_the_overview_leads_to_what_it_counts(look: httpx.AsyncClient) -> None:
    overview = await page(look, "/?period=all")
    tiles = {text: href for href, text in overview.links}
    for name, found in {"tasks": TASKS, "failed tasks": None, "errors": None, "unfinished runs": None}.items():
        number, href = next((int(text.split()[0]), href) for text, href in tiles.items() if text.endswith(f" {name}"))
        assert number == await count(look, href)
        assert found in (None, number)
    bars = [(href, text) for href, text in overview.links if re.fullmatch(r"\d{4}-\d\d-\d\d: [\d.]+", text)]
    counted = [(href, text) for href, text in bars if href.startswith(("/tasks", "/errors"))]
    costs = [(href, float(text.partition(": ")[2])) for href, text in bars if "by=task" in href and "sort" not in href]
    for href, cost in costs[:2]:
        rows = csv.DictReader(io.StringIO((await look.get(href.replace("/costs", "/costs.csv"))).text))
        assert sum(float(row["cost"]) for row in rows) == pytest.approx(cost, abs=0.006)
    assert len(counted) > 60
    for href, text in counted[::15]:
        assert await count(look, href) == int(text.partition(": ")[2]), href
    tools = [(text, href) for href, text in overview.links if text.endswith("failed") and href.startswith("/calls")]
    assert tools
    for text, href in tools[:2]:
        assert await count(look, href) == int(text.split()[0])


async def test_a_period_holds_on_every_view(look: httpx.AsyncClient) -> None:
    month, day = await page(look, "/?period=30d"), await page(look, "/?period=24h")
    assert month.text != day.text
    assert await count(look, "/tasks?period=24h") < await count(look, "/tasks") < await count(look, "/tasks?period=all")
    assert await count(look, "/tasks?since=2000-01-01&until=2000-12-31") == 0
    assert all("period=24h" in href for href, text in day.links if text in LISTS.values())


@pytest.mark.parametrize(
    ("narrowed", "chip"),
    [
        ("model=gpt-4o", "model: gpt-4o"),
        ("tool=send_mail", "tool: send_mail"),
        ("label=team=support", "label team: support"),
        ("title=refund", "title: refund"),
        ("outcome=failed", "outcome: failed"),
        ("user=user-3", "user: user-3"),
    ],
)
async def test_tasks_are_narrowed_by_what_they_have(look: httpx.AsyncClient, narrowed: str, chip: str) -> None:
    found = await page(look, f"/tasks?period=all&{narrowed}")
    assert chip in found.text
    assert 0 < await count(look, f"/tasks?period=all&{narrowed}") < TASKS
    without = next(href for href, text in found.links if text == "×")
    assert await count(look, without) == TASKS


@pytest.mark.parametrize("by", ["task", "tree", "day", "model", "user", "label:team"])
async def test_costs_are_added_up_by_what_is_asked(look: httpx.AsyncClient, by: str) -> None:
    found = await page(look, f"/costs?period=all&by={by}")
    rows = list(csv.DictReader(io.StringIO((await look.get(f"/costs.csv?period=all&by={by}")).text)))
    assert sum(int(row["calls"]) for row in rows) == 2 * TASKS
    cell = next(href for href, text in found.links if href.startswith(("/task", "/costs?since")) and "csv" not in href)
    assert (await look.get(cell)).status_code == 200
    Page(await look.get(f"/costs?by={by}&user=user-3"))


async def test_lists_are_sorted_and_turned_over(look: httpx.AsyncClient) -> None:
    first = await page(look, "/tasks?period=all&sort=cost")
    assert "1 to 50 of 120" in first.text
    costs = [float(cost) for cost in re.findall(r"\bcompleted (\d+\.\d+)", first.text)]
    assert costs == sorted(costs, reverse=True)
    last = await page(look, "/tasks?period=all&sort=cost&page=3")
    assert "101 to 120 of 120" in last.text
    assert not [text for _, text in last.links if text.startswith("Next")]
    turned = next(href for href, text in first.links if text.startswith("Cost ↓"))
    assert "sort=-cost" in turned
    cheapest = await page(look, turned)
    costs = [float(cost) for cost in re.findall(r"\bcompleted (\d+\.\d+)", cheapest.text)]
    assert costs == sorted(costs)
    beyond = await page(look, "/tasks?period=all&page=99")
    assert "120 in all, none on this page" in beyond.text


async def test_a_list_is_the_same_as_csv(look: httpx.AsyncClient, filled: Store) -> None:
    answer = await look.get("/tasks.csv?period=all&sort=cost")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="tasks.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["chat_id"] for row in rows] == [task.chat_id for task in await filled.reports.tasks(sort="cost")]


async def test_a_text_is_found_and_marked(look: httpx.AsyncClient) -> None:
    answer = await look.get("/search", params={"q": "ferry", "period": "all"})
    assert "<mark>ferry</mark>" in answer.text
    assert "1 to 50 of" in Page(answer).text
    second = await look.get("/search", params={"q": "ferry", "period": "all", "page": 2})
    assert "51 to 100 of" in Page(second).text
    assert answer.text.count("<tr>") == 51
    nothing = Page(await look.get("/search?q=nowhere"))
    assert "Nothing was found." in nothing.text
    assert "Search for words" in Page(await look.get("/search")).text


@pytest.mark.parametrize(
    "address",
    [
        "/tasks?sort=labels",
        "/tasks?sort=%00",
        "/tasks?outcome=good",
        "/tasks?page=0",
        "/tasks?page=99999999999999999999999",
        "/tasks?page=²",
        "/tasks?period=x",
        "/?since=2026-13-01",
        "/?since=yesterday",
        "/tasks?label=x",
        "/calls?outcome=cancelled",
        "/costs?by=color",
        "/costs?by=label",
    ],
)
async def test_what_makes_no_sense_is_said(look: httpx.AsyncClient, address: str) -> None:
    found = Page(await look.get(address), 400)
    assert "makes no sense" in found.text


async def test_what_is_not_there_is_said(look: httpx.AsyncClient) -> None:
    for address in ("/nowhere", "/static/nothing.css", "/tasks/", "/../etc/passwd"):
        assert Page(await look.get(address), 404).text
    # Names that it does not know are left out; so are those without a value.
    assert await count(look, "/tasks?period=all&nonsense=1&user=&model=") == TASKS
