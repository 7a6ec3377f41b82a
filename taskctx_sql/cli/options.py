"""Options and habits that the commands share."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import click

from taskctx_sql import settings
from taskctx_sql.locations import file_address, missing_file, shown_path
from taskctx_sql.opening import open_store
from taskctx_sql.stores import Store

database_option = click.option(
    "--database-url",
    envvar="TASKCTX_DATABASE_URL",
    metavar="URL",
    help="sqlite:///tasks.db, postgresql://user@host/database or json:///folder. [env: TASKCTX_DATABASE_URL]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
schema_option = click.option("--schema", metavar="NAME", help="On Postgres, the schema that the tables are in.")


_AGO: Final = re.compile(r"(\d+)([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Moment(click.ParamType[Any]):
    """A day, a time, or how long ago."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date | datetime:
        """Return a day as a date, all else as a time in UTC."""
        if isinstance(value, date):
            return value
        try:
            if ago := _AGO.fullmatch(value):
                return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return date.fromisoformat(value) if len(value) <= 10 else datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither a day (2026-01-31), nor a time (2026-01-31T08:00), nor ago (24h, 7d)")


user_option = click.option("--user", "user_id", metavar="ID", help="Only this user.")
chat_option = click.option("--chat", "chat_id", metavar="ID", help="Only this chat.")
since_option = click.option(
    "--since", type=Moment(), metavar="WHEN", help="2026-01-31, 2026-01-31T08:00, 24h or 7d (UTC)."
)
until_option = click.option("--until", type=Moment(), metavar="WHEN", help="The same; a day counts to its end.")
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Rows at the most."
)


def asynchronous(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a click command of an async function."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> None:
        asyncio.run(command(*args, **options))

    return run


@asynccontextmanager
async def opened_store(database_url: str | None, schema: str | None = None) -> AsyncIterator[Store]:
    """Yield the store that a command is about: without an address, the folder of JSON files. None is made."""
    url = database_url or file_address("json", settings.task_dir())
    if (missing := missing_file(url)) is not None:
        raise click.ClickException(f"there is no file {shown_path(missing)}: check the path")
    async with open_store(url, schema=schema) as store:
        yield store
