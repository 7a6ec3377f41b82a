"""Calls of an item store that are made at once, which are done as one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from langgraph.store.base import Op, Result

from taskctx_sql.errors import SaveRefusedError, StoreError
from taskctx_sql.integrations.langgraph.items import Items


class Batching:
    """Does what is asked for in one turn of the event loop with one read and one write."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._waiting: list[tuple[list[Op], asyncio.Future[list[Result]]]] = []
        # The event loop has only weak references to its tasks.
        self._under_way: set[asyncio.Task[None]] = set()

    async def batch(self, operations: Iterable[Op]) -> list[Result]:
        """Do operations as `Items.batch` does, together with those of other calls.

        A call that is cancelled is done nevertheless.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Result]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._begin, loop)
        self._waiting.append((list(operations), answer))
        return await answer

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        calls, self._waiting = self._waiting, []
        task = loop.create_task(self._do(calls))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _do(self, calls: list[tuple[list[Op], asyncio.Future[list[Result]]]]) -> None:
        try:
            results = await self._items.batch([operation for operations, _ in calls for operation in operations])
        except BaseException as error:
            is_of_one = isinstance(error, SaveRefusedError) or not isinstance(error, StoreError)
            if len(calls) > 1 and isinstance(error, Exception) and is_of_one:
                # Something in one of them cannot be done, which the others shall not suffer from.
                for call in calls:
                    await self._do([call])
                return
            for _, answer in calls:
                if not answer.done():
                    answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        place = 0
        for operations, answer in calls:
            if not answer.done():
                answer.set_result(results[place : place + len(operations)])
            place += len(operations)
