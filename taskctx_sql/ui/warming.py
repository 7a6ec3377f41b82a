"""Making an application ready before its first request: imports, templates, connections and compiled statements.

They take several times as long as an answer does.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Final
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request

from taskctx_sql.errors import TaskContextError
from taskctx_sql.pages.links import LISTS
from taskctx_sql.pages.render import environment
from taskctx_sql.ui.links import ServerLinks
from taskctx_sql.ui.pages import shown
from taskctx_sql.ui.routes import VIEWS

# Nothing is in this period, so that an index answers at once.
_NEVER: Final = (("since", "9999-01-01"),)
# It may take so many seconds: on a database that does not answer, each view says so by itself.
_MOST: Final = 15.0
# Costs have a statement for each thing that they are added up by.
_COSTS: Final = ("day", "model", "user", "label:team", "tree")


async def warm(application: Starlette) -> None:
    """Ask for each view once, of a period in which there is nothing, and for the newest task.

    What fails is left to the requests for it, each of which is answered with what is wrong.
    """
    for name in environment().list_templates(("jinja",)):
        environment().get_template(name)
    try:
        async with asyncio.timeout(_MOST):
            # Two at a time, as the parts of a view are read, so that as many connections are open.
            addresses = [*_addresses(), *await _newest(application)]
            await asyncio.gather(_ask(application, addresses[::2]), _ask(application, addresses[1::2]))
    except (TimeoutError, TaskContextError):
        return


def settle() -> None:
    """Leave what the process has by now out of further collections of garbage: a full one delays answers by 0.2 s."""
    gc.collect()
    gc.freeze()


def _addresses() -> list[tuple[str, str]]:
    lists = [(f"/{name}", urlencode(_NEVER)) for name in LISTS]
    costs = [("/costs", urlencode((*_NEVER, ("by", by)))) for by in _COSTS]
    # Of one user, the overview has other statements.
    overviews = [("/", urlencode((*_NEVER, *user))) for user in ((), (("user", "nobody"),))]
    return [*overviews, *lists, *costs, ("/search", urlencode((*_NEVER, ("q", "word"))))]


async def _newest(application: Starlette) -> list[tuple[str, str]]:
    """Return the addresses of the newest task and its parts."""
    state = application.state
    found = await state.store.contexts(state.user_id, limit=1)
    if not found:
        return []
    of, links = (found[0].user_id, found[0].chat_id), ServerLinks()
    parts = (links.task(*of, part=part) for part in ("", "details", "history"))
    return [(path, query) for path, _, query in (address.partition("?") for address in parts)]


async def _ask(application: Starlette, addresses: list[tuple[str, str]]) -> None:
    for path, query in addresses:
        scope = {"type": "http", "method": "GET", "app": application, "path": path, "headers": [], "root_path": ""}
        await shown(VIEWS[path])(Request({**scope, "query_string": query.encode()}))
