"""The commands that print what was recorded, on both engines."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from taskctx_sql import ContextKey, blocking, open_store, task_context
from taskctx_sql.cli.reports import REPORTS
from tests.support.command import parsed, taskctx


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
            ctx.add_context_update("error", "broke")
            raise KeyError(chat)
    return database_url


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_a_table_json_or_csv(told: str, user: str, name: str) -> None:
    where = ("report", name, "--user", user, "--database-url", told)
    rows = parsed(*where)
    assert len(rows) == {"models": 1, "activity": 4, "errors": 4, "users": 1}.get(name, 2)
    done = taskctx(*where, "--format", "csv")
    assert done.returncode == 0, done.stderr
    table = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(table) == len(rows)
    assert list(table[0]) == list(rows[0])
    assert [row[next(iter(row))] for row in table] == [str(next(iter(row.values()))) for row in rows]
    done = taskctx(*where, COLUMNS="300")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].strip() == f"{name}: {len(rows)}"
    assert len(done.stdout.splitlines()) == len(rows) + 2


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
        return self.process.stdout.readline()

    def stop(self, by: signal.Signals) -> None:
        self.process.send_signal(by)
        out, err = self.process.communicate(timeout=30)
        self.limit.cancel()
        self.limit.join()
        assert (self.process.returncode, out, err) == (0, "", "")


def test_a_context_is_followed_while_another_process_writes_it(address: str, user: str) -> None:
    tail = Tail(user, "c1", "--database-url", address, "--lines", "2", "--json", "--wait")
    with task_context({"user_id": user, "chat_id": "c1"}, database_url=address) as ctx:
        for number in range(3):
            ctx.add_context_update("message", f"first {number}")
            blocking(ctx.save())
            assert json.loads(tail.line())["data"] == f"first {number}"
    tail.stop(signal.SIGINT)
    late = Tail(user, "c1", "--database-url", address, "--lines", "2")
    assert [late.line().split("  ")[-1].strip() for _ in range(2)] == ['"first 1"', '"first 2"']
    with task_context({"user_id": user, "chat_id": "c1"}, database_url=address) as ctx:
        ctx.add_context_update("message", "later \x1b[31m")
    assert late.line().split("  ")[-1].strip() == '"later \\u001b[31m"'
    late.stop(signal.SIGTERM)


@pytest.mark.wide
def test_a_context_that_is_deleted_is_waited_for_again(database_url: str, user: str) -> None:
    tail = Tail(user, "c1", "--database-url", database_url, "--json", "--wait")
    with open_store(database_url) as store:
        for life in range(2):
            with task_context({"user_id": user, "chat_id": "c1"}, store=store) as ctx:
                ctx.add_context_update("message", f"life {life}")
            told = json.loads(tail.line())
            assert (told["seq"], told["data"]) == (1, f"life {life}")
            assert blocking(store.delete(ContextKey(user, "c1")))
    tail.stop(signal.SIGTERM)


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
