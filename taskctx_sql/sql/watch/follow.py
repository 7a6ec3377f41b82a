"""Following a context as it grows.

Its seqs are given under the lock of its row, and its row tells the next one. So what a committed row says is there,
is there: everything below ``next_seq``, without a gap, and nothing below it comes later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import cache, partial
from typing import Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.errors import ContextNotFoundError
from taskctx_sql.model import ContextKey, StoredUpdate
from taskctx_sql.sql import incomplete, row_codec
from taskctx_sql.sql.load import PAGE_SIZE, update_columns
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.schema import contexts, updates
from taskctx_sql.sql.watch.notifications import Notifications

# While something happens, looks are this far apart; without news the pause doubles.
FIRST_PAUSE: Final = 0.05


class WatchPosition(NamedTuple):
    """How far a context is: when it was made, and the seq of its next update."""

    created_at: float
    next_seq: int


class Look(NamedTuple):
    """What was found: how far the context is, the new updates, and up to which seq they are complete."""

    head: WatchPosition
    updates: list[StoredUpdate]
    through: int


Read = Callable[[Callable[[], Plan[Look]]], Awaitable[Look]]


async def watch(
    read: Read, engine: str, key: ContextKey, after: int, poll_interval: float, notifications: Notifications
) -> AsyncGenerator[StoredUpdate, None]:
    """Yield the updates after a seq, and then each new one when it is committed.

    Args:
        read: Carries out steps that read, again while the database is away.
        engine: Whose SQL; SQLAlchemy's name of it.
        key: Whose context.
        after: The seq of the last update that is known.
        poll_interval: The longest time between two looks, in seconds.
        notifications: What tells when to look sooner.

    Raises:
        ContextNotFoundError: The context is not there, or not the same one any more.
        StoreError: What ``read`` raises.
    """
    look = await read(partial(look_after, engine, key, after, None))
    async with notifications.of(row_codec.context_id(key)) as hint:
        pause = FIRST_PAUSE
        while True:
            for update in look.updates:
                yield update
            if look.through + 1 >= look.head.next_seq:
                pause = FIRST_PAUSE if look.updates else min(2 * pause, poll_interval)
                try:
                    async with asyncio.timeout(min(pause, poll_interval)):
                        await hint.wait()
                except TimeoutError:
                    pass
            hint.clear()
            look = await read(partial(look_after, engine, key, look.through, look.head))


def look_after(engine: str, key: ContextKey, after: int, known: WatchPosition | None) -> Plan[Look]:
    """Return the steps that read a page of what came after a seq, those that left the history meanwhile included.

    Raises:
        ContextNotFoundError: The context is not there, or not the same one as ``known``.
    """
    found = yield Step(_head(), {"context": row_codec.context_id(key)}, reads=True)
    if not found:
        raise ContextNotFoundError(key)
    head = WatchPosition(*found[0])
    if known is not None and (head.created_at != known.created_at or head.next_seq < known.next_seq):
        # Deleted and made anew, or the database was set back: its seqs mean other updates than before.
        raise ContextNotFoundError(key)
    low, high = after + 1, min(head.next_seq, after + 1 + PAGE_SIZE)
    if low >= high:
        return Look(head, [], after)
    page = yield Step(_page(engine), {"context": row_codec.context_id(key), "low": low, "high": high}, reads=True)
    history = row_codec.read_updates(key, page or [])
    return Look(head, list(map(StoredUpdate, history.seqs, history.updates)), high - 1)


@cache
def _head() -> Statement:
    return sa.select(contexts.c.created_at, contexts.c.next_seq).where(
        contexts.c.context_id == text("context"), incomplete.is_there()
    )


@cache
def _page(engine: str) -> Statement:
    between = (updates.c.seq >= number("low"), updates.c.seq < number("high"))
    # What a restore wrote anew came before, under the seq that it is a copy of; what a fork did is new in its context.
    new = sa.or_(updates.c.copy_of.is_(None), updates.c.copy_of == updates.c.seq)
    return (
        sa.select(*update_columns(engine))
        .where(updates.c.context_id == text("context"), *between, new)
        .order_by(updates.c.seq)
    )
