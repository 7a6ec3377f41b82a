"""The push notification configurations of the A2A SDK: those of a task and an owner are a context's state."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from a2a.server.context import ServerCallContext
from a2a.server.owner_resolver import OwnerResolver, resolve_user_scope
from a2a.server.tasks import PushNotificationConfigStore
from a2a.server.tasks.push_notification_config_store import normalize_push_notification_config
from a2a.types.a2a_pb2 import TaskPushNotificationConfig
from google.protobuf.json_format import MessageToDict, ParseDict

from taskctx_sql import ContextKey, ContextSummary, Store
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.a2a.updates import FRAMEWORK

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

logger: logging.Logger = logging.getLogger(__name__)

# What the value of an encrypted configuration has, instead of its fields.
_ENCRYPTED: Final = "encrypted"


class ContextPushConfigStore(PushNotificationConfigStore):
    """A `PushNotificationConfigStore` of the A2A SDK.

    A configuration that is replaced or deleted stays in the store's record until it is pruned, or until all of its
    task's are deleted at once, which erases them. With ``encryption_key`` nothing of it can be read in the database.
    """

    def __init__(
        self,
        store: Store,
        owner_resolver: OwnerResolver = resolve_user_scope,
        *,
        encryption_key: str | bytes | None = None,
    ) -> None:
        """Keep configurations in a store.

        Args:
            store: An open store.
            owner_resolver: What returns the owner, given a call's context. Owners do not see each other's
                configurations.
            encryption_key: A key of ``cryptography.fernet.Fernet``; needs the extra ``encryption`` of a2a-sdk.
        """
        self._store, self._owner = store, owner_resolver
        self._fernet: Fernet | None = None
        if encryption_key is not None:
            from cryptography.fernet import Fernet

            self._fernet = Fernet(encryption_key)

    async def set_info(
        self, task_id: str, notification_config: TaskPushNotificationConfig, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        """Add a configuration, or replace the one that has its id, and return what is stored."""
        config = normalize_push_notification_config(task_id, notification_config)
        await self._store.write(
            self._key(self._owner(context), task_id),
            state={config.id: self._encoded(config)},
            labels=identity.labels(FRAMEWORK, task=task_id, kind="push_configs"),
        )
        return config

    async def get_info(self, task_id: str, context: ServerCallContext) -> list[TaskPushNotificationConfig]:
        """Return the owner's configurations for a task, in the order of their ids."""
        key = self._key(self._owner(context), task_id)
        return self._decoded(key, {entry.name: entry.value for entry in await self._store.state(key)})

    async def get_info_for_dispatch(self, task_id: str) -> list[TaskPushNotificationConfig]:
        """Return all owners' configurations for a task.

        Raises:
            RowLevelSecurityError: Owners are hidden from each other.
        """
        configs: list[TaskPushNotificationConfig] = []
        labels = identity.labels(FRAMEWORK, task=task_id, kind="push_configs")
        after: ContextSummary | None = None
        while page := await self._store.contexts(None, after=after, labels=labels, state=None):
            for context in page:
                configs += self._decoded(ContextKey(context.user_id, context.chat_id), context.state)
            after = page[-1]
        return configs

    async def delete_info(self, task_id: str, context: ServerCallContext, config_id: str | None = None) -> None:
        """Delete a configuration, or all that the owner has for a task."""
        key = self._key(self._owner(context), task_id)
        if config_id is None:
            await self._store.delete(key)
        elif await self._store.state(key, config_id):
            # Even if it is the last one: another process may be adding one.
            await self._store.write(key, remove_state=[config_id])

    def _key(self, owner: str, task_id: str) -> ContextKey:
        return identity.key(FRAMEWORK, owner, task_id, "push_configs")

    def _encoded(self, config: TaskPushNotificationConfig) -> Any:
        data = MessageToDict(config)
        return {_ENCRYPTED: self._fernet.encrypt(json.dumps(data).encode()).decode()} if self._fernet else data

    def _decoded(self, key: ContextKey, state: Mapping[str, Any]) -> list[TaskPushNotificationConfig]:
        """Return configurations without those encrypted with another key, which the log says as the SDK's does."""
        configs = []
        for name, data in state.items():
            if _ENCRYPTED in data:
                try:
                    data = json.loads(_decrypted(self._fernet, data[_ENCRYPTED]))
                except ValueError:
                    logger.exception("push notification configuration %r of context %s cannot be read", name, key)
                    continue
            configs.append(cast(TaskPushNotificationConfig, ParseDict(data, TaskPushNotificationConfig())))
        return configs


def _decrypted(fernet: Fernet | None, token: str) -> bytes:
    if fernet is None:
        raise ValueError("it is encrypted, and the store was given no encryption_key")
    from cryptography.fernet import InvalidToken

    try:
        return fernet.decrypt(token)
    except InvalidToken as error:
        raise ValueError("it is encrypted with another key than encryption_key") from error
