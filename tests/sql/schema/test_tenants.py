"""Row-level security: an account of the application reaches one user at a time, whatever it calls or sends."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import ContextKey, SqlStore, open_store, schema
from taskctx_sql.errors import InvalidIdError, RowLevelSecurityError, StoreFailedError
from taskctx_sql.maintenance import erase, prune
from taskctx_sql.model import Retention
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import tables, views
from taskctx_sql.transfer import copy, export, import_folder
from tests.sql.schema.calls import OF_A_KEY, OF_STATEMENTS, OTHERS, select_updates
from tests.support import accounts, pgbouncer
from tests.support.accounts import everything, filled
from tests.support.contract import loaded, new_delta, stored

pytestmark = pytest.mark.wide

TABLES: Final = tuple(tables.metadata.tables)

VIEWS: Final = tuple(views.metadata.tables)

# Quotes, backslashes, what a setting might read, look-alikes, and the longest there may be.
USERS: Final = ["'", '"', "\\", "\\x41", "a'; RESET ALL; --", "DEFAULT", " ", "%s", "$1", "\u0441", "\U0001f642" * 255]


def test_every_public_call_is_tried() -> None:
    public = {name for name, _ in inspect.getmembers(SqlStore) if not name.startswith("_")}
    assert public - OTHERS == {*OF_A_KEY, *OF_STATEMENTS}, "say here how a new call is kept to its user"


@pytest.mark.parametrize("call", [*OF_A_KEY, *OF_STATEMENTS])
async def test_a_call_for_a_user_reaches_that_user_alone(
    tenant_store: SqlStore, guarded_url: str, mine: ContextKey, theirs: ContextKey, call: str
) -> None:
    before = await everything(guarded_url, theirs)
    assert all(before.values())
    assert await (OF_A_KEY | OF_STATEMENTS)[call](tenant_store, mine, mine.user_id)
    assert await everything(guarded_url, theirs) == before


@pytest.mark.parametrize("call", OF_STATEMENTS)
async def test_a_call_for_another_user_reads_nothing(
    tenant_store: SqlStore, guarded_url: str, mine: ContextKey, theirs: ContextKey, call: str
) -> None:
    before = await everything(guarded_url, theirs)
    assert not await OF_STATEMENTS[call](tenant_store, theirs, mine.user_id)
    assert await everything(guarded_url, theirs) == before


@pytest.mark.parametrize("call", OF_STATEMENTS)
async def test_a_call_without_a_user_is_refused_with_the_remedy(
    tenant_store: SqlStore, mine: ContextKey, call: str
) -> None:
    no_user: Any = None
    with pytest.raises(RowLevelSecurityError, match=r"Name the user, or connect as the owner .* BYPASSRLS"):
        await OF_STATEMENTS[call](tenant_store, mine, no_user)
    assert await stored(tenant_store, mine)


@pytest.mark.parametrize("call", [*OF_A_KEY, *OF_STATEMENTS])
async def test_the_empty_user_is_refused_by_name(tenant_store: SqlStore, call: str) -> None:
    with pytest.raises(InvalidIdError, match=r"user_id '' .* cannot distinguish it from no user"):
        await (OF_A_KEY | OF_STATEMENTS)[call](tenant_store, ContextKey("", "c1"), "")


async def test_a_deleted_context_leaves_no_row_behind(
    tenant_store: SqlStore, guarded_url: str, mine: ContextKey
) -> None:
    assert all((await everything(guarded_url, mine)).values())
    assert await tenant_store.delete(mine)
    assert not any((await everything(guarded_url, mine)).values())


@pytest.mark.parametrize("name", USERS)
async def test_users_are_distinguished_whatever_their_names(tenant_store: SqlStore, user: str, name: str) -> None:
    own, other = ContextKey(f"{name}{user}"[-255:], "c1"), ContextKey(f"{user}{name}"[:255], "c1")
    for key in (own, other):
        context = await loaded(tenant_store, key.user_id, key.chat_id)
        for number in range(2):
            context.add_context_update("message", [key.user_id, number])
            await context.save()
    assert await stored(tenant_store, own) == [[own.user_id, 0], [own.user_id, 1]]
    assert [row.chat_id for row in await tenant_store.contexts(own.user_id)] == ["c1"]
    assert await tenant_store.query(select_updates(other), user_id=own.user_id) == []


async def test_reports_are_of_the_user_who_is_asked_for(
    tenant_store: SqlStore, guarded_url: str, tenant_url: str, mine: ContextKey, theirs: ContextKey
) -> None:
    reports = tenant_store.reports
    of_users: list[Any] = [reports.contexts, reports.tasks, reports.runs, reports.files, reports.errors]
    of_users += [reports.largest, reports.busiest, reports.users, reports.active_users]
    of_all = [
        *of_users,
        reports.models,
        reports.activity,
        partial(tenant_store.search, "secret"),
    ]
    for key in (mine, theirs):
        for report in of_users:
            assert {row.user_id for row in await report(user_id=key.user_id)} == {key.user_id}
        assert await reports.contexts(user_id=key.user_id).count() == 1
        assert sum(use.calls for use in await reports.models(user_id=key.user_id)) == 1
        assert sum(day.updates for day in await reports.activity(user_id=key.user_id)) == 3
        found = await tenant_store.search("secret", user_id=key.user_id)
        assert {row.user_id for row in found} == {key.user_id}
        for of_key in (reports.timeline, reports.updates_by_type, reports.files_by_operation, reports.context_runs):
            assert await of_key(key)
    for report in of_all:
        with pytest.raises(RowLevelSecurityError):
            await report()
        with pytest.raises(RowLevelSecurityError):
            await report().totals()


async def test_housekeeping_is_of_a_user_or_refused(
    tenant_store: SqlStore, guarded_url: str, mine: ContextKey, theirs: ContextKey
) -> None:
    before = await everything(guarded_url, theirs)
    for retention in (Retention(max_age=0), Retention(max_contexts=1), Retention(removed_age=0)):
        for dry_run in (True, False):
            with pytest.raises(RowLevelSecurityError):
                await prune(tenant_store, retention, dry_run=dry_run)
    assert (await prune(tenant_store, Retention(max_contexts=0), user_id=mine.user_id)).by_count == 1
    assert await stored(tenant_store, mine) == []
    assert await everything(guarded_url, theirs) == before
    assert (await erase(tenant_store, theirs.user_id)).rows == {name: len(found) for name, found in before.items()}
    assert not any((await everything(guarded_url, theirs)).values())


async def test_transfers_are_refused(
    tenant_store: SqlStore, tenant_url: str, guarded_url: str, mine: ContextKey, tmp_path: Path
) -> None:
    before = await everything(guarded_url, mine)
    other = f"sqlite:///{tmp_path}/other.db"
    async with open_store(other) as source:
        await source.save(new_delta(ContextKey(mine.user_id, "c2"), 1))
    folder = tmp_path / "tasks"
    async with open_store(f"json:///{folder}") as files:
        await files.save(new_delta(ContextKey("x", "c1"), 1))
    moves: dict[str, Awaitable[Any]] = {
        "out": copy(tenant_url, other, user_id=mine.user_id),
        "in": copy(other, tenant_url),
        "export": export(tenant_store, tmp_path / "exported"),
        "import": import_folder(folder, tenant_store, user_id=mine.user_id),
    }
    for move in moves.values():
        with pytest.raises(RowLevelSecurityError):
            await move
    assert await everything(guarded_url, mine) == before
    assert not list(tmp_path.glob("exported/*"))
    assert [row.chat_id for row in await tenant_store.contexts(mine.user_id)] == ["c1"]


async def test_two_users_work_at_once_on_one_store(tenant_store: SqlStore, user: str) -> None:
    users = [f"{user}-{number}" for number in range(8)]

    async def work(name: str) -> None:
        contexts = [await loaded(tenant_store, name, f"c{number}") for number in range(3)]
        for step in range(10):
            for context in contexts:
                context.add_context_update("message", [name, context.chat_id, step])
            await asyncio.gather(*(context.save() for context in contexts))
            assert {row.user_id for row in await tenant_store.contexts(name)} == {name}
        for context in contexts:
            expected = [[name, context.chat_id, step] for step in range(10)]
            assert await stored(tenant_store, context.key) == expected

    await asyncio.gather(*map(work, users))


async def test_a_save_that_is_refused_takes_no_other_user_with_it(empty_postgres_url: str, user: str) -> None:
    await schema.upgrade(empty_postgres_url, row_level_security=True)
    owner = await asyncpg.connect(empty_postgres_url)
    await owner.execute("ALTER TABLE taskctx_updates ADD CHECK (data <> '\"refused\"')")
    await owner.close()
    async with accounts.application(empty_postgres_url) as url, open_store(url) as store:
        contexts = [await loaded(store, f"{user}-{number}") for number in range(8)]
        # Those that are there already are saved together.
        await asyncio.gather(*(context.save() for context in contexts))
        for number, context in enumerate(contexts):
            context.add_context_update("message", "refused" if number == 4 else number)
        answers = await asyncio.gather(*(context.save() for context in contexts), return_exceptions=True)
        assert [number for number, answer in enumerate(answers) if isinstance(answer, BaseException)] == [4]
        assert isinstance(answers[4], StoreFailedError)
        expected = [[number] if number != 4 else [] for number in range(8)]
        assert [await stored(store, context.key) for context in contexts] == expected


async def test_closing_finishes_the_saves_of_every_user(tenant_url: str, user: str) -> None:
    store = await SqlStore.open(tenant_url)
    keys = [ContextKey(f"{user}-{number}", "c1") for number in range(20)]
    contexts = [await loaded(store, key.user_id, key.chat_id) for key in keys]
    for context in contexts:
        await context.save()
        context.add_context_update("message", context.user_id)
    saves = [asyncio.ensure_future(context.save()) for context in contexts]
    # Each has handed over what it saves.
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*saves)
    async with open_store(tenant_url) as again:
        assert [await stored(again, key) for key in keys] == [[key.user_id] for key in keys]


async def leave_nobody_named(store: SqlStore) -> None:
    """Check that no connection of the pool has a user set after the transaction."""
    engine = store._backend.engine
    connections = [await engine.connect() for _ in range(3)]
    for connection in connections:
        user_id = await connection.scalar(sa.text("SELECT current_setting('taskctx.user_id', true)"))
        assert not user_id
        assert await connection.scalar(sa.select(sa.func.count()).select_from(tables.contexts)) == 0
    for connection in connections:
        await connection.close()


@asynccontextmanager
async def opened_as(way: str, url: str) -> AsyncIterator[SqlStore]:
    """Yield a store that sets its users in one of the possible ways."""
    engine = create_async_engine(engines.parse_url(url))
    try:
        async with open_store(engine if way == "own engine" else url) as opened:
            assert isinstance(opened, SqlStore)
            yield opened
    finally:
        await engine.dispose()


@pytest.mark.parametrize("way", ["short ways", "own engine"])
async def test_no_user_outlives_a_transaction(way: str, tenant_url: str, user: str) -> None:
    async with opened_as(way, tenant_url) as store:
        for number in range(4):
            key = await filled(store, ContextKey(f"{user}-{number}", "c1"))
            await filled(store, key)
            assert len(await stored(store, key)) == 6
            # What is refused ends its transaction, too.
            with pytest.raises(StoreFailedError):
                await store.query(sa.select(sa.literal_column("1 / 0")), user_id=key.user_id)
        await leave_nobody_named(store)


async def test_it_holds_behind_a_pooler(tenant_url: str, user: str) -> None:
    with pgbouncer.running(tenant_url) as url:
        async with open_store(url, transaction_pooling=True) as store:
            assert isinstance(store, SqlStore)

            async def work(name: str) -> None:
                context = await loaded(store, name)
                for step in range(5):
                    context.add_context_update("message", [name, step])
                    await context.save()
                assert await stored(store, context.key) == [[name, step] for step in range(5)]
                assert [row.user_id for row in await store.contexts(name)] == [name]

            await asyncio.gather(*(work(f"{user}-{number}") for number in range(12)))
            await leave_nobody_named(store)
            with pytest.raises(RowLevelSecurityError):
                await store.reports.contexts()


async def test_it_holds_in_a_given_schema(empty_postgres_url: str, user: str) -> None:
    await schema.upgrade(empty_postgres_url, schema="of choice", row_level_security=True)
    async with (
        accounts.application(empty_postgres_url, "of choice") as url,
        open_store(url, schema="of choice") as store,
    ):
        assert isinstance(store, SqlStore)
        keys = [await filled(store, ContextKey(f"{user}-{number}", "c1")) for number in range(2)]
        assert len(await stored(store, keys[0])) == 3
        assert await store.query(select_updates(keys[0]), user_id=keys[1].user_id) == []
        with pytest.raises(RowLevelSecurityError):
            await store.reports.contexts()
