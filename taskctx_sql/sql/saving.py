"""What a save does, statement by statement.

First everything is read and decided, and then everything is written. So saves of several contexts can share a
transaction: one that is refused has written nothing, and leaves its neighbors alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.errors import LostContextError, StaleContextError, TaskContextError
from taskctx_sql.records import Delta, MappingChange, Saved
from taskctx_sql.sql import dialect, restoring, rows
from taskctx_sql.sql.restoring import Restored
from taskctx_sql.sql.rows import Encoded
from taskctx_sql.sql.steps import Rows, Statement, Step, Steps, columns, insertion, number, parameters, text
from taskctx_sql.sql.tables import contexts, files, models, revisions, runs, updates

_EMPTY: Final = "{}"

Row = tuple[Any, ...]


class Base(NamedTuple):
    """What a context has seen of its row: when it was made (None: it was not there) and the revision."""

    created_at: float | None
    revision: int


UNSEEN: Final = Base(None, 0)


class Job:
    """A save to be done.

    Attributes:
        delta: What to write.
        encoded: The same, as it goes into columns.
        strict: Refuse values that would come back as their text.
        base: What the context has seen of its row.
        makes_revision: Whether it makes one of what changed; what its operation does is another one, after it.
        step: How many revisions it makes: none if it only tells of its run.
        named: The user that its transaction names, if it has to.
    """

    __slots__ = ("base", "delta", "encoded", "makes_revision", "named", "step", "strict")

    def __init__(self, delta: Delta, encoded: Encoded, *, strict: bool, named: str | None = None) -> None:
        """Take what is to be saved."""
        self.delta = delta
        self.encoded = encoded
        self.strict = strict
        self.named = named
        self.base: Base = delta.base or UNSEEN
        self.makes_revision = delta.has_changes or (self.base.revision == 0 and not delta.is_operation)
        self.step = self.makes_revision + delta.is_operation

    def saved(self, head: Head) -> Saved:
        """Return the answer, from the context's row as it is after the save."""
        complete = head.revision - self.step == self.base.revision
        return Saved(
            revision=head.revision,
            first_seq=head.next_seq - len(self.encoded.updates),
            first_model=head.next_model - len(self.encoded.models),
            first_position=head.next_position - self.encoded.unplaced_files,
            base=Base(head.created_at, head.revision if complete else self.base.revision),
            complete=complete,
        )


class Head(NamedTuple):
    """A context's row: where it stands, and what comes next."""

    created_at: float
    revision: int = 0
    next_seq: int = 1
    next_model: int = 1
    next_position: int = 1


def save(engine: str, job: Job) -> Steps[Saved]:
    """Return the steps of a save, all for one transaction.

    Args:
        engine: Whose SQL; SQLAlchemy's name of it.
        job: What to save.

    Raises:
        LostContextError: The context was deleted since the base.
        StaleContextError: It was to be unchanged, and is not.
    """
    (answer,) = yield from save_together(engine, [job])
    if isinstance(answer, TaskContextError):
        raise answer
    return answer


def save_together(engine: str, jobs: Sequence[Job]) -> Steps[list[Saved | TaskContextError]]:
    """Return the steps of saves to different contexts, all for one transaction, and their answers in order.

    On Postgres several would wait for each other's locks: there `postgres_writer` knows how.
    """
    batch = _Batch(engine)
    answers: list[Saved | TaskContextError] = []
    for job in jobs:
        try:
            answers.append((yield from _decide(engine, job, batch)))
        except TaskContextError as error:
            answers.append(error)
    yield from batch.steps()
    return answers


