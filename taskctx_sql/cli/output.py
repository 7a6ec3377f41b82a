"""Output of the commands: text for people, JSON for programs."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import click
from rich.text import Text

from taskctx_sql import codec
from taskctx_sql.cli import tables, terminal
from taskctx_sql.cli.demo_task import Changes, Result
from taskctx_sql.cli.tables import Column
from taskctx_sql.context import MemoryContext
from taskctx_sql.locations import without_secrets
from taskctx_sql.model import ContextUpdate, Finding, StateEntry, StoredUpdate
from taskctx_sql.plain_text import counted, plain, spreadsheet_cell

# So much of a state entry's value is printed for people.
STATE_CHARACTERS: Final = 120
UPDATE_COLUMNS: Final = (Column("when (UTC)", rank=2), Column("type", "id", 1), Column("data", "text"))
_RUN_COLUMNS: Final = (
    *(Column("began (UTC)", rank=3), Column("outcome"), Column("seconds", "number", 1)),
    *(Column("saves", "number", 2), Column("updates", "number", 2)),
)


class Bold(str):
    """A part of a line that is printed in bold."""

    __slots__ = ()


class StoredValue(NamedTuple):
    """A stored value as the tree of its JSON."""

    tree: Any


class PlainFormatter(logging.Formatter):
    """Log lines without passwords, and without characters that control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines."""
        return plain(without_secrets(super().format(record)), keep="\n")


def print_line(text: str, *, to_error: bool = False) -> None:
    """Print a line."""
    click.echo(plain(text), err=to_error)


def print_parts(*parts: str) -> None:
    """Print a line of several parts; those that are `Bold` are printed in bold."""
    styled = [(plain(part), "bold" if isinstance(part, Bold) else "") for part in parts]
    terminal.console().print(Text.assemble(*styled), soft_wrap=True)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a command's result as JSON, without an indent on one line. For values of users, see `stored_value`."""
    click.echo(_json_text(_jsonable(value), indent))


def print_result(value: Any, text: str, form: str) -> None:
    """Print a result as JSON, or `say` its text."""
    if form == "json":
        print_json(value)
    else:
        say(text)


def note(text: str) -> None:
    """Print a remark beside the results, on standard error."""
    if not terminal.is_quiet():
        print_line(text, to_error=True)


def say(text: str) -> None:
    """Print a line about what was done, unless ``--quiet`` is given: the exit code says that it worked."""
    if not terminal.is_quiet():
        print_line(text)


def stored_value(value: Any) -> StoredValue:
    """Return a user's value for `print_json`: a value that JSON lacks is an object with its type."""
    text = codec.encode(value, warn=False)
    return StoredValue(codec.with_fresh_stack(lambda: json.loads(text)))


def stored_json(text: str) -> StoredValue | str:
    """Return stored JSON text for `print_json`, or the text itself if it is damaged."""
    try:
        return StoredValue(codec.with_fresh_stack(lambda: json.loads(text)))
    except ValueError:
        return text


def stored_values(values: Mapping[str, Any]) -> dict[str, StoredValue]:
    """Return a user's values for `print_json`, by name."""
    return {name: stored_value(value) for name, value in values.items()}


def update_object(row: StoredUpdate) -> dict[str, Any]:
    """Return an update for `print_json`, with its seq."""
    return {"seq": row.seq, **stored_values(row.update.to_dict())}


def update_text(row: StoredUpdate) -> str:
    """Return the line of an update, for people."""
    update = row.update
    return f"{time_text(update.timestamp)}  {update.update_type!s:16} {stored_text(update.data)}"


def stored_text(value: Any) -> str:
    """Return the JSON text of a user's value, for people."""
    tree = stored_value(value).tree
    return codec.with_fresh_stack(lambda: json.dumps(tree, ensure_ascii=False))


