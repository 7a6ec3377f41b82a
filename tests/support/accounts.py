"""Accounts of a Postgres that may do no more than the docs grant them."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import ContextKey, Store
from taskctx_sql.model import StateChange
from taskctx_sql.sql import engines, row_codec
from taskctx_sql.sql.schema import tables
from tests.support.contract import loaded, new_delta

PAGES = Path(__file__).parents[2] / "docs" / "pages"
PAGE = PAGES / "explanation" / "guarantees.md"
VIEWS_PAGE = PAGES / "reference" / "views.md"


async def create(owner_url: str, schema: str = "public") -> str:
    """Make an account that has what the page grants, and return the database's URL for it."""
    return await _created(owner_url, "application", lambda name: _recipe("grants", name, schema))


@asynccontextmanager
async def analyst(owner_url: str, *, of_all_users: bool = False) -> AsyncIterator[str]:
    """Make an account that has what the page of the views grants, yield the URL for it, and drop it."""

    def recipe(name: str) -> list[str]:
        titles = ["analyst", *(["analyst of all users"] if of_all_users else [])]
        return [one for title in titles for one in _recipe(title, name, "public", VIEWS_PAGE, "analyst")]

    url = await _created(owner_url, "analyst", recipe)
    yield url
    await drop(owner_url, url)


async def _created(owner_url: str, kind: str, recipe: Callable[[str], list[str]]) -> str:
    name = f"{kind}_{uuid.uuid4().hex[:8]}"
    await run(owner_url, [f"CREATE ROLE {name} LOGIN PASSWORD 'x'", *recipe(name)])
    return sa.make_url(owner_url).set(username=name, password="x").render_as_string(hide_password=False)


async def grant_functions(owner_url: str, url: str, schema: str = "public") -> None:
    """Let an account execute the functions, where not everybody may."""
    await run(owner_url, _recipe("functions", str(sa.make_url(url).username), schema))


def _recipe(title: str, name: str, schema: str, page: Path = PAGE, role: str = "application") -> list[str]:
    """Return the statements of a part of a page, for an account and a schema."""
    found = re.search(rf"```pgsql\n-- {title}\n(.*?)```", page.read_text(), re.DOTALL)
    assert found is not None
    text = found[1].replace(role, name).replace("public", f'"{schema}"')
    # A DO block is one statement.
    statements = [text] if "DO $$" in text else text.split(";")
    return [f'SET search_path TO "{schema}"', *(statement for statement in statements if statement.strip())]


async def drop(owner_url: str, url: str) -> None:
    """Drop an account with all that was granted to it."""
    name = sa.make_url(url).username
    await run(owner_url, [f"DROP OWNED BY {name}", f"DROP ROLE {name}"])


@asynccontextmanager
async def application(owner_url: str, schema: str = "public") -> AsyncIterator[str]:
    """Make such an account, yield the URL for it, and drop it."""
    url = await create(owner_url, schema)
    yield url
    await drop(owner_url, url)


async def run(url: str, statements: Iterable[str]) -> None:
    """Run statements as the account of an address."""
    engine = create_async_engine(engines.parse_url(url), isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)
    finally:
        await engine.dispose()


# What tenants do, and what the owner sees of it.


async def filled(store: Store, key: ContextKey) -> ContextKey:
    """Put a row into each table."""
    context = await loaded(store, key.user_id, key.chat_id)
    context.add_context_update("error", "a secret")
    context.track_file_operation("secret.txt", "read", "user")
    context.track_model_usage("gpt-4", "openai", "chat", cost=1.0)
    await context.save()
    secrets = [StateChange("secret", "value"), StateChange("title", "secret", kind="label")]
    await store.save(new_delta(key, state=secrets))
    return key


@asynccontextmanager
async def by_hand(url: str, named: str | None) -> AsyncIterator[asyncpg.Connection]:
    """Yield the driver's connection, in a transaction that names a user, or nobody; nothing of it stays."""
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        if named is not None:
            await connection.execute("SELECT set_config('taskctx.user_id', $1, true)", named)
        yield connection
    finally:
        await transaction.rollback()
        await connection.close()


async def everything(owner_url: str, key: ContextKey) -> dict[str, list[Any]]:
    """Return all rows of a context, as the owner sees them."""
    connection = await asyncpg.connect(owner_url)
    asked = {name: f"SELECT * FROM {name} WHERE context_id = $1" for name in tables.metadata.tables}
    found = {name: await connection.fetch(question, row_codec.context_id(key)) for name, question in asked.items()}
    await connection.close()
    return found
