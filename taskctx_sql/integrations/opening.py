"""A store that an integration is given, or opens at an address when it is first needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from taskctx_sql import Store, UnopenedStore, open_store


def open_address(address: str, **options: Any) -> UnopenedStore:
    """Return what every integration opens an address with: `open_store`, strictly.

    A value that would not come back as it was is refused: what a framework stores, it gets back exactly.
    """
    return open_store(address, strict=True, **options)


class StoreSource:
    """A store of the caller's, or an address that is opened in each event loop that asks.

    Stores with one address share their connections in an event loop, so a source for each session costs little. What is
    not closed by hand is closed when its event loop ends, or when nobody has the source any more.
    """

    def __init__(self, store: Store | str) -> None:
        """Keep what the stores come from.

        Args:
            store: An open store, which its owner closes, or a database URL.
        """
        self._given: Store | str = store
        self._openings: dict[asyncio.AbstractEventLoop, _Opening] = {}

    async def get(self) -> Store:
        """Return the store of the running event loop; raises what `open_store` raises."""
        if not isinstance(self._given, str):
            return self._given
        loop = asyncio.get_running_loop()
        opening = self._openings.get(loop)
        if opening is None or opening.has_failed:
            opening = self._openings[loop] = _Opening(self._given)
            for ended in [other for other in list(self._openings) if other.is_closed()]:
                self._openings.pop(ended, None)
        return await asyncio.shield(opening.task)

    async def close(self) -> None:
        """Close the store that was opened in this event loop; one of the caller's stays open.

        Raises:
            StoreError: The store failed.
        """
        opening = self._openings.pop(asyncio.get_running_loop(), None)
        if opening is not None and not opening.has_failed:
            await opening.task
            await opening.stores.aclose()


class _Opening:
    """A store that is being opened in the running event loop, or is open."""

    def __init__(self, address: str) -> None:
        # An event loop ends the generators in it before it is closed.
        self.stores: AsyncGenerator[Store, None] = _open(address)
        # A task, so that callers at the same time share it, and one that gives up does not stop it for the others.
        self.task: asyncio.Task[Store] = asyncio.get_running_loop().create_task(_first(self.stores))

    @property
    def has_failed(self) -> bool:
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)


async def _open(address: str) -> AsyncGenerator[Store, None]:
    async with open_address(address) as store:
        yield store


async def _first(stores: AsyncGenerator[Store, None]) -> Store:
    return await anext(stores)
