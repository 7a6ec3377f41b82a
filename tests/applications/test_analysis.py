"""The guide's analysis with pandas, DuckDB and Datasette: its numbers are those of `taskctx report`."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, blocking, open_store, task_context, transfer
from taskctx_sql.sql.store import as_database
from tests.support.command import parsed
from tests.test_docs import BLOCK, DOCS


def record(url: str) -> None:
    """Uses of models that were corrected, forked, undone and removed from the history, by runs that failed or not."""
    with open_store(url) as store:
        for user in ("u1", "u2"):
            for number in range(3):
                with contextlib.suppress(ValueError), task_context(ids(user, number), store=store) as context:
                    context.track_model_usage("gpt-4", "openai", "chat", input_tokens=100, output_tokens=10, cost=9.0)
                    blocking(context.save())
                    context.model_tracker[0]["cost"] = 0.1 * (number + 1)
                    blocking(context.save())
                    context.track_model_usage("small", "in-house", "chat", input_tokens=7, cost=0.001)
                    blocking(context.save())
                    blocking(context.restore(2))
                    blocking(context.truncate_context_history(0))
                    context.add_context_update("result", {"score": number})
                    if number == 2:
                        raise ValueError("the third one fails")
            with task_context(ids(user, 0), store=store) as context:
                blocking(context.fork(f"fork of {user}"))


def ids(user: str, number: int) -> dict[str, str]:
    return {"user_id": user, "chat_id": f"c{number}"}


def printed(*command: str) -> Any:
    """What a command prints as JSON."""
    return json.loads(subprocess.run([sys.executable, *command], capture_output=True, check=True).stdout)


@pytest.mark.wide  # pandas, DuckDB and Datasette are no packages of the ordinary run
def test_the_analysis_has_the_numbers_of_the_reports(tmp_path: Path) -> None:
    record("sqlite:///study.db")
    code: str = dict(BLOCK.findall((DOCS / "guides" / "analysts.md").read_text()))["python"]
    functions, found, _ = code.partition("\nwith task_context")
    assert found
    guide: dict[str, Any] = {}
    exec(functions, guide)

    columns = ["day", "model_id", "calls", "input_tokens", "output_tokens", "cost"]
    reported = parsed("report", "models", "-d", "study.db")
    by_pandas = json.loads(guide["models"]("study.db").round(9)[columns].to_json(orient="records"))
    assert sorted(by_pandas, key=str) == sorted(({name: row[name] for name in columns} for row in reported), key=str)
    assert sum(row["cost"] for row in reported) == pytest.approx(2 * (0.6 + 0.003))

    tasks = parsed("report", "tasks", "-d", "study.db")
    page = "/study/taskctx_report_tasks.json?_shape=array&_size=max"
    shown = printed("-m", "datasette", "study.db", "--get", page)
    assert sorted(shown, key=str) == sorted(tasks, key=str)

    users = parsed("report", "users", "-d", "study.db")
    by_duckdb = {user: (count, cost) for user, count, _, cost in guide["users"]("study.db")}
    assert by_duckdb == {row["user_id"]: (row["contexts"], row["cost"]) for row in users}
    assert guide["results"]("study.db")["score"].tolist() == [0, 1, 2, 0] * 2

    with open_store("sqlite:///study.db") as store:
        frame = blocking(store.reports.models().to_pandas())
        parquet = blocking(transfer.export_rows(store, tmp_path / "rows", "parquet", reports=["tasks"]))
    assert frame["cost"].sum() == pytest.approx(sum(row["cost"] for row in reported))
    assert str(frame["day"].dtype).startswith("datetime64")
    (path,) = parquet
    cost = "SELECT user_id, round(sum(cost), 9) FROM read_parquet($1) GROUP BY ALL"
    assert dict(duckdb_rows(cost, str(path))) == {row["user_id"]: row["cost"] for row in users}


def duckdb_rows(query: str, *values: str) -> list[tuple[Any, ...]]:
    import duckdb

    return list(duckdb.execute(query, list(values)).fetchall())


# Asks Datasette for several pages: it takes most of a second to start.
PAGES = """
import asyncio, json, pathlib, sys
from datasette.app import Datasette
from datasette.utils import parse_metadata

async def main(database, metadata, *addresses):
    datasette = Datasette([database], metadata=parse_metadata(pathlib.Path(metadata).read_text()))
    print(json.dumps([(await datasette.client.get(address)).json() for address in addresses]))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.wide
def test_the_metadata_for_datasette_describes_what_is_there(tmp_path: Path) -> None:
    record(f"sqlite:///{tmp_path}/tasks.db")
    database, metadata = str(tmp_path / "tasks.db"), str(DOCS / "files" / "datasette.yaml")
    shown = printed("-m", "datasette", database, "--metadata", metadata, "--get", "/-/metadata.json")
    queries, tables = (shown["databases"]["tasks"][kind] for kind in ("queries", "tables"))
    days = "since=2000-01-01&until=9999-01-01&day=2000-01-01&_shape=array"
    addresses = [f"/tasks/{name}.json?{days}" for name in queries]
    addresses += [f"/tasks/{name}.json?_size=1" for name in tables]
    pages = dict(zip([*queries, *tables], printed("-c", PAGES, database, metadata, *addresses), strict=True))
    assert all(isinstance(pages[name], list) for name in queries)
    (day,) = pages["cost_by_day"]
    assert day["cost"] == pytest.approx(2 * (0.6 + 0.003))
    for name, about in tables.items():
        assert set(pages[name]["facet_results"]) == set(about.get("facets", ()))


async def test_the_queries_for_grafana_run_on_postgres(postgres_url: str, user: str) -> None:
    dashboard = json.loads((DOCS / "files" / "grafana.json").read_text())
    async with open_store(postgres_url) as store:
        call = ("tool_call", "", {"group": "a", "name": "refund"})
        failed = ("tool_result", "", {"group": "a", "error": "no"})
        use = {"model_id": "small", "cost": 0.25, "input_tokens": 3, "output_tokens": 4}
        await store.write(ContextKey(user, "c1"), updates=[call, failed, ("error", "no")], models=[use])
        found = {}
        for panel in dashboard["panels"]:
            (target,) = panel["targets"]
            query = target["rawSql"].replace("${user}", user)
            for name, moment in (("$__timeFrom()", "2000-01-01T00:00:00Z"), ("$__timeTo()", "2100-01-01T00:00:00Z")):
                query = query.replace(name, f"'{moment}'")
            found[panel["title"]] = await as_database(store).query(sa.text(query), user_id=None)  # type: ignore[arg-type]
    values = {title: rows[0][0] for title, rows in found.items() if rows and len(rows[0]) == 1}
    assert values == {"Cost": 0.25, "Tokens": 7, "Tasks": 1, "Failed tasks": 0}
    assert found["Cost by model and day"][0][1:] == ("small", 0.25)
    assert found["Tools"][0][:4] == ("refund", 1, 1, 0)
    assert found["Dearest tasks"][0][:4] == (user, "c1", "completed", 0.25)
    assert found["Errors"][0][1:] == (user, "c1", "update", "no")
    assert found["Unfinished runs"] == []
