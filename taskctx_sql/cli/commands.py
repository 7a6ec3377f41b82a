"""The classes of the commands: the options that all of them take, and their help."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from taskctx_sql.cli import failures, terminal

# These follow a command's own options in its help.
_SHARED: Final = ("database_url", "schema", "quiet", "color", "traceback")


class Command(click.Command):
    """A command that takes the options of every command."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params.extend(_printing_options())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, and then the shared ones."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and not isinstance(parameter, click.Argument):
                (shared if parameter.name in _SHARED else own).append(record)
        _write("Options", own, formatter)
        _write("Options of every command", shared, formatter)


class Program(click.Group):
    """The whole program: its help lists the commands in sections, and its errors are one line each."""

    command_class: type[click.Command] | None = Command

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[click.Command]], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params.extend(_printing_options())
        self.sections = sections
        for commands in sections.values():
            for command in commands:
                self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section; a long summary goes on in the next line."""
        widest = max(len(name) for name in self.commands)
        for title, commands in self.sections.items():
            rows = [(f"{one.name:{widest}}", one.get_short_help_str(limit=1000)) for one in commands if not one.hidden]
            _write(title, rows, formatter)

    def main(self, *args: Any, **more: Any) -> Any:
        """Run the program; nothing of it ends with a traceback that was not asked for."""
        terminal.escape_unencodable()
        return super().main(*args, **more)

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Read the options before the command."""
        with failures.as_messages({}):
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and write all that it printed."""
        with failures.as_messages(ctx.meta):
            try:
                return super().invoke(ctx)
            finally:
                terminal.flush_output()


def command(name: str | None = None) -> Callable[[Callable[..., Any]], Command]:
    """Turn a function into a `Command`."""
    return click.command(name, cls=Command)


def _write(title: str, rows: Sequence[tuple[str, str]], formatter: click.HelpFormatter) -> None:
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)


def _printing_options() -> list[click.Parameter]:
    """Return the options about printing, which may stand before the command or after it."""
    return [
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_set_quiet,
            help="Print results and errors only.",
        ),
        click.Option(
            ["--color"],
            type=click.Choice(["auto", "always", "never"]),
            expose_value=False,
            is_eager=True,
            callback=_set_color,
            help="Whether to print in color; by default on a terminal, if NO_COLOR is not set.",
        ),
        click.Option(
            ["--traceback"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_set_traceback,
            help="Print the traceback of an error.",
        ),
    ]


def _set_quiet(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        terminal.set_quiet(ctx)


def _set_traceback(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        failures.show_traceback(ctx)


def _set_color(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        # Also for an error, which is printed after the command's own context has ended.
        ctx.color = ctx.find_root().color = {"auto": None, "always": True, "never": False}[value]
    elif ctx.parent is None:
        ctx.color = terminal.wants_color()
