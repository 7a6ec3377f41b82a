"""What a save does, statement by statement."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.errors import LostContextError, StaleContextError
from taskctx_sql.records import Delta, MappingChange, Saved
from taskctx_sql.sql import dialect, rows
from taskctx_sql.sql.rows import Encoded
from taskctx_sql.sql.steps import Statement, Step, Steps, insertion, number, text
from taskctx_sql.sql.tables import contexts, files, models, runs, updates

_EMPTY: Final = "{}"


@dataclass(frozen=True, slots=True)
class Base:
    """What a context has seen of its row: when it was made (None: it was not there) and the revision."""

    created_at: float | None
    revision: int


UNSEEN: Final = Base(None, 0)


@dataclass(frozen=True, slots=True)
class Head:
    """A context's row after a save took its place in it: what the save was given, and what comes next."""

    revision: int
    next_seq: int
    next_model: int
    next_position: int
    created_at: float


class WrittenBeforeError(Exception):
    """This copy of a save came second: its transaction is to be undone."""


def save(engine: str, delta: Delta, encoded: Encoded, *, strict: bool) -> Steps[Saved]:
    """Return the steps of a save, all for one transaction.

    Args:
        engine: Whose SQL; SQLAlchemy's name of it.
        delta: What to write.
        encoded: The same, as it goes into columns.
        strict: Refuse values that would come back as their text.

    Raises:
        LostContextError: The context was deleted since the base.
        StaleContextError: It was to be unchanged, and is not.
        WrittenBeforeError: It is there already; `answer_again` has the answer.
    """
    base: Base = delta.base or UNSEEN
    # The context's row first: its lock makes copies of one save come one after the other.
    placed = yield Step(_upsert_context(engine), _context_parameters(delta, encoded), reads=True)
    assert placed
    head = Head(*placed[0])
    if base.created_at not in (None, head.created_at):
        raise LostContextError(delta.key)
    if not (yield Step(_upsert_run(engine), _run_parameters(delta, encoded, head), reads=True)):
        raise WrittenBeforeError
    saved = _saved(delta, encoded, base, head)
    if delta.if_unchanged and not saved.complete:
        raise StaleContextError(delta.key, base.revision, head.revision - _step(delta))
    yield from _removals(delta, encoded, head)
    yield from _insertions(encoded, head)
    yield from _mappings(delta, encoded, saved, strict)
    return saved


def answer_again(delta: Delta, encoded: Encoded) -> Steps[Saved]:
    """Return the steps that find what a save was given when it was written.

    Raises:
        LostContextError: The run's counter stands elsewhere: the database was set back to an older state.
    """
    run = {"ident": encoded.context_id, "run": delta.run.run_id, "saves": delta.run.saves}
    found = yield Step(_find_save(), run, reads=True)
    if not found:
        raise LostContextError(delta.key)
    return _saved(delta, encoded, delta.base or UNSEEN, Head(*found[0]))


def _step(delta: Delta) -> int:
    """How many revisions a delta makes: none if it only tells of its run."""
    is_new = delta.base is None or delta.base.revision == 0
    return int(delta.has_content or is_new)


def _saved(delta: Delta, encoded: Encoded, base: Base, head: Head) -> Saved:
    complete = head.revision - _step(delta) == base.revision
    return Saved(
        revision=head.revision,
        first_seq=head.next_seq - len(encoded.updates),
        first_model=head.next_model - len(encoded.models),
        first_position=head.next_position - encoded.unplaced_files,
        base=Base(head.created_at, head.revision if complete else base.revision),
        complete=complete,
    )


@cache
def _upsert_context(engine: str) -> Statement:
    statement = dialect.insert(engine, contexts).values(
        context_id=text("ident"),
        user_id=text("user"),
        chat_id=text("chat"),
        metadata=_EMPTY,
        metadata_toggles=_EMPTY,
        created_at=sa.bindparam("at", type_=sa.Double),
        updated_at=sa.bindparam("at", type_=sa.Double),
        revision=number("step"),
        next_seq=1 + number("new_updates"),
        next_model=1 + number("new_models"),
        next_position=1 + number("new_files"),
    )
    return statement.on_conflict_do_update(
        index_elements=[contexts.c.context_id],
        set_={
            "revision": contexts.c.revision + number("step"),
            "next_seq": contexts.c.next_seq + number("new_updates"),
            "next_model": contexts.c.next_model + number("new_models"),
            "next_position": contexts.c.next_position + number("new_files"),
            "updated_at": statement.excluded.updated_at,
        },
    ).returning(
        contexts.c.revision, contexts.c.next_seq, contexts.c.next_model, contexts.c.next_position, contexts.c.created_at
    )


