"""Reading works where nothing may be written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, JsonStore, SqlStore, TaskContext, open_store, task_context
from taskctx_sql.errors import StoreError, StoreFailedError
from taskctx_sql.maintenance import examine
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import HEAD
from tests.support import accounts
from tests.support.contract import new_delta, stored

KEY = ContextKey("u", "c")


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that nobody may write to; `os.access` says so to the superuser, too, who may write all the same."""
    folder = tmp_path / "archive"
    folder.mkdir()
    access = os.access

    def asked(path: Any, mode: int, **more: Any) -> bool:
        status = Path(path).stat() if Path(path).exists() else None
        if status is not None and mode & os.W_OK and not status.st_mode & stat.S_IWUSR:
            return False
        return access(path, mode, **more)

    monkeypatch.setattr(os, "access", asked)
    yield folder
    folder.chmod(0o755)


def seal(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)


async def test_a_database_is_read(sealed: Path) -> None:
    address = f"sqlite:///{sealed}/t.db"
    async with open_store(address) as store:
        await store.save(new_delta(KEY, "archived"))
    seal(sealed)
    before = {path.name: path.stat().st_mtime_ns for path in sealed.iterdir()}
    async with open_store(address, retry_seconds=0) as store:
        assert isinstance(store, SqlStore)
        assert await stored(store, KEY) == ["archived"]
        assert [summary.chat_id for summary in await store.contexts("u")] == ["c"]
        assert len(await store.revisions(KEY)) == 1
        assert await store.reports.tasks(user_id="u")
        context = TaskContext({"user_id": "u", "chat_id": "c"}, store=store)
        await context.load()
        context.add_context_update("message", "new")
        with pytest.raises(StoreFailedError, match="readonly"):
            await context.save()
        assert context.has_unsaved_changes
    assert {path.name: path.stat().st_mtime_ns for path in sealed.iterdir()} == before


async def test_a_database_is_examined(sealed: Path) -> None:
    address = f"sqlite:///{sealed}/t.db"
    async with open_store(address) as store:
        await store.save(new_delta(KEY, "archived"))
    seal(sealed)
    before = sorted(path.name for path in sealed.iterdir())
    examination = await examine(address)
    assert [found.message for found in examination.findings if found.check == "schema"] == [f"it is at {HEAD}"]
    assert not [found for found in examination.findings if found.level == "error"]
    assert sorted(path.name for path in sealed.iterdir()) == before


