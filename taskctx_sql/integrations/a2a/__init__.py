"""A2A: the stores of its SDK for tasks, for their events, and for push notification configurations.

`ContextTaskStore` is a ``TaskStore``, `VersionedContextTaskStore` a ``VersionedTaskStore``, `ContextEventStream` a
``TaskEventStream``, and `ContextPushConfigStore` a ``PushNotificationConfigStore``.
"""

from __future__ import annotations

from taskctx_sql.integrations.requirements import needs

with needs("a2a-sdk", "a2a"):
    from taskctx_sql.integrations.a2a.event_stream import ContextEventStream
    from taskctx_sql.integrations.a2a.push_configs import ContextPushConfigStore
    from taskctx_sql.integrations.a2a.task_store import ContextTaskStore, VersionedContextTaskStore

__all__ = ["ContextEventStream", "ContextPushConfigStore", "ContextTaskStore", "VersionedContextTaskStore"]
