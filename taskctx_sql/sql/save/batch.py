"""What saves to SQLite write: the rows of all of them, with one statement for each kind of write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, Generic, NamedTuple, TypeVar

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.context_row import ContextHead
from taskctx_sql.sql.history import Restored
from taskctx_sql.sql.plan import Statement, Write, WriteAll, columns, insertion, number, opaque_text, parameters, text
from taskctx_sql.sql.save.request import Removed, SaveRequest
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, state, updates

# A mapping with nothing in it.
EMPTY: Final = "{}"

Row = tuple[Any, ...]
T = TypeVar("T")


class PerWrite(NamedTuple, Generic[T]):
    """A value for each write, in the order of the writes: what is removed goes before what replaces it.

    SQLite's driver takes longer for a NULL than for any other value. So most rows go to statements without the columns
    that are usually NULL: the runs under way, and the plain revisions and updates.
    """

    contexts: T
    heads: T
    metadata: T
    toggles: T
    runs_under_way: T
    runs: T
    plain_revisions: T
    revisions: T
    operations: T
    removed_updates: T
    removed_models: T
    replaced_files: T
    replaced_state: T
    plain_updates: T
    updates: T
    models: T
    files: T
    state: T


class Batch:
    """The rows that saves write.

    Of each save that is not a restore or an undo, `add` takes its own rows, and another method the context's row.
    """

    def __init__(self) -> None:
        self._rows: PerWrite[list[Row]] = PerWrite(*([] for _ in PerWrite._fields))

    def add(
        self, request: SaveRequest, head: ContextHead, metadata: str | None, toggles: str | None, removed: Removed
    ) -> None:
        """Add a save after which the context's row is ``head``."""
        delta, run, rows = request.delta, request.delta.run, self._rows
        at, context_id, run_id = delta.at, request.context_id, run.run_id
        _, newest, next_seq, next_model, next_position = head
        self._add_run(request)
        origin = (at, run_id, run.saves, next_seq, next_model, next_position)
        revision = newest
        if request.is_operation:
            # The newest one, so that what changed beside it is there already when it is taken back.
            revision -= request.makes_revision
            dropped = (None, None, None, len(removed.dropped), None, delta.operation, None, None)
            rows.operations.append((context_id, newest, *origin, *dropped))
        if request.makes_revision:
            if metadata is None and toggles is None and not removed.updates and not request.state:
                rows.plain_revisions.append((context_id, revision, *origin))
            else:
                effect = (metadata, toggles, len(removed.updates) or None, len(request.state) or None)
                rows.revisions.append((context_id, revision, *origin, *effect))
        # As ranges: an optimize takes out long runs of rows, and a list of seqs would end at 65,535 parameters.
        if removed.updates:
            rows.removed_updates.extend((revision, context_id, *span) for span in _ranges(removed.updates))
        if removed.dropped:
            rows.removed_updates.extend((newest, context_id, *span) for span in _ranges(removed.dropped))
        if removed.models:
            rows.removed_models.extend((revision, context_id, *span) for span in _ranges(removed.models))
        if request.changed_paths:
            rows.replaced_files.extend((revision, context_id, path_id) for path_id in request.changed_paths)
        if request.state:
            rows.replaced_state.extend((revision, context_id, kind, name) for kind, name, *_ in request.state)
            for kind, name, value, expires_at, parent_id in request.state:
                if value is not None:
                    rows.state.append((context_id, kind, name, revision, value, expires_at, at, run_id, parent_id))
        if request.updates:
            self._add_updates(request, next_seq - len(request.updates), revision)
        if request.models:
            uses = enumerate(request.models, next_model - len(request.models))
            rows.models.extend([(context_id, seq, *row, revision, run_id) for seq, row in uses])
        if request.files:
            free = iter(range(next_position - request.unplaced_files, next_position))
            for (path_id, *row), position in zip(request.files, request.positions, strict=True):
                position = next(free) if position is None else position
                rows.files.append((context_id, path_id, revision, position, *row, run_id))

    def add_restore(self, request: SaveRequest, head: ContextHead, restored: Restored) -> None:
        """Add what a restore or an undo, after which the context's row is ``head``, has not written yet."""
        run, metadata, toggles = request.delta.run, restored.metadata, restored.toggles
        self.change_context(request, head, metadata, toggles)
        self._add_run(request)
        origin = (request.context_id, head.revision, request.delta.at, run.run_id, run.saves, *head[2:])
        effect = (metadata, toggles, restored.added, restored.removed, restored.changed_state or None)
        self._rows.operations.append((*origin, *effect, request.delta.operation, restored.source, None))

    def insert_context(
        self, request: SaveRequest, head: ContextHead, metadata: str | None, toggles: str | None
    ) -> None:
        """Add the row of a new context."""
        key, at = request.delta.key, request.delta.at
        identity = (request.context_id, key.user_id, key.chat_id, metadata or EMPTY, toggles or EMPTY)
        self._rows.contexts.append((*identity, *head[1:], head.created_at, at))

    def change_context(
        self, request: SaveRequest, head: ContextHead, metadata: str | None, toggles: str | None
    ) -> None:
        """Let the context's row become ``head``, with mappings that are not None."""
        self._rows.heads.append((*head[1:], request.delta.at, request.context_id))
        if metadata is not None:
            self._rows.metadata.append((metadata, request.context_id))
        if toggles is not None:
            self._rows.toggles.append((toggles, request.context_id))

    def _add_run(self, request: SaveRequest) -> None:
        run, error = request.delta.run, request.error
        if run.ended_at is None and run.outcome is None and error is None:
            self._rows.runs_under_way.append((request.context_id, run.run_id, run.started_at, run.saves))
        else:
            state = (run.started_at, run.ended_at, run.outcome, error, run.saves)
            self._rows.runs.append((request.context_id, run.run_id, *state))

    def _add_updates(self, request: SaveRequest, first_seq: int, revision: int) -> None:
        new = list(enumerate(request.updates, first_seq))
        context_id, end = request.context_id, (revision, request.delta.run.run_id)
        plain = [(context_id, seq, *row[:-1], *end) for seq, row in new if row[-1] is None]
        self._rows.plain_updates.extend(plain)
        if len(plain) < len(new):
            exact = [(context_id, seq, *row, *end) for seq, row in new if row[-1] is not None]
            self._rows.updates.extend(exact)

    def writes(self) -> WriteAll:
        """Return what writes them."""
        return WriteAll(_writes(), self._rows)


