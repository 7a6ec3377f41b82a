"""Answers that are pages: a view, and what went wrong with the remedy."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from taskctx_sql import errors
from taskctx_sql.locations import without_secrets
from taskctx_sql.pages import Parts, PatientParts, Selection, render
from taskctx_sql.ui.links import ServerLinks

_logger: Final = logging.getLogger(__name__)

LINKS: Final = ServerLinks()

View = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Failure:
    """What a page says in place of a view; ``again`` is an address that the browser opens by itself."""

    status: int
    heading: str
    message: str
    again: str | None = None


# By kind of error: the status and the heading. The message of each has the remedy.
_KINDS: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    (errors.ContextNotFoundError, 404, "There is no such task"),
    (errors.RevisionNotFoundError, 404, "There is no such revision"),
    (errors.RowLevelSecurityError, 403, "One user at a time"),
    (errors.UnsupportedByStoreError, 501, "This store cannot do it"),
    (errors.SchemaError, 503, "The database has another schema"),
    (errors.StoreUnavailableError, 503, "The database is away"),
    (errors.StoreError, 503, "The database failed"),
    (errors.InvalidArgumentError, 400, "That makes no sense"),
    (errors.InvalidIdError, 400, "That is no id"),
)


def failure_of(error: Exception) -> Failure:
    """Return what to say of an error, without passwords."""
    message = without_secrets(" ".join(str(error).split()))
    for kind, status, heading in _KINDS:
        if isinstance(error, kind):
            if isinstance(error, errors.RowLevelSecurityError):
                message = f"{message}. Start `taskctx ui` with --user USER to look as this user."
            return Failure(status, heading, f"{message[:1].upper()}{message[1:].removesuffix('.')}.")
    _logger.error("a view failed: %s", without_secrets("".join(traceback.format_exception(error))))
    return Failure(500, "A bug of taskctx", f"{type(error).__name__}: please report it, with what the terminal says.")


def page(request: Request, name: str, selection: Selection, **values: Any) -> HTMLResponse:
    """Return a view as a page."""
    state = request.app.state
    shown = {"store": state.store.database_url, "user_id": state.user_id, "selection": selection}
    return HTMLResponse(render(name, LINKS, **shown, **values))


def parts_of(request: Request) -> Parts:
    """Return what reads the parts of a view, which begins now."""
    parts: PatientParts = request.app.state.parts
    return parts.of_view()


def failure_page(failure: Failure, store: str = "", user_id: str | None = None) -> Response:
    """Return the page of what went wrong."""
    shown = {"store": store, "user_id": user_id, "selection": Selection(), "place": ""}
    text = render("error", LINKS, **shown, heading=failure.heading, message=failure.message, again=failure.again)
    return HTMLResponse(text, status_code=failure.status)


def shown(view: View) -> View:
    """Return a view that answers with a page whatever happens in it."""

    async def answered(request: Request) -> Response:
        try:
            return await view(request)
        except Exception as error:
            state = request.app.state
            return failure_page(failure_of(error), state.store.database_url, state.user_id)

    return answered
