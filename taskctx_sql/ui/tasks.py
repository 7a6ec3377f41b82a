"""The views of one task."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from taskctx_sql.errors import ContextNotFoundError, InvalidArgumentError
from taskctx_sql.limits import MAX_NUMBER
from taskctx_sql.model import ContextKey
from taskctx_sql.pages import Selection
from taskctx_sql.pages.changes import collect_changes
from taskctx_sql.pages.task import collect_details, collect_history, collect_task, collect_update
from taskctx_sql.ui.pages import page, parts_of

# So much of one update is shown on a page; the file has all of it.
_MAX_SHOWN: Final = 1_000_000


def key_of(request: Request) -> ContextKey:
    """Return the task that the address names by ``user`` and ``chat``; either may be empty.

    Raises:
        InvalidIdError: That is no id.
        ContextNotFoundError: It is another user's task than the server was started for.
    """
    parameters, only = request.query_params, request.app.state.user_id
    key = ContextKey(parameters.get("user", ""), parameters.get("chat", ""))
    if only is not None and key.user_id != ContextKey(only, "").user_id:
        raise ContextNotFoundError(key)
    return key


def number_of(request: Request, name: str) -> int | None:
    """Return a number from 1 that the address has, or None.

    Raises:
        InvalidArgumentError: It is no such number.
    """
    text = request.query_params.get(name, "")
    if not text:
        return None
    if re.fullmatch("[0-9]{1,19}", text) is None or not 0 < int(text) <= MAX_NUMBER:
        raise InvalidArgumentError(name, text, "a number from 1")
    return int(text)


async def task(request: Request) -> Response:
    """Show a task, or a part of its view."""
    store, parts = request.app.state.store, parts_of(request)
    key, part = key_of(request), request.query_params.get("part", "")
    revision, seq = number_of(request, "revision"), number_of(request, "seq")
    selection = Selection(user=request.app.state.user_id)
    if part == "details":
        after = request.query_params.get("page", "")
        details = await collect_details(store, key, revision=revision, after=after, parts=parts)
        return page(request, "task_details", selection, view=details)
    if part == "history":
        history = await collect_history(store, key, before=number_of(request, "page"))
        return page(request, "task_history", selection, view=history)
    if part == "update" and seq is not None:
        update = await collect_update(store, key, seq, most=_MAX_SHOWN)
        return page(request, "task_update", selection, view=update)
    if part == "json" and seq is not None:
        return _as_file((await collect_update(store, key, seq)).text, f"update-{seq}.json")
    if part:
        raise InvalidArgumentError("part", part, "details, history, or update or json with a seq")
    view = await collect_task(store, key, revision=revision, seq=seq, page=number_of(request, "page"), parts=parts)
    return page(request, "task", selection, view=view)


async def changes(request: Request) -> Response:
    """Show what changed between two revisions of a task."""
    old, new = number_of(request, "old"), number_of(request, "new")
    if old is None or new is None:
        raise InvalidArgumentError("old" if old is None else "new", None, "the number of a revision")
    view = await collect_changes(request.app.state.store, key_of(request), old, new)
    return page(request, "changes", Selection(user=request.app.state.user_id), view=view)


def _as_file(text: str, name: str) -> Response:
    # Never shown by the browser, whatever it holds.
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="application/json", headers=headers)
