"""A saver or a store that opens the database itself."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from taskctx_sql import Store, blocking
from taskctx_sql.integrations.langgraph.writers import end_runs
from taskctx_sql.integrations.opening import open_address

T = TypeVar("T")


class Opening(Generic[T]):
    """What `from_conn_string` returns: enter it with ``with`` or ``async with``; leaving closes the database."""

    def __init__(self, database_url: str, make: Callable[[Store], T], **options: Any) -> None:
        """Keep the address with more options of `open_store`, and what makes the saver or store."""
        self._unopened, self._make = open_address(database_url, **options), make

    async def __aenter__(self) -> T:
        self._store = await self._unopened.__aenter__()
        return self._make(self._store)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await end_runs(self._store)
        finally:
            await self._unopened.__aexit__(kind, error, traceback)

    def __enter__(self) -> T:
        return blocking(self.__aenter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        blocking(self.__aexit__(kind, error, traceback))