async def test_an_error_of_an_examination_names_the_address_that_was_given(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_text("no database" * 1000)
    (found, *_) = (await examine(f"sqlite:///{tmp_path}/t.db")).findings
    assert (found.level, f"sqlite:///{tmp_path}/t.db" in found.message) == ("error", True)
    sqlite3.connect(tmp_path / "empty.db").execute("CREATE TABLE mine (x)").connection.close()
    messages = [found.message + found.remedy for found in (await examine(f"sqlite:///{tmp_path}/empty.db")).findings]
    assert not [message for message in messages if "file%3A" in message or "mode=ro" in message]


async def test_a_log_that_cannot_be_read_where_it_is_is_told_with_the_way_that_works() -> None:
    refused = sqlite3.OperationalError("unable to open database file")
    refused.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    assert "copy it, with the file ending in -wal" in engines.reason(refused)


async def test_what_others_write_to_a_database_is_seen_by_who_may_only_read_it(sealed: Path) -> None:
    address = f"sqlite:///{sealed}/t.db"
    async with open_store(address) as store:
        await store.save(new_delta(KEY, "a"))
    seal(sealed)
    async with open_store(address) as reader:
        assert await stored(reader, KEY) == ["a"]
        for data in "bc":
            sealed.chmod(0o755)
            (sealed / "t.db").chmod(0o644)
            async with open_store(address) as writer:
                await writer.save(new_delta(KEY, data))
            seal(sealed)
            assert (await stored(reader, KEY))[-1] == data
            assert isinstance(reader, SqlStore)
            assert len(await reader.revisions(KEY)) == "abc".index(data) + 1


async def test_a_database_with_its_log_is_read_with_it(sealed: Path, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/t.db"
    async with open_store(address) as store:
        await store.save(new_delta(KEY, "in the log"))
        for path in tmp_path.glob("t.db*"):
            shutil.copy(path, sealed)
        assert (sealed / "t.db-wal").stat().st_size
    seal(sealed)
    async with open_store(f"sqlite:///{sealed}/t.db") as store:
        assert await stored(store, KEY) == ["in the log"]


async def test_histories_are_read(sealed: Path) -> None:
    store = JsonStore(sealed)
    await store.save(new_delta(KEY, "archived"))
    (sealed / "context_history_d.json").write_text("[{cut")
    seal(sealed)
    assert await stored(store, KEY) == ["archived"]
    assert {summary.chat_id for summary in await store.contexts("u")} == {"c", "d"}


def test_a_file_that_may_be_written_is_in_its_mode_of_writing(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "t.db")
    connection.execute("CREATE TABLE x (y)")
    connection.close()
    from taskctx_sql.sql import engines
    from taskctx_sql.sql.engines import read_only

    assert read_only.options(str(tmp_path / "t.db")) is None
    opened = engines.connect_sqlite(str(tmp_path / "t.db"))
    assert opened.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    opened.close()


@pytest.mark.parametrize("mode", ["mode=ro", "immutable=1"])
async def test_a_file_that_its_address_opens_for_reading_is_read_whatever_its_mode_was(
    tmp_path: Path, mode: str
) -> None:
    async with open_store(f"sqlite:///{tmp_path}/t.db") as store:
        await store.save(new_delta(KEY, "a"))
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    before = (tmp_path / "t.db").read_bytes()
    async with open_store(f"sqlite:///file:{tmp_path}/t.db?{mode}&uri=true", retry_seconds=0) as store:
        assert await stored(store, KEY) == ["a"]
        with pytest.raises(StoreFailedError, match="readonly"):
            await store.save(new_delta(KEY, "b"))
    assert (tmp_path / "t.db").read_bytes() == before


async def only_read(address: str, data: dict[str, str], log: pytest.LogCaptureFixture, *, records_runs: bool) -> None:
    """See that who only read leaves the context, and that nothing else is passed over."""
    # A server that only reads may become one that writes: it is tried for as long as any outage.
    async with open_store(address, retry_seconds=1.5) as store:
        async with task_context(data, store=store) as context:
            assert [update.data for update in context.context_history] == ["a"]
        assert ("could not be recorded" in log.text) == records_runs
        with pytest.raises(ValueError, match="its own"):
            async with task_context(data, store=store):
                raise ValueError("its own")
        if records_runs:
            with pytest.raises(StoreError):
                async with task_context(data, store=store) as context:
                    context.add_context_update("m", "b")


@pytest.mark.parametrize("scheme", ["sqlite", "json"])
async def test_who_only_read_leaves_a_context_where_nothing_may_be_written(
    sealed: Path, caplog: pytest.LogCaptureFixture, scheme: str
) -> None:
    address = f"{scheme}:///{sealed}/t.db"
    async with task_context({"user_id": "u"}, database_url=address) as context:
        context.add_context_update("m", "a")
    seal(sealed)
    await only_read(address, {"user_id": "u"}, caplog, records_runs=scheme == "sqlite")


@pytest.mark.parametrize(
    "recipe",
    [
        "REVOKE INSERT, UPDATE ON ALL TABLES IN SCHEMA public FROM {}",
        "ALTER ROLE {} SET default_transaction_read_only = on",
    ],
)
async def test_who_only_read_leaves_a_context_with_an_account_that_only_reads(
    postgres_url: str, user: str, caplog: pytest.LogCaptureFixture, recipe: str
) -> None:
    async with task_context({"user_id": user}, database_url=postgres_url) as context:
        context.add_context_update("m", "a")
    async with accounts.application(postgres_url) as reading:
        await accounts.run(postgres_url, [recipe.format(sa.make_url(reading).username)])
        await only_read(reading, {"user_id": user}, caplog, records_runs=True)