def _decide(engine: str, job: Job, batch: _Batch) -> Steps[Saved | TaskContextError]:
    """Add what a save writes to the batch, and return its answer; or say why it is refused."""
    delta, base = job.delta, job.base
    if engine == "sqlite":
        # The transaction has the write lock already.
        found = yield Step(_select_head(), {"ident": job.encoded.context_id}, reads=True)
    else:
        found = yield Step(_lock_head(), _new_context(job), reads=True)
    head = Head(*found[0]) if found else Head(delta.at)
    if base.created_at not in (None, head.created_at):
        return LostContextError(delta.key)
    if head.revision != base.revision:
        # Somebody saved in between; it may have been a copy of this very save.
        saves = yield Step(_select_saves(), {"ident": job.encoded.context_id, "run": delta.run.run_id}, reads=True)
        if saves and saves[0][0] != delta.run.saves - 1:
            return (yield from _answer_again(job, head))
        if delta.if_unchanged:
            return StaleContextError(delta.key, base.revision, head.revision)
    if delta.operation in ("restore", "undo"):
        numbers = (head.revision + 1, head.next_seq, head.next_model)
        restored = yield from restoring.restore(engine, job.encoded.context_id, delta, *numbers)
        moved = Head(head.created_at, numbers[0], restored.next_seq, restored.next_model, head.next_position)
        batch.add_restore(job, moved, restored)
        return job.saved(moved)
    moved = Head(
        head.created_at,
        head.revision + job.step,
        head.next_seq + len(job.encoded.updates),
        head.next_model + len(job.encoded.models),
        head.next_position + job.encoded.unplaced_files,
    )
    saved = job.saved(moved)
    metadata, toggles, removed = job.encoded.metadata, job.encoded.toggles, _removed(delta)
    if not saved.complete:
        metadata = yield from _merged(job, "metadata", delta.metadata)
        toggles = yield from _merged(job, "metadata_toggles", delta.toggles)
        removed = yield from _still_there(engine, job, removed)
    batch.add(job, moved, metadata, toggles, removed, is_new=not found)
    return saved


class _Removed(NamedTuple):
    """The seqs of rows that leave: of updates, of those that an optimize or truncate took out, and of model uses."""

    updates: Sequence[int] = ()
    dropped: Sequence[int] = ()
    models: Sequence[int] = ()


def _removed(delta: Delta) -> _Removed:
    if not delta.dropped:
        return _Removed(delta.removed_updates, (), delta.removed_models)
    dropped = set(delta.dropped)
    others = [seq for seq in delta.removed_updates if seq not in dropped]
    return _Removed(others, delta.dropped, delta.removed_models)


def _still_there(engine: str, job: Job, removed: _Removed) -> Steps[_Removed]:
    """Return the steps that find what is there of the rows that leave.

    Others may have removed them meanwhile, or a restore may have written them anew.
    """
    if not any(removed):
        return removed
    ident, found = job.encoded.context_id, []
    copied = yield from restoring.restored_since(ident, job.base.revision)
    for table, seqs in ((updates, removed.updates), (updates, removed.dropped), (models, removed.models)):
        found.append((yield from restoring.rows_now(engine, table, ident, seqs, copied=copied)))
    return _Removed(*found)


def _answer_again(job: Job, head: Head) -> Steps[Saved | TaskContextError]:
    """Return the steps that find what a save was given when it was written."""
    if not job.step:
        return job.saved(head)
    run = job.delta.run
    known = {"ident": job.encoded.context_id, "run": run.run_id, "number": run.saves, "seen": job.base.revision}
    found = yield Step(_select_revision(), known, reads=True)
    if not found:
        # The run's counter stands elsewhere: the database was set back to an older state.
        return LostContextError(job.delta.key)
    return job.saved(Head(head.created_at, *found[0]))


def _merged(job: Job, name: str, change: MappingChange | None) -> Steps[str | None]:
    """Return the steps that apply a change to what is stored: somebody else may have set other keys."""
    if change is None:
        return None
    stored = yield Step(_select_mapping(name), {"ident": job.encoded.context_id}, reads=True)
    before = stored[0][0] if stored else _EMPTY
    return rows.merged_text(job.delta.key, name, before, change, strict=job.strict)


