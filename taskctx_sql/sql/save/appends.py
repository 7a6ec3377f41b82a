"""Saves that only append updates, as most do: on SQLite one statement checks, writes and commits a group of them.

It is an INSERT into a view of the writer's connection, whose triggers write the rows. SQLite executes it without
Python's interpreter lock, which saving row by row would have to wait for again and again while the event loop is busy.

Nothing is decided here. If a context is not as memory has seen it, the statement fails and has written nothing; then
`decide.save_group` decides.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from taskctx_sql.model import Saved
from taskctx_sql.sql.context_row import ContextHead
from taskctx_sql.sql.save.request import SaveRequest

# More rows than this are inserted table by table. SQLite before 3.32 takes at most 999 parameters.
MAX_ROWS: Final = 50

# The first row of a save has the context as memory has seen it, and in `updates` how many rows there are; the others
# have 0 there. The user and the chat are for a context that nobody has saved.
_COLUMNS: Final = (
    *("context_id", "user_id", "chat_id", "created_at", "revision", "seq", "next_model", "next_position", "updates"),
    *("saved_at", "run_id", "started_at", "saves", "timestamp", "update_type", "data", "metadata"),
)
_VIEW: Final = f"CREATE TEMP VIEW taskctx_appends AS SELECT {', '.join(f'NULL AS {name}' for name in _COLUMNS)}"

_SAVE: Final = """\
CREATE TEMP TRIGGER taskctx_appends_save INSTEAD OF INSERT ON taskctx_appends WHEN NEW.updates > 0
BEGIN
    INSERT INTO taskctx_contexts (
        context_id, user_id, chat_id, metadata, metadata_toggles,
        revision, next_seq, next_model, next_position, created_at, updated_at
    )
    SELECT NEW.context_id, NEW.user_id, NEW.chat_id, '{}', '{}', 0, 1, 1, 1, NEW.created_at, NEW.saved_at
    WHERE NEW.revision = 0;

    -- A slow clock does not set updated_at back.
    UPDATE taskctx_contexts
    SET revision = revision + 1, next_seq = next_seq + NEW.updates, updated_at = max(updated_at, NEW.saved_at)
    WHERE context_id = NEW.context_id AND created_at = NEW.created_at AND revision = NEW.revision
        AND next_seq = NEW.seq AND next_model = NEW.next_model AND next_position = NEW.next_position;

    SELECT RAISE(ABORT, 'the context is not as memory has seen it') WHERE changes() = 0;

    INSERT INTO taskctx_runs (context_id, run_id, started_at, saves)
    VALUES (NEW.context_id, NEW.run_id, NEW.started_at, NEW.saves)
    ON CONFLICT (context_id, run_id) DO UPDATE SET ended_at = NULL, outcome = NULL, error = NULL, saves = NEW.saves;

    INSERT INTO taskctx_revisions (
        context_id, revision, saved_at, run_id, save_number, next_seq, next_model, next_position
    )
    VALUES (
        NEW.context_id, NEW.revision + 1, NEW.saved_at, NEW.run_id, NEW.saves,
        NEW.seq + NEW.updates, NEW.next_model, NEW.next_position
    );
    {update}
END"""

_ANOTHER_UPDATE: Final = """\
CREATE TEMP TRIGGER taskctx_appends_update INSTEAD OF INSERT ON taskctx_appends WHEN NEW.updates = 0
BEGIN
    {update}
END"""

_UPDATE: Final = """\
INSERT INTO taskctx_updates (context_id, seq, timestamp, update_type, data, metadata, added_in, run_id)
    VALUES (
        NEW.context_id, NEW.seq, NEW.timestamp, NEW.update_type, NEW.data, NEW.metadata, NEW.revision + 1, NEW.run_id
    );"""


def set_up(connection: sqlite3.Connection) -> None:
    """Make a connection ready for `append`. Nothing of it is in the file."""
    connection.execute(_VIEW)
    for trigger in (_SAVE, _ANOTHER_UPDATE):
        connection.execute(trigger.replace("{update}", _UPDATE))


class Appends(NamedTuple):
    """The statement for some saves to different contexts, its values, and the answers if it succeeds."""

    statement: str
    values: list[Any]
    answers: list[Saved]


def appends_of(requests: Sequence[SaveRequest]) -> Appends | None:
    """Return how saves to different contexts are written by one statement; None if they cannot be."""
    rows = 0
    for request in requests:
        if not request.only_appends:
            return None
        rows += len(request.updates)
    if rows > MAX_ROWS:
        return None
    values: list[Any] = []
    answers: list[Saved] = []
    for request in requests:
        delta, run, key, updates = request.delta, request.delta.run, request.delta.key, request.updates
        context_id, count = request.context_id, len(updates)
        created_at, revision, _, numbers = request.base
        if created_at is None:
            created_at = delta.at
        seq, model, position = numbers or (1, 1, 1)
        values += (context_id, key.user_id, key.chat_id, created_at, revision, seq, model, position, count)
        values += (delta.at, run.run_id, run.started_at, run.saves, *updates[0][:-1])
        if any(row[-1] is not None for row in updates):
            # There is no column for what is kept exactly beside the others.
            return None
        for at in range(1, count):
            values += (context_id, "", "", 0, revision, seq + at, 0, 0, 0)
            values += (0, run.run_id, 0, 0, *updates[at][:-1])
        answers.append(request.saved(ContextHead(created_at, revision + 1, seq + count, model, position)))
    return Appends(_insertion(rows), values, answers)


@cache
def _insertion(rows: int) -> str:
    row = f"({', '.join('?' * len(_COLUMNS))})"
    return f"INSERT INTO taskctx_appends VALUES {', '.join([row] * rows)}"  # noqa: S608  # nothing of the caller's
