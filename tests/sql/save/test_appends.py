"""The statement that writes most saves to SQLite writes what the others write row by row."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import ContextKey, SqlStore, StateChange, schema
from taskctx_sql.model import Delta, Run, Write
from taskctx_sql.sql.engines import connect_sqlite
from taskctx_sql.sql.save import SaveRequest
from taskctx_sql.sql.save.appends import appends_of, set_up

WRITTEN: list[dict[str, Any]] = [
    {"state": {"a": 1, "b": [2]}, "labels": {"l": "x"}},
    {"updates": [("message", number, {"role": "user"}) for number in range(9)]},
    {"updates": [("message", 1)], "state": [StateChange("a", "now", expires_at=9e9), StateChange("c", None)]},
    {"updates": [("message", 2), ("message", 3)], "remove_state": ["b", "never there"], "labels": {"l": None}},
]


def deltas(key: ContextKey, number: int, base: Any) -> Delta:
    run = Run("run", number, 1.0, *((2.0, "failed", "ValueError: no") if number == len(WRITTEN) else ()))
    delta = Write(key, **WRITTEN[number - 1], run=run).delta(base)
    delta.at = float(number)
    for place, update in enumerate(delta.updates):
        update.timestamp = number + place / 10
    return delta


def rows(path: Path) -> dict[str, list[Any]]:
    connection = sqlite3.connect(path)
    names = ("contexts", "runs", "revisions", "updates", "state")
    found = {name: connection.execute(f"SELECT * FROM taskctx_{name} ORDER BY 1, 2, 3, 4").fetchall() for name in names}
    connection.close()
    return found


@pytest.mark.parametrize("together", [1, 3])
async def test_a_statement_writes_what_a_transaction_writes_row_by_row(tmp_path: Path, together: int) -> None:
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    for path in (one, other):
        await schema.upgrade(f"sqlite:///{path}")
    connection = connect_sqlite(str(one))
    set_up(connection)
    engine = create_async_engine(f"sqlite+aiosqlite:///{other}")
    store = await SqlStore.open(engine)
    keys = [ContextKey("u", str(number)) for number in range(together)]
    bases: list[Any] = [None] * together
    for number in range(1, len(WRITTEN) + 1):
        pairs = list(zip(keys, bases, strict=True))
        requests = [await SaveRequest.of(deltas(key, number, base), strict=False) for key, base in pairs]
        appends = appends_of(requests)
        assert appends is not None
        connection.execute(appends.statement, appends.values)
        saved = [await store.save(deltas(key, number, base)) for key, base in pairs]
        assert appends.answers == saved
        bases = [answer.base for answer in saved]
    await store.close()
    await engine.dispose()
    connection.close()
    assert rows(one) == rows(other)
    assert len(rows(one)["state"]) == 5 * together
