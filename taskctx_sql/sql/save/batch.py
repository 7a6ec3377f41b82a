"""What saves write, once it is decided: all of them in bulk, table by table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.context_row import ContextHead
from taskctx_sql.sql.history import Restored
from taskctx_sql.sql.plan import Rows, Statement, Step, columns, insertion, number, parameters, text
from taskctx_sql.sql.save.request import Removed, SaveRequest
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, updates

# A mapping with nothing in it.
EMPTY: Final = "{}"

Row = tuple[Any, ...]


class Batch:
    """The rows that saves write, by the name of the write."""

    def __init__(self, engine: str) -> None:
        """Begin with nothing."""
        self._engine = engine
        self._rows: dict[str, list[Row]] = defaultdict(list)

    def add(
        self,
        request: SaveRequest,
        head: ContextHead,
        metadata: str | None,
        toggles: str | None,
        removed: Removed,
        *,
        is_new: bool,
    ) -> None:
        """Add a save that was given ``head``."""
        delta, encoded, run, rows = request.delta, request.encoded, request.delta.run, self._rows
        context_id, run_id = encoded.context_id, run.run_id
        _, last, next_seq, next_model, next_position = head
        if is_new:
            named = (context_id, delta.key.user_id, delta.key.chat_id, metadata or EMPTY, toggles or EMPTY)
            rows["contexts"].append((*named, *head[1:], head.created_at, delta.at))
        else:
            self._move(request, head, metadata, toggles)
        self._tell_of_run(request)
        made = (delta.at, run_id, run.saves, *head[2:])
        now = last
        if delta.is_operation:
            # The last one, so that what changed beside it is there already when it is taken back.
            now -= request.makes_revision
            told = (None, None, None, len(removed.dropped), delta.operation, None, None)
            rows["operations"].append((context_id, last, *made, *told))
        if request.makes_revision:
            rows["revisions"].append((context_id, now, *made, metadata, toggles, len(removed.updates) or None))
        # As ranges: an optimize takes out long runs of rows, and a list of seqs would end at 65,535 parameters.
        if removed.updates:
            rows["removed updates"] += [(now, context_id, *span) for span in _ranges(removed.updates)]
        if removed.dropped:
            rows["removed updates"] += [(last, context_id, *span) for span in _ranges(removed.dropped)]
        if removed.models:
            rows["removed models"] += [(now, context_id, *span) for span in _ranges(removed.models)]
        if encoded.changed_paths:
            rows["replaced files"] += [(now, context_id, path_id) for path_id in encoded.changed_paths]
        if encoded.updates:
            first = next_seq - len(encoded.updates)
            rows["updates"] += [(context_id, seq, *row, now, run_id) for seq, row in enumerate(encoded.updates, first)]
        if encoded.models:
            first = next_model - len(encoded.models)
            rows["models"] += [(context_id, seq, *row, now, run_id) for seq, row in enumerate(encoded.models, first)]
        if encoded.files:
            free = iter(range(next_position - encoded.unplaced_files, next_position))
            for (path_id, *row), position in zip(encoded.files, encoded.positions, strict=True):
                place_now = next(free) if position is None else position
                rows["files"].append((context_id, path_id, now, place_now, *row, run_id))

    def add_restore(self, request: SaveRequest, head: ContextHead, restored: Restored) -> None:
        """Add what a restore or an undo, which was given ``head``, has not written yet."""
        run, metadata, toggles = request.delta.run, restored.metadata, restored.toggles
        self._move(request, head, metadata, toggles)
        self._tell_of_run(request)
        made = (request.encoded.context_id, head.revision, request.delta.at, run.run_id, run.saves, *head[2:])
        told = (metadata, toggles, restored.added, restored.removed, request.delta.operation, restored.source, None)
        self._rows["operations"].append((*made, *told))

    def _move(self, request: SaveRequest, head: ContextHead, metadata: str | None, toggles: str | None) -> None:
        context_id = request.encoded.context_id
        self._rows["moved"].append((*head[1:], request.delta.at, context_id))
        if metadata is not None:
            self._rows["metadata"].append((metadata, context_id))
        if toggles is not None:
            self._rows["metadata_toggles"].append((toggles, context_id))

    def _tell_of_run(self, request: SaveRequest) -> None:
        run = request.delta.run
        ended = (run.started_at, run.ended_at, run.outcome, request.encoded.error, run.saves)
        self._rows["runs"].append((request.encoded.context_id, run.run_id, *ended))

    def plan(self) -> Iterator[Step]:
        """Return the statements."""
        for name, write in _writes(self._engine).items():
            if name in self._rows:
                yield Step(write.statement, Rows(write.names, self._rows[name], write.into))


# The statements.


class _Write(NamedTuple):
    """A statement that is done for many rows: the names of its parameters, and the table if it only inserts."""

    statement: Statement
    names: tuple[str, ...]
    into: sa.Table | None = None


@cache
def _writes(engine: str) -> dict[str, _Write]:
    """Return the writes by name, in their order: what leaves goes before what comes in its place."""
    removed = ("now", "context", "low", "high")
    return {
        "contexts": _insertion(contexts),
        "moved": _Write(
            _move_context(engine), ("revision_now", "seq_now", "model_now", "position_now", "at", "context")
        ),
        "metadata": _Write(_write_mapping("metadata"), ("now", "context")),
        "metadata_toggles": _Write(_write_mapping("metadata_toggles"), ("now", "context")),
        "runs": _Write(_upsert_run(engine), columns(runs)),
        "revisions": _insertion(revisions),
        "operations": _Write(insertion(revisions), columns(revisions), revisions),
        "removed updates": _Write(_remove(updates), removed),
        "removed models": _Write(_remove(models), removed),
        "replaced files": _Write(_replace_file(), ("now", "context", "tracked")),
        "updates": _insertion(updates),
        "models": _insertion(models),
        "files": _insertion(files),
    }


# What a save leaves NULL: it only adds, and copies nothing.
_LATER: Final = {
    contexts: ("pruned_until",),
    updates: ("removed_in", "copy_of"),
    models: ("removed_in", "copy_of"),
    files: ("removed_in", "copy_of"),
    revisions: ("added", "operation", "source_revision", "source_chat_id"),
}


def _insertion(table: sa.Table) -> _Write:
    without = _LATER[table]
    return _Write(insertion(table, *without), columns(table, *without), table)


def _move_context(engine: str) -> Statement:
    # By a slow clock nothing gets older than it was.
    latest = sa.func.max if engine == "sqlite" else sa.func.greatest
    return (
        sa.update(contexts)
        .where(contexts.c.context_id == text("context"))
        .values(
            revision=number("revision_now"),
            next_seq=number("seq_now"),
            next_model=number("model_now"),
            next_position=number("position_now"),
            updated_at=latest(contexts.c.updated_at, sa.bindparam("at", type_=sa.Double)),
        )
    )


def _write_mapping(name: str) -> Statement:
    return sa.update(contexts).where(contexts.c.context_id == text("context")).values({name: text("now")})


def _upsert_run(engine: str) -> Statement:
    statement = engines.insert(engine, runs).values(parameters(runs))
    fixed = ("context_id", "run_id", "started_at")
    return statement.on_conflict_do_update(
        index_elements=[runs.c.context_id, runs.c.run_id],
        set_={column.name: statement.excluded[column.name] for column in runs.c if column.name not in fixed},
    )


def _remove(table: sa.Table) -> Statement:
    return (
        sa.update(table)
        .where(
            table.c.context_id == text("context"),
            table.c.seq.between(number("low"), number("high")),
            table.c.removed_in.is_(None),
        )
        .values(removed_in=number("now"))
    )


def _replace_file() -> Statement:
    return (
        sa.update(files)
        .where(files.c.context_id == text("context"), files.c.path_id == text("tracked"), files.c.removed_in.is_(None))
        .values(removed_in=number("now"))
    )


def _ranges(seqs: Sequence[int]) -> Iterator[tuple[int, int]]:
    ordered = sorted(seqs)
    first = last = ordered[0]
    for seq in ordered[1:]:
        if seq != last + 1:
            yield first, last
            first = seq
        last = seq
    yield first, last
