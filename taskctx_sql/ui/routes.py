"""The addresses of the application, each with the view that it shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from taskctx_sql.pages import Selection, collect_list, collect_overview, collect_search, csv_lines, marked, selection_of
from taskctx_sql.pages.links import LISTS
from taskctx_sql.pages.render import asset
from taskctx_sql.pages.selection import now
from taskctx_sql.ui import live, tasks
from taskctx_sql.ui.pages import Failure, View, failure_page, page, parts_of, shown

_TYPES: Final = {"style.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_NO_INDEX: Final = "There is no search index, so each update is read: `taskctx upgrade --search` builds one."
_A_YEAR: Final = "public, max-age=31536000, immutable"


def selected(request: Request) -> Selection:
    """Return what the address selects; with a user that the server was started for, this user's.

    Raises:
        InvalidArgumentError: A value is not what it must be.
    """
    found = selection_of(request.query_params.multi_items())
    return found if request.app.state.user_id is None else found.but(user=request.app.state.user_id, page=found.page)


async def overview(request: Request) -> Response:
    """Show the overview."""
    selection = selected(request)
    view = await collect_overview(request.app.state.store, selection, now(), parts_of(request))
    return page(request, "overview", selection, view=view)


async def list_of(request: Request) -> Response:
    """Show a list."""
    state, selection = request.app.state, selected(request)
    view = await collect_list(state.store, _list_name(request), selection, now(), parts_of(request))
    return page(request, "list", selection, view=view)


async def search(request: Request) -> Response:
    """Show what a text is found in."""
    state, selection = request.app.state, selected(request)
    view = await collect_search(state.store, selection, now(), parts_of(request))
    backlog = await state.store.search_backlog()
    note = _NO_INDEX if backlog is None else ""
    return page(request, "search", selection, view=view, marked=marked, note=note)


async def csv_of(request: Request) -> Response:
    """Send a list as CSV, while it is read."""
    name, store, selection = _list_name(request), request.app.state.store, selected(request)
    lines = csv_lines(store, name, selection, now())
    # Read before the answer begins, so that an error becomes a page.
    first = await anext(lines)

    async def every() -> AsyncIterator[str]:
        yield first
        async for more in lines:
            yield more

    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return StreamingResponse(every(), media_type="text/csv", headers=headers)


def _list_name(request: Request) -> str:
    return request.url.path.removeprefix("/").removesuffix(".csv")


async def static(request: Request) -> Response:
    """Send a style sheet, script or icon."""
    name = request.path_params["name"]
    if name not in _TYPES:
        return failure_page(Failure(404, "There is no such file", "These are style.css, page.js and icon.svg."))
    return Response(asset(name), media_type=_TYPES[name], headers={"Cache-Control": _A_YEAR})


# By path. A view raises errors, which become pages.
VIEWS: Final[dict[str, View]] = {
    "/": overview,
    **{f"/{name}": list_of for name in LISTS},
    **{f"/{name}.csv": csv_of for name in LISTS},
    "/search": search,
    "/task": tasks.task,
    "/task/changes": tasks.changes,
    "/task/events": live.events,
    "/static/{name}": static,
}


def routes() -> list[BaseRoute]:
    """Return all routes."""
    return [Route(path, shown(view), methods=["GET"]) for path, view in VIEWS.items()]
