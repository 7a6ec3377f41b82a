"""The one statement that saves a group to Postgres, and its parameters."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from taskctx_sql.sql.save.request import SaveRequest


def _types(columns: str) -> dict[str, str]:
    return dict(column.split() for column in columns.split(","))


# The columns that the statement takes as arrays, with their types.
_SAVES: Final = _types(
    "context_id text, user_id text, chat_id text, base float8, newest int8, at float8, step int8, updates int8, "
    "models int8, files int8, metadata text, toggles text, run text, started_at float8, ended_at float8, outcome text, "
    "error text, saves int8"
)
_UPDATES: Final = _types(
    "context_id text, shift int8, timestamp float8, update_type text, data text, metadata text, exact text"
)
_MODELS: Final = _types(
    "context_id text, shift int8, model_id text, provider_id text, mode text, timestamp float8, input_tokens int8, "
    "output_tokens int8, cost float8, duration float8, exact text"
)
_FILES: Final = _types(
    "context_id text, shift int8, position int8, path_id text, path text, operation text, source text, "
    "timestamp float8, state text, exact text"
)
_REPLACED: Final = _types("context_id text, path_id text")
_TABLES: Final = (_SAVES, _UPDATES, _MODELS, _FILES, _REPLACED)


def parameters(requests: list[SaveRequest], *, trackers: bool) -> list[list[Any]]:
    """Return the parameters of the statement: arrays, where each request and each of its rows is an element."""
    rows: tuple[list[tuple[Any, ...]], ...] = ([], [], [], [], [])
    saves, updates, models, files, replaced = rows
    for request in requests:
        delta, context_id, run = request.delta, request.context_id, request.delta.run
        counts = (len(request.updates), len(request.models), request.unplaced_files)
        identity = (context_id, delta.key.user_id, delta.key.chat_id, request.base.created_at, request.base.newest)
        texts = (request.metadata, request.toggles)
        state = (run.run_id, run.started_at, run.ended_at, run.outcome, request.error, run.saves)
        saves.append((*identity, delta.at, request.step, *counts, *texts, *state))
        # Shifts count back from what comes next after the save.
        updates += [(context_id, shift, *row) for shift, row in enumerate(request.updates, -counts[0])]
        if not trackers:
            continue
        models += [(context_id, shift, *row) for shift, row in enumerate(request.models, -counts[1])]
        free = iter(range(-counts[2], 0))
        for row, position in zip(request.files, request.positions, strict=True):
            files.append((context_id, next(free) if position is None else 0, position, *row))
        replaced += [(context_id, path_id) for path_id in request.changed_paths]
    arrays: list[list[Any]] = []
    for columns, table in zip(_TABLES if trackers else _TABLES[:2], rows, strict=False):
        arrays += map(list, zip(*table, strict=True)) if table else ([] for _ in columns)
    return arrays


def _given(name: str, columns: dict[str, str], first: int) -> str:
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(columns.values(), first))
    return f"unnest({arrays}) AS {name} ({', '.join(columns)})"


@cache
def statement(*, trackers: bool, waiting: bool) -> str:
    """Return the statement. Its parts see the tables as they were at its beginning, and read each other's results.

    With ``trackers`` it writes model uses and files, too; with ``waiting`` it waits for contexts that others have
    locked, rather than leave them out.
    """
    first = len(_SAVES) + 1
    writes = _write_updates(first) + (_write_trackers(first + len(_UPDATES)) if trackers else "")
    return f"""
