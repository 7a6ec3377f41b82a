"""A hundred thousand tasks within seconds: rows that SQLite itself makes, as saves would write them."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

from taskctx_sql import ContextKey
from taskctx_sql.sql.row_codec import context_id

TASKS: Final = 100_000
# So many seconds are between two of them, which makes 60 days.
APART: Final = 60 * 86_400 / TASKS
# One in so many failed, from the oldest task on.
FAILED: Final = 40
# The task that cost most; the newest one has the number 0.
DEAREST: Final = 31_415

# The newest is a minute old. They are those of a thousand users.
_TASKS: Final = f"""
    CREATE TEMP TABLE tasks AS
    WITH RECURSIVE numbers (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i < {TASKS - 1}),
    named AS (
        SELECT i, 'user-' || (i % 1000) AS user_id, 'chat-' || i AS chat_id, :now - 60 - i * {APART} AS at
        FROM numbers
    )
    SELECT *, context_id(user_id, chat_id) AS context_id FROM named ORDER BY context_id
"""
# By table: the columns with their values.
_COLUMNS: Final[dict[str, dict[str, str]]] = {
    "contexts": {
        **{"user_id": "user_id", "chat_id": "chat_id", "metadata": "'{}'", "metadata_toggles": "'{}'", "revision": "1"},
        **{"next_seq": "2", "next_model": "2", "next_position": "1", "created_at": "at", "updated_at": "at + 9"},
    },
    "runs": {
        **{"run_id": "'run'", "started_at": "at", "ended_at": "at + 9", "saves": "1"},
        "outcome": f"iif(i % {FAILED} = 0, 'failed', 'completed')",
        "error": f"iif(i % {FAILED} = 0, 'ToolError: it broke', NULL)",
    },
    "revisions": {
        **{"revision": "1", "saved_at": "at + 9", "run_id": "'run'", "save_number": "1"},
        **{"next_seq": "2", "next_model": "2", "next_position": "1"},
    },
    "updates": {
        **{"seq": "1", "timestamp": "at", "update_type": "'message'", "data": "json_quote('work on order ' || i)"},
        **{"metadata": "json_object('role', 'user')", "added_in": "1", "run_id": "'run'"},
    },
    "models": {
        **{"seq": "1", "model_id": "'model-' || (i % 3)", "timestamp": "at", "added_in": "1", "run_id": "'run'"},
        **{"input_tokens": "1000", "output_tokens": "100", "cost": f"iif(i = {DEAREST}, 7.5, (i % 100) / 100.0)"},
    },
    "state": {
        **{"kind": "'label'", "name": "'title'", "added_in": "1", "value": "json_quote('order ' || i)"},
        **{"saved_at": "at", "run_id": "'run'"},
    },
}


def fill(path: Path) -> None:
    """Put the tasks into a database at the newest schema."""
    connection = sqlite3.connect(path)
    connection.create_function("context_id", 2, lambda user, chat: context_id(ContextKey(user, chat)))
    connection.execute("PRAGMA synchronous = OFF")
    with connection:
        connection.execute(_TASKS, {"now": time.time()})
        for table, columns in _COLUMNS.items():
            names, values = ", ".join(("context_id", *columns)), ", ".join(("context_id", *columns.values()))
            connection.execute(f"INSERT INTO taskctx_{table} ({names}) SELECT {values} FROM tasks")
    connection.close()
