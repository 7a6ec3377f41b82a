"""Group commit: saves that wait at the same time share a transaction, each of another context."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, TypeVar

from taskctx_sql.concurrency import Promise
from taskctx_sql.sql.retry import deadline
from taskctx_sql.sql.save.request import SaveRequest

T = TypeVar("T")

# How many saves may wait; more wait for room, so that memory stays bounded.
MAX_WAITING: Final = 1_000
# How many share a transaction. Past a few dozen the fsync costs little per save, another process wants its turn, and
# those that wait form two groups: the loop prepares the saves of one while the other is on its way to the disk.
MAX_GROUP: Final = 32


class WaitingSave(Promise[T]):
    """A save that was accepted, and the answer that its caller waits for."""

    __slots__ = ("deadline", "request")

    def __init__(self, request: SaveRequest, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.request: SaveRequest = request
        self.deadline: float | None = deadline()


def take_group(waiting: deque[WaitingSave[T]]) -> list[WaitingSave[T]]:
    """Take the first save of each context; later ones of the same context keep waiting, in their order."""
    group: dict[str, WaitingSave[T]] = {}
    later: deque[WaitingSave[T]] = deque()
    while waiting and len(group) < MAX_GROUP:
        save = waiting.popleft()
        if save.request.context_id in group:
            later.append(save)
        else:
            group[save.request.context_id] = save
    waiting.extendleft(reversed(later))
    return list(group.values())
