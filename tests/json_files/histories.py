"""The one history that the tests of files write."""

from __future__ import annotations

from taskctx_sql import ContextKey

KEY = ContextKey("u", "c")

NAME = "context_history_c.json"
