"""Nobody reaches another's rows, and nothing gives away what it should not."""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import ContextKey, Feature, JsonStore, SqlStore, Store, open_store, schema
from taskctx_sql.cli.demo_task import index_folder
from taskctx_sql.errors import InvalidIdError, StoreError, StoreFailedError
from taskctx_sql.settings import validate_config
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import tables
from taskctx_sql.transfer import copy, export
from tests.support import accounts
from tests.support.contract import expect_reload, loaded, new_delta, stored

HOSTILE = [
    *("'", '"', "';DROP TABLE taskctx_contexts;--", "' OR '1'='1", "%", "_", "\\", "$1", ":ident", "{0}", "\x1f"),
    *("..", "../c1", "/c1", "a/b", "c1/", "con", "NUL", "aux.json", ".", " ", "", "~", "c1.json", "C1", "c1 "),
    # Look-alikes: composed and decomposed, Cyrillic, full width, ligature, dotless i, right-to-left mark.
    *("\u00e9", "e\u0301", "\u0441\u0031", "\uff43\uff11", "\ufb01", "fi", "\u0131", "i", "c1\u200f", "c1\u200b"),
    *("none", "anonymous", "null", "None", "undefined", "1", "01", "\u0661", "x" * 255, "\U0001f642" * 255),
]
ids = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12), st.text(alphabet="c1C/.\\%\u0301\u0441e", max_size=4))


def usable(user: str, chat: str) -> ContextKey | None:
    try:
        return ContextKey(user, chat)
    except InvalidIdError:
        return None


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(ids, ids), min_size=2, max_size=5, unique=True))
async def test_a_context_is_reached_by_its_user_and_chat_alone(
    store: Store, tmp_path: Path, pairs: list[tuple[str, str]]
) -> None:
    keys = [key for pair in pairs if (key := usable(*pair)) is not None]
    if Feature.USERS not in store.features:
        # There a chat is a file, whose name has its own limit.
        keys = list({key.chat_id: key for key in keys if len(key.chat_id) < 60}.values())
    for key in keys:
        await store.delete(key)
    for number, key in enumerate(keys):
        assert (await store.load(key)).revision == 0
        await store.save(new_delta(key, [number, key.user_id, key.chat_id]))
    for number, key in enumerate(keys):
        assert await stored(store, key) == [[number, key.user_id, key.chat_id]]
    for key in keys[:1]:
        await store.delete(key)
    for number, key in enumerate(keys[1:], 1):
        assert await stored(store, key) == [[number, key.user_id, key.chat_id]]
        await store.delete(key)
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} <= {tmp_path, tmp_path / "tasks"}


async def test_two_look_alikes_are_two_contexts(store: Store, user: str) -> None:
    chats = [chat for chat in HOSTILE if len(chat) < 60 or Feature.USERS in store.features]
    for chat in chats:
        await store.save(new_delta(ContextKey(user, chat), chat))
    for chat in chats:
        assert await stored(store, ContextKey(user, chat)) == [chat]


@pytest.mark.parametrize("length", [256, 10_000])
def test_an_id_that_is_too_long_is_refused_by_name(length: int) -> None:
    with pytest.raises(InvalidIdError, match=f"chat_id .* it has {length} characters, and the limit is 255"):
        ContextKey("u", "x" * length)


# Passwords.


async def test_a_password_is_nowhere_to_be_seen(caplog: pytest.LogCaptureFixture, postgres_url: str) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "s3cret-p4ss"
    for url in (
        f"postgresql://u:{secret}@127.0.0.1:1/d",
        f"postgresql://u@127.0.0.1:1/d?password={secret}",
        f"postgres://u:{secret}@[::1]:1/d?sslmode=disable",
        f"mysql://u:{secret}@h/d",
        f"postgresql://u:{secret}@h:port/d",
    ):
        try:
            await open_store(url, retry_seconds=0.1)
        except Exception as error:
            shown = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
            # The line of this test that has it is not ours.
            shown = shown.replace("await open_store(url, retry_seconds=0.1)", "")
            assert secret not in shown
        else:
            pytest.fail("there is nobody at that address")
    assert secret not in caplog.text
    engine = create_async_engine(engines.parse_url(postgres_url).set(password=secret))
    async with open_store(engine) as store:
        assert secret not in repr(store) + store.database_url + str(store)
    await engine.dispose()


async def test_what_people_store_is_in_no_message(store: Store, user: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="taskctx_sql")
    context = await loaded(store, user)
    context.add_context_update("message", "my secret diary")
    await context.save()
    with pytest.raises(StoreError) as caught:
        # The same save once more, as if the database had been set back.
        delta = new_delta(context.key, "my secret diary", if_unchanged=True)
        await store.save(delta)
    assert "diary" not in "".join(traceback.format_exception(caught.value)).replace('"my secret diary"', "")
    assert "diary" not in caplog.text


