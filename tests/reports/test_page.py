"""The page: it is complete, loads nothing from outside, and shows recorded texts without executing them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import pytest

from taskctx_sql import blocking, task_context
from taskctx_sql.reports import charts
from tests.support.command import taskctx

HOSTILE = (
    "</title></style></svg><script>document.title = 'it ran'; console.error('it ran')</script>"
    "<img src=x onerror=\"document.title = 'it ran'\"><a href='javascript:alert(1)'>"
    "\" onload=alert(1) ' {{ 7 * 7 }} &amp;"
)
BROWSER = shutil.which("chromium")
VOID = {"meta", "rect", "polygon", "br", "img", "link"}


@pytest.fixture
def hostile(database_url: str, user: str) -> str:
    """A database in which every text is hostile."""
    data = {"user_id": user, "chat_id": f"c {HOSTILE}"[:250]}
    with pytest.raises(KeyError), task_context(data, database_url=database_url) as context:
        context.add_context_update("message", HOSTILE)
        context.add_context_update(HOSTILE, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE})
        context.add_context_update("error", HOSTILE)
        context.track_file_operation(HOSTILE, HOSTILE, HOSTILE)
        context.track_model_usage(HOSTILE, HOSTILE, HOSTILE, input_tokens=1000, cost=1.25)
        context.track_file_operation("after.txt", "write", "agent")
        blocking(context.save())
        raise KeyError(HOSTILE)
    return database_url


def page_of(url: str, user: str, *more: str) -> str:
    done = taskctx("report", "--html", "page.html", "--replace", "--user", user, "--database-url", url, *more)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return Path("page.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """The elements of a page, in order, each of which must be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("one", [True, False], ids=["a task", "a period"])
def test_a_page_shows_everything_and_nothing_runs(hostile: str, user: str, one: bool) -> None:
    page = page_of(hostile, user, *(["--chat", f"c {HOSTILE}"[:250]] if one else []))
    found = Elements(page)
    assert not {"script", "img", "a", "link", "iframe", "object"} & set(found.names)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("src", "href")]
    assert "http://" not in page
    assert "https://" not in page
    assert "url(" not in page
    text = " ".join("".join(found.texts).split())
    assert "{{ 7 * 7 }}" in text
    for part in ("Timeline", "Models", "Growth", "Errors", "Files, by their last activity", "Newest runs", "after.txt"):
        assert part in text
    assert ("What happened" in text) == one
    assert ("Newest tasks" in text) != one
    assert text.count("document.title = 'it ran'") >= 6
    assert {"rect", "polygon"} <= set(found.names)
    assert "1.25" in text


def test_a_failed_run_is_a_failure_on_the_whole_page(hostile: str, user: str) -> None:
    with task_context({"user_id": user, "chat_id": "fine"}, database_url=hostile) as context:
        context.track_model_usage("m", "p", "chat", cost=0.5)
    text = " ".join(" ".join(Elements(page_of(hostile, user)).texts).split())
    assert "2 tasks, 1 of them failed" in text
    assert "2 runs, 1 of them failed" in text
    # The update of the type "error", and the run.
    assert "2 errors, failed runs included" in text
    assert re.search(r"Newest tasks .* completed 0\.5 .* failed 1\.25", text)


