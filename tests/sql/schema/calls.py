"""Every public call, by which users it reaches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Final

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, SqlStore, Write
from taskctx_sql.model import Difference, StoredUpdate
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.maintenance import statements
from taskctx_sql.sql.schema import tables
from tests.support.contract import all_rows, new_delta, stored

pytestmark = pytest.mark.wide

Call = Callable[[SqlStore, ContextKey, str], Awaitable[Any]]

# Calls that take a key or a user reach only that user. The others take statements, which may read anything.
OF_A_KEY: Final[dict[str, Call]] = {
    "load": lambda store, key, _: stored(store, key),
    "updates": lambda store, key, _: all_rows(store, key),
    "contexts": lambda store, key, _: store.contexts(key.user_id),
    "search": lambda store, key, _: store.search("secret", user_id=key.user_id),
    "save": lambda store, key, _: store.save(new_delta(key, 1)),
    "delete": lambda store, key, _: store.delete(key),
    "revisions": lambda store, key, _: store.revisions(key),
    "difference": lambda store, key, _: differing(store, key),
    "fork": lambda store, key, _: store.fork(key, "forked"),
    "state": lambda store, key, _: store.state(key),
    "write": lambda store, key, _: store.write(key, state={"secret": 2}, labels={"title": None}),
    "write_together": lambda store, key, _: store.write_together([Write(key, state={"secret": 2})]),
    "label": lambda store, key, _: store.label(key, title="another"),
    "data": lambda store, key, _: store.data(key),
    "open_calls": lambda store, key, _: of_an_open_call(store, key, store.open_calls),
    "close_calls": lambda store, key, _: of_an_open_call(store, key, store.close_calls),
    "pop_update": lambda store, key, _: store.pop_update(key),
    "clear_updates": lambda store, key, _: store.clear_updates(key),
    "watch": lambda store, key, _: first_watched(store, key),
}

OF_STATEMENTS: Final[dict[str, Call]] = {
    "query": lambda store, key, user_id: store.query(select_updates(key), user_id=user_id),
    "read": lambda store, key, user_id: store.read(
        "read", partial(statements.one_context, row_codec.context_id(key)), user_id=user_id
    ),
    "write_plan": lambda store, key, user_id: store.write_plan("write", partial(erase_all, key), user_id=user_id),
}

# `reports` has a test of its own below; the others reach no rows.
OTHERS: Final = {
    "open",
    "close",
    "ping",
    "features",
    "engine_name",
    "is_distributed",
    "engine_and_schema",
    "note_gone",
    "reports",
    "search_backlog",
}


async def differing(store: SqlStore, key: ContextKey) -> Difference:
    newest = (await store.save(new_delta(key, "one more"))).revision
    return await store.difference(key, 1, newest)


async def of_an_open_call(store: SqlStore, key: ContextKey, ask: Callable[[ContextKey], Awaitable[Any]]) -> Any:
    await store.write(key, updates=[("tool_call", 1, {"group": "1"})])
    return await ask(key)


async def first_watched(store: SqlStore, key: ContextKey) -> StoredUpdate:
    async with aclosing(store.watch(key)) as updates:
        return await anext(updates)


def select_updates(key: ContextKey) -> sa.Select[Any]:
    return sa.select(tables.updates).where(tables.updates.c.context_id == row_codec.context_id(key))


def erase_all(key: ContextKey) -> Any:
    old = yield from statements.one_context(row_codec.context_id(key))
    if old is None:
        return {}
    yield from statements.hide(old, guarded=False)
    counts, _ = yield from statements.erase_some(old.context_id, 1000)
    return counts
