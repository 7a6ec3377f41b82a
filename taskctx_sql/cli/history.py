"""The commands about a context's revisions: ``log``, ``diff``, ``restore``, ``undo`` and ``fork``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, date, datetime
from typing import Any, Final

import click

from taskctx_sql.cli import failures, output, tables
from taskctx_sql.cli.options import Moment, Opened, context_command, format_option, rows_format_option
from taskctx_sql.cli.tables import Column
from taskctx_sql.model import MISSING, ContextKey, Difference, Revision
from taskctx_sql.plain_text import counted
from taskctx_sql.stores import Store
from taskctx_sql.task import TaskContext

_COLUMNS: Final = (
    *(Column("revision", "number"), Column("saved (UTC)", rank=1), Column("run", rank=3)),
    *(Column("added", "number", 2), Column("removed", "number", 2), Column("what", "text")),
)


@context_command
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    default=20,
    show_default=True,
    help="Maximum number of revisions.",
)
@click.option("--before", type=int, metavar="REVISION", help="Only earlier revisions.")
@rows_format_option
async def log(key: ContextKey, opened: Opened, limit: int, before: int | None, form: str) -> None:
    """List the revisions of a context, newest first.

    \b
    taskctx log u1 c1 -d tasks.db
    """
    async with opened as store:
        revisions = await store.revisions(key, before=before, limit=limit)
    if form != "table":
        output.print_row_objects(revisions, [field.name for field in fields(Revision)], form)
    else:
        title = f"{key.user_id} / {key.chat_id}: {counted(len(revisions), 'revision')}"
        tables.print_table(title, _COLUMNS, [_row(one) for one in revisions])


@context_command
@click.argument("old", type=int)
@click.argument("new", type=int)
@format_option
async def diff(key: ContextKey, opened: Opened, old: int, new: int, form: str) -> None:
    """Compare two revisions of a context.

    Prints what is in revision NEW and not in OLD, and the reverse, as a diff has it.

    \b
    taskctx diff u1 c1 3 7 -d tasks.db
    """
    async with opened as store:
        difference = await store.difference(key, old, new)
    if form == "json":
        output.print_json(_as_json(difference))
    else:
        for line in _lines(difference):
            output.print_line(line)


@context_command
@click.argument("revision", type=int, required=False)
@click.option(
    "--at", type=Moment(), metavar="WHEN", help="Restore the state at this time instead: 2026-01-31T08:00 or 24h (UTC)."
)
@format_option
async def restore(key: ContextKey, opened: Opened, revision: int | None, at: date | datetime | None, form: str) -> None:
    """Make an earlier revision current again, as a new one.

    Nothing is erased, and `taskctx undo` takes it back.

    \b
    taskctx restore u1 c1 3 -d tasks.db
    taskctx restore u1 c1 --at 2h
    """
    if (revision is None) == (at is None):
        raise click.UsageError("give a REVISION, or a time with --at")
    async with opened as store:
        context = _unloaded(key, store)
        if at is not None:
            await context.load(at=_seconds(at))
            revision = context.revision
        assert revision is not None
        new = await context.restore(revision)
    take_back = failures.hint("undo", key.user_id, key.chat_id)
    text = f"Revision {revision} is current again, as revision {new}; {take_back} takes this back."
    output.print_result({"restored": revision, "revision": new}, text, form)


@context_command
@format_option
async def undo(key: ContextKey, opened: Opened, form: str) -> None:
    """Take back the last optimize, truncate or restore.

    \b
    taskctx undo u1 c1 -d tasks.db
    """
    async with opened as store:
        new = await _unloaded(key, store).undo()
        undone = (await store.revisions(key, limit=1))[0].source_revision
    text = f"Revision {undone} is taken back, as revision {new}."
    output.print_result({"undone": undone, "revision": new}, text, form)


@context_command
@click.argument("new_chat")
@click.option("--revision", type=int, help="Start from this revision instead of the newest.")
@format_option
async def fork(key: ContextKey, opened: Opened, new_chat: str, revision: int | None, form: str) -> None:
    """Start a new context from a revision of another.

    The new one is NEW_CHAT, of the same USER.

    \b
    taskctx fork u1 c1 again --revision 3 -d tasks.db
    """
    async with opened as store:
        forked = await store.fork(key, new_chat, revision=revision)
        count = (await store.revisions(forked, limit=1))[0].added
    result = {"user_id": forked.user_id, "chat_id": forked.chat_id, "updates": count}
    output.print_result(result, f"Created {forked.user_id} / {forked.chat_id} with {counted(count, 'update')}.", form)


def _unloaded(key: ContextKey, store: Store) -> TaskContext:
    """Return a context that is not loaded: these commands need none of its updates."""
    return TaskContext({"user_id": key.user_id, "chat_id": key.chat_id}, store=store, history_limit=0)


def _row(one: Revision) -> tuple[str, ...]:
    saved = output.time_text(one.saved_at)
    return str(one.revision), saved, one.run_id[:8], f"{one.added:,}", f"{one.removed:,}", _what(one)


def _what(revision: Revision) -> str:
    about = "" if revision.source_revision is None else f" {revision.source_revision}"
    parts = (
        None if revision.operation is None else f"{revision.operation}{about}",
        None if revision.source_chat_id is None else f"of {revision.source_chat_id}",
        "metadata" if revision.changed_metadata else None,
        "state" if revision.changed_state else None,
    )
    return ", ".join(part for part in parts if part is not None)


def _lines(difference: Difference) -> list[str]:
    """Return a line for each difference, as a diff has them."""
    if not difference:
        return [f"Revisions {difference.old} and {difference.new} are the same."]
    lines = [f"- {row.seq:>6}  {output.update_text(row)}" for row in difference.removed]
    lines += [f"+ {row.seq:>6}  {output.update_text(row)}" for row in difference.added]
    for path, (before, after) in difference.files.items():
        mark = "+" if before is None else "-" if after is None else "~"
        old, new = ("nothing" if entry is None else output.field_text(entry, "operation") for entry in (before, after))
        lines.append(f"{mark} file {path}: {old} -> {new}")
    for mark, entries in (("-", difference.removed_models), ("+", difference.added_models)):
        for entry in entries:
            lines.append(f"{mark} model {output.field_text(entry, 'model_id')}: {output.field_text(entry, 'mode')}")
    mappings = {"metadata": difference.metadata, "toggle": difference.toggles}
    mappings |= {"state": difference.state, "label": difference.labels}
    for name, changes in mappings.items():
        lines += [_change(f"{name} {key}", before, after) for key, (before, after) in changes.items()]
    return lines


def _change(name: str, before: Any, after: Any) -> str:
    if before is MISSING:
        return f"+ {name}: {_value(after)}"
    if after is MISSING:
        return f"- {name}: {_value(before)}"
    return f"~ {name}: {_value(before)} -> {_value(after)}"


def _value(value: Any) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):
        # The integer has more digits than Python writes, or the value is nested too deep.
        return output.stored_text(value)


def _as_json(difference: Difference) -> dict[str, Any]:
    return {
        "old": difference.old,
        "new": difference.new,
        "added": [output.update_object(row) for row in difference.added],
        "removed": [output.update_object(row) for row in difference.removed],
        "added_models": output.stored_value(list(difference.added_models)),
        "removed_models": output.stored_value(list(difference.removed_models)),
        "files": _pairs(difference.files),
        "metadata": _pairs(difference.metadata),
        "toggles": _pairs(difference.toggles),
        "state": _pairs(difference.state),
        "labels": _pairs(difference.labels),
    }


def _pairs(changes: Mapping[Any, tuple[Any, Any]]) -> dict[str, Any]:
    """Return the values by key and side; a missing key has no value there, unlike one that is null."""
    return {
        str(key): {
            side: output.stored_value(one) for side, one in zip(("old", "new"), pair, strict=True) if one is not MISSING
        }
        for key, pair in changes.items()
    }


def _seconds(at: date | datetime) -> float:
    if not isinstance(at, datetime):
        # A day includes all of it.
        at = datetime(at.year, at.month, at.day, 23, 59, 59, 999_999)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
