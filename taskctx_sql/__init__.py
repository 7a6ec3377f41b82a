"""A durable, queryable record of what an AI task did.

    async with task_context({"user_id": "u1", "chat_id": "c1"}, database_url="sqlite:///tasks.db") as ctx:
        ctx.add_context_update("message", "Starting")

Contexts
    `task_context` opens, loads and saves a `TaskContext`; `build_context` returns the dictionary of a new one. The
    history is a list of `ContextUpdate`. `blocking` waits for any of the async calls from sync code.

Stores
    `open_store` opens a `Store` at a database URL: rows in SQLite or Postgres (`SqlStore`), or JSON
    files (`JsonStore`); `ConnectionOptions` say how to connect. A context in it is identified by its `ContextKey`.
    `ContextStore` is what a store of your own implements, with `RevisionStore` and `WatchableStore` if it keeps
    revisions and can be watched.

Namespaces
    `schema`         set up a database, bring it up to date, switch row-level security
    `maintenance`    prune, erase, and find what endangers data
    `transfer`       import, export and copy contexts
    `reports`        the rows that ``store.reports`` returns, and the report as a page
    `prices`         costs of model uses, estimated from a list of prices; needs the extra `prices`
    `testing`        the contract of stores, as a suite of tests; needs pytest
    `telemetry`      spans and metrics for OpenTelemetry; needs the extra `opentelemetry`
    `health`         health checks of a context, and diagnoses
    `settings`       the environment's variables, their defaults, and presets
    `errors`         everything that is raised on purpose; `TaskContextError` is the base

The page "API" of the docs lists every public name by task.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from taskctx_sql import errors, health, maintenance, prices, settings
from taskctx_sql.concurrency import blocking
from taskctx_sql.context import Dropped, MemoryContext, OptimizePlan
from taskctx_sql.errors import TaskContextError
from taskctx_sql.json_files import JsonStore
from taskctx_sql.model import (
    MISSING,
    ConnectionOptions,
    ContextKey,
    ContextSummary,
    ContextUpdate,
    Delta,
    Difference,
    FileChange,
    Listing,
    Loaded,
    MappingChange,
    OpenCall,
    Retention,
    Revision,
    Run,
    RunOutcome,
    Saved,
    Selection,
    StateChange,
    StateEntry,
    StoredUpdate,
    Write,
)
from taskctx_sql.opening import UnopenedStore, open_store
from taskctx_sql.stores import (
    ContextStore,
    Feature,
    RevisionStore,
    StateStore,
    Store,
    StoreOpener,
    WatchableStore,
    choose_updates,
)
from taskctx_sql.task import TaskContext, build_context, task_context
from taskctx_sql.writer import ContextWriter

if TYPE_CHECKING:
    from taskctx_sql import reports, schema, telemetry, testing, transfer
    from taskctx_sql.sql.store import SqlStore

__version__ = "0.1.0"

__all__ = [
    "MISSING",
    "ConnectionOptions",
    "ContextKey",
    "ContextStore",
    "ContextSummary",
    "ContextUpdate",
    "ContextWriter",
    "Delta",
    "Difference",
    "Dropped",
    "Feature",
    "FileChange",
    "JsonStore",
    "Listing",
    "Loaded",
    "MappingChange",
    "MemoryContext",
    "OpenCall",
    "OptimizePlan",
    "Retention",
    "Revision",
    "RevisionStore",
    "Run",
    "RunOutcome",
    "Saved",
    "Selection",
    "SqlStore",
    "StateChange",
    "StateEntry",
    "StateStore",
    "Store",
    "StoreOpener",
    "StoredUpdate",
    "TaskContext",
    "TaskContextError",
    "UnopenedStore",
    "WatchableStore",
    "Write",
    "__version__",
    "blocking",
    "build_context",
    "choose_updates",
    "errors",
    "health",
    "maintenance",
    "open_store",
    "prices",
    "reports",
    "schema",
    "settings",
    "task_context",
    "telemetry",
    "testing",
    "transfer",
]

# Imported on first use: they need SQLAlchemy and alembic, or are seldom needed.
_ON_DEMAND: Final = {
    "SqlStore": "taskctx_sql.sql.store",
    "reports": "taskctx_sql.reports",
    "schema": "taskctx_sql.schema",
    "telemetry": "taskctx_sql.telemetry",
    "testing": "taskctx_sql.testing",
    "transfer": "taskctx_sql.transfer",
}

if not TYPE_CHECKING:  # A type checker would take every name for one of ours.

    def __getattr__(name: str) -> Any:
        if name not in _ON_DEMAND:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(_ON_DEMAND[name])
        return module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
