"""The command ``taskctx``: its subcommands, and how errors are printed."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import click

from taskctx_sql import settings
from taskctx_sql.cli import contexts, demo, history, maintenance, options, output, reports, schema, tail, transfer
from taskctx_sql.errors import TaskContextError
from taskctx_sql.locations import without_secrets
from taskctx_sql.plain_text import plain


class _Group(click.Group):
    """Prints the library's errors on one line, and their traceback only with ``--traceback``."""

    def main(self, *args: Any, **more: Any) -> Any:
        output.escape_unencodable()
        return super().main(*args, **more)

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        try:
            return super().make_context(*args, **more)
        except (click.exceptions.NoArgsIsHelpError, BrokenPipeError):
            raise
        except click.UsageError as error:
            raise click.UsageError(_shown(error.format_message()), error.ctx) from error
        except OSError as error:
            # Printing the help failed.
            raise click.ClickException(_shown(str(error))) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise click.UsageError(_shown(error.format_message()), error.ctx) from error
        except click.ClickException as error:
            raise click.ClickException(_shown(error.format_message())) from error
        except BrokenPipeError:
            raise
        except (TaskContextError, OSError) as error:
            if ctx.params.get("traceback"):
                click.echo(_shown("".join(traceback.format_exception(error))), err=True, nl=False)
                ctx.exit(1)
            raise click.ClickException(_shown(" ".join(str(error).split()))) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="taskctx_sql")
@options.program_database_option
@options.program_schema_option
@click.option("--traceback", is_flag=True, help="Print the traceback of an error.")
def main(**_: Any) -> None:
    """A durable, queryable record of what an AI task did.

    \b
    taskctx demo                              index this project's files, and print what was recorded
    taskctx upgrade -d URL                    set up a database, or bring it up to this version
    taskctx list                              print the contexts
    taskctx show USER CHAT                    print a context
    taskctx tail USER CHAT                    follow a context as it grows
    taskctx log USER CHAT                     print its revisions; also diff, restore, undo, fork
    taskctx search TEXT                       search the recorded updates
    taskctx report NAME                       print a report: activity, errors, costs, sizes
    taskctx diagnose                          find out why a context does not load, close or optimize
    taskctx import ./tasks --user ME          import the original's JSON files into a database

    Exit codes: 0 success, 1 failed or something was found, 2 wrong usage.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(output.PlainFormatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("taskctx_sql")
    logger.setLevel(settings.log_level())
    logger.handlers = [handler]


def _shown(text: str) -> str:
    """Return an error's text for the terminal, without passwords, which may be anywhere in it."""
    return plain(without_secrets(text), keep="\n")


for _group in (demo, contexts, tail, reports, schema, transfer, maintenance, history):
    for _command in _group.COMMANDS:
        main.add_command(_command)
