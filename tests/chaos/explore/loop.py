"""An event loop that tells of each of its steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any


class SteppingLoop(asyncio.SelectorEventLoop):
    """Calls ``on_step`` before each callback, a task's next step included."""

    on_step: Callable[[], None] | None = None

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        return super().call_soon(self._step, callback, args, context=context)

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        return super().call_soon_threadsafe(self._step, callback, args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:  # type: ignore[override]
        return super().call_at(when, self._step, callback, args, context=context)

    def _step(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self.on_step is not None:
            self.on_step()
        callback(*args)