def print_csv(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows as CSV, in which a spreadsheet takes no text for a formula."""
    written = io.StringIO()
    cells = ([_csv_cell(cell) for cell in row] for row in rows)
    csv.writer(written, lineterminator="\n").writerows([*([names] if names else []), *cells])
    click.echo(written.getvalue(), nl=False)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, StoredValue):
        value = codec.with_fresh_stack(lambda: json.dumps(value.tree, ensure_ascii=False))
    if isinstance(value, Mapping):
        return json.dumps(dict(value), ensure_ascii=False)
    if isinstance(value, bool):
        # As JSON has them.
        return str(value).lower()
    return spreadsheet_cell(value) if isinstance(value, str) else value


def print_updates_csv(updates: Iterable[ContextUpdate], *, heading: bool = True) -> None:
    """Print updates as CSV, with the JSON texts of their data and metadata."""
    cells = [
        (update.timestamp, value_text(update.update_type), stored_text(update.data), stored_text(update.metadata))
        for update in updates
    ]
    print_csv(("timestamp", "update_type", "data", "metadata") if heading else (), cells)


def print_findings(findings: Sequence[Finding], form: str) -> None:
    """Print the findings of a check: one line each, its level in color, or as CSV."""
    if form == "csv":
        print_row_objects(findings, ("level", "check", "message", "remedy"), form)
        return
    for finding in findings:
        if finding.level == "ok" and terminal.is_quiet():
            continue
        remedy = f": {finding.remedy}" if finding.remedy else ""
        line = plain(without_secrets(f"{finding.check}: {finding.message}{remedy}"))
        click.echo(terminal.styled_level(finding.level, f"{finding.level:8} ") + line)


def print_row_objects(rows: Sequence[Any], names: Sequence[str], form: str) -> None:
    """Print dataclasses with these fields as JSON or CSV."""
    if form == "json":
        print_json(rows)
    else:
        print_csv(names, [[getattr(row, name) for name in names] for row in rows])


def print_demo(result: Result, report: dict[str, Any], program: Sequence[str]) -> None:
    """Print the result of the demo and the reports about it; ``program`` are the words that call this command."""
    print_parts(Bold(f"{counted(result.documents, 'file')}, {counted(result.words, 'word')}"), f" in {result.folder}")
    if result.resumed:
        _print_changes(result.changes)
    print_parts("Most frequent: " + ", ".join(f"{term} {count}" for term, count in result.terms))
    if result.unreadable:
        print_parts(f"Not text: {', '.join(result.unreadable)}")
    if "timeline" in report:
        _print_report(report)
    print_parts()
    print_parts(f"The index: {result.index}")
    show = shlex.join([*program, "show", result.user_id, result.chat_id, "-d", report["address"]])
    print_parts(f"The record: {show}")


def print_context(
    context: MemoryContext,
    outcome: str,
    labels: Sequence[StateEntry],
    state: Sequence[StateEntry],
    *,
    has_more_state: bool,
) -> None:
    """Print a context: the outcome of its runs, its labels, some of its state, its newest updates, files and models."""
    print_parts(Bold(f"{context.user_id} / {context.chat_id}"), f" at revision {context.revision}")
    if outcome:
        print_parts("outcome: ", outcome)
    if context.metadata:
        print_parts(f"metadata: {stored_text(context.metadata)}")
    for label in labels:
        print_parts(f"label  {label.name}: {value_text(label.value)}")
    for value in state:
        print_parts(f"state  {value.name}: {_short(stored_text(value.value))}")
    if has_more_state:
        print_parts("state  and more, which a higher --limit prints")
    updates = [
        (time_text(update.timestamp), value_text(update.update_type), stored_text(update.data))
        for update in context.context_history
    ]
    title = counted(len(updates), "update") + ("" if context.history_complete else ", the newest ones")
    tables.print_table(title, UPDATE_COLUMNS, updates)
    for path, entry in list(context.file_tracker.items())[-20:]:
        print_parts(f"file   {value_text(path)}: {field_text(entry, 'operation')}")
    for entry in context.model_tracker[-20:]:
        print_parts(f"model  {field_text(entry, 'model_id')}: {field_text(entry, 'mode')}")


def _short(text: str) -> str:
    return text if len(text) <= STATE_CHARACTERS else f"{text[: STATE_CHARACTERS - 1]}…"


def _print_changes(changes: Changes) -> None:
    counts = {"new": changes.added, "changed": changes.changed, "gone": changes.removed}
    summary = ", ".join(f"{len(names)} {kind}" for kind, names in counts.items() if names) or "nothing changed"
    print_parts(f"Since the last run: {summary}; {len(changes.unchanged)} unchanged.")
    for kind, names in counts.items():
        for name in names[:5]:
            print_parts(f"  {kind:8} {name}")


def _print_report(report: dict[str, Any]) -> None:
    timeline = [(time_text(entry.timestamp), entry.update_type, entry.data) for entry in report["timeline"]]
    runs = []
    for run in report["runs"]:
        seconds = "" if run.duration is None else f"{run.duration:.2f}"
        runs.append((time_text(run.started_at), run.outcome, seconds, str(run.saves), str(run.updates)))
    print_parts()
    tables.print_table("The end of the timeline", UPDATE_COLUMNS, timeline)
    print_parts()
    tables.print_table("Runs", _RUN_COLUMNS, runs)
    print_parts()
    for title, counts in (("Files by last operation", "files_by_operation"), ("Steps by type", "updates_by_type")):
        print_parts(f"{title}: " + ", ".join(f"{count.name} {count.count}" for count in report[counts]))


def field_text(entry: Any, name: str) -> str:
    """Return a field of a tracked entry, or the entry if it has no fields."""
    return value_text(entry.get(name) if isinstance(entry, Mapping) else entry)


def value_text(value: Any) -> str:
    """Return a user's value as text for people."""
    try:
        return str(value)
    except (ValueError, RecursionError):
        # The integer has more digits than Python writes, or the value is nested too deep.
        return stored_text(value)


def time_text(timestamp: Any) -> str:
    """Return a time for people, in UTC."""
    try:
        return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (TypeError, ValueError, OverflowError, OSError):
        return value_text(timestamp)


def utc_text(timestamp: float | None) -> str | None:
    """Return a time as ISO 8601 for programs; None for a time that no date can be."""
    try:
        return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None


def _json_text(tree: Any, indent: int | None) -> str:
    try:
        return codec.with_fresh_stack(lambda: json.dumps(tree, indent=indent, allow_nan=False))
    except RecursionError:
        # Indented output supports fewer levels.
        return codec.with_fresh_stack(lambda: json.dumps(tree, allow_nan=False))


def _jsonable(value: Any) -> Any:
    """Return a result as JSON types: dataclasses as objects, and other types as their text."""
    if isinstance(value, StoredValue):
        return value.tree
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else stored_value(value).tree
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _jsonable(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _jsonable(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(part) for part in value]
    return str(value)