class _Batch:
    """The rows that saves write, by the name of the write."""

    def __init__(self, engine: str) -> None:
        """Begin with nothing."""
        self._engine = engine
        self._rows: dict[str, list[Row]] = defaultdict(list)

    def add(
        self,
        job: Job,
        head: Head,
        metadata: str | None,
        toggles: str | None,
        removed: _Removed,
        *,
        is_new: bool,
    ) -> None:
        """Add a save that was given ``head``."""
        delta, encoded, run, rows = job.delta, job.encoded, job.delta.run, self._rows
        ident, run_id = encoded.context_id, run.run_id
        _, last, next_seq, next_model, next_position = head
        if is_new:
            named = (ident, delta.key.user_id, delta.key.chat_id, metadata or _EMPTY, toggles or _EMPTY)
            rows["contexts"].append((*named, *head[1:], head.created_at, delta.at))
        else:
            self._move(job, head, metadata, toggles)
        self._tell_of_run(job)
        made = (delta.at, run_id, run.saves, *head[2:])
        now = last
        if delta.is_operation:
            # The last one, so that what changed beside it is there already when it is taken back.
            now -= job.makes_revision
            told = (None, None, None, len(removed.dropped), delta.operation, None, None)
            rows["operations"].append((ident, last, *made, *told))
        if job.makes_revision:
            rows["revisions"].append((ident, now, *made, metadata, toggles, len(removed.updates) or None))
        # As ranges: an optimize takes out long runs of rows, and a list of seqs would end at 65,535 parameters.
        if removed.updates:
            rows["removed updates"] += [(now, ident, *span) for span in _ranges(removed.updates)]
        if removed.dropped:
            rows["removed updates"] += [(last, ident, *span) for span in _ranges(removed.dropped)]
        if removed.models:
            rows["removed models"] += [(now, ident, *span) for span in _ranges(removed.models)]
        if encoded.changed_paths:
            rows["replaced files"] += [(now, ident, path_id) for path_id in encoded.changed_paths]
        if encoded.updates:
            first = next_seq - len(encoded.updates)
            rows["updates"] += [(ident, seq, *row, now, run_id) for seq, row in enumerate(encoded.updates, first)]
        if encoded.models:
            first = next_model - len(encoded.models)
            rows["models"] += [(ident, seq, *row, now, run_id) for seq, row in enumerate(encoded.models, first)]
        if encoded.files:
            free = iter(range(next_position - encoded.unplaced_files, next_position))
            for (path_id, *row), position in zip(encoded.files, encoded.positions, strict=True):
                place_now = next(free) if position is None else position
                rows["files"].append((ident, path_id, now, place_now, *row, run_id))

    def add_restore(self, job: Job, head: Head, restored: Restored) -> None:
        """Add what a restore or an undo, which was given ``head``, has not written yet."""
        run, metadata, toggles = job.delta.run, restored.metadata, restored.toggles
        self._move(job, head, metadata, toggles)
        self._tell_of_run(job)
        made = (job.encoded.context_id, head.revision, job.delta.at, run.run_id, run.saves, *head[2:])
        told = (metadata, toggles, restored.added, restored.removed, job.delta.operation, restored.source, None)
        self._rows["operations"].append((*made, *told))

    def _move(self, job: Job, head: Head, metadata: str | None, toggles: str | None) -> None:
        ident = job.encoded.context_id
        self._rows["moved"].append((*head[1:], job.delta.at, ident))
        if metadata is not None:
            self._rows["metadata"].append((metadata, ident))
        if toggles is not None:
            self._rows["metadata_toggles"].append((toggles, ident))

    def _tell_of_run(self, job: Job) -> None:
        run = job.delta.run
        ended = (run.started_at, run.ended_at, run.outcome, job.encoded.error, run.saves)
        self._rows["runs"].append((job.encoded.context_id, run.run_id, *ended))

    def steps(self) -> Iterator[Step]:
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
    removed = ("now", "ident", "low", "high")
    return {
        "contexts": _insertion(contexts),
        "moved": _Write(_move_context(), ("revision_now", "seq_now", "model_now", "position_now", "at", "ident")),
        "metadata": _Write(_write_mapping("metadata"), ("now", "ident")),
        "metadata_toggles": _Write(_write_mapping("metadata_toggles"), ("now", "ident")),
        "runs": _Write(_upsert_run(engine), columns(runs)),
        "revisions": _insertion(revisions),
        "operations": _Write(insertion(revisions), columns(revisions), revisions),
        "removed updates": _Write(_remove(updates), removed),
        "removed models": _Write(_remove(models), removed),
        "replaced files": _Write(_replace_file(), ("now", "ident", "tracked")),
        "updates": _insertion(updates),
        "models": _insertion(models),
        "files": _insertion(files),
    }


