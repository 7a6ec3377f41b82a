"""The application over a store, and serving it."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from taskctx_sql.pages import PatientParts
from taskctx_sql.pages.parts import PATIENCE
from taskctx_sql.stores import Store
from taskctx_sql.ui.pages import Failure, failure_page
from taskctx_sql.ui.routes import routes
from taskctx_sql.ui.security import Guard

# How long open connections, such as those that wait for new updates, are waited for at the end.
_LAST_SECONDS: Final = 1


def application(
    store: Store,
    *,
    token: str | None,
    user_id: str | None = None,
    names: Iterable[str] = (),
    patience: float = PATIENCE,
) -> Starlette:
    """Return the application that shows a store.

    Args:
        store: Which store; it is only read.
        token: What a browser has to bring once; None lets everybody in who reaches the server.
        user_id: Show only this user's tasks, as row-level security needs it.
        names: Names of hosts that the server is reached by, besides addresses and ``localhost``.
        patience: How long a view waits for sums that take long, seconds; then it is shown without them.
    """
    made = Starlette(
        routes=routes(),
        middleware=[Middleware(Guard, token=token, names=tuple(names))],
        exception_handlers={HTTPException: _no_view},
    )
    # An address is one view's: with a slash at its end it is nobody's.
    made.router.redirect_slashes = False
    made.state.store, made.state.user_id, made.state.parts = store, user_id, PatientParts(patience)
    return made


async def _no_view(request: Request, error: Exception) -> Response:
    state = request.app.state
    said = f"There is nothing at {request.url.path}: the views are in the bar above."
    return failure_page(Failure(getattr(error, "status_code", 404), "Nothing here", said), state.store.database_url)


async def serve(application: Starlette, listening: socket.socket) -> None:
    """Serve an application at a socket until the process is interrupted."""
    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        # Nobody has to know what answers.
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_LAST_SECONDS,
        # The host is compared as the browser sent it.
        proxy_headers=False,
        lifespan="off",
    )
    try:
        await uvicorn.Server(config).serve(sockets=[listening])
    finally:
        await application.state.parts.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; port 0 is any free one.

    Raises:
        OSError: The address is taken, or not one of this machine.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening
