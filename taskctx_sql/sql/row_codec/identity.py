"""The ids of contexts and of tracked paths."""

from __future__ import annotations

import hashlib
import json
import uuid
from functools import lru_cache
from typing import Any, Final

from taskctx_sql import codec
from taskctx_sql.model import ContextKey

_NAMESPACE: Final = uuid.UUID("7e5a1c34-2f0d-5c0e-9c4b-6b1d0a6f1e21")


@lru_cache(maxsize=10_000)
def context_id(key: ContextKey) -> str:
    """Return the id derived from user and chat: a UUID, version 5, of both as a JSON list."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps([key.user_id, key.chat_id])))


def path_id(path: Any) -> str:
    """Return the identity of a tracked path, whatever its length and type."""
    return hashlib.sha256(codec.encode(path, "the path", warn=False).encode()).hexdigest()
