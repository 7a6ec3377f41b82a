"""The command ``ui``: a local web page for looking."""

from __future__ import annotations

import asyncio
import secrets
import socket
import webbrowser
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Final
from urllib.parse import quote

import click

from taskctx_sql.cli import options, output
from taskctx_sql.cli.commands import command
from taskctx_sql.cli.stores import needed_database, reached
from taskctx_sql.concurrency import on_thread
from taskctx_sql.errors import MissingPackageError
from taskctx_sql.opening import open_store

LOOPBACK: Final = "127.0.0.1"
_OWN: Final = (LOOPBACK, "::1", "localhost")
PORT: Final = 8640
# Who looks at a page learns soon that the database is away, and tries again.
RETRY_SECONDS: Final = 3.0


@command()
@click.argument("url", required=False)
@options.database_option
@options.schema_option
@options.user_option
@click.option("--host", default=LOOPBACK, show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), help=f"The port.  [default: {PORT}, or a free one]")
@click.option("--token", metavar="TEXT", help="What a browser has to bring.  [default: a new one each time]")
@click.option("--no-token", is_flag=True, help="Let everybody look who reaches the address.")
@click.option("--name", "names", multiple=True, metavar="HOST", help="A name the server is reached by, as by a proxy.")
@click.option("--open", "is_opened", is_flag=True, help="Open the address in a browser.")
def ui(
    url: str | None,
    database_url: str | None,
    schema: str | None,
    user_id: str | None,
    host: str,
    port: int | None,
    token: str | None,
    no_token: bool,
    names: tuple[str, ...],
    is_opened: bool,
) -> None:
    """Look at the record in a browser.

    URL is the store, as with --database-url. The page only reads, and listens at this machine's own address unless
    --host says otherwise. Open the address that is printed: it has a token, which the browser keeps. Ctrl-C ends it.

    \b
    taskctx ui tasks.db
    taskctx ui postgresql://me@host/db --user u1
    """
    if url is not None and database_url not in (None, url):
        raise click.UsageError("give the store once: as URL, or by --database-url")
    if token is not None and no_token:
        raise click.UsageError("give --token or --no-token, not both")
    if token == "":
        raise click.UsageError("the token is empty: give a text, or --no-token")
    try:
        from taskctx_sql.ui import server, warming
    except ImportError as error:
        raise MissingPackageError(error.name or "starlette", "ui") from error
    needed = None if no_token else token or secrets.token_urlsafe(24)
    found = needed_database(url or database_url, "the page")

    async def look() -> None:
        async with open_store(await reached(found), schema=schema, retry_seconds=RETRY_SECONDS) as store:
            application = server.application(store, token=needed, user_id=user_id, names=(host, *names))
            await warming.warm(application)
            warming.settle()
            with closing(_listening(host, port, server.listen)) as listening:
                address = _address(listening, host, needed)
                if needed is None and host not in _OWN:
                    output.say("Whoever reaches this address sees the whole record, since there is no token.")
                output.print_line(address)
                output.say("Ctrl-C ends it.")
                if is_opened:
                    await on_thread(webbrowser.open, address)
                await server.serve(application, listening)

    # Interrupting is how one ends it.
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(look())


def _listening(host: str, port: int | None, listen: Callable[[str, int], socket.socket]) -> socket.socket:
    """Return a listening socket; if no port was asked for, and the usual one is taken, at any free one."""
    try:
        try:
            return listen(host, PORT if port is None else port)
        except OSError:
            if port is not None:
                raise
            return listen(host, 0)
    except OSError as error:
        at = f"{host} port {PORT if port is None else port}"
        raise click.ClickException(
            f"could not listen at {at} ({error.strerror}): use another --host or --port"
        ) from error


def _address(listening: socket.socket, host: str, token: str | None) -> str:
    """Return the address to open. What listens everywhere is opened here."""
    port = listening.getsockname()[1]
    shown = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104  # compared, not listened at
    shown = f"[{shown}]" if ":" in shown else shown
    return f"http://{shown}:{port}/" + ("" if token is None else f"?token={quote(token, safe='')}")
