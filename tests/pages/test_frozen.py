"""The views in one file: complete, without network and scripts, with links only to what is in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from taskctx_sql import ContextUpdate, blocking, task_context
from tests.support.command import taskctx
from tests.ui.test_tasks import HOSTILE, Found

CHAT = f"c {HOSTILE}"[:250]


@pytest.fixture
def hostile(database_url: str, user: str) -> str:
    """A database in which every text is hostile."""
    with (
        pytest.raises(KeyError),
        task_context({"user_id": user, "chat_id": CHAT}, database_url=database_url) as context,
    ):
        context.add_context_update("message", HOSTILE, {"role": "user"})
        context.add_context_update(HOSTILE, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE})
        context.add_context_update("error", HOSTILE)
        context.context_history.append(ContextUpdate(1.0, "tool_call", {}, {"group": "1", "name": HOSTILE}))
        context.track_file_operation(HOSTILE, HOSTILE, HOSTILE)
        context.track_model_usage(HOSTILE, HOSTILE, HOSTILE, input_tokens=1000, cost=1.25)
        blocking(context.save())
        raise KeyError(HOSTILE)
    return database_url


def page_of(url: str, user: str, *more: str) -> str:
    done = taskctx("report", "--html", "page.html", "--replace", "--user", user, "--database-url", url, *more)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return Path("page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("one", [True, False], ids=["a task", "a period"])
def test_a_file_shows_everything_and_nothing_runs(hostile: str, user: str, one: bool) -> None:
    page = page_of(hostile, user, *(["--chat", CHAT] if one else []))
    found = Found(page)
    assert not {"script", "img", "link", "iframe", "object", "form", "input"} & found.names
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("src", "style", "action")]
    assert not re.search(r"https?://|url\(|\u202e", page)
    ids = [value for name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = {value for name, value in found.attributes if name == "href"}
    assert {(link or "")[:1] for link in links} == {"#"}
    assert {(link or "").removeprefix("#") for link in links} <= set(ids)
    text = " ".join("".join(found.texts).split())
    for part in (
        "Asked",
        "Ended",
        "Course",
        "Longest steps",
        "Conversation",
        "Files",
        "Revisions",
        "{{ 7 * 7 }}",
        "1.25",
    ):
        assert (part in text) or part == "Longest steps"
    assert ("Most expensive tasks" in text) != one
    assert text.count("alert(1)") > 10


def test_a_file_says_what_it_leaves_out(database_url: str, user: str) -> None:
    for number in range(3):
        with task_context({"user_id": user, "chat_id": f"c{number}"}, database_url=database_url) as context:
            context.add_context_update("message", f"task {number}")
    text = " ".join("".join(Found(page_of(database_url, user, "--limit", "2")).texts).split())
    assert "1 to 2 of 3" in text
    assert "2 of 3 tasks" in text
    assert "task 2" in text
    assert "task 0" not in text
    for nothing in (["--until", "2020-01-01"], ["--chat", "none"]):
        assert "Nothing was recorded" in page_of(database_url, user, *nothing)
    one = page_of(database_url, user, "--chat", "c0")
    assert "task 0" in one
    assert "task 1" not in one


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("TASKCTX_TEST_BROWSER"):
            pytest.fail("there is no Chromium: run `apt-get install chromium`")
        pytest.skip("there is no Chromium, and TASKCTX_TEST_BROWSER does not ask for one")
    shown = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"]
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [chromium, *shown, profile, *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.wide
def test_a_browser_shows_it_with_its_style_and_runs_nothing(hostile: str, user: str, tmp_path: Path) -> None:
    page_of(hostile, user)
    done = browse(tmp_path / "page.html", "--dump-dom")
    # It would say so if the policy did not allow the style.
    assert "CONSOLE" not in done.stderr
    assert "Conversation" in done.stdout


@pytest.mark.wide
def test_no_text_makes_a_phone_scroll_sideways(hostile: str, user: str, tmp_path: Path) -> None:
    # Without our policy, a script of the test can measure the page.
    page = re.sub(r"<meta http-equiv[^>]*>", "", page_of(hostile, user))
    narrow = "<iframe id=f src=page.html width=360 height=800></iframe>"
    measure = "<script>onload=()=>{document.title=f.contentDocument.documentElement.scrollWidth}</script>"
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    (tmp_path / "phone.html").write_text(f"<title>x</title>{narrow}{measure}")
    done = browse(tmp_path / "phone.html", "--dump-dom", "--allow-file-access-from-files")
    width = re.search(r"<title>(\d+)", done.stdout)
    assert width is not None, done.stdout
    assert int(width[1]) <= 360
