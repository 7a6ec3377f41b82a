"""Following a context as it grows.

Seqs are assigned under the lock of the context's row, which holds the next one. So once that row is committed, every
seq below ``next_seq`` is there, without a gap, and none is added later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import cache, partial
from typing import Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.errors import ContextNotFoundError
from taskctx_sql.model import ContextKey, StoredUpdate
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.load import PAGE_SIZE, as_of, update_columns
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.schema import updates
from taskctx_sql.sql.watch.subscriptions import Subscriptions

# Between two polls, after new updates. Without any the pause doubles.
FIRST_PAUSE: Final = 0.05


class WatchPosition(NamedTuple):
    """When a context was created, and its next seq."""

    created_at: float
    next_seq: int


class NewUpdates(NamedTuple):
    """A page of new updates: the context's position, the updates, and the seq up to which they are complete."""

    position: WatchPosition
    updates: list[StoredUpdate]
    through: int


Read = Callable[[Callable[[], Plan[NewUpdates]]], Awaitable[NewUpdates]]


async def follow(
    read: Read,
    engine: str,
    key: ContextKey,
    after: int,
    created_at: float | None,
    poll_interval: float,
    subscriptions: Subscriptions,
) -> AsyncGenerator[StoredUpdate, None]:
    """Yield the updates after a seq, then each new one once it is committed."""
    known = None if created_at is None else WatchPosition(created_at, 0)
    new = await read(partial(read_new, engine, key, after, known))
    async with subscriptions.subscribe(row_codec.context_id(key)) as notified:
        pause = FIRST_PAUSE
        while True:
            for update in new.updates:
                yield update
            if new.through + 1 >= new.position.next_seq:
                pause = FIRST_PAUSE if new.updates else min(2 * pause, poll_interval)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(pause, poll_interval)):
                        await notified.wait()
            notified.clear()
            new = await read(partial(read_new, engine, key, new.through, new.position))


def read_new(engine: str, key: ContextKey, after: int, known: WatchPosition | None) -> Plan[NewUpdates]:
    """Return the plan that reads a page of the updates after a seq, including those removed meanwhile.

    It raises ContextNotFoundError if the context does not exist, or is not the one of ``known``.
    """
    position = WatchPosition(*(yield from as_of.current(key, *WatchPosition._fields)))
    if known is not None and (position.created_at != known.created_at or position.next_seq < known.next_seq):
        # It was deleted and created again, or the database was restored: the seqs stand for other updates now.
        raise ContextNotFoundError(key)
    low, high = after + 1, min(position.next_seq, after + 1 + PAGE_SIZE)
    if low >= high:
        return NewUpdates(position, [], after)
    bounds = {"context": row_codec.context_id(key), "low": low, "high": high}
    history = row_codec.read_updates(key, (yield Step(_select_page(engine), bounds, reads=True)) or [])
    return NewUpdates(position, list(map(StoredUpdate, history.seqs, history.updates)), high - 1)


@cache
def _select_page(engine: str) -> Statement:
    between = (updates.c.seq >= number("low"), updates.c.seq < number("high"))
    # The copies of a restore were delivered before, under their root's seq. In a fork, each copy is its own root.
    new = sa.or_(updates.c.copy_of.is_(None), updates.c.copy_of == updates.c.seq)
    selected = sa.select(*update_columns(engine)).where(updates.c.context_id == text("context"), *between, new)
    return selected.order_by(updates.c.seq)
