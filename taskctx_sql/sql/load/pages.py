"""Reading the updates of a context page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache, partial
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.errors import ContextNotFoundError
from taskctx_sql.limits import MAX_NUMBER
from taskctx_sql.model import ContextKey, StoredUpdate
from taskctx_sql.sql import engines, incomplete, row_codec
from taskctx_sql.sql.load import as_of
from taskctx_sql.sql.load.as_of import in_revision
from taskctx_sql.sql.plan import Plan, Statement, Step, number, read_value, text
from taskctx_sql.sql.schema import contexts, updates

PAGE_SIZE: Final = 500
_LARGEST_PAGE: Final = 4_000
# When the context was created, what was read, and the last seq of it.
Page = tuple[float | None, list[Any], int] | None


class Wanted(NamedTuple):
    """Which updates of a context are read: those with ``after < seq < before``, of these types if there are any.

    ``data_only`` leaves out all columns but the seq and the data.
    """

    after: int = 0
    before: int | None = None
    newest_first: bool = False
    types: Sequence[str] | None = None
    data_only: bool = False

    def beyond(self, seq: int) -> Wanted:
        """The same, without what is read when the update with this seq was."""
        return self._replace(before=seq) if self.newest_first else self._replace(after=seq)


# Executes a plan that reads a part of a context.
Read = Callable[[ContextKey, Callable[[], Plan[Page]]], Awaitable[Page]]


async def read_updates(
    read: Read, engine: str, key: ContextKey, wanted: Wanted, limit: int | None
) -> AsyncIterator[StoredUpdate]:
    """Yield the updates that are wanted, at most ``limit`` of them, read a page at a time with ``read``."""
    async for page in _read_pages(read, engine, key, wanted, limit, PAGE_SIZE):
        for stored in page:
            yield stored


async def read_data(
    read: Read, engine: str, key: ContextKey, types: Sequence[str] | None, limit: int | None
) -> list[Any]:
    """Return the data of updates, oldest first: of all, or of so many of the newest."""
    wanted = Wanted(newest_first=limit is not None, types=types, data_only=True)
    data: list[Any] = []
    async for page in _read_pages(read, engine, key, wanted, limit, _LARGEST_PAGE):
        data += page
    return data if limit is None else data[::-1]


async def _read_pages(
    read: Read, engine: str, key: ContextKey, wanted: Wanted, limit: int | None, largest: int
) -> AsyncIterator[list[Any]]:
    created_at, left = None, limit
    while left is None or left > 0:
        size = largest if left is None else min(left, largest)
        plan = partial(_read_page, engine, key, wanted, size, created_at, is_last=size == left)
        page = await read(key, plan)
        if page is None:
            # It was deleted meanwhile, and may have been created anew.
            raise ContextNotFoundError(key)
        created_at, found, last = page
        yield found
        if len(found) < size:
            return
        wanted, left = wanted.beyond(last), None if left is None else left - size
        # Who reads on gets fewer, larger pages.
        largest = min(largest * 2, _LARGEST_PAGE)


def _read_page(
    engine: str, key: ContextKey, wanted: Wanted, size: int, created_at: float | None, *, is_last: bool
) -> Plan[Page]:
    """Return the plan that reads the next updates, and when the context was created, if a page may follow.

    It returns None if the context is no longer the one created at ``created_at``.
    """
    context_id = row_codec.context_id(key)
    known = created_at
    if known is None and not is_last:
        created_at = yield from read_value(as_of.select_current("created_at"), {"context": context_id})
    bounds = {"low": wanted.after + 1, "high": MAX_NUMBER if wanted.before is None else wanted.before, "size": size}
    parameters = {"context": context_id, "revision": as_of.LAST_REVISION, **bounds}
    if wanted.types is not None:
        parameters["types"] = engines.list_value(engine, wanted.types)
    given = (wanted.newest_first, wanted.types is not None, wanted.data_only)
    rows = (yield Step(_select_page(engine, *given), parameters, reads=True)) or []
    if known is not None and not (yield from as_of.is_same_context(context_id, known)):
        return None
    last = rows[-1][0] if rows else 0
    if wanted.data_only:
        return created_at, row_codec.read_data(key, rows), last
    history = row_codec.read_updates(key, rows)
    return created_at, list(map(StoredUpdate, history.seqs, history.updates)), last


def newest_update(engine: str, key: ContextKey, types: Sequence[str] | None) -> Plan[tuple[int, StoredUpdate | None]]:
    """Return the plan that reads a context's revision, and its newest update, of these types. 0 if it is not there."""
    rows = yield Step(_select_newest(engine, types is not None), _newest_of(engine, key, types), reads=True)
    if not rows or rows[0][1] is None:
        return rows[0][0] if rows else 0, None
    history = row_codec.read_updates(key, [rows[0][1:]])
    return rows[0][0], StoredUpdate(history.seqs[0], history.updates[0])


