"""The short ways past SQLAlchemy, for saves: what both engines have in common."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, TypeVar

from taskctx_sql.concurrency import Answer
from taskctx_sql.sql.retry import deadline
from taskctx_sql.sql.save.request import SaveRequest

T = TypeVar("T")

# How many saves may wait; more wait for room, so that memory stays bounded.
MAX_WAITING: Final = 1_000
# How many share a transaction. Past a few dozen the fsync is paid for, another process wants its turn, and those who
# wait fall into two groups: the loop prepares the saves of one while the other is on its way to the disk.
MAX_GROUP: Final = 32


class WaitingSave(Answer[T]):
    """The answer to a save that was accepted."""

    __slots__ = ("deadline", "request")

    def __init__(self, request: SaveRequest, loop: asyncio.AbstractEventLoop) -> None:
        """Take the save."""
        super().__init__(loop)
        self.request = request
        self.deadline = deadline()


def take_group(waiting: deque[WaitingSave[T]]) -> list[WaitingSave[T]]:
    """Take the first save of each context out of those that wait; the others of a context stay, in their order."""
    taken: dict[str, WaitingSave[T]] = {}
    left: deque[WaitingSave[T]] = deque()
    while waiting and len(taken) < MAX_GROUP:
        pending = waiting.popleft()
        if pending.request.encoded.context_id in taken:
            left.append(pending)
        else:
            taken[pending.request.encoded.context_id] = pending
    waiting.extendleft(reversed(left))
    return list(taken.values())