# The statements.


@cache
def _writes() -> PerWrite[Write]:
    removal = ("revision", "context", "low", "high")
    # Columns that a save leaves NULL, since it copies nothing.
    later = ("removed_in", "copy_of")
    of_head = ("revision_now", "seq_now", "model_now", "position_now", "at", "context")
    of_operations = ("added", "operation", "source_revision", "source_chat_id")
    return PerWrite(
        contexts=_insertion(contexts, "pruned_until"),
        heads=Write(_update_head(), of_head),
        metadata=Write(_update(metadata=text("now")), ("now", "context")),
        toggles=Write(_update(metadata_toggles=text("now")), ("now", "context")),
        runs_under_way=_upsertion_of_run("ended_at", "outcome", "error"),
        runs=_upsertion_of_run(),
        plain_revisions=_insertion(
            revisions, "metadata", "metadata_toggles", "removed", "changed_state", *of_operations
        ),
        revisions=_insertion(revisions, *of_operations),
        operations=_insertion(revisions),
        removed_updates=Write(_remove(updates), removal),
        removed_models=Write(_remove(models), removal),
        replaced_files=Write(_remove(files), ("revision", "context", "tracked")),
        replaced_state=Write(_remove(state), ("revision", "context", "of_kind", "of_name")),
        plain_updates=_insertion(updates, "exact", *later),
        updates=_insertion(updates, *later),
        models=_insertion(models, *later),
        files=_insertion(files, *later),
        state=_insertion(state, *later),
    )


def _update_head() -> sa.Update:
    return _update(
        revision=number("revision_now"),
        next_seq=number("seq_now"),
        next_model=number("model_now"),
        next_position=number("position_now"),
        # A slow clock does not set it back.
        updated_at=sa.func.max(contexts.c.updated_at, sa.bindparam("at", type_=sa.Double)),
    )


def _insertion(table: sa.Table, *without: str) -> Write:
    return Write(insertion(table, *without), columns(table, *without))


def _update(**values: sa.ColumnElement[Any]) -> sa.Update:
    return sa.update(contexts).where(contexts.c.context_id == text("context")).values(values)


def _upsertion_of_run(*without: str) -> Write:
    statement = engines.insert("sqlite", runs).values(parameters(runs, *without))
    fixed = ("context_id", "run_id", "started_at")
    statement = statement.on_conflict_do_update(
        index_elements=[runs.c.context_id, runs.c.run_id],
        # Of a column without a parameter, this is NULL.
        set_={column.name: statement.excluded[column.name] for column in runs.c if column.name not in fixed},
    )
    return Write(statement, columns(runs, *without))


def _remove(table: sa.Table) -> Statement:
    if table is files:
        which = table.c.path_id == text("tracked")
    elif table is state:
        which = sa.and_(table.c.kind == opaque_text("of_kind"), table.c.name == text("of_name"))
    else:
        which = table.c.seq.between(number("low"), number("high"))
    rows = (table.c.context_id == text("context"), which, table.c.removed_in.is_(None))
    return sa.update(table).where(*rows).values(removed_in=number("revision"))


def _ranges(seqs: Sequence[int]) -> Iterator[tuple[int, int]]:
    ordered = sorted(seqs)
    first = last = ordered[0]
    for seq in ordered[1:]:
        if seq != last + 1:
            yield first, last
            first = seq
        last = seq
    yield first, last
