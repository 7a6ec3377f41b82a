"""The commands that print what was recorded, on both engines."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from rich.cells import cell_len

from taskctx_sql import ContextKey, Loaded, blocking, open_store, task_context
from taskctx_sql.cli.report_columns import REPORTS
from taskctx_sql.cli.tail import follow_updates
from tests.support.command import parsed, taskctx, taskctx_process


@pytest.fixture
def told(database_url: str, user: str) -> str:
    """A database with two chats of a user."""
    for chat in ("c1", "c2"):
        with (
            pytest.raises(KeyError),
            task_context({"user_id": user, "chat_id": chat}, database_url=database_url) as ctx,
        ):
            ctx.add_context_update("message", f"Say [bold]{chat}[/bold] \x1b[31mred")
            ctx.track_file_operation(f"{chat}.txt", "write", "agent")
            ctx.track_model_usage("gpt-4", "openai", "chat", input_tokens=1000, cost=0.1)
            ctx.add_context_update("tool_call", {"name": "search"}, metadata={"group": chat, "name": "search"})
            ctx.add_context_update("error", "broke")
            raise KeyError(chat)
    return database_url


# No run is open here, and no task has a parent: tests/sql/reports has both.
@pytest.mark.parametrize("name", [name for name in REPORTS if name not in ("running", "trees")])
def test_a_report_is_a_table_json_or_csv(told: str, user: str, name: str) -> None:
    where = ("report", name, "--user", user, "--database-url", told)
    rows = parsed(*where)
    assert len(rows) == {
        **dict.fromkeys(("costs", "models", "speed", "tools", "users"), 1),
        "activity": 5,
        "errors": 4,
    }.get(name, 2)
    done = taskctx(*where, "--format", "csv")
    assert done.returncode == 0, done.stderr
    table = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(table) == len(rows)
    assert list(table[0]) == list(rows[0])
    for row, written in zip(rows, table, strict=True):
        for column, value in row.items():
            text = "" if value is None else json.dumps(value) if isinstance(value, bool) else str(value)
            assert written[column] == text
            assert isinstance(value, str) or not column.endswith("_utc") or value is None
            if column.endswith("_utc") and value is not None:
                assert datetime.fromisoformat(value).utcoffset() == timedelta()
    done = taskctx(*where, COLUMNS="300")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{name}: {len(rows)}"
    assert len([line for line in lines[2:] if not line.startswith("total")]) == len(rows)
    assert lines[-1].startswith("total") == (name not in ("files", "errors", "open"))


def test_a_report_takes_filters(told: str, user: str) -> None:
    where = ("report", "errors", "--user", user, "--database-url", told)
    assert len(parsed(*where, "--chat", "c1")) == 2
    assert len(parsed(*where, "--limit", "1")) == 1
    assert len(parsed(*where, "--since", "1h")) == 4
    assert parsed(*where, "--until", "1h") == []
    assert parsed(*where, "--until", "2020-01-01") == []
    assert parsed(*where, "--until", "2020-01-01T08:00:00") == []
    assert taskctx(*where, "--since", "yesterday").returncode == 2


def test_contexts_are_listed_on_every_store(address: str, kind: str, user: str) -> None:
    with task_context({"user_id": user, "chat_id": "c1"}, database_url=address) as ctx:
        ctx.add_context_update("message", "x")
    found = parsed("list", "--user", user, "--database-url", address)
    assert [context["chat_id"] for context in found] == ["c1"]
    assert "c1" in taskctx("list", "--user", user, "--database-url", address).stdout
    assert kind == "json" or parsed("list", "--user", "nobody", "--database-url", address) == []


def test_a_text_is_searched_for(told: str, user: str) -> None:
    where = ("--user", user, "--database-url", told)
    assert {found["chat_id"] for found in parsed("search", "say [BOLD]c1", *where)} == {"c1"}
    done = taskctx("search", "say", *where)
    assert "[bold]c2[/bold]" in done.stdout
    assert taskctx("search", "no such text", *where).returncode == 1
    assert taskctx("search", "say", "--type", "error", *where).returncode == 1
    assert taskctx("search", "say", "--case-sensitive", *where).returncode == 1


def test_what_was_recorded_does_not_reach_the_terminal_raw(told: str, user: str) -> None:
    where = ("--database-url", told)
    for command in (["search", "say", "--user", user], ["show", user, "c1"], ["report", "files", "--user", user]):
        done = taskctx(*command, *where, COLUMNS="300")
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout


# A shell starts what runs in the background with SIGINT ignored, and that is inherited.
HEARS_SIGINT = """
import signal
from taskctx_sql.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


