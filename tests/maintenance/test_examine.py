"""Examining a store: each danger is found with its remedy, and nothing is changed."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taskctx_sql import JsonStore, SqlStore, blocking, maintenance, open_store, schema, task_context
from taskctx_sql.errors import StoreClosedError
from taskctx_sql.maintenance import examine
from taskctx_sql.model import Examination, Finding
from taskctx_sql.sql import engines
from taskctx_sql.sql.maintenance import checks
from taskctx_sql.sql.schema import functions, tables
from tests.json_files.test_fixtures import FOLDER
from tests.support import accounts
from tests.support.command import taskctx


def found(examination: Examination, check: str) -> list[Finding]:
    return [finding for finding in examination.findings if finding.check == check]


@pytest.fixture
async def filled(engine: AsyncEngine, database_url: str, user: str) -> str:
    """A database of each kind with a context in it, of its own on SQLite."""
    async with task_context({"user_id": user, "chat_id": "c"}, database_url=database_url) as context:
        for number in range(10):
            context.add_context_update("message", number)
    return database_url


@pytest.fixture(autouse=True)
def safe_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's may be old."""
    monkeypatch.setattr(checks, "SAFE_SQLITE", (3, 0, 0))


async def test_a_database_in_order_has_no_findings_but_good_ones(filled: str) -> None:
    examination = await examine(filled)
    for check in ("schema", "indexes", "contexts"):
        (finding,) = found(examination, check)
        assert finding.level == "ok"
        assert not finding.remedy
    assert found(examination, "largest")[0].message.endswith("updates")
    if filled.startswith("sqlite"):
        assert examination.ok
        assert found(examination, "journal")[0].message == "the journal is wal"
        assert found(examination, "synchronous")[0].message == "synchronous is FULL"
    else:
        assert found(examination, "clock")[0].level == "ok"
        assert found(examination, "fsync")


async def test_the_library_of_sqlite_is_compared_with_its_known_bug(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "SAFE_SQLITE", (99, 0, 0))
    findings = found(await examine(filled), "sqlite")
    assert [finding.level for finding in findings] == (["warning"] if filled.startswith("sqlite") else [])


async def test_looking_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    await schema.upgrade(url)
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    before = (tmp_path / "x.db").read_bytes()
    examination = await examine(url)
    assert found(examination, "journal")[0].level == "warning"
    assert "PRAGMA journal_mode = WAL" in found(examination, "journal")[0].remedy
    assert (tmp_path / "x.db").read_bytes() == before
    assert (await examine(f"sqlite:///{tmp_path}/nowhere.db")).findings[0].level == "error"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.db"]


