"""The framework's checkpoint saver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from typing_extensions import override

from taskctx_sql import Store
from taskctx_sql.integrations.langgraph.checkpoints import Checkpoints
from taskctx_sql.integrations.langgraph.home import Home
from taskctx_sql.integrations.langgraph.opening import Opening
from taskctx_sql.integrations.langgraph.row import next_version
from taskctx_sql.integrations.langgraph.threads import Threads
from taskctx_sql.integrations.langgraph.values import Values


class ContextSaver(BaseCheckpointSaver[str]):
    """Keeps LangGraph's checkpoints in the tables of taskctx_sql, each thread in a context of its own.

    When a call returns, what it wrote is written. A value that does not change is stored once, and so is each element
    of a list that grows. One saver serves sync and async code, in any thread and event loop; only the methods for sync
    code may not be called in the event loop that the store was opened in.

    Attributes:
        store: The store.
    """

    store: Store

    def __init__(self, store: Store, *, user_id: str | None = None, serde: SerializerProtocol | None = None) -> None:
        """Keep checkpoints in a store.

        Args:
            store: An open store, which you close. Make the saver in the event loop that it was opened in, or in sync
                code if it was opened with a plain ``with``.
            user_id: Whose threads they are. If None, it is the ``user_id`` of the configuration's ``configurable``,
                which must then be in every configuration for that thread; "anonymous" if there is none.
            serde: Makes bytes of values; the framework's own by default.
        """
        super().__init__(serde=serde)
        self.store = store
        self._home = Home()
        self._last_values = Values(self.serde)
        self._threads = Threads(store, user_id)
        self._checkpoints = Checkpoints(store, self._threads)

    @classmethod
    def from_conn_string(
        cls, database_url: str, *, user_id: str | None = None, serde: SerializerProtocol | None = None
    ) -> Opening[ContextSaver]:
        """Return what opens a database and a saver on it, with ``with`` or ``async with``.

        Args:
            database_url: As `open_store` takes it.
            user_id: Whose threads they are, as above.
            serde: Makes bytes of values; the framework's own by default.

        Raises:
            InvalidDatabaseUrlError: On entering: the URL names no store.
            SchemaError: On entering: the schema is missing, older, newer or foreign.
            StoreError: On entering: the database could not be reached.
        """
        return Opening(database_url, partial(cls, user_id=user_id, serde=serde))

    @property
    def _values(self) -> Values:
        # `with_allowlist` copies the saver and gives the copy another serializer.
        if self._last_values.serializer is not self.serde:
            self._last_values = Values(self.serde)
        return self._last_values

    @override
    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await self._home.wait(self._checkpoints.get(self._values, config))

    @override
    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._home.block(self._checkpoints.get(self._values, config))

    @override
    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        found = self._checkpoints.find(self._values, config, filter, before, limit)
        async for checkpoint in self._home.iterate(found):
            yield checkpoint

    @override
    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        return self._home.iterate_blocking(self._checkpoints.find(self._values, config, filter, before, limit))

    @override
    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await self._home.wait(self._checkpoints.put(self._values, config, checkpoint, metadata, new_versions))

    @override
    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self._home.block(self._checkpoints.put(self._values, config, checkpoint, metadata, new_versions))

    @override
    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await self._home.wait(self._checkpoints.put_writes(self._values, config, writes, task_id, task_path))

    @override
    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self._home.block(self._checkpoints.put_writes(self._values, config, writes, task_id, task_path))

    @override
    async def adelete_thread(self, thread_id: str) -> None:
        await self._home.wait(self._threads.delete(str(thread_id)))

    @override
    def delete_thread(self, thread_id: str) -> None:
        self._home.block(self._threads.delete(str(thread_id)))

    @override
    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await self._home.wait(self._threads.delete_for_runs(self._values, run_ids))

    @override
    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        self._home.block(self._threads.delete_for_runs(self._values, run_ids))

    @override
    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await self._home.wait(self._threads.copy(self._values, str(source_thread_id), str(target_thread_id)))

    @override
    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._home.block(self._threads.copy(self._values, str(source_thread_id), str(target_thread_id)))

    @override
    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await self._home.wait(self._threads.prune(self._values, thread_ids, strategy))

    @override
    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        self._home.block(self._threads.prune(self._values, thread_ids, strategy))

    @override
    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return await self._home.wait(self._checkpoints.history(self._values, config, channels))

    @override
    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self._home.block(self._checkpoints.history(self._values, config, channels))

    @override
    def get_next_version(self, current: str | None, channel: None) -> str:
        return next_version(current)
