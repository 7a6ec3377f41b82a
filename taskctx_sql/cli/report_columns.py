"""The columns of the reports as tables: which there are, what they are called, and how their values are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from taskctx_sql.cli import output
from taskctx_sql.cli.tables import Column, Kind
from taskctx_sql.model import TOKEN_PARTS

# The columns that each report prints in a table; JSON and CSV have all. Where there is no room, those with the highest
# number are left out first, and those without a number never.
REPORTS: Final = {
    "tasks": (
        "created_at:3 user_id:1 chat_id outcome cost runs:5 failed_runs:2 errors:4 updates:6 calls:7 files:8 duration:9"
    ),
    "runs": "started_at:2 user_id:1 chat_id outcome cost duration:3 saves:4 calls:5 error",
    "models": (
        "day:1 model_id provider_id:3 mode:4 calls:2 input_tokens:5 cached_read_tokens:7 cached_write_tokens:9 "
        "output_tokens:6 reasoning_tokens:8 audio_tokens:10 cost estimated_cost:11"
    ),
    "calls": "started_at:2 user_id:3 chat_id name outcome duration:1 call_id:4 error",
    "open": "started_at:1 user_id:2 chat_id name call_id:3 seq:4",
    "tools": "name calls failures retries:3 open p50:1 p95:2",
    "files": "timestamp:2 user_id:3 chat_id:1 operation:1 source:5 model_id:4 path",
    "activity": "day update_type updates removed:2 bytes:1",
    "errors": "timestamp:1 user_id:2 chat_id kind:3 message",
    "largest": (
        "user_id:1 chat_id bytes updates:2 largest_update:5 removed:6 saves:7 files:8 runs:4 state_entries:9 "
        "updated_at:3"
    ),
    "busiest": "user_id:1 chat_id updates bytes:2 removed:6 saves:5 files:7 runs:4 updated_at:3",
    "costs": "day name user_id:3 tasks:2 calls:1 failures:4 input_tokens:5 output_tokens:6 cost estimated_cost:7",
    "speed": "model_id provider_id:3 calls failures retries:4 p50:1 p95:2",
    "running": "started_at:2 user_id:3 chat_id title:4 silent broke_off saves:5 run_id:6",
    "trees": "created_at:4 user_id:3 chat_id title:1 outcome tasks depth:5 cost own_cost:6 errors duration:2 parent:7",
    "users": "user_id cost contexts:1 runs:3 failed_runs:2 updates:4 bytes:5 removed:7 updated_at:6",
}
LISTED: Final = "user_id chat_id title:4 labels:5 revision:1 updated_at:2 created_at:3"
TIMES: Final = {
    "timestamp": "when (UTC)",
    "created_at": "created (UTC)",
    "updated_at": "saved (UTC)",
    "started_at": "began (UTC)",
}
_KINDS: Final = {name: name.removesuffix("_tokens").replace("_", " ") for name in TOKEN_PARTS}
_HEADINGS: Final = {
    **TIMES,
    **_KINDS,
    **{"duration": "seconds", "failed_runs": "failed", "estimated_cost": "estimated", "call_id": "call id"},
    **{"p50": "p50 (s)", "p95": "p95 (s)", "silent": "silent (s)", "broke_off": "broke off"},
}
# Left out of a table in which no row has any.
RARE: Final = (*_KINDS, "estimated_cost", "title", "labels", "parent", "day", "name", "user_id")
_IDS: Final = (
    "user_id",
    "chat_id",
    "model_id",
    "provider_id",
    "mode",
    "operation",
    "source",
    "update_type",
    "path",
    "name",
    "parent",
)
# Their least widths, where they need more than others of their kind.
_WIDE: Final = {"path": 24, "message": 24, "data": 24}
_TEXTS: Final = ("error", "message", "data", "title", "labels")
_VALUES: Final = ("day", "kind", "outcome", "broke_off", *TIMES)


def column(name: str, rank: int) -> Column:
    """Return a column of a table; ``rank`` says when it is left out."""
    heading = _HEADINGS.get(name, name.removesuffix("_id").removeprefix("update_").replace("_", " "))
    kind: Kind = "id" if name in _IDS else "text" if name in _TEXTS else "value" if name in _VALUES else "number"
    return Column(heading, kind, rank, _WIDE.get(name, 0))


def cell(name: str, value: Any) -> str:
    """Return a value of a column as it is shown in a table."""
    if value is None:
        return ""
    if name in TIMES:
        return output.time_text(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{label}={text}" for label, text in value.items() if label != "title")
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}" if name in ("duration", "p50", "p95", "silent") else _amount(value)
    return str(value)


def _amount(cost: float) -> str:
    """Return a cost with four digits, or as many more as one that is smaller has."""
    exact = f"{cost:.9f}".rstrip("0")
    return exact if cost and abs(cost) < 0.00005 else f"{cost:,.4f}"