async def test_an_engine_of_ones_own_is_examined_as_it_is_set(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    await schema.upgrade(url)
    engine = create_async_engine(engines.parse_url(url), connect_args={"timeout": 0.1})
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()

    @sa.event.listens_for(engine.sync_engine, "connect")
    def careless(connection: sqlite3.Connection, record: object) -> None:
        connection.cursor().execute("PRAGMA synchronous = NORMAL")

    examination = await examine(engine)
    await engine.dispose()
    assert found(examination, "synchronous")[0].message == "synchronous is NORMAL"
    assert found(examination, "synchronous")[0].level == "warning"
    assert found(examination, "busy-timeout")[0].level == "warning"


async def test_a_schema_that_is_behind_or_missing_is_found(tmp_path: Path, empty_postgres_url: str) -> None:
    for url in (f"sqlite:///{tmp_path}/x.db", empty_postgres_url):
        await schema.upgrade(url, "taskctx_0001")
        (finding,) = found(await examine(url), "schema")
        assert (finding.level, finding.remedy[:21]) == ("error", "run `taskctx upgrade ")
        await schema.downgrade(url, "base")
        assert "has no taskctx tables" in found(await examine(url), "schema")[0].message


async def test_a_missing_index_orphans_and_what_was_not_finished_are_found(
    tmp_path: Path, empty_postgres_url: str
) -> None:
    for url in (f"sqlite:///{tmp_path}/x.db", empty_postgres_url):
        await schema.upgrade(url)
        for chat in ("lost", "half", "beyond"):
            async with task_context({"user_id": "u", "chat_id": chat}, database_url=url) as context:
                context.add_context_update("message", 1)
        engine = create_async_engine(engines.parse_url(url))
        of_chat = tables.contexts.c.chat_id
        async with engine.begin() as connection:
            await connection.execute(sa.delete(tables.contexts).where(of_chat == "lost"))
            await connection.execute(sa.update(tables.contexts).where(of_chat == "half").values(revision=0))
            await connection.execute(sa.update(tables.contexts).where(of_chat == "beyond").values(next_seq=1))
            for index in tables.contexts.indexes:
                await connection.execute(sa.text(f"DROP INDEX {index.name}"))
        examination = await examine(url)
        assert not examination.ok
        assert {finding.message.split()[0] for finding in found(examination, "orphans")} == {
            "taskctx_updates",
            "taskctx_runs",
            "taskctx_revisions",
        }
        assert found(examination, "unfinished")[0].message.endswith("read: 1 context")
        assert found(examination, "numbers")[0].level == "error"
        # The remedies are statements that do what they say.
        remedies = [*found(examination, "indexes"), *found(examination, "orphans")]
        async with engine.begin() as connection:
            for finding in remedies:
                await connection.execute(sa.text(finding.remedy.removeprefix("run `").removesuffix("`")))
        await engine.dispose()
        again = await examine(url)
        assert [finding.level for check in ("indexes", "orphans") for finding in found(again, check)] == ["ok", "ok"]


SAVE = "taskctx_save_v1(text, text, boolean)"


BROKEN_FUNCTIONS = {
    "DROP FUNCTION {save}": "is missing",
    "UPDATE pg_proc SET prosrc = 'BEGIN RETURN 1; END' WHERE oid = '{save}'::regprocedure": "is not the one",
    "ALTER FUNCTION {save} SECURITY DEFINER": "SECURITY DEFINER",
    "ALTER FUNCTION {save} RESET search_path": "search_path",
    "ALTER FUNCTION {save} SET search_path = public, {home}": "search_path",
    "ALTER FUNCTION {save} SET search_path = {home}": "search_path",
}


@pytest.mark.parametrize("name", [None, 'My "tasks"'])
async def test_a_function_that_was_dropped_or_changed_is_found_and_an_upgrade_creates_it_anew(
    empty_postgres_url: str, name: str | None
) -> None:
    url, home = empty_postgres_url, '"My ""tasks"""' if name else "public"
    await schema.upgrade(url, schema=name)
    for broken, message in BROKEN_FUNCTIONS.items():
        (finding,) = found(await examine(url, schema=name), "functions")
        assert (finding.level, finding.remedy) == ("ok", "")
        await accounts.run(url, [broken.format(save=f"{home}.{SAVE}", home=home)])
        (finding,) = found(await examine(url, schema=name), "functions")
        assert finding.level == "error", broken
        assert SAVE in finding.message
        assert message in finding.message
        assert "run `taskctx upgrade -d " in finding.remedy
        await schema.upgrade(url, schema=name)
    (finding,) = found(await examine(url, schema=name), "functions")
    assert finding.level == "ok"


async def test_a_function_that_the_account_may_not_execute_is_found(empty_postgres_url: str) -> None:
    url = empty_postgres_url
    await schema.upgrade(url)
    async with accounts.application(url) as application:
        assert [finding.level for finding in found(await examine(application), "functions")] == ["ok"]
        signatures = [function.signature for function in functions.shipped()]
        for signature in signatures:
            await accounts.run(url, [f"REVOKE EXECUTE ON FUNCTION {signature} FROM PUBLIC"])
        denied = found(await examine(application), "functions")
        assert [finding.level for finding in denied] == ["error"] * len(signatures)
        assert all("may not be executed by this account" in finding.message for finding in denied)
        # The remedies are statements that do what they say.
        await accounts.run(url, [finding.remedy.split("`")[1] for finding in denied])
        assert [finding.level for finding in found(await examine(application), "functions")] == ["ok"]


async def test_an_open_store_is_examined_like_its_url(filled: str) -> None:
    async with open_store(filled) as store:
        examination = await examine(store)
    assert examination.database_url == store.database_url
    of_url = [(finding.check, finding.level) for finding in (await examine(filled)).findings]
    assert [(finding.check, finding.level) for finding in examination.findings] == of_url
    with pytest.raises(StoreClosedError):
        await examine(store)


async def test_an_open_folder_is_examined_like_its_url(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "tasks"))
    store = JsonStore(folder)
    assert await examine(store) == await examine(store.database_url)
    await store.close()
    with pytest.raises(StoreClosedError):
        await examine(store)


def test_a_store_is_maintained_from_sync_code(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        assert isinstance(store, SqlStore)
        assert blocking(maintenance.prune(store, maintenance.Retention(max_contexts=0))).rows == {}
        assert blocking(maintenance.erase(store, "u")).chats == ()
        assert found(blocking(maintenance.examine(store)), "schema")[0].level == "ok"


async def test_a_folder_is_examined(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "tasks"))
    (folder / "context_history_x.json.unreadable-1").write_text("")
    (folder / ".taskctx-0.tmp").write_text("")
    names = sorted(path.name for path in folder.iterdir())
    examination = await examine(f"json:///{folder}")
    assert [finding.level for finding in found(examination, "histories")] == ["error"] * 3
    assert "context_history_cut_short.json, bytes 5,167 to 5,245" in found(examination, "histories")[0].message
    assert "taskctx import" in found(examination, "set-aside")[0].remedy
    assert found(examination, "left-over")[0].level == "note"
    assert sorted(path.name for path in folder.iterdir()) == names
    assert not (await examine(f"json:///{tmp_path}/nowhere")).ok


def test_the_command_prints_each_finding_with_its_remedy_and_has_an_exit_code(tmp_path: Path) -> None:
    done = taskctx("doctor", "-d", f"json:///{tmp_path}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ok       self-test: in memory, " in done.stdout
    (tmp_path / "context_history_c.json").write_text("[")
    done = taskctx("doctor", "-d", f"json:///{tmp_path}")
    assert done.returncode == 1
    assert (
        "error    histories: context_history_c.json, bytes 1 to 1: the file ends here, and the list does not: import"
        in (done.stdout)
    )
    done = taskctx("doctor", "-d", f"json:///{tmp_path}", "--json")
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (1, False)
    done = taskctx("doctor", "-d", "sqlite:///nowhere.db")
    assert "there is no file" in done.stdout
    assert done.returncode == 1
    assert not Path("nowhere.db").exists()