def _context_parameters(delta: Delta, encoded: Encoded) -> dict[str, Any]:
    return {
        "ident": encoded.context_id,
        "user": delta.key.user_id,
        "chat": delta.key.chat_id,
        "at": delta.at,
        "step": _step(delta),
        "new_updates": len(encoded.updates),
        "new_models": len(encoded.models),
        "new_files": encoded.unplaced_files,
    }


@cache
def _upsert_run(engine: str) -> Statement:
    statement = dialect.insert(engine, runs).values({column: _run_parameter(column) for column in runs.c})
    fixed = ("context_id", "run_id", "started_at")
    return statement.on_conflict_do_update(
        index_elements=[runs.c.context_id, runs.c.run_id],
        set_={column.name: statement.excluded[column.name] for column in runs.c if column.name not in fixed},
        # A copy of this save finds the counter moved, and writes nothing.
        where=runs.c.saves == statement.excluded.saves - 1,
    ).returning(runs.c.saves)


def _run_parameter(column: sa.Column[Any]) -> sa.BindParameter[Any]:
    return sa.bindparam(f"run_{column.name}", type_=column.type)


def _run_parameters(delta: Delta, encoded: Encoded, head: Head) -> dict[str, Any]:
    run = delta.run
    return {
        "run_context_id": encoded.context_id,
        "run_run_id": run.run_id,
        "run_started_at": run.started_at,
        "run_ended_at": run.ended_at,
        "run_outcome": run.outcome,
        "run_error": encoded.error,
        "run_saves": run.saves,
        "run_revision": head.revision,
        "run_next_seq": head.next_seq,
        "run_next_model": head.next_model,
        "run_next_position": head.next_position,
    }


@cache
def _find_save() -> Statement:
    return sa.select(
        runs.c.revision, runs.c.next_seq, runs.c.next_model, runs.c.next_position, contexts.c.created_at
    ).where(
        runs.c.context_id == text("ident"),
        contexts.c.context_id == runs.c.context_id,
        runs.c.run_id == text("run"),
        runs.c.saves == number("saves"),
    )


@cache
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


@cache
def _replace_file() -> Statement:
    return (
        sa.update(files)
        .where(files.c.context_id == text("ident"), files.c.path_id == text("tracked"), files.c.removed_in.is_(None))
        .values(removed_in=number("now"))
    )


def _removals(delta: Delta, encoded: Encoded, head: Head) -> Iterator[Step]:
    common = {"ident": encoded.context_id, "now": head.revision}
    for table, seqs in ((updates, delta.removed_updates), (models, delta.removed_models)):
        if seqs:
            # As ranges: an optimize takes out long runs of rows, and a list of seqs would end at 65,535 parameters.
            yield Step(_remove(table), [common | {"low": low, "high": high} for low, high in _ranges(seqs)])
    if encoded.changed_paths:
        yield Step(_replace_file(), [common | {"tracked": path} for path in encoded.changed_paths])


def _insertions(encoded: Encoded, head: Head) -> Iterator[Step]:
    added = {"added_in": head.revision, "removed_in": None}
    for table, new, next_number in (
        (updates, encoded.updates, head.next_seq),
        (models, encoded.models, head.next_model),
    ):
        if new:
            yield Step(
                insertion(table), [row | added | {"seq": seq} for seq, row in enumerate(new, next_number - len(new))]
            )
    if encoded.files:
        places = iter(range(head.next_position - encoded.unplaced_files, head.next_position))
        yield Step(
            insertion(files),
            [
                row | added | {"position": next(places) if row["position"] is None else row["position"]}
                for row in encoded.files
            ],
        )


@cache
def _read_mapping(name: str) -> Statement:
    return sa.select(contexts.c[name]).where(contexts.c.context_id == text("ident"))


@cache
def _write_mapping(name: str) -> Statement:
    return sa.update(contexts).where(contexts.c.context_id == text("ident")).values({name: text("now")})


def _mappings(
    delta: Delta, encoded: Encoded, saved: Saved, strict: bool
) -> Generator[Step, Sequence[Any] | None, None]:
    ident = encoded.context_id
    changes: tuple[tuple[str, MappingChange | None, str | None], ...] = (
        ("metadata", delta.metadata, encoded.metadata),
        ("metadata_toggles", delta.toggles, encoded.toggles),
    )
    for name, change, now in changes:
        if change is None or now is None:
            continue
        if not saved.complete:
            # Somebody else may have set other keys: the row is locked, so what is read here is what counts.
            stored = yield Step(_read_mapping(name), {"ident": ident}, reads=True)
            assert stored
            now = rows.merged_text(delta.key, name, stored[0][0], change, strict=strict)
        yield Step(_write_mapping(name), {"ident": ident, "now": now})


def _ranges(seqs: Sequence[int]) -> Iterator[tuple[int, int]]:
    ordered = sorted(seqs)
    first = last = ordered[0]
    for seq in ordered[1:]:
        if seq != last + 1:
            yield first, last
            first = seq
        last = seq
    yield first, last
