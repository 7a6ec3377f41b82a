"""Where the commands print to: colors, quietness, and pipes that are closed."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

_QUIET: Final = "taskctx_sql.quiet"
# The names of click and of rich, which both have these.
LEVEL_COLORS: Final = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


class TerminalConsole(Console):
    """A console whose closed pipe is an error like that of any other output."""

    def on_broken_pipe(self) -> None:
        """Raise the error that rich would turn into exit code 1."""
        raise  # rich calls this while it handles the error


def console(*, to_error: bool = False) -> Console:
    """Return rich's console for an output, with colors as ``--color`` and ``NO_COLOR`` say."""
    color = wants_color()
    options: dict[str, Any] = {"color_system": "auto" if color is None else "standard" if color else None}
    if color:
        options["force_terminal"] = True
    return TerminalConsole(stderr=to_error, highlight=False, markup=False, emoji=False, **options)


def is_terminal() -> bool:
    """Whether results go to a terminal, and not to a file or another program."""
    return sys.stdout is not None and sys.stdout.isatty()


def wants_color() -> bool | None:
    """Whether output has colors; None: if it goes to a terminal."""
    context = click.get_current_context(silent=True)
    if context is not None and context.color is not None:
        return context.color
    # https://no-color.org
    return False if os.environ.get("NO_COLOR") else None


def set_quiet(context: click.Context) -> None:
    """Print results and errors only, in this command."""
    context.meta[_QUIET] = True
    # Threads log, too, and know no context.
    logging.getLogger("taskctx_sql").setLevel(logging.ERROR)


def is_quiet() -> bool:
    """Whether only results are printed."""
    context = click.get_current_context(silent=True)
    return context is not None and context.meta.get(_QUIET, False)


def styled_level(level: str, text: str) -> str:
    """Return a text in the color of a finding's level; click leaves colors out where they do not belong."""
    return click.style(text, fg=LEVEL_COLORS.get(level), bold=level == "error")


def progress() -> Progress:
    """Return a progress bar on standard error, which is hidden if that is not a terminal, or by ``--quiet``."""
    to = console(to_error=True)
    # Colors may be asked for elsewhere; lines that are written over are for terminals.
    is_shown = sys.stderr is not None and sys.stderr.isatty() and to.is_terminal and not is_quiet()
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        console=to,
        transient=True,
        disable=not is_shown,
    )


def escape_unencodable() -> None:
    """Print characters that the output's encoding lacks as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_output() -> None:
    """Write what is buffered, so that a failure to print is not found only when the interpreter exits."""
    if sys.stdout is not None:
        sys.stdout.flush()


def discard_output() -> None:
    """Discard what is printed from now on, so that the interpreter does not fail to print the rest at exit."""
    for stream in (sys.stdout, sys.stderr):
        # One that is not open, or is not a file, has nothing to discard.
        with contextlib.suppress(AttributeError, OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
