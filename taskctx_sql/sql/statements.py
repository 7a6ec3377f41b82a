"""The statements of the store: one function for each, on one connection. None reads more than it must."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from taskctx_sql.records import ContextSummary, Delta, Run
from taskctx_sql.sql import dialect
from taskctx_sql.sql.rows import AnyRow, Encoded
from taskctx_sql.sql.tables import contexts, files, models, runs, updates

_EMPTY = "{}"


@dataclass(frozen=True, slots=True)
class Head:
    """A context's row after a save took its place in it: what the save was given, and what comes next."""

    revision: int
    next_seq: int
    next_model: int
    next_position: int
    created_at: float


async def take_place(connection: AsyncConnection, delta: Delta, encoded: Encoded, *, step: int) -> Head:
    """Lock the context's row, or make it; raise its revision by ``step``, and reserve seqs for the delta."""
    counts = {
        "revision": step,
        "next_seq": len(delta.updates),
        "next_model": len(delta.models),
        "next_position": sum(1 for change in delta.files if change.position is None and not change.removed),
    }
    statement = dialect.insert(connection, contexts).values(
        context_id=encoded.context_id,
        user_id=delta.key.user_id,
        chat_id=delta.key.chat_id,
        metadata=_EMPTY,
        metadata_toggles=_EMPTY,
        created_at=delta.at,
        updated_at=delta.at,
        revision=counts["revision"],
        **{name: 1 + counts[name] for name in ("next_seq", "next_model", "next_position")},
    )
    raised = {name: contexts.c[name] + count for name, count in counts.items()}
    result = await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[contexts.c.context_id], set_={**raised, "updated_at": statement.excluded.updated_at}
        ).returning(
            contexts.c.revision,
            contexts.c.next_seq,
            contexts.c.next_model,
            contexts.c.next_position,
            contexts.c.created_at,
        )
    )
    return Head(*result.one())


async def count_save(connection: AsyncConnection, delta: Delta, encoded: Encoded, head: Head) -> bool:
    """Advance the run's counter to this save; return False if it is there already: the save was written before."""
    run = delta.run
    statement = dialect.insert(connection, runs).values(
        context_id=encoded.context_id,
        run_id=run.run_id,
        started_at=run.started_at,
        ended_at=run.ended_at,
        outcome=run.outcome,
        error=encoded.error,
        saves=run.saves,
        revision=head.revision,
        next_seq=head.next_seq,
        next_model=head.next_model,
        next_position=head.next_position,
    )
    changing = (
        "ended_at",
        "outcome",
        "error",
        "saves",
        "revision",
        "next_seq",
        "next_model",
        "next_position",
    )
    result = await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[runs.c.context_id, runs.c.run_id],
            set_={name: statement.excluded[name] for name in changing},
            where=runs.c.saves == statement.excluded.saves - 1,
        ).returning(runs.c.saves)
    )
    return result.one_or_none() is not None


async def find_save(connection: AsyncConnection, ident: str, run: Run) -> Head | None:
    """Return what a save was given when it was written, or None if it is not the run's last one."""
    result = await connection.execute(
        sa.select(
            runs.c.revision, runs.c.next_seq, runs.c.next_model, runs.c.next_position, contexts.c.created_at
        ).where(
            runs.c.context_id == ident,
            contexts.c.context_id == runs.c.context_id,
            runs.c.run_id == run.run_id,
            runs.c.saves == run.saves,
        )
    )
    found = result.one_or_none()
    return None if found is None else Head(*found)


async def write_rows(connection: AsyncConnection, delta: Delta, encoded: Encoded, head: Head) -> None:
    """Mark what is gone as removed, and insert what is new, in the revision of ``head``."""
    added = {"added_in": head.revision, "removed_in": None}
    await _remove(connection, updates, encoded.context_id, delta.removed_updates, head.revision)
    await _remove(connection, models, encoded.context_id, delta.removed_models, head.revision)
    await _insert(connection, updates, _numbered(encoded.updates, head.next_seq, added))
    await _insert(connection, models, _numbered(encoded.models, head.next_model, added))
    if encoded.changed_paths:
        path_id, revision = sa.bindparam("p", type_=sa.Text), sa.bindparam("r", type_=sa.BigInteger)
        await connection.execute(
            sa.update(files)
            .where(files.c.context_id == encoded.context_id, files.c.path_id == path_id, files.c.removed_in.is_(None))
            .values(removed_in=revision),
            [{"p": path, "r": head.revision} for path in encoded.changed_paths],
        )
    unplaced = sum(1 for row in encoded.files if row["position"] is None)
    positions = iter(range(head.next_position - unplaced, head.next_position))
    await _insert(
        connection,
        files,
        [
            row | added | {"position": next(positions) if row["position"] is None else row["position"]}
            for row in encoded.files
        ],
    )


async def read_mappings(connection: AsyncConnection, ident: str) -> tuple[str, str]:
    """Return the texts of metadata and toggles."""
    result = await connection.execute(
        sa.select(contexts.c.metadata, contexts.c.metadata_toggles).where(contexts.c.context_id == ident)
    )
    row = result.one()
    return row.metadata, row.metadata_toggles


