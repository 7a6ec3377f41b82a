"""How the command line shows things: text for people, JSON for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from taskctx_sql.context import MemoryContext
from taskctx_sql.demo import Changes, Result

__all__ = ["escape", "plain", "print_context", "print_demo", "print_json", "print_table", "progress", "when"]


def progress() -> Progress:
    """Return a progress display on standard error, which stays quiet when that is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def print_json(value: Any) -> None:
    """Print a value as JSON; what JSON has no form for as its fields, or else as its text."""
    click.echo(json.dumps(value, indent=2, default=_jsonable))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose last column is cut where the line ends, and no other."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        # Nobody's screen: programs and files take lines of any length.
        console.width = 1000
    console.print(_table(title, columns, rows))


def plain(text: str) -> str:
    """Return a text without what would move a terminal's cursor, or change its colors: that is shown escaped."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def print_demo(result: Result, report: dict[str, Any], program: str) -> None:
    """Print what a run of the demo came to, and what SQL says of it; ``program`` is what to type for more."""
    console = Console(highlight=False)
    console.print(
        f"[bold]{result.documents} files, {result.words:,} words[/] in {escape(str(result.folder))}", soft_wrap=True
    )
    if result.resumed:
        _print_changes(console, result.changes)
    console.print("Most frequent: " + ", ".join(f"{escape(term)} {count}" for term, count in result.terms))
    if result.unreadable:
        console.print(f"Not readable as text: {escape(', '.join(result.unreadable))}")
    if "timeline" in report:
        _print_report(console, report)
    address = escape(report["address"])
    console.print(f"\nThe index: {escape(str(result.index))}", soft_wrap=True)
    more = f"{escape(program)} show {result.user_id} {result.chat_id} --database-url {address}"
    console.print(f"The record: {more}", soft_wrap=True)


def print_context(context: MemoryContext) -> None:
    """Print a context: its newest updates, files and models."""
    console = Console(highlight=False)
    name = f"{escape(str(context.user_id))} / {escape(str(context.chat_id))}"
    console.print(f"[bold]{name}[/] at revision {context.revision}")
    if context.metadata:
        console.print(f"metadata: {escape(json.dumps(context.metadata, default=str))}", soft_wrap=True)
    which = "updates" if context.history_complete else "updates, the newest ones"
    updates = [
        (when(update.timestamp), str(update.update_type), json.dumps(update.data, default=str))
        for update in context.context_history
    ]
    console.print(_table(f"{len(updates)} {which}", ("when (UTC)", "type", "data"), updates))
    for path, entry in list(context.file_tracker.items())[-20:]:
        console.print(f"file   {escape(plain(str(path)))}: {_field(entry, 'operation')}", soft_wrap=True)
    for entry in context.model_tracker[-20:]:
        console.print(f"model  {_field(entry, 'model_id')}: {_field(entry, 'mode')}", soft_wrap=True)


def _print_changes(console: Console, changes: Changes) -> None:
    counts = {"new": changes.added, "changed": changes.changed, "gone": changes.removed}
    told = ", ".join(f"{len(names)} {word}" for word, names in counts.items() if names) or "nothing changed"
    console.print(f"Since the run before: {told}; {len(changes.unchanged)} as they were.")
    for word, names in counts.items():
        for name in names[:5]:
            console.print(f"  {word:8} {escape(name)}", soft_wrap=True)


def _print_report(console: Console, report: dict[str, Any]) -> None:
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
    console.print()
    console.print(_table("The end of the timeline", ("when (UTC)", "type", "data"), timeline))
    console.print()
    console.print(_table("Runs", ("started (UTC)", "outcome", "seconds", "saves", "updates"), runs))
    console.print()
    for title, counts in (("Files by last operation", "files_by_operation"), ("Steps by type", "updates_by_type")):
        console.print(f"{title}: " + ", ".join(f"{escape(count.name)} {count.count}" for count in report[counts]))


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table whose last column is cut where the line ends, and no other."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for place, column in enumerate(columns[:-1]):
        widest = max(len(column), *(len(row[place]) for row in rows), 0)
        table.add_column(column, no_wrap=True, min_width=min(widest, 30))
    table.add_column(columns[-1], no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*(escape(plain(cell)) for cell in row))
    return table


def _field(entry: Any, name: str) -> str:
    return escape(plain(str(entry.get(name) if isinstance(entry, dict) else entry)))


def when(timestamp: Any) -> str:
    """Return a time for people, in UTC."""
    try:
        return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (TypeError, ValueError, OverflowError, OSError):
        return str(timestamp)


def _jsonable(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
