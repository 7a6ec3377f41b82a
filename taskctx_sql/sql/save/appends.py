"""Saves that only append updates and set named values, as most do: on SQLite one statement writes a group of them.

It is an INSERT into a view of the writer's connection, whose triggers check the contexts and write the rows. SQLite
executes it without Python's interpreter lock, which saving row by row would have to wait for again and again while the
event loop is busy.

Nothing is decided here. If a context is not as memory has seen it, the statement fails and has written nothing; then
`decide.save_group` decides.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from taskctx_sql.model import Saved
from taskctx_sql.sql.context_row import ContextHead
from taskctx_sql.sql.row_codec import StateRow
from taskctx_sql.sql.save.request import SaveRequest

# The first row of a save has the context as memory has seen it, and in `updates` and `changed_state` how many there
# are of each; the others have 0 in `saves`. Each row may have an update and a value. The user and the chat are for a
# context that nobody has saved.
_COLUMNS: Final = (
    *("context_id", "user_id", "chat_id", "created_at", "revision", "seq", "next_model", "next_position"),
    *("updates", "changed_state", "saved_at", "run_id", "started_at", "saves", "ended_at", "outcome", "error"),
    *("timestamp", "update_type", "data", "metadata"),
    *StateRow._fields,
)
# What a row has that has no update, and one that has no value. The driver takes longer for a NULL.
_NO_UPDATE: Final = (0, "", "", "")
_NO_VALUE: Final = ("", "", "", 0, "")
_FILLER: Final = ("", "", "", 0, 0, 0, 0, 0, 0, 0, 0, "", 0, 0, "", "", "", *_NO_UPDATE, *_NO_VALUE)
# SQLite before 3.32 takes at most 999 parameters.
_PARAMETERS: Final = 999 if sqlite3.sqlite_version_info < (3, 32) else 3_200
# More rows than this are inserted table by table.
MAX_ROWS: Final = _PARAMETERS // len(_COLUMNS)
# From this many rows on, others are added that write nothing, so that there are few different statements to prepare.
_EXACT_ROWS: Final = 8

_VIEW: Final = f"CREATE TEMP VIEW taskctx_appends AS SELECT {', '.join(f'NULL AS {name}' for name in _COLUMNS)}"

_SAVE: Final = """\
CREATE TEMP TRIGGER taskctx_appends_save INSTEAD OF INSERT ON taskctx_appends WHEN NEW.saves > 0
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

    INSERT INTO taskctx_runs (context_id, run_id, started_at, saves, ended_at, outcome, error)
    VALUES (NEW.context_id, NEW.run_id, NEW.started_at, NEW.saves, NEW.ended_at, NEW.outcome, NEW.error)
    ON CONFLICT (context_id, run_id) DO UPDATE
    SET ended_at = NEW.ended_at, outcome = NEW.outcome, error = NEW.error, saves = NEW.saves;

    INSERT INTO taskctx_revisions (
        context_id, revision, saved_at, run_id, save_number, next_seq, next_model, next_position, changed_state
    )
    VALUES (
        NEW.context_id, NEW.revision + 1, NEW.saved_at, NEW.run_id, NEW.saves,
        NEW.seq + NEW.updates, NEW.next_model, NEW.next_position, nullif(NEW.changed_state, 0)
    );
END"""

_UPDATE: Final = """\
CREATE TEMP TRIGGER taskctx_appends_update INSTEAD OF INSERT ON taskctx_appends WHEN NEW.updates > 0
BEGIN
    INSERT INTO taskctx_updates (context_id, seq, timestamp, update_type, data, metadata, added_in, run_id)
    VALUES (
        NEW.context_id, NEW.seq, NEW.timestamp, NEW.update_type, NEW.data, NEW.metadata, NEW.revision + 1, NEW.run_id
    );
END"""

_VALUE: Final = """\
CREATE TEMP TRIGGER taskctx_appends_value INSTEAD OF INSERT ON taskctx_appends WHEN NEW.changed_state > 0
BEGIN
    UPDATE taskctx_state SET removed_in = NEW.revision + 1
    WHERE context_id = NEW.context_id AND kind = NEW.kind AND name = NEW.name AND removed_in IS NULL;

    INSERT INTO taskctx_state (context_id, kind, name, added_in, value, expires_at, saved_at, run_id, parent_id)
    SELECT
        NEW.context_id, NEW.kind, NEW.name, NEW.revision + 1, NEW.value, NEW.expires_at, NEW.saved_at, NEW.run_id,
        NEW.parent_id
    WHERE NEW.value IS NOT NULL;
END"""


def set_up(connection: sqlite3.Connection) -> None:
    """Make a connection ready for the statements of `appends_of`. Nothing of it is in the file."""
    for statement in (_VIEW, _SAVE, _UPDATE, _VALUE):
        connection.execute(statement)


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
        rows += max(len(request.updates), len(request.state))
    if rows > MAX_ROWS:
        return None
    values: list[Any] = []
    answers: list[Saved] = []
    for request in requests:
        if any(row[-1] is not None for row in request.updates):
            # There is no column for what is kept exactly beside the others.
            return None
        created_at, revision, _, numbers = request.base
        if created_at is None:
            created_at = request.delta.at
        seq, model, position = numbers or (1, 1, 1)
        for row in _rows(request, created_at, revision, seq, model, position):
            values += row
        head = ContextHead(created_at, revision + 1, seq + len(request.updates), model, position)
        answers.append(request.saved(head))
    filled = rows if rows < _EXACT_ROWS else min(-(-rows // _EXACT_ROWS) * _EXACT_ROWS, MAX_ROWS)
    values += _FILLER * (filled - rows)
    return Appends(_insertion(filled), values, answers)


def _rows(
    request: SaveRequest, created_at: float, revision: int, seq: int, model: int, position: int
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a save, the first one with the context as memory has seen it."""
    delta, run, key, context_id = request.delta, request.delta.run, request.delta.key, request.context_id
    updates, state = request.updates, request.state
    head: tuple[Any, ...] = (context_id, key.user_id, key.chat_id, created_at, revision, seq, model, position)
    head += (len(updates), len(state), delta.at, run.run_id, run.started_at, run.saves)
    head += (run.ended_at, run.outcome, request.error)
    update = updates[0][:-1] if updates else _NO_UPDATE
    yield (*head, *update, *(state[0] if state else _NO_VALUE))
    for at, (update_row, value) in enumerate(zip_longest(updates[1:], state[1:]), 1):
        has = (int(update_row is not None), int(value is not None))
        yield (
            *(context_id, "", "", 0, revision, seq + at, 0, 0, *has, delta.at, run.run_id, 0, 0, "", "", ""),
            *(_NO_UPDATE if update_row is None else update_row[:-1]),
            *(value or _NO_VALUE),
        )


@cache
def _insertion(rows: int) -> str:
    row = f"({', '.join('?' * len(_COLUMNS))})"
    return f"INSERT INTO taskctx_appends VALUES {', '.join([row] * rows)}"  # noqa: S608  # nothing of the caller's
