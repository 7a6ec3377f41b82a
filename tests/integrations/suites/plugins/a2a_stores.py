"""Puts our stores in the place of the SDK's: those in databases, and those in memory."""

from __future__ import annotations

import asyncio
import os

from a2a.server import tasks
from a2a.server.owner_resolver import resolve_user_scope

from taskctx_sql import ContextKey, blocking, open_store
from taskctx_sql.integrations.a2a import ContextPushConfigStore, ContextTaskStore

# The tests run in event loops of their own, and close no store.
_store = open_store(os.environ["TASKCTX_SUITE_DATABASE_URL"]).__enter__()


class SuiteStore:
    """One of our stores, on the library's own event loop. It is empty, but for what another one of its engine has."""

    ours = None
    options = ()
    engines = set()  # noqa: RUF012

    def __init__(self, engine=None, owner_resolver=resolve_user_scope, **options):
        self.engine = engine
        known = {name: options[name] for name in self.options if name in options}
        self._adapter = self.ours(_store, owner_resolver, **known)
        if engine is None or engine not in self.engines:
            self.engines.add(engine)
            for context in blocking(_store.contexts(None)):
                blocking(_store.delete(ContextKey(context.user_id, context.chat_id)))

    async def initialize(self): ...


def replace(module, name, ours, methods, options=()):
    """Put a class of the suite in the place of one of the SDK's."""

    def method(called):
        async def call(self, *arguments, **named):
            function = getattr(self._adapter, called)
            return await asyncio.to_thread(lambda: blocking(function(*arguments, **named)))

        return call

    names = {called: method(called) for called in methods}
    made = type(name, (SuiteStore,), {"ours": ours, "options": options, **names})
    setattr(module, name, made)
    setattr(tasks, name, made)


TASKS = ("save", "get", "list", "delete")
CONFIGS = ("set_info", "get_info", "get_info_for_dispatch", "delete_info")
replace(tasks.database_task_store, "DatabaseTaskStore", ContextTaskStore, TASKS)
replace(tasks.inmemory_task_store, "InMemoryTaskStore", ContextTaskStore, TASKS)
for module, name in (
    (tasks.database_push_notification_config_store, "DatabasePushNotificationConfigStore"),
    (tasks.inmemory_push_notification_config_store, "InMemoryPushNotificationConfigStore"),
):
    replace(module, name, ContextPushConfigStore, CONFIGS, ("encryption_key",))