# Least privilege.


@pytest.fixture
async def application(empty_postgres_url: str) -> AsyncIterator[str]:
    """The URL of an account that has what the page on guarantees grants it, and no more."""
    await schema.upgrade(empty_postgres_url)
    async with accounts.application(empty_postgres_url) as url:
        yield url


async def test_the_least_account_can_do_all_that_a_store_does(application: str, user: str) -> None:
    async with open_store(application) as store:
        contexts = [await loaded(store, user, str(number)) for number in range(5)]
        for context in contexts:
            context.add_context_update("message", 1)
            context.track_file_operation("a", "read")
            context.track_model_usage("m", "p", "x")
            context.metadata["k"] = 1
        await asyncio.gather(*(context.save() for context in contexts))
        for context in contexts:
            context.add_context_update("message", 2)
            context.track_file_operation("a", "write")
        await asyncio.gather(*(context.save() for context in contexts))
        contexts[0].context_history = contexts[0].context_history[2:]
        contexts[0].metadata["k"] = 2
        for number in range(200):
            contexts[0].add_context_update("message", number)
        await contexts[0].save()
        for context in contexts:
            await expect_reload(store, context)
        assert len(await store.contexts(user)) == 5
        assert await store.delete(contexts[1].key)


@pytest.mark.parametrize(
    "statement",
    [
        *(f"{verb} taskctx_updates" for verb in ("DROP TABLE", "TRUNCATE", "ALTER TABLE")),
        "UPDATE taskctx_alembic_version SET version_num = 'x'",
        "CREATE TABLE taskctx_mine (x int)",
    ],
)
async def test_the_least_account_can_do_no_more(application: str, statement: str) -> None:
    if statement.startswith("ALTER"):
        statement += " ADD COLUMN x int"
    engine = create_async_engine(engines.parse_url(application))
    async with engine.connect() as connection:
        with pytest.raises(sa.exc.DBAPIError, match=r"must be owner|permission denied"):
            await connection.exec_driver_sql(statement)
    await engine.dispose()


async def test_the_least_account_is_told_that_it_cannot_upgrade(application: str, empty_postgres_url: str) -> None:
    engine = create_async_engine(engines.parse_url(empty_postgres_url))
    async with engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE taskctx_alembic_version SET version_num = 'taskctx_0001'")
    await engine.dispose()
    with pytest.raises((StoreFailedError, sa.exc.DBAPIError), match=r"must be owner|permission denied"):
        await schema.upgrade(application)


def test_the_grants_name_every_table() -> None:
    page = (Path(__file__).parents[2] / "docs/pages/explanation/guarantees.md").read_text()
    for name in tables.metadata.tables:
        assert name in page.split("-- grants")[1].split("```")[0]


# Files.


async def test_folders_are_their_owners_alone_and_those_that_are_there_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        store = JsonStore(shared / "new" / "deep")
        await store.save(new_delta(ContextKey("u", "c"), "mine"))
        await copy(store.database_url, f"json:///{shared}/copied/deep")
        async with open_store(f"sqlite:///{shared}/x.db") as database:
            assert isinstance(database, SqlStore)
            await database.save(new_delta(ContextKey("u", "c"), "mine"))
            await export(database, shared / "exported")
        monkeypatch.setenv("AIECS_TASK_DIR", str(shared / "tasks"))
        validate_config()
        (shared / "notes").mkdir(mode=0o755)
        await index_folder(
            shared / "notes", shared / "out" / "index.json", f"sqlite:///{shared}/x.db", progress=lambda *_: None
        )
        await JsonStore(shared).save(new_delta(ContextKey("u", "c"), "mine"))
    finally:
        os.umask(before)
    modes = {path.relative_to(shared).as_posix(): path.stat().st_mode & 0o777 for path in shared.rglob("*")}
    assert modes.pop("notes") == shared.stat().st_mode & 0o777 == 0o755
    assert {"new", "new/deep", "copied", "copied/deep", "exported", "exported/u", "tasks", "out"} <= set(modes)
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}


async def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/x.db", f"json:///{tmp_path}/tasks"):
        async with open_store(url) as store:
            await store.save(new_delta(ContextKey("u", "c"), "mine"))
            if isinstance(store, SqlStore):
                assert (tmp_path / "x.db-wal").exists()
            files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.endswith("lock")]
            assert files
            assert all(path.stat().st_mode & 0o077 == 0 for path in files)
