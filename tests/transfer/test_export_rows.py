"""Rows of reports as files, and as tables of Arrow and pandas."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from taskctx_sql import ContextKey, open_store, transfer
from taskctx_sql.errors import InvalidArgumentError, MissingPackageError
from taskctx_sql.model import FileChange
from taskctx_sql.stores import Store
from tests.support.command import parsed, taskctx

TEXT = 'line\n"quoted", =1+1 \u4e2d\u6587 \U0001f600'


async def fill(store: Store, user: str) -> None:
    """Write some tasks with rows in every report, and more than one of those that a task may have several of."""
    for chat in range(7):
        for run in range(2 if chat < 3 else 1):
            entry = {"operation": "read", "source": "task", "timestamp": 1e9 + chat, "state": "active"}
            calls = [("tool_call", {"n": n}, {"group": f"{run}{n}", "name": "t"}) for n in range(2)]
            await store.write(
                ContextKey(user, f"c{chat}"),
                updates=[*calls, ("error", TEXT), ("error", run), ("message", [chat])],
                models=[{"model_id": "m", "timestamp": 1e9 + chat * 86_400, "cost": 0.25}],
                files=[FileChange(f"/f{one}{run}", entry, None) for one in range(3)],
                title=f"Task {chat}",
            )


def as_json(row: Any) -> Any:
    return json.loads(json.dumps(asdict(row), default=str))


@pytest.mark.parametrize("name", transfer.EXPORTED)
async def test_portions_have_every_row_once(name: str, database_url: str, user: str) -> None:
    async with open_store(database_url) as store:
        await fill(store, user)
        report = getattr(store.reports, name)(user_id=user)
        expected = [as_json(row) for row in await report]
        for size in (1, 2, 3, 1_000):
            portions = [portion async for portion in report.portions(size)]
            found = [as_json(row) for portion in portions for row in portion]
            assert sorted(found, key=str) == sorted(expected, key=str)
            assert max(map(len, portions)) <= size
        assert len(expected) >= (1 if name in ("users", "tools") else 3)


async def test_files_have_the_rows_and_columns_of_the_reports(database_url: str, user: str, tmp_path: Path) -> None:
    async with open_store(database_url) as store:
        await fill(store, user)
        for form in transfer.FORMATS:
            written = await transfer.export_rows(store, tmp_path, form, user_id=user)
            assert list(written) == [tmp_path / f"{name}.{form}" for name in transfer.EXPORTED]
            assert all(path.stat().st_mode & 0o777 == 0o600 for path in written)
        for name in transfer.EXPORTED:
            rows = sorted((as_json(row) for row in await getattr(store.reports, name)(user_id=user)), key=str)
            lines = (tmp_path / f"{name}.jsonl").read_text("utf-8").splitlines()
            assert sorted(map(json.loads, lines), key=str) == rows
            table = parquet.read_table(tmp_path / f"{name}.parquet").to_pylist()
            assert sorted((json.loads(json.dumps(row, default=str)) for row in table), key=str) == rows
            with (tmp_path / f"{name}.csv").open(newline="", encoding="utf-8") as file:
                cells = list(csv.DictReader(file))
            # The writer of CSV writes None as nothing, and flags as numbers.
            expected = [{key: "" if cell is None else str(cell) for key, cell in flagged(row)} for row in rows]
            assert sorted(cells, key=str) == sorted(expected, key=str)


def flagged(row: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(key, int(cell) if isinstance(cell, bool) else cell) for key, cell in row.items()]


async def test_tables_are_in_the_order_of_the_report_with_its_types(database_url: str, user: str) -> None:
    async with open_store(database_url) as store:
        await fill(store, user)
        reports = store.reports
        tasks = await reports.tasks(user_id=user).to_arrow()
        assert tasks.column("chat_id").to_pylist() == [task.chat_id for task in await reports.tasks(user_id=user)]
        types = {field.name: (field.type, field.nullable) for field in tasks.schema}
        assert types["cost"] == (pa.float64(), False)
        assert types["updates"] == (pa.int64(), False)
        assert types["day"] == (pa.date32(), True)
        dearest = await reports.tasks(user_id=user, sort="chat_id", limit=2).to_arrow()
        assert dearest.column("chat_id").to_pylist() == ["c0", "c1"]
        labels = (await reports.contexts(user_id=user, limit=1).to_arrow()).column("labels").to_pylist()
        assert labels == [[("title", "Task 6")]]


async def test_nothing_is_replaced_or_left_half_written(
    database_url: str, user: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(database_url) as store:
        await fill(store, user)
        into = tmp_path / "rows"
        into.mkdir()
        (into / "tasks.csv").write_text("mine")
        with pytest.raises(FileExistsError, match=r"tasks\.csv exists"):
            await transfer.export_rows(store, into, "csv")
        assert [path.name for path in into.iterdir()] == ["tasks.csv"]
        await transfer.export_rows(store, into, "csv", reports=["tasks"], replace=True, user_id=user)
        assert len((into / "tasks.csv").read_text().splitlines()) == 8
        for wrong in ({"reports": ["no such"]}, {"file_format": "xml"}):
            with pytest.raises(InvalidArgumentError):
                await transfer.export_rows(store, into, **{"file_format": "csv", **wrong})  # type: ignore[arg-type]
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(MissingPackageError, match=r"taskctx_sql\[arrow\]"):
            await transfer.export_rows(store, into, "parquet", reports=["runs"])
        assert [path.name for path in into.iterdir()] == ["tasks.csv"]


def test_the_command_writes_rows_and_says_how_many(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'many.db'}"
    assert parsed("demo", "--many", "10", "-d", url)
    done = taskctx("export", tmp_path / "rows", "--format", "jsonl", "--report", "tasks", "-d", url)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'rows' / 'tasks.jsonl'}: 10 rows\n")
    again = taskctx("export", tmp_path / "rows", "--format", "jsonl", "--report", "tasks", "-d", url)
    assert (again.returncode, "--replace" in again.stderr) == (1, True)
    wrong = taskctx("export", tmp_path / "rows", "--report", "tasks", "-d", url)
    assert (wrong.returncode, "--format" in wrong.stderr) == (2, True)
