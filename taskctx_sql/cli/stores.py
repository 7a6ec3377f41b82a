"""The store that a command is about: which one was named, and whether it is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

from taskctx_sql import settings
from taskctx_sql.errors import InvalidDatabaseUrlError, StoreUnavailableError
from taskctx_sql.locations import (
    command_line_address,
    file_address,
    hidden,
    is_json_address,
    json_folder,
    missing_file,
    shown_path,
)
from taskctx_sql.opening import open_store
from taskctx_sql.stores import Store

# Who sits before a terminal learns soon that a host is wrong. Once it has answered, outages are waited for as usual.
REACH_SECONDS: Final = 3.0

_NO_URL: Final = "give the store by --database-url URL, or by the variable TASKCTX_DATABASE_URL"


@asynccontextmanager
async def opened_store(
    database_url: str | None, schema: str | None = None, *, may_be_missing: bool = False
) -> AsyncIterator[Store]:
    """Yield the store at a URL, or without one the task folder's. What is missing is not created."""
    url = await reached(store_url(database_url), may_be_missing=may_be_missing)
    async with open_store(url, schema=schema) as store:
        yield store


def store_url(database_url: str | None) -> str:
    """Return the URL that was given, or else that of the task folder, if it exists."""
    if database_url is not None:
        return command_line_address(database_url)
    folder = settings.task_dir()
    if not Path(folder).is_dir():
        raise click.UsageError(f"{_NO_URL}; without one the folder {folder} is used, which does not exist")
    return file_address("json", folder)


def needed_database(database_url: str | None, doing: str) -> str:
    """Return the URL that was given for what only a database can do."""
    if database_url is None:
        raise click.UsageError(_NO_URL)
    url = command_line_address(database_url)
    if is_json_address(url):
        raise InvalidDatabaseUrlError(hidden(url), f"{doing} needs a database")
    return url


def refuse_store_option() -> None:
    """Refuse a store given before a command that names its stores itself."""
    program = click.get_current_context().find_root()
    if program.get_parameter_source("database_url") is ParameterSource.COMMANDLINE:
        raise click.UsageError("it names both of its stores: leave --database-url out")


async def reached(url: str, *, may_be_missing: bool = False) -> str:
    """Return a URL whose server answers.

    Unless it ``may_be_missing``, a file or a folder has to be there, because opening would create it.
    """
    if url.startswith("postgres"):
        # Imported here, so that a command about files never imports SQLAlchemy.
        from taskctx_sql.sql.reach import reach

        try:
            await reach(url, REACH_SECONDS)
        except StoreUnavailableError as error:
            tried = (
                f"could not connect to {error.database_url} within {error.waited:.1f} s ({error.reason.rstrip(': ')})"
            )
            raise click.ClickException(f"{tried}: check the host and the port, and whether the server runs") from error
    elif not may_be_missing:
        _require_place(url)
    return url


def _require_place(url: str) -> None:
    if (missing := missing_file(url)) is not None:
        raise click.ClickException(f"there is no file {shown_path(missing)}: check the path")
    if is_json_address(url) and not (folder := json_folder(url)).is_dir():
        raise click.ClickException(f"there is no folder {shown_path(folder)}: check the path")
