"""aiecs, the package that `TaskContext` comes from: its tasks, sessions and checkpoints in the tables of this library.

`install` lets aiecs make contexts of this library, wherever it imports its own. `PermanentBackend` keeps what a
``ContextEngine`` writes beside its cache, and can be read back. `track_llm_response` records what a model returned.
"""

from __future__ import annotations

from taskctx_sql.integrations.aiecs.backend import PermanentBackend
from taskctx_sql.integrations.aiecs.contexts import AiecsTaskContext, install, track_llm_response, uninstall

__all__ = ["AiecsTaskContext", "PermanentBackend", "install", "track_llm_response", "uninstall"]
