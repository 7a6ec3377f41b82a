"""What the commands have in common: options, and how an async function becomes a command."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import click

database_option = click.option(
    "--database-url",
    envvar="TASKCTX_DATABASE_URL",
    metavar="URL",
    help="sqlite:///tasks.db, postgresql://user@host/database or json:///folder. [env: TASKCTX_DATABASE_URL]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
schema_option = click.option("--schema", metavar="NAME", help="On Postgres, the schema that the tables are in.")


def asynchronous(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a click command of an async function."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> None:
        asyncio.run(command(*args, **options))

    return run
