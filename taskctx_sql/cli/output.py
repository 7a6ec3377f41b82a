"""How the command line shows things: text for people, JSON for programs."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from taskctx_sql import codec
from taskctx_sql.cli.demo import Changes, Result
from taskctx_sql.context import MemoryContext
from taskctx_sql.locations import without_secrets
from taskctx_sql.plain_text import plain, spreadsheet_cell


class Bold(str):
    """A part of a line that stands out."""

    __slots__ = ()


class Ready:
    """A value that is as JSON has it already."""

    __slots__ = ("tree",)

    def __init__(self, tree: Any) -> None:
        """Take the value."""
        self.tree = tree


class PlainFormatter(logging.Formatter):
    """A log's lines, without passwords of addresses and without what would move a terminal's cursor."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines."""
        return plain(without_secrets(super().format(record)), keep="\n")


def take_any_text() -> None:
    """See that output of a small character set shows what it has no sign for escaped, and does not fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def progress() -> Progress:
    """Return a progress display on standard error, which stays quiet when that is no terminal."""
    console = Console(stderr=True, markup=False, emoji=False)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def say(text: str, *, to_error: bool = False) -> None:
    """Print a line."""
    click.echo(plain(text), err=to_error)


def line(*parts: str) -> None:
    """Print a line made of parts, of which those that are `Bold` stand out."""
    _console().print(Text.assemble(*(_part(part) for part in parts)), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print what a command found as JSON, with its stored values as they are stored: see `stored`."""
    click.echo(_json_text(_jsonable(value), indent=2))


def print_json_line(value: Any) -> None:
    """Print a value as JSON on one line."""
    click.echo(_json_text(_jsonable(value)))


def stored(value: Any) -> Ready:
    """Return a stored value for `print_json`: what JSON has no form for is an object that names its type."""
    text = codec.encode(value, warn=False)
    return Ready(codec.with_fresh_stack(lambda: json.loads(text)))


def text_of(value: Any) -> str:
    """Return the JSON text of a stored value, for people."""
    tree = stored(value).tree
    return codec.with_fresh_stack(lambda: json.dumps(tree, ensure_ascii=False))


def print_csv(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows for a spreadsheet: no text in them is taken for a formula."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([spreadsheet_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    click.echo(written.getvalue(), nl=False)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose last column is cut where the line ends, and no other."""
    console = _console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        # Nobody's screen: programs and files take lines of any length.
        console.width = 1000
    console.print(_table(title, columns, rows))


def print_demo(result: Result, report: dict[str, Any], program: str) -> None:
    """Print what a run of the demo came to, and what SQL says of it; ``program`` is what to type for more."""
    line(Bold(f"{result.documents} files, {result.words:,} words"), f" in {result.folder}")
    if result.resumed:
        _print_changes(result.changes)
    line("Most frequent: " + ", ".join(f"{term} {count}" for term, count in result.terms))
    if result.unreadable:
        line(f"Not readable as text: {', '.join(result.unreadable)}")
    if "timeline" in report:
        _print_report(report)
    line()
    line(f"The index: {result.index}")
    line(f"The record: {program} show {result.user_id} {result.chat_id} --database-url {report['address']}")


def print_context(context: MemoryContext) -> None:
    """Print a context: its newest updates, files and models."""
    line(Bold(f"{context.user_id} / {context.chat_id}"), f" at revision {context.revision}")
    if context.metadata:
        line(f"metadata: {text_of(context.metadata)}")
    which = "updates" if context.history_complete else "updates, the newest ones"
    updates = [
        (when(update.timestamp), word(update.update_type), text_of(update.data)) for update in context.context_history
    ]
    _console().print(_table(f"{len(updates)} {which}", ("when (UTC)", "type", "data"), updates))
    for path, entry in list(context.file_tracker.items())[-20:]:
        line(f"file   {word(path)}: {field_of(entry, 'operation')}")
    for entry in context.model_tracker[-20:]:
        line(f"model  {field_of(entry, 'model_id')}: {field_of(entry, 'mode')}")


def _print_changes(changes: Changes) -> None:
    counts = {"new": changes.added, "changed": changes.changed, "gone": changes.removed}
    told = ", ".join(f"{len(names)} {word}" for word, names in counts.items() if names) or "nothing changed"
    line(f"Since the run before: {told}; {len(changes.unchanged)} as they were.")
    for kind, names in counts.items():
        for name in names[:5]:
            line(f"  {kind:8} {name}")


def _print_report(report: dict[str, Any]) -> None:
    console = _console()
    timeline = [(when(entry.timestamp), entry.update_type, entry.data) for entry in report["timeline"]]
    runs = [
        (
            when(run.started_at),
            run.outcome or "not ended",
            "" if run.duration is None else f"{run.duration:.2f}",
            str(run.saves),
            str(run.updates),
        )
        for run in report["runs"]
    ]
    line()
    console.print(_table("The end of the timeline", ("when (UTC)", "type", "data"), timeline))
    line()
    console.print(_table("Runs", ("started (UTC)", "outcome", "seconds", "saves", "updates"), runs))
    line()
    for title, counts in (("Files by last operation", "files_by_operation"), ("Steps by type", "updates_by_type")):
        line(f"{title}: " + ", ".join(f"{count.name} {count.count}" for count in report[counts]))


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table whose last column is cut where the line ends, and no other."""
    table = Table(title=Text(plain(title)), title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    shown = [[plain(cell) for cell in row] for row in rows]
    for place, column in enumerate(columns[:-1]):
        widest = max(len(column), *(len(row[place]) for row in shown), 0)
        table.add_column(column, no_wrap=True, min_width=min(widest, 30))
    table.add_column(columns[-1], no_wrap=True, overflow="ellipsis")
    for row in shown:
        table.add_row(*(Text(cell) for cell in row))
    return table


def field_of(entry: Any, name: str) -> str:
    """Return a field of a tracked entry, or the entry if it has no fields."""
    return word(entry.get(name) if isinstance(entry, Mapping) else entry)


def word(value: Any) -> str:
    """Return a stored value as people read it."""
    try:
        return str(value)
    except (ValueError, RecursionError):
        # An integer past the digits that Python writes, or more levels than it goes down.
        return text_of(value)


def when(timestamp: Any) -> str:
    """Return a time for people, in UTC."""
    try:
        return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (TypeError, ValueError, OverflowError, OSError):
        return word(timestamp)


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def _part(part: str) -> tuple[str, str]:
    return plain(part), "bold" if isinstance(part, Bold) else ""


def _json_text(tree: Any, indent: int | None = None) -> str:
    try:
        return codec.with_fresh_stack(lambda: json.dumps(tree, indent=indent, allow_nan=False))
    except RecursionError:
        # The writer that indents goes less deep.
        return codec.with_fresh_stack(lambda: json.dumps(tree, allow_nan=False))


def _jsonable(value: Any) -> Any:
    """Return what a command found as JSON has it: its parts by name, and what JSON has no form for as its text."""
    if isinstance(value, Ready):
        return value.tree
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else stored(value).tree
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _jsonable(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _jsonable(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(part) for part in value]
    return str(value)
