"""A durable, queryable record of what an AI task did.

    async with task_context({"user_id": "u1", "chat_id": "c1"}, database_url="sqlite:///tasks.db") as ctx:
        ctx.add_context_update("message", "Starting")

The names below are the public ones; `taskctx_sql.errors` has all errors.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from taskctx_sql.concurrency import blocking
from taskctx_sql.errors import TaskContextError
from taskctx_sql.health import (
    check_context_health,
    diagnose_history_loading_issue,
    monitor_context_performance,
)
from taskctx_sql.json_files import JsonStore
from taskctx_sql.maintenance import diagnose_context_optimization_issue, diagnose_resource_cleanup_issue
from taskctx_sql.model import ContextKey, ContextUpdate
from taskctx_sql.opening import open_store
from taskctx_sql.settings import (
    DEFAULT_MAX_CONTEXT_SIZE,
    DEFAULT_METADATA,
    DEFAULT_METADATA_TOGGLES,
    DEFAULT_TASK_DIR,
    DEVELOPMENT_CONFIG,
    PRODUCTION_CONFIG,
    Settings,
    validate_config,
)
from taskctx_sql.stores import Feature, Store
from taskctx_sql.task import TaskContext, build_context, task_context

if TYPE_CHECKING:
    from taskctx_sql.sql.schema import current, downgrade, head, row_level_security, upgrade
    from taskctx_sql.sql.store import SqlStore

__all__ = [
    "DEFAULT_MAX_CONTEXT_SIZE",
    "DEFAULT_METADATA",
    "DEFAULT_METADATA_TOGGLES",
    "DEFAULT_TASK_DIR",
    "DEVELOPMENT_CONFIG",
    "PRODUCTION_CONFIG",
    "ContextKey",
    "ContextUpdate",
    "Feature",
    "JsonStore",
    "Settings",
    "SqlStore",
    "Store",
    "TaskContext",
    "TaskContextError",
    "blocking",
    "build_context",
    "check_context_health",
    "current",
    "diagnose_context_optimization_issue",
    "diagnose_history_loading_issue",
    "diagnose_resource_cleanup_issue",
    "downgrade",
    "head",
    "monitor_context_performance",
    "open_store",
    "row_level_security",
    "task_context",
    "upgrade",
    "validate_config",
]

# These bring SQLAlchemy and alembic with them, so they come when they are asked for.
_ON_DEMAND = {
    "SqlStore": "taskctx_sql.sql.store",
    "current": "taskctx_sql.sql.schema.migrate",
    "downgrade": "taskctx_sql.sql.schema.migrate",
    "head": "taskctx_sql.sql.schema.migrate",
    "row_level_security": "taskctx_sql.sql.schema.migrate",
    "upgrade": "taskctx_sql.sql.schema.migrate",
}


def __getattr__(name: str) -> Any:
    if name in _ON_DEMAND:
        return getattr(importlib.import_module(_ON_DEMAND[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
