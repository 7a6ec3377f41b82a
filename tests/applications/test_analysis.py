"""The guide's analysis with pandas, DuckDB and Datasette: its numbers are those of `taskctx report`."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import blocking, open_store, task_context
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
    reported = printed("-m", "taskctx_sql", "report", "models", "-d", "study.db", "--json")
    by_pandas = json.loads(guide["models"]("study.db").round(9)[columns].to_json(orient="records"))
    assert sorted(by_pandas, key=str) == sorted(({name: row[name] for name in columns} for row in reported), key=str)
    assert sum(row["cost"] for row in reported) == pytest.approx(2 * (0.6 + 0.003))

    tasks = printed("-m", "taskctx_sql", "report", "tasks", "-d", "study.db", "--json")
    page = "/study/taskctx_report_tasks.json?_shape=array&_size=max"
    shown = printed("-m", "datasette", "study.db", "--get", page)
    assert sorted(shown, key=str) == sorted(tasks, key=str)

    users = printed("-m", "taskctx_sql", "report", "users", "-d", "study.db", "--json")
    by_duckdb = {user: (count, cost) for user, count, _, cost in guide["users"]("study.db")}
    assert by_duckdb == {row["user_id"]: (row["contexts"], row["cost"]) for row in users}
    assert guide["results"]("study.db")["score"].tolist() == [0, 1, 2, 0] * 2
