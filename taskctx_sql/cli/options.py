"""Options and helpers that the commands share."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from taskctx_sql.cli import failures
from taskctx_sql.cli.commands import command as command_of
from taskctx_sql.cli.stores import opened_store
from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.model import ContextKey
from taskctx_sql.model.moments import read_moment
from taskctx_sql.stores import Store

OptionDecorator = Callable[[Callable[..., Any]], Callable[..., Any]]
Opened = AbstractAsyncContextManager[Store]

if TYPE_CHECKING:
    ParameterType = click.ParamType[Any]
else:
    # Not generic before click 8.4.
    ParameterType = click.ParamType


def _given_once(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return an option of the store, which may stand before the command or after it, but means one store."""
    name = str(param.name)
    if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE and value is not None:
        failures.remember_store(ctx, param.opts[0], value)
    if ctx.parent is None:
        return value
    above = ctx.parent.params.get(name)
    is_given_above = ctx.parent.get_parameter_source(name) is ParameterSource.COMMANDLINE
    if value is not None and is_given_above and value != above:
        raise click.UsageError(f"{param.opts[-1]} is given twice, before the command and after it: give it once")
    return above if value is None else value


def _database_option(**attributes: Any) -> OptionDecorator:
    text = "The store: a path, such as tasks.db, or a URL. [env: TASKCTX_DATABASE_URL]"
    return click.option("-d", "--database-url", metavar="URL", callback=_given_once, help=text, **attributes)


database_option: OptionDecorator = _database_option()
schema_option: OptionDecorator = click.option(
    "--schema", metavar="NAME", callback=_given_once, help="On Postgres, the schema of the tables."
)


def program_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the store that may stand before a command."""
    # The variable is read here, so that an option after the command wins over it.
    return _database_option(envvar="TASKCTX_DATABASE_URL")(schema_option(command))


def _format_option(*forms: str) -> OptionDecorator:
    """Return the option for how a result is printed: the first of the forms by default."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(*args: Any, form: str | None, as_json: bool, **options: Any) -> Any:
            if as_json and form not in (None, "json"):
                raise click.UsageError("--json is short for --format json: give one of them")
            return command(*args, form="json" if as_json else form or forms[0], **options)

        form = click.option(
            "--format", "form", type=click.Choice(forms), help=f"How to print it.  [default: {forms[0]}]"
        )
        return form(click.option("--json", "as_json", is_flag=True, help="Short for --format json.")(run))

    return add


rows_format_option: OptionDecorator = _format_option("table", "json", "csv")
format_option: OptionDecorator = _format_option("text", "json")


class Moment(ParameterType):
    """A day, a time, or a time span ago."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date | datetime:
        """Return a day as a date, anything else as a time in UTC."""
        if isinstance(value, date):
            return value
        try:
            return read_moment("when", value)
        except InvalidArgumentError as error:
            self.fail(f"{value!r} is not {error.allowed}")


user_option: OptionDecorator = click.option("--user", "user_id", metavar="ID", help="Only this user.")
chat_option: OptionDecorator = click.option("--chat", "chat_id", metavar="ID", help="Only this chat.")
since_option: OptionDecorator = click.option(
    "--since", type=Moment(), metavar="WHEN", help="2026-01-31, 2026-01-31T08:00, 24h or 7d (UTC)."
)
until_option: OptionDecorator = click.option(
    "--until", type=Moment(), metavar="WHEN", help="Like --since; a day includes all of it."
)
limit_option: OptionDecorator = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="At most N rows.  [default: 50; all as JSON and CSV]"
)


class Label(ParameterType):
    """A label: a name and a value."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return the name and the value."""
        if isinstance(value, tuple):
            return value
        name, separator, text = value.partition("=")
        if not name or not separator:
            self.fail(f"{value!r} is not a label: NAME=VALUE")
        return name, text


def label_option(text: str) -> OptionDecorator:
    """Return the option for labels, which becomes ``labels``: a dict, or None."""

    def labels(ctx: click.Context, param: click.Parameter, given: tuple[tuple[str, str], ...]) -> dict[str, str] | None:
        return dict(given) or None

    return click.option(
        "--label", "labels", type=Label(), multiple=True, callback=labels, metavar="NAME=VALUE", help=text
    )


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the database and the filters of reports to a command."""
    options = (database_option, schema_option, user_option, chat_option, since_option, until_option, limit_option)
    for option in reversed(options):
        command = option(command)
    return command


def asynchronous(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Turn an async function into one that click can call."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> None:
        asyncio.run(command(*args, **options))

    return run


def context_command(command: Callable[..., Coroutine[Any, Any, None]]) -> click.Command:
    """Turn an async function into a command about the context of USER and CHAT; it opens the store itself."""

    @functools.wraps(command)
    async def run(user: str, chat: str, database_url: str | None, schema: str | None, **options: Any) -> None:
        await command(ContextKey(user, chat), opened_store(database_url, schema), **options)

    function = asynchronous(run)
    for option in (schema_option, database_option, click.argument("chat"), click.argument("user")):
        function = option(function)
    return command_of()(function)