def current_seqs(engine: str, key: ContextKey, types: Sequence[str] | None) -> Plan[tuple[int, list[int]]]:
    """Return the plan that reads a context's revision, and the seqs of its updates of these types."""
    rows = yield Step(_select_seqs(engine, types is not None), _newest_of(engine, key, types), reads=True)
    # Without an update, there is a row with the revision all the same.
    return (rows[0][0], [seq for _, seq in rows if seq is not None]) if rows else (0, [])


def _newest_of(engine: str, key: ContextKey, types: Sequence[str] | None) -> dict[str, Any]:
    given: dict[str, Any] = {"context": row_codec.context_id(key)}
    if types is not None:
        given["types"] = engines.list_value(engine, [row_codec.column_text(kind) for kind in types])
    return given


@cache
def _select_newest(engine: str, has_types: bool) -> Statement:
    columns = (contexts.c.revision, *update_columns(engine))
    return _with_revision(engine, *columns, has_types=has_types).order_by(updates.c.seq.desc()).limit(1)


@cache
def _select_seqs(engine: str, has_types: bool) -> Statement:
    return _with_revision(engine, contexts.c.revision, updates.c.seq, has_types=has_types)


def _with_revision(engine: str, *columns: sa.ColumnElement[Any], has_types: bool) -> sa.Select[*tuple[Any, ...]]:
    """Return the SELECT of a context's current updates with its revision, so that both are of one moment."""
    live = [updates.c.context_id == contexts.c.context_id, updates.c.removed_in.is_(None)]
    if has_types:
        live.append(engines.is_in_list(engine, updates.c.update_type, "types"))
    joined = contexts.outerjoin(updates, sa.and_(*live))
    return (
        sa.select(*columns).select_from(joined).where(contexts.c.context_id == text("context"), incomplete.is_there())
    )


@cache
def update_columns(engine: str) -> tuple[sa.ColumnElement[Any], ...]:
    """Return the columns of `row_codec.read_updates`."""
    between = sa.literal_column(f"'{row_codec.BETWEEN}'", sa.Text)
    # One text as UTF-8 takes less memory than two strings.
    joined = engines.as_utf8(engine, updates.c.data.concat(between).concat(updates.c.metadata)).label("text")
    return updates.c.seq, updates.c.timestamp, updates.c.update_type, joined, updates.c.exact


@cache
def select_updates(engine: str) -> Statement:
    """Return the SELECT of the updates from "low" to below "high" as of "revision"."""
    between = (updates.c.seq >= number("low"), updates.c.seq < number("high"))
    return sa.select(*update_columns(engine)).where(*in_revision(updates), *between).order_by(updates.c.seq)


@cache
def _select_page(engine: str, newest_first: bool, typed: bool, data_only: bool) -> Statement:
    between = (updates.c.seq >= number("low"), updates.c.seq < number("high"))
    is_there = sa.exists().where(contexts.c.context_id == text("context"), incomplete.is_there())
    columns = (updates.c.seq, updates.c.data) if data_only else update_columns(engine)
    statement = sa.select(*columns).where(*in_revision(updates), *between, is_there)
    statement = statement.limit(number("size"))
    if typed:
        statement = statement.where(engines.is_in_list(engine, updates.c.update_type, "types"))
    return statement.order_by(updates.c.seq.desc() if newest_first else updates.c.seq)
