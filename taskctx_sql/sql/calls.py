"""The calls of tools that a crash left without a result."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from taskctx_sql.errors import InvalidArgumentError, StaleContextError
from taskctx_sql.model import TOOL_RESULT, ContextKey, OpenCall
from taskctx_sql.sql import load
from taskctx_sql.sql.writing import Writing


class Calls(Writing):
    """The calls of an `SqlStore` about calls of tools."""

    async def open_calls(self, key: ContextKey | None = None, /, *, user_id: str | None = None) -> Sequence[OpenCall]:
        """See `Store.open_calls`."""
        if key is not None and user_id is not None:
            raise InvalidArgumentError("user_id", user_id, "None when a key is given")
        user = None if user_id is None else ContextKey(user_id, "").user_id
        plan = partial(load.read_open_calls, self.engine_name, key, user)
        return await self._read("list open calls", plan, user if key is None else key.user_id)

    async def close_calls(self, key: ContextKey, /, *, error: str = "interrupted") -> Sequence[OpenCall]:
        """See `Store.close_calls`."""
        if not isinstance(error, str) or not error:
            raise InvalidArgumentError("error", error, "a text that is not empty")
        plan = partial(load.read_calls_to_close, self.engine_name, key)
        while True:
            revision, found = await self._read("read", plan, key.user_id)
            # Calls of one group end with one result.
            calls = {call.call_id: call for call in found}
            if not calls:
                return []
            results = [(TOOL_RESULT, {"error": error}, _about(call, error)) for call in calls.values()]
            try:
                # Refused if anything was written meanwhile, such as the result of one of them.
                await self.write(key, updates=results, if_revision=revision)
            except StaleContextError:
                continue
            return found


def _about(call: OpenCall, error: str) -> dict[str, Any]:
    name = {"name": call.name} if call.name else {}
    return {"group": call.call_id, **name, "error": error, "closed": True}
