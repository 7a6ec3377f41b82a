"""How long tests wait: as long as a machine may take that has much else to do."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Final

# What an idle machine does at once takes less. What a test must not wait for takes at least twice as long.
SOON: Final = 30.0


async def until(condition: Callable[[], Awaitable[object] | object], seconds: float = SOON) -> None:
    """Wait until a condition holds; fail if it does not."""
    async with asyncio.timeout(seconds):
        while True:
            held = condition()
            if await held if inspect.isawaitable(held) else held:
                return
            await asyncio.sleep(0.01)
