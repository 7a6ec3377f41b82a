"""How the commands fail: one line on standard error, a traceback only if it was asked for."""

from __future__ import annotations

import re
import shlex
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

import click

from taskctx_sql.cli import terminal
from taskctx_sql.errors import TaskContextError
from taskctx_sql.locations import without_secrets
from taskctx_sql.plain_text import plain

# A shell's exit code of a program that SIGINT ended.
INTERRUPTED: Final = 130

_TRACEBACK: Final = "taskctx_sql.traceback"
_STORE: Final = "taskctx_sql.store"
# The remedies that are about the store that the failed command was about.
_ABOUT_A_STORE: Final = re.compile(r"`(taskctx (?:list|show|log|undo|upgrade|current|doctor|prune|erase)\b[^`]*)`")

Meta = MutableMapping[str, Any]


class Failure(click.ClickException):
    """An error that is printed on one line, with exit code 1."""

    def show(self, file: Any = None) -> None:
        """Print it."""
        click.echo(click.style("Error: ", fg="red", bold=True) + self.format_message(), err=True, color=self.show_color)


def show_traceback(context: click.Context) -> None:
    """Print the traceback of an error of this command."""
    context.meta[_TRACEBACK] = True


def remember_store(context: click.Context, option: str, value: str) -> None:
    """Keep an option of the store as it was typed, for commands in messages."""
    context.meta.setdefault(_STORE, {})[option] = value


def hint(*words: str) -> str:
    """Return a command in backticks, about the store of the present command, that can be pasted."""
    return _about_the_store(f"`{shlex.join(['taskctx', *words])}`", click.get_current_context().meta)


@contextmanager
def as_messages(meta: Meta) -> Iterator[None]:
    """Turn every failure into one that click prints on one line."""
    try:
        yield
    except (click.exceptions.Exit, click.Abort, click.exceptions.NoArgsIsHelpError):
        raise
    except click.UsageError as error:
        raise click.UsageError(_shown(error.format_message(), meta), error.ctx) from error
    except click.ClickException as error:
        raise Failure(_shown(error.format_message(), meta)) from error
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader has what it wanted, as `head` does. A store's broken connection is a StoreError.
        terminal.discard_output()
        raise click.exceptions.Exit(0) from None
    except Exception as error:
        raise _failure(error, meta) from error


def _failure(error: Exception, meta: Meta) -> click.ClickException | click.exceptions.Exit:
    if meta.get(_TRACEBACK):
        click.echo(_shown("".join(traceback.format_exception(error)), meta), err=True, nl=False)
        return click.exceptions.Exit(1)
    if isinstance(error, TaskContextError | OSError):
        return Failure(_shown(" ".join(str(error).split()), meta))
    what = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
    where = "run the command with --traceback and report what it prints"
    return Failure(_shown(f"this is a bug of taskctx ({what}): {where}", meta))


def _shown(text: str, meta: Meta) -> str:
    """Return an error's text for the terminal, without passwords, which may be anywhere in it."""
    return plain(without_secrets(_about_the_store(text, meta)), keep="\n")


def _about_the_store(text: str, meta: Meta) -> str:
    """Complete the commands in a text with the store that was typed; one from the environment is there anyway."""
    typed = [word for option, value in meta.get(_STORE, {}).items() for word in (option, without_secrets(value))]
    if not typed:
        return text
    store = shlex.join(typed)
    return _ABOUT_A_STORE.sub(lambda found: found[0] if " -d " in found[0] else f"`{found[1]} {store}`", text)
