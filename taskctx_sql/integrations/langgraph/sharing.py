"""Calls that come while a thread is being written to: one save writes all of them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, cast

from taskctx_sql import Saved, StateChange
from taskctx_sql.errors import SaveRefusedError, StoreError

# How many calls share a save.
_MOST: Final = 32
# How long a call that is cancelled waits for its save, as `Store.save` does.
_CANCEL_SECONDS: Final = 2.0

Entries = Mapping[str, Any] | Sequence[StateChange]


@dataclass(slots=True, eq=False)
class _Call:
    entries: Entries
    updates: Sequence[Any]
    answer: asyncio.Future[Saved]


class SharedSaves(ABC):
    """Saves of one thread, one at a time; a graph's tasks and its checkpoint are often written at once."""

    def __init__(self) -> None:
        self._waiting: list[_Call] = []
        self._is_saving = False
        # The event loop has only weak references to its tasks.
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def _save(self, entries: Entries, updates: Sequence[Any]) -> Saved:
        """Save entries and updates."""

    async def write(self, entries: Entries, updates: Sequence[Any] = ()) -> Saved:
        """Save entries and updates, at once if nothing is being saved; raises what the save raises."""
        if not self._is_saving:
            self._is_saving = True
            try:
                return await self._save(entries, updates)
            finally:
                self._go_on()
        call = _Call(entries, updates, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        try:
            return await asyncio.shield(call.answer)
        except asyncio.CancelledError:
            if call in self._waiting:
                self._waiting.remove(call)
            elif not call.answer.done():
                await asyncio.wait([call.answer], timeout=_CANCEL_SECONDS)
            call.answer.add_done_callback(_retrieve)
            raise

    def _go_on(self) -> None:
        self._is_saving = bool(self._waiting)
        if self._waiting:
            self._task = asyncio.get_running_loop().create_task(self._save_waiting())

    async def _save_waiting(self) -> None:
        calls = list(takewhile(lambda call: isinstance(call.entries, dict), self._waiting[:_MOST])) or self._waiting[:1]
        del self._waiting[: len(calls)]
        try:
            await self._save_calls(calls)
        finally:
            self._go_on()

    async def _save_calls(self, calls: Sequence[_Call]) -> None:
        entries = calls[0].entries
        if len(calls) > 1:
            entries = {name: value for call in calls for name, value in cast(dict[str, Any], call.entries).items()}
        try:
            saved = await self._save(entries, [update for call in calls for update in call.updates])
        except BaseException as error:
            is_of_one = isinstance(error, SaveRefusedError) or not isinstance(error, StoreError)
            if len(calls) > 1 and isinstance(error, Exception) and is_of_one:
                # Something in one of them cannot be saved, which the others shall not suffer from.
                for call in calls:
                    await self._save_calls([call])
                return
            for call in calls:
                if not call.answer.done():
                    if isinstance(error, Exception):
                        call.answer.set_exception(error)
                    else:
                        call.answer.cancel()
            if not isinstance(error, Exception):
                raise
        else:
            for call in calls:
                if not call.answer.done():
                    call.answer.set_result(saved)


def _retrieve(answer: asyncio.Future[Saved]) -> None:
    if not answer.cancelled():
        # Retrieved, so that asyncio does not report the failure as never retrieved.
        answer.exception()
