"""Group commit: saves that wait at the same time share a transaction, each of another context."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import Final, Generic, TypeVar

from taskctx_sql import observing
from taskctx_sql.concurrency import Promise
from taskctx_sql.errors import StoreClosedError
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

    __slots__ = ("context", "deadline", "request")

    def __init__(self, request: SaveRequest, loop: asyncio.AbstractEventLoop, context: Context | None) -> None:
        super().__init__(loop)
        self.context: Context | None = context
        self.request: SaveRequest = request
        self.deadline: float | None = deadline()


# For each save of a group its answer or the error that it gets, or one error for all of them.
Answers = Sequence[T | BaseException] | BaseException
# Writes saves in one transaction, each of another context. The second argument is when the first of them gives up, by
# `time.monotonic`; the third is called with the answers, on the loop.
Write = Callable[[list[SaveRequest], float | None, Callable[[Answers[T]], None]], None]


class GroupCommit(Generic[T]):
    """Saves, in groups. It belongs to one event loop.

    A save is sent at once if a group can be, and alone then: it never waits for others to come. Of one context one save
    at a time is under way, so they are written in the order of their coming.
    """

    def __init__(
        self,
        write: Write[T],
        database_url: str,
        *,
        schema: str | None = None,
        max_group: int = MAX_GROUP,
        max_in_flight: int = 2,
    ) -> None:
        """Send at most ``max_in_flight`` groups of ``max_group`` saves at a time to ``write``.

        If ``write`` raises, and gives no answers, each save of the group gets the error.
        """
        self._write = write
        self.database_url: str = database_url
        self.schema: str | None = schema
        self._max_group = max_group
        self._max_in_flight = max_in_flight
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(MAX_WAITING)
        # The saves that can be sent, one of each context.
        self._ready: deque[WaitingSave[T]] = deque()
        # By context, what comes after its save that is ready or in flight.
        self._later: dict[str, deque[WaitingSave[T]] | None] = {}
        self._in_flight = 0
        self._will_send = False
        self._closed = False
        self._ended: asyncio.Future[None] | None = None
        # Then a group is written in the context of its first save, which has the span that caused it.
        self._is_observed = observing.observer() is not observing.NOBODY
        observing.observer().queue_created(self)

    @property
    def waiting(self) -> int:
        """How many saves were accepted and not yet sent. Callable from any thread."""
        return len(self._ready) + sum(len(later) for later in list(self._later.values()) if later)

    async def save(self, request: SaveRequest) -> T:
        """Return the answer to a save. If the caller is cancelled, that takes effect when the answer is there.

        Raises:
            StoreClosedError: `close` or `stop` was called before it was accepted.
            TimeoutError: It gave up before it was sent.
        """
        await self._room.acquire()
        try:
            if self._closed:
                raise StoreClosedError(self.database_url)
            save: WaitingSave[T] = WaitingSave(request, self._loop, copy_context() if self._is_observed else None)
            self._accept(save)
            return await save.wait()
        finally:
            self._room.release()

    def stop(self) -> None:
        """Accept nothing more. Callable from any thread."""
        self._closed = True

    async def close(self) -> None:
        """Accept nothing more, and finish what was accepted."""
        self._closed = True
        while self._later:
            self._ended = self._ended or self._loop.create_future()
            await self._ended

    def _accept(self, save: WaitingSave[T]) -> None:
        context_id = save.request.context_id
        if context_id in self._later:
            later = self._later[context_id]
            if later is None:
                self._later[context_id] = later = deque()
            later.append(save)
            return
        self._later[context_id] = None
        self._ready.append(save)
        if not self._in_flight and not self._will_send:
            self._send()
        else:
            self._send_soon()

    def _send_soon(self) -> None:
        """Send when the tasks that can run now have run: they may have saves for the same group."""
        if not self._will_send and self._in_flight < self._max_in_flight:
            self._will_send = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._will_send = False
        while self._ready and self._in_flight < self._max_in_flight:
            group, until = self._take()
            if not group:
                continue
            self._in_flight += 1
            requests, answer = [save.request for save in group], partial(self._answer, group)
            try:
                if (context := group[0].context) is None:
                    self._write(requests, until, answer)
                else:
                    context.run(self._write, requests, until, answer)
            except Exception as error:
                self._answer(group, error)

    def _take(self) -> tuple[list[WaitingSave[T]], float | None]:
        """Return the next saves that are still waited for, and when the first of them gives up."""
        group: list[WaitingSave[T]] = []
        until: float | None = None
        now = time.monotonic()
        while self._ready and len(group) < self._max_group:
            save = self._ready.popleft()
            if save.deadline is not None:
                if save.deadline < now:
                    self._resolve(save, TimeoutError("others of this process, who came before, had no answer either"))
                    continue
                if until is None or save.deadline < until:
                    until = save.deadline
            group.append(save)
        return group, until

    def _answer(self, group: list[WaitingSave[T]], answers: Answers[T]) -> None:
        if isinstance(answers, BaseException):
            answers = [answers] * len(group)
        self._in_flight -= 1
        for save, answer in zip(group, answers, strict=True):
            self._resolve(save, answer)
        if self._ready:
            # After those that were answered just now: they may have another save.
            self._send_soon()

    def _resolve(self, save: WaitingSave[T], answer: T | BaseException) -> None:
        save.resolve(answer)
        later = self._later[save.request.context_id]
        if later:
            self._ready.append(later.popleft())
            return
        del self._later[save.request.context_id]
        if self._ended is not None and not self._later and not self._ended.done():
            self._ended.set_result(None)


def in_tasks(write: Callable[[list[SaveRequest], float | None], Awaitable[Sequence[T | BaseException]]]) -> Write[T]:
    """Return what writes each group in a task of its own, which gives the answers before it ends."""
    tasks = set[asyncio.Task[None]]()

    async def answered(requests: list[SaveRequest], until: float | None, answer: Callable[[Answers[T]], None]) -> None:
        try:
            answers = await write(requests, until)
        except BaseException as error:
            answer(error)
            if not isinstance(error, Exception):
                raise
        else:
            answer(answers)

    def start(requests: list[SaveRequest], until: float | None, answer: Callable[[Answers[T]], None]) -> None:
        task = asyncio.create_task(answered(requests, until, answer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return start
