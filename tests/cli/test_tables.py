"""Tables that fit: what is shortened, left out and sorted, and that JSON and CSV have it all."""

from __future__ import annotations

import contextlib
import csv
import io
import re

import pytest
from rich.cells import cell_len

from taskctx_sql import open_store, task_context
from taskctx_sql.cli.report_columns import REPORTS
from tests.support.command import parsed, taskctx, taskctx_process

# Wide letters and signs, marks that reverse a line, letters without width, and markup.
HOSTILE_TEXTS = (
    "\u8a9e" * 40,
    "\U0001f44d\U0001f3fd" * 30,
    "\u202etxt.exe \x1b[31m",
    "e" + "\u0301" * 500,
    "[bold]x[/bold] " * 9,
)

ENDLESS = "x" * 250


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with long and hostile texts wherever texts can be."""
    url = f"sqlite:///{tmp_path_factory.mktemp('crowded')}/t.db"
    with open_store(url) as store:
        for number in range(60):
            text = HOSTILE_TEXTS[number % len(HOSTILE_TEXTS)]
            user, chat = f"{ENDLESS[: number * 4]}{number % 2}", f"nightly-2026-11-30-{number:02}-documents-folder"
            with (
                contextlib.suppress(KeyError),
                task_context({"user_id": user, "chat_id": chat}, store=store) as context,
            ):
                context.add_context_update("message", text)
                context.track_file_operation(f"/srv/{text}/{number}.txt", text[:50], text)
                context.track_model_usage(f"{text}-{number}", text, text, input_tokens=10**9, cost=number / 8)
                if number % 3 == 0:
                    raise KeyError(text * 20)
    return url


MONEY = {"tasks": ("outcome", "cost"), "runs": ("outcome", "cost", "error"), "models": ("cost",), "users": ("cost",)}


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("name", [*REPORTS, "list", "search"])
def test_a_table_fits_and_says_what_it_leaves_out(crowded: str, name: str, columns: int) -> None:
    command = ["report", name] if name in REPORTS else ["list"] if name == "list" else ["search", "e"]
    done = taskctx(*command, "--database-url", crowded, "--limit", "7", COLUMNS=str(columns))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if cell_len(line) > columns] == []
    left_out = re.search(r"No room for: (.*?)\.", " ".join(lines))
    for essential in MONEY.get(name, ()):
        assert re.search(rf"\b{essential}\b", lines[1])
    headings = len(re.split(r"\s\s+", lines[1].strip()))
    everything = taskctx(*command, "--database-url", crowded, "--limit", "1", COLUMNS="2000").stdout.splitlines()[1]
    assert headings + (left_out[1].count(",") + 1 if left_out else 0) == len(re.split(r"\s\s+", everything.strip()))
    title = re.match(r"\w+: (\d+)(?: of (\d+))?$", lines[0])
    assert title is not None
    if title[2]:
        assert f"{int(title[2]) - 7} more: --limit {title[2]} shows all." in lines[-1]


@pytest.mark.parametrize("columns", [60, 80])
def test_shortened_ids_stay_different(crowded: str, columns: int) -> None:
    done = taskctx("report", "tasks", "--database-url", crowded, "--format", "table", COLUMNS=str(columns))
    lines = done.stdout.splitlines()
    chat = lines[1].index("chat")
    shown = [line[chat : lines[1].index("outcome")].strip() for line in lines[2:52]]
    assert len(set(shown)) == len(shown) == 50
    assert all("\u2026" in text for text in shown)


def test_totals_are_over_what_the_limit_leaves_out(crowded: str) -> None:
    for name, cost in {"tasks": 221.25, "runs": 221.25, "models": 221.25, "users": 221.25}.items():
        done = taskctx("report", name, "--database-url", crowded, "--limit", "2", COLUMNS="300")
        (total,) = [line for line in done.stdout.splitlines() if line.startswith("total")]
        assert f"{cost:.4f}" in total


def test_without_a_terminal_nothing_is_shortened_or_left_out(crowded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    for name in REPORTS:
        # One as a program of its own, since an interpreter takes long to start.
        run = taskctx_process if name == "tasks" else taskctx
        done = run("report", name, "--limit", "60", "-d", crowded, COLUMNS="")
        assert done.returncode == 0, done.stderr
        assert "\u2026" not in done.stdout
        assert "No room" not in done.stdout
        if name == "tasks":
            assert all(f"nightly-2026-11-30-{number:02}-documents-folder" in done.stdout for number in range(60))


def test_json_and_csv_have_every_row_unless_a_limit_is_given(crowded: str) -> None:
    assert len(parsed("report", "tasks", "--database-url", crowded)) == 60
    assert len(parsed("report", "tasks", "--database-url", crowded, "--limit", "7")) == 7
    assert len(parsed("list", "--database-url", crowded)) == 60
    done = taskctx("report", "runs", "--format", "csv", "--database-url", crowded)
    assert len(list(csv.DictReader(io.StringIO(done.stdout)))) == 60
    assert "50 of 60" in taskctx("report", "runs", "--database-url", crowded).stdout
    done = taskctx("report", "runs", "--format", "csv", "--user", "nobody", "--database-url", crowded)
    assert done.stdout.startswith("context_id,user_id,chat_id,run_id,day,started_at,started_utc,")
    assert len(done.stdout.splitlines()) == 1


def test_rows_are_sorted_and_selected_by_outcome(crowded: str) -> None:
    where = ("--database-url", crowded)
    costs = [row["cost"] for row in parsed("report", "tasks", "--sort", "cost", *where)]
    assert costs == sorted(costs, reverse=True)
    assert [row["chat_id"] for row in parsed("report", "runs", "--sort", "chat_id", "--limit", "1", *where)] == [
        "nightly-2026-11-30-00-documents-folder"
    ]
    for name in ("runs", "tasks"):
        failed = parsed("report", name, "--failed", *where)
        assert (len(failed), {row["outcome"] for row in failed}) == (20, {"failed"})
        assert parsed("report", name, "--unfinished", *where) == []
    assert "20 of 20" not in taskctx("report", "runs", "--failed", *where).stdout
    for wrong, message in (
        (("models", "--failed"), "--failed is for the reports runs and tasks"),
        (("runs", "--failed", "--unfinished"), "not both"),
        (("runs", "--sort", "price"), "sort='price'"),
    ):
        done = taskctx("report", *wrong, *where)
        assert done.returncode != 0
        assert message in done.stderr
