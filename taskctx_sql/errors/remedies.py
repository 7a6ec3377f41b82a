"""Commands of the shell in messages, as they can be pasted."""

from __future__ import annotations

import shlex


def shell_command(*words: str, database_url: str | None = None, schema: str | None = None) -> str:
    """Return a ``taskctx`` command in backticks, its words quoted for a shell."""
    store = [*(("-d", database_url) if database_url else ()), *(("--schema", schema) if schema else ())]
    return f"`{shlex.join(['taskctx', *words, *store])}`"
