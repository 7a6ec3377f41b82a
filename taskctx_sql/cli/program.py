"""The command ``taskctx`` as a whole: its subcommands, grouped for its help, and how it fails."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from taskctx_sql import settings
from taskctx_sql.cli import (
    contexts,
    demo,
    history,
    maintenance,
    mcp,
    options,
    output,
    reports,
    schema,
    search,
    tail,
    terminal,
    transfer,
    tree,
    ui,
)
from taskctx_sql.cli.commands import Program

# In the order in which the help lists them.
SECTIONS: Final[Mapping[str, Sequence[click.Command]]] = {
    "Start": (demo.demo, schema.upgrade, schema.current),
    "Look": (
        reports.list_contexts,
        contexts.show,
        tree.tree,
        tail.tail,
        search.search,
        reports.report,
        history.log,
        history.diff,
        ui.ui,
        mcp.mcp,
    ),
    "Change": (contexts.label, history.restore, history.undo, history.fork),
    "Move": (transfer.import_command, transfer.export, transfer.copy),
    "Keep": (maintenance.doctor, contexts.diagnose, maintenance.prune, maintenance.erase),
}


@click.group(cls=Program, sections=SECTIONS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="taskctx_sql")
@options.program_options
def main(**_: Any) -> None:
    """A durable, queryable record of what an AI task did.

    \b
    taskctx demo
    taskctx list -d tasks.db
    taskctx show USER CHAT -d postgresql://me@host/db

    Options that name the store, or say how to print, may also follow the command: `taskctx COMMAND --help` has them
    all.

    Exit codes: 0 success, 1 failed or something was found, 2 wrong usage, 130 interrupted.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(output.PlainFormatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("taskctx_sql")
    level = settings.log_level()
    logger.setLevel(logging.ERROR if terminal.is_quiet() else level)
    logger.handlers = [handler]