# What a save leaves NULL: it only adds, and copies nothing.
_LATER: Final = {
    contexts: ("pruned_until",),
    updates: ("removed_in", "copy_of"),
    models: ("removed_in", "copy_of"),
    files: ("removed_in",),
    revisions: ("added", "operation", "source_revision", "source_chat_id"),
}


def _insertion(table: sa.Table) -> _Write:
    without = _LATER[table]
    return _Write(insertion(table, *without), columns(table, *without), table)


def _new_context(job: Job) -> dict[str, Any]:
    head = Head(job.delta.at)
    place = (head.revision, head.next_seq, head.next_model, head.next_position)
    values = (job.encoded.context_id, job.delta.key.user_id, job.delta.key.chat_id, _EMPTY, _EMPTY, *place)
    return dict(zip(columns(contexts, "pruned_until"), (*values, job.delta.at, job.delta.at), strict=True))


_HEAD: Final = (
    contexts.c.created_at,
    contexts.c.revision,
    contexts.c.next_seq,
    contexts.c.next_model,
    contexts.c.next_position,
)


@cache
def _select_head() -> Statement:
    return sa.select(*_HEAD).where(contexts.c.context_id == text("ident"))


@cache
def _lock_head() -> Statement:
    # An insert, or an update of nothing where the row is there: two first writers come one after the other, too.
    statement = dialect.insert("postgresql", contexts).values(parameters(contexts, "pruned_until"))
    return statement.on_conflict_do_update(
        index_elements=[contexts.c.context_id], set_={"updated_at": contexts.c.updated_at}
    ).returning(*_HEAD)


def _move_context() -> Statement:
    return (
        sa.update(contexts)
        .where(contexts.c.context_id == text("ident"))
        .values(
            revision=number("revision_now"),
            next_seq=number("seq_now"),
            next_model=number("model_now"),
            next_position=number("position_now"),
            updated_at=sa.bindparam("at", type_=sa.Double),
        )
    )


def _write_mapping(name: str) -> Statement:
    return sa.update(contexts).where(contexts.c.context_id == text("ident")).values({name: text("now")})


@cache
def _select_mapping(name: str) -> Statement:
    return sa.select(contexts.c[name]).where(contexts.c.context_id == text("ident"))


def _upsert_run(engine: str) -> Statement:
    statement = dialect.insert(engine, runs).values(parameters(runs))
    fixed = ("context_id", "run_id", "started_at")
    return statement.on_conflict_do_update(
        index_elements=[runs.c.context_id, runs.c.run_id],
        set_={column.name: statement.excluded[column.name] for column in runs.c if column.name not in fixed},
    )


@cache
def _select_saves() -> Statement:
    return sa.select(runs.c.saves).where(runs.c.context_id == text("ident"), runs.c.run_id == text("run"))


@cache
def _select_revision() -> Statement:
    place = (revisions.c.revision, revisions.c.next_seq, revisions.c.next_model, revisions.c.next_position)
    statement = sa.select(*place).where(
        revisions.c.context_id == text("ident"),
        revisions.c.revision > number("seen"),
        revisions.c.run_id == text("run"),
        revisions.c.save_number == number("number"),
    )
    # A save with an operation made two.
    return statement.order_by(revisions.c.revision.desc())


def _remove(table: sa.Table) -> Statement:
    return (
        sa.update(table)
        .where(
            table.c.context_id == text("ident"),
            table.c.seq.between(number("low"), number("high")),
            table.c.removed_in.is_(None),
        )
        .values(removed_in=number("now"))
    )


def _replace_file() -> Statement:
    return (
        sa.update(files)
        .where(files.c.context_id == text("ident"), files.c.path_id == text("tracked"), files.c.removed_in.is_(None))
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