async def write_mappings(connection: AsyncConnection, ident: str, texts: dict[str, str]) -> None:
    """Write the texts of metadata, toggles or both, by column."""
    await connection.execute(sa.update(contexts).where(contexts.c.context_id == ident).values(**texts))


async def read_context(connection: AsyncConnection, ident: str) -> AnyRow | None:
    """Return (revision, created_at, metadata, metadata_toggles), or None if the context is not there."""
    result = await connection.execute(
        sa.select(contexts.c.revision, contexts.c.created_at, contexts.c.metadata, contexts.c.metadata_toggles).where(
            contexts.c.context_id == ident
        )
    )
    return result.one_or_none()


async def read_updates(
    connection: AsyncConnection,
    ident: str,
    *,
    revision: int | None,
    after: int = 0,
    before: int | None = None,
    newest_first: bool = False,
    limit: int | None = None,
) -> Sequence[AnyRow]:
    """Return (seq, timestamp, update_type, data, metadata, exact) in the order asked for."""
    statement = sa.select(
        updates.c.seq,
        updates.c.timestamp,
        updates.c.update_type,
        updates.c.data,
        updates.c.metadata,
        updates.c.exact,
    ).where(updates.c.context_id == ident, updates.c.seq > after, *_as_of(updates, revision))
    if before is not None:
        statement = statement.where(updates.c.seq < before)
    order = updates.c.seq.desc() if newest_first else updates.c.seq
    result = await connection.execute(statement.order_by(order).limit(limit))
    return result.all()


async def read_files(connection: AsyncConnection, ident: str, revision: int) -> Sequence[AnyRow]:
    """Return the tracked files, in the tracker's order."""
    statement = sa.select(files).where(files.c.context_id == ident, *_as_of(files, revision))
    return (await connection.execute(statement.order_by(files.c.position))).all()


async def read_models(connection: AsyncConnection, ident: str, revision: int) -> Sequence[AnyRow]:
    """Return the model uses, in order."""
    statement = sa.select(models).where(models.c.context_id == ident, *_as_of(models, revision))
    return (await connection.execute(statement.order_by(models.c.seq))).all()


async def list_contexts(
    connection: AsyncConnection, user_id: str, after: tuple[float, str] | None, limit: int
) -> Sequence[AnyRow]:
    """Return (user_id, chat_id, revision, created_at, updated_at), newest first, after (created_at, context_id)."""
    statement = sa.select(
        contexts.c.user_id,
        contexts.c.chat_id,
        contexts.c.revision,
        contexts.c.created_at,
        contexts.c.updated_at,
    ).where(contexts.c.user_id == user_id)
    if after is not None:
        statement = statement.where(sa.tuple_(contexts.c.created_at, contexts.c.context_id) < sa.tuple_(*after))
    statement = statement.order_by(contexts.c.created_at.desc(), contexts.c.context_id.desc()).limit(limit)
    return (await connection.execute(statement)).all()


async def erase(connection: AsyncConnection, ident: str) -> bool:
    """Delete a context's rows from every table; return whether it was there."""
    # The context first: its lock holds back a save that would add rows meanwhile.
    deleted = await connection.execute(sa.delete(contexts).where(contexts.c.context_id == ident))
    for table in (updates, files, models, runs):
        await connection.execute(sa.delete(table).where(table.c.context_id == ident))
    return bool(deleted.rowcount)


def summary(row: AnyRow) -> ContextSummary:
    """Return a row of `list_contexts` as the record it is."""
    return ContextSummary(*row)


def _as_of(table: sa.Table, revision: int | None) -> list[sa.ColumnElement[bool]]:
    """The condition for what the context holds in a revision; None is now.

    By revision, several statements agree on one moment without a transaction that holds it for them.
    """
    if revision is None:
        return [table.c.removed_in.is_(None)]
    return [table.c.added_in <= revision, sa.or_(table.c.removed_in.is_(None), table.c.removed_in > revision)]


def _numbered(rows: list[dict[str, Any]], next_number: int, added: dict[str, Any]) -> list[dict[str, Any]]:
    return [row | added | {"seq": seq} for seq, row in enumerate(rows, next_number - len(rows))]


async def _insert(connection: AsyncConnection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        await connection.execute(sa.insert(table), rows)


async def _remove(connection: AsyncConnection, table: sa.Table, ident: str, seqs: Sequence[int], revision: int) -> None:
    if not seqs:
        return
    # As ranges: an optimize takes out long runs of rows, and a list of seqs would end at 65,535 parameters.
    low, high, at = (sa.bindparam(name, type_=sa.BigInteger) for name in ("low", "high", "at"))
    await connection.execute(
        sa.update(table)
        .where(table.c.context_id == ident, table.c.seq.between(low, high), table.c.removed_in.is_(None))
        .values(removed_in=at),
        [{"low": first, "high": last, "at": revision} for first, last in _ranges(seqs)],
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
