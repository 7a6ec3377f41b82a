"""Opening a database that is new, too old, too new, or not ours."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, open_store, schema
from taskctx_sql.errors import (
    ForeignSchemaError,
    InvalidDatabaseUrlError,
    NotADatabaseError,
    RowLevelSecurityUnavailableError,
    SchemaMissingError,
    SchemaTooNewError,
    SchemaTooOldError,
    StoreFailedError,
)
from taskctx_sql.maintenance import examine
from taskctx_sql.sql.schema import HEAD, tables
from tests.sql.schema.migrate.databases import look, run, table_names
from tests.support.contract import new_delta, stored


async def test_a_new_sqlite_file_is_set_up_at_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    async with open_store(f"sqlite:///{path}"):
        pass
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_database_in_memory_is_set_up_at_once(user: str) -> None:
    async with open_store("sqlite://") as store:
        await asyncio.gather(*(store.save(new_delta(ContextKey(user, "c"), number)) for number in range(10)))
        assert len(await stored(store, ContextKey(user, "c"))) == 10


async def test_a_database_without_our_tables_says_what_to_run(url: str, engine: AsyncEngine) -> None:
    await run(engine, "CREATE TABLE yours (x TEXT)")
    with pytest.raises(SchemaMissingError, match="run `taskctx upgrade"):
        await open_store(url)
    assert await look(engine, table_names) == {"yours"}


async def test_an_outdated_database_says_what_to_run(
    url: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await schema.upgrade(url)
    # The day after the next release.
    monkeypatch.setattr("taskctx_sql.sql.schema.checks.HEAD", "taskctx_9999")
    with pytest.raises(SchemaTooOldError, match="run `taskctx upgrade") as caught:
        await open_store(url)
    assert (caught.value.found, caught.value.needed) == (HEAD, "taskctx_9999")


async def test_a_database_that_is_too_new_says_what_to_run(url: str, engine: AsyncEngine) -> None:
    await schema.upgrade(url)
    await run(engine, f"UPDATE {tables.VERSION_TABLE} SET version_num = 'abcd'")
    for attempt in (open_store(url), schema.upgrade(url)):
        with pytest.raises(SchemaTooNewError, match="pip install --upgrade taskctx_sql") as caught:
            await attempt
        assert caught.value.found == "abcd"


async def test_a_newer_database_that_older_programs_can_use_is_opened_and_left_as_it_is(
    url: str, engine: AsyncEngine, user: str
) -> None:
    await schema.upgrade(url)
    newer = f"taskctx_9999_from_{HEAD[-4:]}"
    await run(engine, f"UPDATE {tables.VERSION_TABLE} SET version_num = '{newer}'")
    async with open_store(url) as store:
        await store.save(new_delta(ContextKey(user, "c"), 1))
        assert await stored(store, ContextKey(user, "c")) == [1]
    await schema.upgrade(url)
    assert await schema.upgrade_sql(url) == ""
    async with engine.connect() as connection:
        await schema.upgrade(connection)
        assert not connection.in_transaction()
    (finding,) = [finding for finding in (await examine(url)).findings if finding.check == "schema"]
    assert (finding.level, finding.message.split(",")[0]) == ("ok", f"it is at {newer}")
    assert await schema.current(url) == newer
    # It cannot be changed by this version.
    for attempt in (schema.downgrade(url, "base"), schema.upgrade(url, row_level_security=True)):
        with pytest.raises((SchemaTooNewError, RowLevelSecurityUnavailableError)):
            await attempt


@pytest.mark.parametrize(
    "newer", ["taskctx_9999_from_9998", "taskctx_9999_from_", "9999_from_0007x", "taskctx_0007_from", "from_0008"]
)
async def test_a_newer_database_that_only_newer_programs_can_use_is_refused(tmp_path: Path, newer: str) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    await schema.upgrade(url)
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute(f"UPDATE {tables.VERSION_TABLE} SET version_num = ?", (newer,))
    connection.close()
    for attempt in (open_store(url), schema.upgrade(url)):
        with pytest.raises(SchemaTooNewError, match=newer):
            await attempt


async def test_tables_of_our_names_that_are_not_ours_are_left_alone(url: str, engine: AsyncEngine) -> None:
    await run(engine, "CREATE TABLE taskctx_runs (x TEXT)")
    for attempt in (open_store(url), schema.upgrade(url)):
        with pytest.raises(ForeignSchemaError, match="taskctx_runs"):
            await attempt
    assert await look(engine, table_names) == {"taskctx_runs"}


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database\n" * 100)
    url = f"sqlite:///{path}"
    for attempt in (open_store(url), schema.upgrade(url), schema.current(url)):
        with pytest.raises(NotADatabaseError, match=re.escape(str(path))):
            await attempt
    assert path.read_text() == "not a database\n" * 100


async def test_a_missing_folder_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/missing/new.db"
    for attempt in (open_store(url), schema.upgrade(url)):
        with pytest.raises(StoreFailedError, match="check that the folder exists"):
            await attempt
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("bad", [None, 5, object()])
async def test_anything_but_a_database_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidDatabaseUrlError):
        await schema.upgrade(bad)
    with pytest.raises(InvalidDatabaseUrlError):
        await open_store(bad)
