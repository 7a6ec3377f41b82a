"""The commands about a context's revisions: ``log``, ``diff``, ``restore``, ``undo`` and ``fork``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any, Final

import click

from taskctx_sql.cli import output
from taskctx_sql.cli.options import Moment, asynchronous, database_option, json_option, opened_store, schema_option
from taskctx_sql.model import MISSING, ContextKey, Difference, Revision, StoredUpdate
from taskctx_sql.task import TaskContext

_COLUMNS: Final = ("revision", "saved (UTC)", "run", "added", "removed", "what")


@click.command()
@click.argument("user")
@click.argument("chat")
@database_option
@schema_option
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of revisions.")
@click.option("--before", type=int, metavar="REVISION", help="Only earlier revisions.")
@json_option
@asynchronous
async def log(
    user: str, chat: str, database_url: str | None, schema: str | None, limit: int, before: int | None, as_json: bool
) -> None:
    """Print the revisions of the context of USER and CHAT, newest first, with their time, run and changes.

    \b
    taskctx log u1 c1 --database-url sqlite:///tasks.db
    """
    async with _context(user, chat, database_url, schema) as context:
        revisions = await context.revisions(before=before, limit=limit)
    if as_json:
        output.print_json(revisions)
    else:
        rows = [
            (
                str(one.revision),
                output.time_text(one.saved_at),
                one.run_id[:8],
                f"{one.added:,}",
                f"{one.removed:,}",
                _what(one),
            )
            for one in revisions
        ]
        output.print_table(f"{user} / {chat}: {len(revisions)} revisions", _COLUMNS, rows)


@click.command()
@click.argument("user")
@click.argument("chat")
@click.argument("old", type=int)
@click.argument("new", type=int)
@database_option
@schema_option
@json_option
@asynchronous
async def diff(
    user: str, chat: str, old: int, new: int, database_url: str | None, schema: str | None, as_json: bool
) -> None:
    """Print how revision NEW of the context of USER and CHAT differs from revision OLD.

    \b
    taskctx diff u1 c1 3 7 --database-url sqlite:///tasks.db
    """
    async with opened_store(database_url, schema) as store:
        difference = await store.difference(ContextKey(user, chat), old, new)
    if as_json:
        output.print_json(_as_json(difference))
        return
    for line in _lines(difference):
        output.print_line(line)


@click.command()
@click.argument("user")
@click.argument("chat")
@click.argument("revision", type=int, required=False)
@click.option(
    "--at", type=Moment(), metavar="WHEN", help="Restore the state at this time instead: 2026-01-31T08:00 or 24h (UTC)."
)
@database_option
@schema_option
@json_option
@asynchronous
async def restore(
    user: str,
    chat: str,
    revision: int | None,
    at: date | datetime | None,
    database_url: str | None,
    schema: str | None,
    as_json: bool,
) -> None:
    """Make REVISION of the context of USER and CHAT current, as a new revision. Nothing is erased.

    \b
    taskctx restore u1 c1 3 --database-url sqlite:///tasks.db
    taskctx restore u1 c1 --at 2h
    """
    if (revision is None) == (at is None):
        raise click.UsageError("give a REVISION, or a time with --at")
    async with _context(user, chat, database_url, schema) as context:
        if at is not None:
            await context.load(at=_seconds(at))
            revision = context.revision
        assert revision is not None
        new = await context.restore(revision)
    text = f"Revision {revision} is current again, as revision {new}; `taskctx undo` takes this back."
    output.print_result({"restored": revision, "revision": new}, text, as_json)


@click.command()
@click.argument("user")
@click.argument("chat")
@database_option
@schema_option
@json_option
@asynchronous
async def undo(user: str, chat: str, database_url: str | None, schema: str | None, as_json: bool) -> None:
    """Take back the last optimize, truncate or restore of the context of USER and CHAT.

    \b
    taskctx undo u1 c1 --database-url sqlite:///tasks.db
    """
    async with _context(user, chat, database_url, schema) as context:
        new = await context.undo()
        undone = (await context.revisions(limit=1))[0].source_revision
    output.print_result(
        {"undone": undone, "revision": new}, f"Revision {undone} is taken back, as revision {new}.", as_json
    )


@click.command()
@click.argument("user")
@click.argument("chat")
@click.argument("new_chat")
@click.option("--revision", type=int, help="Start from this revision instead of the newest.")
@database_option
@schema_option
@json_option
@asynchronous
async def fork(
    user: str,
    chat: str,
    new_chat: str,
    revision: int | None,
    database_url: str | None,
    schema: str | None,
    as_json: bool,
) -> None:
    """Create NEW_CHAT, a context of USER that starts from the one of CHAT.

    \b
    taskctx fork u1 c1 c1-again --revision 3 --database-url sqlite:///tasks.db
    """
    async with _context(user, chat, database_url, schema) as context:
        forked = await context.fork(new_chat, revision=revision)
        count = (await forked.revisions(limit=1))[0].added
    output.print_result(
        {"user_id": user, "chat_id": new_chat, "updates": count},
        f"Created {user} / {new_chat} with {count:,} updates.",
        as_json,
    )


COMMANDS: Final = (log, diff, restore, undo, fork)


@asynccontextmanager
async def _context(user: str, chat: str, database_url: str | None, schema: str | None) -> AsyncIterator[TaskContext]:
    """Yield the context without loading it: these commands need none of its updates."""
    async with opened_store(database_url, schema) as store:
        yield TaskContext({"user_id": user, "chat_id": chat}, store=store, history_limit=0)


def _what(revision: Revision) -> str:
    parts = []
    if revision.operation is not None:
        about = f" {revision.source_revision}" if revision.source_revision is not None else ""
        parts.append(f"{revision.operation}{about}")
    if revision.source_chat_id is not None:
        parts.append(f"of {revision.source_chat_id}")
    if revision.changed_metadata:
        parts.append("metadata")
    return ", ".join(parts)


def _lines(difference: Difference) -> list[str]:
    """Return a line for each difference, as a diff has them."""
    if not difference:
        return [f"Revisions {difference.old} and {difference.new} are the same."]
    lines = [*(f"- {_update(row)}" for row in difference.removed), *(f"+ {_update(row)}" for row in difference.added)]
    for path, (before, after) in difference.files.items():
        mark = "+" if before is None else "-" if after is None else "~"
        lines.append(f"{mark} file {path}: {_operation(before)} -> {_operation(after)}")
    for mark, entries in (("-", difference.removed_models), ("+", difference.added_models)):
        lines += [
            f"{mark} model {output.field_text(entry, 'model_id')}: {output.field_text(entry, 'mode')}"
            for entry in entries
        ]
    for name, changes in (("metadata", difference.metadata), ("toggle", difference.toggles)):
        lines += [_change(f"{name} {key}", before, after) for key, (before, after) in changes.items()]
    return lines


def _update(row: StoredUpdate) -> str:
    data = output.stored_text(row.update.data)
    return f"{row.seq:>6}  {output.time_text(row.update.timestamp)}  {row.update.update_type!s:16} {data}"


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


def _operation(entry: Any) -> str:
    return "nothing" if entry is None else output.field_text(entry, "operation")


def _as_json(difference: Difference) -> dict[str, Any]:
    updates = {
        name: [
            {"seq": row.seq, **{key: output.stored_value(value) for key, value in row.update.to_dict().items()}}
            for row in rows
        ]
        for name, rows in (("added", difference.added), ("removed", difference.removed))
    }
    changes = {
        name: {str(key): _sides(*pair) for key, pair in pairs.items()}
        for name, pairs in (
            ("files", difference.files),
            ("metadata", difference.metadata),
            ("toggles", difference.toggles),
        )
    }
    models = {
        "added_models": output.stored_value(list(difference.added_models)),
        "removed_models": output.stored_value(list(difference.removed_models)),
    }
    return {"old": difference.old, "new": difference.new, **updates, **models, **changes}


def _sides(old: Any, new: Any) -> dict[str, Any]:
    """Return the values by their side; a missing key has no value there, unlike one that is null."""
    return {side: output.stored_value(value) for side, value in (("old", old), ("new", new)) if value is not MISSING}


def _seconds(at: date | datetime) -> float:
    if not isinstance(at, datetime):
        # A day includes all of it.
        at = datetime(at.year, at.month, at.day, 23, 59, 59, 999_999)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
