"""The commands that print what was recorded, on both engines."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from rich.cells import cell_len

from taskctx_sql import task_context
from taskctx_sql.cli.report_columns import REPORTS
from tests.support.command import parsed, taskctx


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
