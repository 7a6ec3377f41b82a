"""The views that the reports read, with their columns in order. A migration creates them; the docs describe them."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.model import TOKEN_PARTS

metadata: Final = sa.MetaData()

_CONTEXT: Final = ("context_id", "user_id", "chat_id")
_TYPES: Final[dict[str, Any]] = {
    **dict.fromkeys(("created_at", "updated_at", "started_at", "ended_at", "first_at", "last_at"), sa.Double),
    **dict.fromkeys(("timestamp", "duration", "cost", "estimated_cost", "own_cost", "own_duration"), sa.Double),
    **dict.fromkeys(
        ("updates", "removed", "errors", "runs", "failed_runs", "unfinished_runs", "files", "models", "calls"),
        sa.BigInteger,
    ),
    **dict.fromkeys(
        ("saves", "revision", "bytes", "largest_update", "contexts", "seq", "state_entries"), sa.BigInteger
    ),
    **dict.fromkeys(("is_root", "children", "tasks", "depth", "own_errors", "failures"), sa.BigInteger),
    **dict.fromkeys(("input_tokens", "output_tokens", *TOKEN_PARTS, "cancelled_runs"), sa.BigInteger),
    "day": sa.Date,
}


def _view(name: str, *columns: str) -> sa.Table:
    return sa.Table(
        f"taskctx_report_{name}", metadata, *(sa.Column(column, _TYPES.get(column, sa.Text)) for column in columns)
    )


_CREATED: Final = ("day", "created_at", "created_utc", "updated_at", "updated_utc")
_USAGE: Final = ("calls", "input_tokens", "output_tokens", "cost")

contexts: Final = _view("contexts", *_CONTEXT, *_CREATED, "revision", "title", "labels")
tasks: Final = _view(
    "tasks",
    *(*_CONTEXT, *_CREATED, "saves", "updates", "removed", "errors", "first_at", "first_utc", "last_at", "last_utc"),
    *("duration", "runs", "failed_runs", "files", "models", *_USAGE, "unfinished_runs", "cancelled_runs", "outcome"),
    *TOKEN_PARTS,
)
runs: Final = _view(
    "runs",
    *(*_CONTEXT, "run_id", "day", "started_at", "started_utc", "ended_at", "ended_utc"),
    *("duration", "outcome", "error", "saves", *_USAGE, *TOKEN_PARTS),
)
models: Final = _view(
    *("models", *_CONTEXT, "day", "model_id", "provider_id", "mode", *_USAGE, "duration"),
    *(*TOKEN_PARTS, "estimated_cost", "failures"),
)
uses: Final = _view(
    *("uses", *_CONTEXT, "seq", "model_id", "provider_id", "mode", "day", "timestamp", "timestamp_utc"),
    *("input_tokens", "output_tokens", *TOKEN_PARTS, "cost", "price_list", "duration", "error", "run_id"),
)
files: Final = _view(
    "files",
    *(*_CONTEXT, "path", "path_id", "operation", "source", "state", "timestamp", "timestamp_utc", "day"),
    *("run_id", "revision", "model_id"),
)
activity: Final = _view("activity", *_CONTEXT, "day", "update_type", "updates", "removed", "bytes")
errors: Final = _view(
    "errors", "kind", *_CONTEXT, "run_id", "seq", "day", "timestamp", "timestamp_utc", "message", "removed"
)
sizes: Final = _view(
    "sizes",
    *(*_CONTEXT, *_CREATED, "bytes", "largest_update", "updates", "removed", "saves", "files", "runs", "state_entries"),
)
users: Final = _view(
    *("users", "user_id", "contexts", "updates", "removed", "bytes", "updated_at", "updated_utc"),
    *("runs", "failed_runs", "unfinished_runs", *_USAGE, *TOKEN_PARTS),
)
labels: Final = _view("labels", *_CONTEXT, "name", "value")
calls: Final = _view(
    *("calls", *_CONTEXT, "seq", "call_id", "name", "day", "started_at", "started_utc", "ended_at", "ended_utc"),
    *("duration", "outcome", "error", "run_id", "removed", "copied", "arguments"),
)
trees: Final = _view(
    *(
        "trees",
        *_CONTEXT,
        *_CREATED,
        "title",
        "parent",
        "parent_id",
        "is_root",
        "children",
        "tasks",
        "depth",
        "outcome",
    ),
    *("runs", "failed_runs", "unfinished_runs", "cancelled_runs", "errors", *_USAGE, "first_at", "first_utc"),
    *("last_at", "last_utc", "duration", "own_errors", "own_cost", "own_duration"),
)