class Tail:
    """A ``taskctx tail`` that runs."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-W", "error", "-c", HEARS_SIGINT, "tail", *arguments, "--interval", "0.1"]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        # Nobody waits forever for a line that does not come.
        self.limit = threading.Timer(60, self.process.kill)
        self.limit.name = "taskctx-blocking-limit"
        self.limit.start()

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended early: {self.process.communicate()}"
        return line

    def stop(self, by: signal.Signals) -> None:
        self.process.send_signal(by)
        out, err = self.process.communicate(timeout=30)
        self.limit.cancel()
        self.limit.join()
        assert (self.process.returncode, out, err) == (0, "", "")

    def close(self) -> None:
        """End it, if a failed test left it running."""
        self.limit.cancel()
        self.limit.join()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def tail() -> Iterator[Callable[..., Tail]]:
    """Starts ``taskctx tail``."""
    with contextlib.ExitStack() as started:

        def start(*arguments: str) -> Tail:
            return started.enter_context(contextlib.closing(Tail(*arguments)))

        yield start


def test_a_context_is_followed_while_another_process_writes_it(
    address: str, user: str, tail: Callable[..., Tail]
) -> None:
    early = tail(user, "c1", "--database-url", address, "--lines", "2", "--json", "--wait")
    with task_context({"user_id": user, "chat_id": "c1"}, database_url=address) as ctx:
        for number in range(3):
            ctx.add_context_update("message", f"first {number}")
            blocking(ctx.save())
            assert json.loads(early.line())["data"] == f"first {number}"
    early.stop(signal.SIGINT)
    late = tail(user, "c1", "--database-url", address, "--lines", "2")
    assert [late.line().split("  ")[-1].strip() for _ in range(2)] == ['"first 1"', '"first 2"']
    with task_context({"user_id": user, "chat_id": "c1"}, database_url=address) as ctx:
        ctx.add_context_update("message", "later \x1b[31m")
    assert late.line().split("  ")[-1].strip() == '"later \\u001b[31m"'
    late.stop(signal.SIGTERM)


@pytest.mark.wide
def test_a_context_that_is_deleted_is_waited_for_again(database_url: str, user: str, tail: Callable[..., Tail]) -> None:
    following = tail(user, "c1", "--database-url", database_url, "--json", "--wait")
    with open_store(database_url) as store:
        for life in range(2):
            with task_context({"user_id": user, "chat_id": "c1"}, store=store) as ctx:
                ctx.add_context_update("message", f"life {life}")
            told = json.loads(following.line())
            assert (told["seq"], told["data"]) == (1, f"life {life}")
            assert blocking(store.delete(ContextKey(user, "c1")))
    following.stop(signal.SIGTERM)


async def test_a_context_that_is_created_again_before_it_is_followed_begins_again(database_url: str, user: str) -> None:
    key = ContextKey(user, "c1")
    async with open_store(database_url) as store:

        async def live(life: int) -> Loaded:
            async with task_context({"user_id": user, "chat_id": "c1"}, store=store) as ctx:
                ctx.add_context_update("message", f"life {life}")
            return await store.load(key)

        old = await live(0)
        await store.delete(key)
        await live(1)
        async with (
            asyncio.timeout(60),
            contextlib.aclosing(follow_updates(store, key, 1, old.created_at, 0.1)) as followed,
        ):
            assert (await anext(followed)).update.data == "life 1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["report", "tasks", "--database-url", "json:///."],
            "cannot report, because it does not keep rows that SQL can query",
        ),
        (["search", "x", "--database-url", "json:///."], "use a database"),
        (["list", "--database-url", "sqlite:///no.db"], "there is no file no.db"),
        (["tail", "u", "c", "--database-url", "sqlite:///no.db"], "there is no file no.db"),
        (["tail", "u", "x" * 300], "the limit is 255"),
    ],
)
def test_what_a_report_cannot_do_is_one_sentence(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = taskctx(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage_is_reported() -> None:
    for words in (["report"], ["report", "no such"], ["report", "tasks", "--limit", "0"], ["search"], ["tail", "u"]):
        assert taskctx(*words).returncode == 2


# The width of the output.

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


def test_found_data_is_encoded_once(told: str, user: str) -> None:
    (found,) = parsed("search", "say [BOLD]c1", "--user", user, "--database-url", told)
    assert found["data"] == "Say [bold]c1[/bold] \x1b[31mred"
    tracked = parsed("search", "c1.txt", "--user", user, "--database-url", told)
    assert {"operation": "write"}.items() <= tracked[0]["data"].items()
    done = taskctx("search", "c1.txt", "--format", "csv", "--user", user, "--database-url", told)
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert json.loads(row["data"]) == tracked[0]["data"]
    assert row["timestamp_utc"] == tracked[0]["timestamp_utc"]


def test_a_small_cost_is_not_shown_as_nothing(database_url: str, user: str) -> None:
    with task_context({"user_id": user, "chat_id": "c"}, database_url=database_url) as context:
        context.track_model_usage("m", "p", "chat", cost=0.000012)
    assert "0.000012" in taskctx("report", "tasks", "--user", user, "--database-url", database_url).stdout


def test_contexts_are_listed_by_label_and_title(told: str, user: str) -> None:
    where = ("--database-url", told)
    done = taskctx("label", user, "c1", "--title", "Invoices of May", "--label", "team=a=b", *where)
    assert done.stdout == "The context has team=a=b, title=Invoices of May.\n"
    assert parsed("label", user, "c2", "--label", "team=other", "--parent", "c1", *where)["labels"] == {
        **{"parent": "c1", "team": "other"},
    }
    listed = ("list", "--user", user, *where)
    assert [row["chat_id"] for row in parsed(*listed, "--label", "team=a=b")] == ["c1"]
    assert [row["chat_id"] for row in parsed(*listed, "--title", "INVOICE")] == ["c1"]
    assert parsed(*listed, "--title", "invoice", "--label", "team=other") == []
    assert parsed(*listed, "--label", "team=other", "--until", "2020-01-01") == []
    (row,) = parsed(*listed, "--label", "team=other", "--since", "1h")
    assert (row["title"], row["labels"]) == (None, {"parent": "c1", "team": "other"})
    table = list(csv.DictReader(io.StringIO(taskctx(*listed, "--title", "i", "--format", "csv").stdout)))
    assert json.loads(table[0]["labels"]) == {"team": "a=b", "title": "Invoices of May"}
    wide = taskctx(*listed, COLUMNS="200").stdout
    assert "Invoices of May" in wide
    assert "parent=c1, team=other" in wide
    assert parsed("label", user, "c1", "--remove", "team", *where)["labels"] == {"title": "Invoices of May"}


def test_a_label_is_for_a_context_that_is_there(told: str, user: str) -> None:
    done = taskctx("label", user, "nowhere", "--title", "T", "--database-url", told)
    assert done.returncode == 1
    assert "there is no context" in done.stderr
    assert taskctx("list", "--label", "none", "--database-url", told).returncode == 2


def test_a_folder_has_no_labels_to_list_by(tmp_path: Path) -> None:
    with task_context({"user_id": "u", "chat_id": "c"}, database_url=f"json:///{tmp_path}/tasks") as ctx:
        ctx.add_context_update("message", 1)
    where = ("list", "--database-url", f"{tmp_path}/tasks/")
    assert [row["chat_id"] for row in parsed(*where, "--since", "1h")] == ["c"]
    assert parsed(*where, "--since", "2100-01-01") == []
    done = taskctx(*where, "--title", "x")
    assert done.returncode == 1
    assert "labels" in done.stderr
    assert "--until is for databases" in taskctx(*where, "--until", "2100-01-01").stderr


def test_kinds_of_tokens_are_shown_only_where_there_are_any(told: str, user: str) -> None:
    where = ("report", "models", "--user", user, "--database-url", told)
    assert "cached" not in taskctx(*where, COLUMNS="300").stdout
    with task_context({"user_id": user, "chat_id": "c3"}, database_url=told) as ctx:
        ctx.track_model_usage("m", "p", "chat", input_tokens=9, cached_read_tokens=7, reasoning_tokens=3)
    heading = taskctx(*where, COLUMNS="300").stdout.splitlines()[1]
    assert "cached read" in heading
    assert "reasoning" in heading
    assert "audio" not in heading
    narrow = taskctx(*where, COLUMNS="60").stdout.splitlines()
    assert max(map(cell_len, narrow)) <= 60
    assert "cost" in narrow[1]
    assert parsed(*where)[1]["cached_read_tokens"] == 7
