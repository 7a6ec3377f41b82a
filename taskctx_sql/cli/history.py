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
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Revisions at the most.")
@click.option("--before", type=int, metavar="REVISION", help="Only earlier ones.")
@json_option
@asynchronous
async def log(
    user: str, chat: str, database_url: str | None, schema: str | None, limit: int, before: int | None, as_json: bool
) -> None:
    """Print the revisions of the context of USER and CHAT, the newest first: when, which run, what came and went.

    \b
    taskctx log u1 c1 --database-url sqlite:///tasks.db
    """
    async with _context(user, chat, database_url, schema) as context:
        found = await context.revisions(before=before, limit=limit)
    if as_json:
        output.print_json(found)
    else:
        rows = [
            (
                str(one.revision),
                output.when(one.saved_at),
                one.run_id[:8],
                f"{one.added:,}",
                f"{one.removed:,}",
                _what(one),
            )
            for one in found
        ]
        output.print_table(f"{user} / {chat}: {len(found)} revisions", _COLUMNS, rows)


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
        found = await store.difference(ContextKey(user, chat), old, new)
    if as_json:
        output.print_json(_plain(found))
        return
    for line in _lines(found):
        output.say(line)


@click.command()
@click.argument("user")
@click.argument("chat")
@click.argument("revision", type=int, required=False)
@click.option("--at", type=Moment(), metavar="WHEN", help="The state at 2026-01-31T08:00 or 24h ago (UTC) instead.")
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
        raise click.UsageError("name a REVISION, or a time with --at")
    async with _context(user, chat, database_url, schema) as context:
        if at is not None:
            await context.load(at=_seconds(at))
            revision = context.revision
        assert revision is not None
        made = await context.restore(revision)
    text = f"Revision {revision} is current again, as revision {made}; `taskctx undo` takes this back."
    _say({"restored": revision, "revision": made}, text, as_json)


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
        made = await context.undo()
        undone = (await context.revisions(limit=1))[0].source_revision
    _say({"undone": undone, "revision": made}, f"Revision {undone} is taken back, as revision {made}.", as_json)


@click.command()
@click.argument("user")
@click.argument("chat")
@click.argument("new_chat")
@click.option("--revision", type=int, help="Start from this one, and not from the newest.")
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
    """Make NEW_CHAT, a context of USER that starts from the one of CHAT.

    \b
    taskctx fork u1 c1 c1-again --revision 3 --database-url sqlite:///tasks.db
    """
    async with _context(user, chat, database_url, schema) as context:
        forked = await context.fork(new_chat, revision=revision)
        count = (await forked.revisions(limit=1))[0].added
    _say(
        {"user_id": user, "chat_id": new_chat, "updates": count},
        f"Made {user} / {new_chat} with {count:,} updates.",
        as_json,
    )


COMMANDS: Final = (log, diff, restore, undo, fork)


@asynccontextmanager
async def _context(user: str, chat: str, database_url: str | None, schema: str | None) -> AsyncIterator[TaskContext]:
    """Yield the context, not loaded. What it does is done in the database: no update is needed here."""
    async with opened_store(database_url, schema) as store:
        yield TaskContext({"user_id": user, "chat_id": chat}, store=store, history_limit=0)


def _what(revision: Revision) -> str:
    told = []
    if revision.operation is not None:
        about = f" {revision.source_revision}" if revision.source_revision is not None else ""
        told.append(f"{revision.operation}{about}")
    if revision.source_chat_id is not None:
        told.append(f"of {revision.source_chat_id}")
    if revision.changed_metadata:
        told.append("metadata")
    return ", ".join(told)


def _lines(found: Difference) -> list[str]:
    """Return a line for each thing that differs, as a diff has them."""
    if not found:
        return [f"Revisions {found.old} and {found.new} are the same."]
    lines = [*(f"- {_update(row)}" for row in found.removed), *(f"+ {_update(row)}" for row in found.added)]
    for path, (before, after) in found.files.items():
        mark = "+" if before is None else "-" if after is None else "~"
        lines.append(f"{mark} file {path}: {_operation(before)} -> {_operation(after)}")
    for mark, entries in (("-", found.removed_models), ("+", found.added_models)):
        lines += [
            f"{mark} model {output.field_of(entry, 'model_id')}: {output.field_of(entry, 'mode')}" for entry in entries
        ]
    for name, changes in (("metadata", found.metadata), ("toggle", found.toggles)):
        lines += [_change(f"{name} {key}", before, after) for key, (before, after) in changes.items()]
    return lines


def _update(row: StoredUpdate) -> str:
    data = output.text_of(row.update.data)
    return f"{row.seq:>6}  {output.when(row.update.timestamp)}  {row.update.update_type!s:16} {data}"


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
        # An integer past the digits that Python writes, or more levels than it goes down.
        return output.text_of(value)


def _operation(entry: Any) -> str:
    return "nothing" if entry is None else output.field_of(entry, "operation")


def _plain(found: Difference) -> dict[str, Any]:
    updates = {
        name: [
            {"seq": row.seq, **{key: output.stored(value) for key, value in row.update.to_dict().items()}}
            for row in rows
        ]
        for name, rows in (("added", found.added), ("removed", found.removed))
    }
    changes = {
        name: {str(key): _sides(*pair) for key, pair in pairs.items()}
        for name, pairs in (("files", found.files), ("metadata", found.metadata), ("toggles", found.toggles))
    }
    models = {
        "added_models": output.stored(list(found.added_models)),
        "removed_models": output.stored(list(found.removed_models)),
    }
    return {"old": found.old, "new": found.new, **updates, **models, **changes}


def _sides(old: Any, new: Any) -> dict[str, Any]:
    """Return both values by their side; a key that is not there has none, which null would not tell."""
    return {side: output.stored(value) for side, value in (("old", old), ("new", new)) if value is not MISSING}


def _seconds(at: date | datetime) -> float:
    if not isinstance(at, datetime):
        # A day counts to its end.
        at = datetime(at.year, at.month, at.day, 23, 59, 59, 999_999)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _say(value: Any, text: str, as_json: bool) -> None:
    if as_json:
        output.print_json(value)
    else:
        output.say(text)