def test_a_page_says_what_its_tables_leave_out_and_adds_up_everything(database_url: str, user: str) -> None:
    for number in range(3):
        with task_context({"user_id": user, "chat_id": f"c{number}"}, database_url=database_url) as context:
            context.track_file_operation(f"{number}.txt", "write", "agent")
            context.track_model_usage(f"m{number}", "p", "chat", input_tokens=10, cost=0.5)
            context.add_context_update("error", "broke")
    text = " ".join(" ".join(Elements(page_of(database_url, user, "--limit", "2")).texts).split())
    for title in (
        *("Errors", "Files, by their last activity", "Model use by day", "Largest tasks", "Newest tasks"),
        *("Newest runs", "Files by last operation"),
    ):
        assert f"{title}: 2 of 3" in text
    assert text.count("Total") == 3
    assert text.count(" 1.50 ") >= 4
    assert "at most 2 rows" in text
    text = " ".join(" ".join(Elements(page_of(database_url, user)).texts).split())
    assert " of 3" not in text


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    if BROWSER is None:
        if os.environ.get("TASKCTX_TEST_BROWSER"):
            pytest.fail("there is no Chromium: run `apt-get install chromium`")
        pytest.skip("there is no Chromium, and TASKCTX_TEST_BROWSER does not ask for one")
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--enable-logging=stderr",
    ]
    profile = f"--user-data-dir={page.parent / 'profile'}"
    return subprocess.run(
        [*command, profile, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )


@pytest.mark.wide
def test_a_browser_renders_it_without_an_error_and_runs_nothing(hostile: str, user: str, tmp_path: Path) -> None:
    page_of(hostile, user, "--chat", f"c {HOSTILE}"[:250])
    done = browse(tmp_path / "page.html", "--dump-dom")
    assert "CONSOLE" not in done.stderr
    assert "<title>it ran" not in done.stdout
    assert "What happened" in done.stdout
    # The browser does report a script that runs.
    (tmp_path / "other.html").write_text(
        "<title>x</title><script>document.title = 'it ran'; console.error('it ran')</script>"
    )
    other = browse(tmp_path / "other.html", "--dump-dom")
    assert "CONSOLE" in other.stderr
    assert "<title>it ran" in other.stdout


@pytest.mark.wide
def test_no_text_makes_a_phone_scroll_sideways(hostile: str, user: str, tmp_path: Path) -> None:
    page = page_of(hostile, user)
    # Without our policy, a script of the test can measure the page.
    page = re.sub(r"<meta http-equiv[^>]*>", "", page)
    narrow = "<iframe id=f src=page.html width=390 height=800></iframe>"
    measure = "<script>onload=()=>{document.title=f.contentDocument.documentElement.scrollWidth}</script>"
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    (tmp_path / "phone.html").write_text(f"<title>x</title>{narrow}{measure}")
    done = browse(tmp_path / "phone.html", "--dump-dom", "--allow-file-access-from-files")
    width = re.search(r"<title>(\d+)", done.stdout)
    assert width is not None, done.stdout
    assert int(width[1]) <= 390


def test_an_empty_database_is_a_page_too(database_url: str, user: str) -> None:
    with task_context({"user_id": f"not {user}", "chat_id": "c"}, database_url=database_url):
        pass
    text = " ".join("".join(Elements(page_of(database_url, user)).texts).split())
    for part in ("Nothing was recorded.", "No model was used.", "No file was touched.", "Nothing grew.", "None."):
        assert part in text


def test_a_page_of_a_task_has_its_period_only(hostile: str, user: str) -> None:
    where = ("--chat", f"c {HOSTILE}"[:250])
    assert "What happened" not in page_of(hostile, user, *where, "--until", "2020-01-01")
    assert "What happened" in page_of(hostile, user, *where, "--since", "1h")


def test_bars_stack_up_to_the_top() -> None:
    chart = charts.stacked({(date(2026, 1, 1), "a"): 3, (date(2026, 1, 1), "b"): 1, (date(2026, 1, 2), "a"): 2})
    assert chart is not None
    assert (chart.top, chart.series, chart.first, chart.last) == (4, ["a", "b"], "2026-01-01", "2026-01-02")
    assert [(bar.y, bar.height) for bar in chart.bars] == [(25, 75), (0, 25), (50, 50)]
    assert chart.bars[0].label == "2026-01-01: 3 a"
    assert charts.stacked({}) is None


def test_a_long_time_has_no_more_bars_than_can_be_distinguished() -> None:
    chart = charts.stacked({(date.fromordinal(730_000 + day), "a"): 1 for day in range(1000)})
    assert chart is not None
    assert 30 < len(chart.bars) <= charts.MAX_BARS
    assert sum(bar.height for bar in chart.bars) * chart.top / 100 == pytest.approx(1000)
    seconds = charts.stacked({(1_700_000_000.0 + second, "a"): 1 for second in range(1000)})
    assert seconds is not None
    assert len(seconds.bars) <= charts.MAX_BARS
    assert seconds.first == "2023-11-14 22:13:20"


def test_many_series_become_others() -> None:
    chart = charts.stacked({(1.0, f"type {number}"): 100 - number for number in range(20)})
    assert chart is not None
    assert chart.series == ["type 0", "type 1", "type 2", "type 3", "type 4", "others"]
    assert sum(bar.height for bar in chart.bars) == pytest.approx(100)


def test_growth_only_rises() -> None:
    chart = charts.growth({(1.0, ""): 1, (2.0, ""): 0, (3.0, ""): 3})
    assert chart is not None
    heights = [float(corner.split(",")[1]) for corner in chart.line.split()]
    assert heights[:-1] == sorted(heights[:-1], reverse=True)
    assert chart.top == 4
