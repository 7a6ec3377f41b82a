"""The framework's store: items that outlive a thread."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from langgraph.store.base import BaseStore, IndexConfig, Op, Result, TTLConfig
from typing_extensions import override

from taskctx_sql import Retention, Store
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.langgraph.batching import Batching
from taskctx_sql.integrations.langgraph.home import Home
from taskctx_sql.integrations.langgraph.items import Items
from taskctx_sql.integrations.langgraph.opening import Opening
from taskctx_sql.integrations.langgraph.row import FRAMEWORK
from taskctx_sql.integrations.langgraph.vectors import Index
from taskctx_sql.maintenance import prune

_DEFAULT_APP: Final = "default"


class ContextItemStore(BaseStore):
    """Keeps LangGraph's items in the tables of taskctx_sql: all of one user and app in one context.

    A batch reads first, and then writes in one transaction; calls made at once are one batch. An item whose time is
    over is never returned, swept or not. One store serves sync and async code, as `ContextSaver` does.

    Attributes:
        store: The store that keeps them.
    """

    store: Store

    supports_ttl = True

    def __init__(
        self,
        store: Store,
        *,
        user_id: str | None = None,
        app: str = _DEFAULT_APP,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
    ) -> None:
        """Keep items in a store.

        Args:
            store: An open store, which you close. Make the item store in the event loop that it was opened in, or in
                sync code if it was opened with a plain ``with``.
            user_id: Whose items they are; "anonymous" if None.
            app: The application; others of the user do not see them.
            index: What `search` with a query needs: without it, a query is ignored, as the framework defines it.
            ttl: After how many minutes items expire, and whether reading one extends its time.

        Raises:
            InvalidArgumentError: The index's distance type is unknown.
        """
        super().__init__()
        self.ttl_config = ttl
        self.index_config = index
        self._home = Home()
        key = identity.key(FRAMEWORK, user_id, "store", app)
        self.store, self._user_id = store, key.user_id
        labels = identity.labels(FRAMEWORK, app=app)
        self._batching = Batching(Items(store, key, labels, None if index is None else Index(index)))

    @classmethod
    def from_conn_string(
        cls,
        database_url: str,
        *,
        user_id: str | None = None,
        app: str = _DEFAULT_APP,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
    ) -> Opening[ContextItemStore]:
        """Return what opens a database and an item store on it, with ``with`` or ``async with``.

        Args:
            database_url: As `open_store` takes it.
            user_id: Whose items they are.
            app: The application.
            index: What `search` with a query needs.
            ttl: After how many minutes items expire, whether reading one extends its time, and how often what has
                expired is removed from the database; never, if it says nothing of that.

        Raises:
            InvalidArgumentError: On entering: the index's distance type is unknown.
            InvalidDatabaseUrlError: On entering: the URL names no store.
            SchemaError: On entering: the schema is missing, older, newer or foreign.
            StoreError: On entering: the database could not be reached.
        """
        options: dict[str, Any] = {}
        if ttl is not None and (minutes := ttl.get("sweep_interval_minutes")):
            options = {"retention": Retention(expired=True), "cleanup_interval": minutes * 60}
        return Opening(database_url, partial(cls, user_id=user_id, app=app, index=index, ttl=ttl), **options)

    @override
    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        return await self._home.wait(self._batching.batch(ops))

    @override
    def batch(self, ops: Iterable[Op]) -> list[Result]:
        return self._home.block(self._batching.batch(ops))

    async def asweep_ttl(self) -> int:
        """Remove what has expired from the database, and return how many rows that were.

        They include earlier versions of items, and expired state of other contexts of the user.

        Raises:
            StoreError: The store failed.
        """
        return await self._home.wait(self._sweep())

    def sweep_ttl(self) -> int:
        """Remove what has expired, as `asweep_ttl` does."""
        return self._home.block(self._sweep())

    async def _sweep(self) -> int:
        pruned = await prune(self.store, Retention(expired=True), user_id=self._user_id)
        return pruned.rows.get("taskctx_state", 0)
