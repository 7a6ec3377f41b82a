"""SQLite prepares a statement once, not again for each value: preparing takes several times as long as reading."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from taskctx_sql import ContextKey, open_store, schema
from taskctx_sql.sql.engines import connect_sqlite
from taskctx_sql.sql.load import StateSelection, read_state
from taskctx_sql.sql.plan import execute_on_sqlite

SELECTIONS = {
    "names": [StateSelection(("a",)), StateSelection(("b", "c"))],
    "range": [StateSelection(prefix="a", limit=1), StateSelection(prefix="b", limit=2)],
    "bounds": [StateSelection(after="a", before="c"), StateSelection(after="b", before="d")],
    "time": [StateSelection(limit=number, by_time=True, newest_first=True) for number in (1, 2)],
    "kind": [StateSelection(), StateSelection(kind="label")],
    "revision": [StateSelection(revision=1), StateSelection(revision=2)],
}


@pytest.mark.parametrize("name", SELECTIONS)
async def test_values_are_read_by_one_statement(tmp_path: Path, name: str) -> None:
    url = f"sqlite:///{tmp_path}/tasks.db"
    await schema.upgrade(url)
    keys = [ContextKey("u", "one"), ContextKey("u", "other")]
    async with open_store(url) as store:
        for key in keys:
            await store.write(key, state={"a": 1}, labels={"a": "x"})
            await store.write(key, state={"b": 2, "c": 3}, labels={"b": "y"})
    connection = connect_sqlite(str(tmp_path / "tasks.db"))
    prepared: list[object] = []

    # SQLite asks it for each table and column of a statement that it prepares.
    def allow(*asked: object) -> int:
        prepared.append(asked)
        return sqlite3.SQLITE_OK

    connection.set_authorizer(allow)
    counts = []
    for key, selection in zip(keys, SELECTIONS[name], strict=True):
        assert execute_on_sqlite(read_state("sqlite", key, selection, 0.0), connection)
        counts.append(len(prepared))
    connection.close()
    assert counts[0] > 0
    assert counts[0] == counts[1]