WITH save AS MATERIALIZED (SELECT * FROM {_given("save", _SAVES, 1)}),
locked AS MATERIALIZED (
    SELECT c.context_id FROM save, taskctx_contexts c
    WHERE c.context_id = save.context_id AND c.created_at = save.base AND c.revision >= greatest(save.newest, 1)
    FOR UPDATE OF c {"" if waiting else "SKIP LOCKED"}
),
created AS (
    INSERT INTO taskctx_contexts (context_id, user_id, chat_id, metadata, metadata_toggles, revision, next_seq,
                                  next_model, next_position, created_at, updated_at)
    SELECT context_id, user_id, chat_id, coalesce(metadata, '{{}}'), coalesce(toggles, '{{}}'), 1, 1 + updates,
           1 + models, 1 + files, at, at
    FROM save WHERE base IS NULL
    ON CONFLICT DO NOTHING
    RETURNING context_id, created_at, revision, next_seq, next_model, next_position
),
counted AS (
    INSERT INTO taskctx_runs AS r (context_id, run_id, started_at, ended_at, outcome, error, saves)
    SELECT context_id, run, started_at, ended_at, outcome, error, saves
    FROM save WHERE context_id IN (SELECT context_id FROM locked UNION ALL SELECT context_id FROM created)
    ON CONFLICT (context_id, run_id) DO UPDATE
    SET ended_at = excluded.ended_at, outcome = excluded.outcome, error = excluded.error, saves = excluded.saves
    WHERE r.saves = excluded.saves - 1
    RETURNING r.context_id
),
advanced AS (
    UPDATE taskctx_contexts c
    SET revision = c.revision + save.step, next_seq = c.next_seq + save.updates,
        next_model = c.next_model + save.models, next_position = c.next_position + save.files,
        updated_at = greatest(c.updated_at, save.at)
    FROM save
    WHERE c.context_id = save.context_id AND save.base IS NOT NULL
          AND save.context_id IN (SELECT context_id FROM counted)
    RETURNING c.context_id, c.created_at, c.revision, c.next_seq, c.next_model, c.next_position
),
head AS MATERIALIZED (
    SELECT h.*, save.run, save.at, save.saves, save.step, save.metadata, save.toggles
    FROM (SELECT * FROM created UNION ALL SELECT * FROM advanced) h JOIN save ON save.context_id = h.context_id
),
recorded AS (
    INSERT INTO taskctx_revisions (context_id, revision, saved_at, run_id, save_number, next_seq, next_model,
                                   next_position, metadata, metadata_toggles)
    SELECT context_id, revision, at, run, saves, next_seq, next_model, next_position, metadata, toggles
    FROM head WHERE step = 1
)
{writes}
SELECT context_id, created_at, revision, next_seq, next_model, next_position FROM head
"""


def _write_updates(first: int) -> str:
    return f"""
, updates AS (
    INSERT INTO taskctx_updates (context_id, seq, timestamp, update_type, data, metadata, exact, added_in, run_id)
    SELECT n.context_id, h.next_seq + n.shift, n.timestamp, n.update_type, n.data, n.metadata, n.exact, h.revision,
           h.run
    FROM {_given("n", _UPDATES, first)} JOIN head h ON h.context_id = n.context_id
)
"""


def _write_trackers(first: int) -> str:
    files = first + len(_MODELS)
    return f"""
, models AS (
    INSERT INTO taskctx_models (context_id, seq, model_id, provider_id, mode, timestamp, input_tokens, output_tokens,
                                cost, duration, exact, added_in, run_id)
    SELECT n.context_id, h.next_model + n.shift, n.model_id, n.provider_id, n.mode, n.timestamp, n.input_tokens,
           n.output_tokens, n.cost, n.duration, n.exact, h.revision, h.run
    FROM {_given("n", _MODELS, first)} JOIN head h ON h.context_id = n.context_id
),
replaced AS (
    UPDATE taskctx_files f SET removed_in = h.revision
    FROM {_given("n", _REPLACED, files + len(_FILES))} JOIN head h ON h.context_id = n.context_id
    WHERE f.context_id = n.context_id AND f.path_id = n.path_id AND f.removed_in IS NULL
    RETURNING f.context_id
),
files AS (
    INSERT INTO taskctx_files (context_id, path_id, added_in, position, path, operation, source, timestamp, state,
                               exact, run_id)
    SELECT n.context_id, n.path_id, h.revision, coalesce(n.position, h.next_position + n.shift), n.path, n.operation,
           n.source, n.timestamp, n.state, n.exact, h.run
    FROM {_given("n", _FILES, files)} JOIN head h ON h.context_id = n.context_id
    -- Only once the previous versions are marked as removed: a path has one at a time.
    WHERE (SELECT count(*) FROM replaced) >= 0
)
"""
