"""What is to be saved, with its values as they go into columns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from copy import copy
from typing import Any, Final, NamedTuple

from taskctx_sql.model import Delta, Saved
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.context_row import UNSEEN, Base, ContextHead
from taskctx_sql.sql.row_codec import StateRow, UpdateRow

# How many updates are encoded before others have the event loop; about 2 ms.
SLICE: Final = 200


class SaveRequest:
    """A delta, encoded for `rls_user`. Revisions, seqs and positions are not in it: the database gives them."""

    __slots__ = (
        *("base", "changed_paths", "context_id", "delta", "error", "files", "is_operation", "makes_revision"),
        *("if_unchanged", "metadata", "models", "only_appends", "positions", "rls_user", "state", "step", "strict"),
        *("toggles", "unplaced_files", "updates"),
    )

    def __init__(self, delta: Delta, updates: list[UpdateRow], *, strict: bool, rls_user: str | None) -> None:
        """Encode everything but the updates; `of` does both."""
        self.delta = delta
        self.strict = strict
        self.rls_user = rls_user
        self.base: Base = delta.base or UNSEEN
        self.if_unchanged: bool = delta.if_unchanged
        if delta.if_revision is not None:
            self.if_unchanged = True
            if self.base.revision != delta.if_revision:
                # The one that this writer has seen is not the one that it asks for, but of the same context.
                self.base = Base(self.base.created_at, delta.if_revision) if delta.if_revision else UNSEEN
        # Its changes make a revision, and its operation another one after it; one that only records the run makes none.
        self.is_operation: bool = delta.is_operation
        self.makes_revision: bool = delta.has_changes or (self.base.revision == 0 and not self.is_operation)
        self.step: int = self.makes_revision + self.is_operation
        self.context_id: str = row_codec.context_id(delta.key)
        self.updates = updates
        self.models: Sequence[tuple[Any, ...]] = ()
        if delta.models:
            self.models = [
                row_codec.model_row(entry, f"new model use {at}", strict) for at, entry in enumerate(delta.models)
            ]
        # The new versions of files, and the position of each in the tracker; None is its end.
        self.files: Sequence[tuple[Any, ...]] = ()
        self.positions: Sequence[int | None] = ()
        # The path_id of each file whose version until now is replaced.
        self.changed_paths: Sequence[str] = ()
        self.unplaced_files: int = 0
        if delta.files:
            self.changed_paths = [row_codec.path_id(change.path) for change in delta.files]
            staying = [change for change in delta.files if not change.removed]
            self.files = [row_codec.file_row(change, strict) for change in staying]
            self.positions = [change.position for change in staying]
            self.unplaced_files = self.positions.count(None)
        # Each name once; without a value it is only removed.
        self.state: Sequence[StateRow] = ()
        if delta.state:
            rows = (row_codec.state_row(delta.key.user_id, change, strict) for change in delta.state)
            self.state = list({row[:2]: row for row in rows}.values())
        self.metadata: str | None = row_codec.mapping_text(delta.metadata, "metadata", strict)
        self.toggles: str | None = row_codec.mapping_text(delta.toggles, "metadata_toggles", strict)
        self.error: str | None = row_codec.column_text(delta.run.error)
        self.only_appends: bool = self._only_appends()

    @classmethod
    async def of(cls, delta: Delta, *, strict: bool, rls_user: str | None = None) -> SaveRequest:
        """Return the request of a delta; one that failed before is written as it was encoded then.

        Encoding goes in slices, between which the event loop serves others. It is not done on a thread, since a program
        may change its values while a thread reads them.

        Raises:
            UnstorableValueError: In strict mode, naming the update or the tracker entry, and the value in it.
        """
        known: SaveRequest | None = delta.sent
        if known is not None and known.delta is delta:
            if known.rls_user != rls_user:
                known = copy(known)
                known.rls_user = rls_user
            return known
        rows: list[UpdateRow] = []
        for number, update in enumerate(delta.updates):
            if number and not number % SLICE:
                await asyncio.sleep(0)
            rows.append(row_codec.update_row(update, number, strict))
        delta.sent = request = cls(delta, rows, strict=strict, rls_user=rls_user)
        return request

    def _only_appends(self) -> bool:
        """Whether it adds updates and sets values of a context that memory knows or has made, and does nothing else."""
        delta, base = self.delta, self.base
        return bool(
            (self.updates or self.state)
            and not (delta.operation or delta.removed_updates or delta.models or delta.removed_models or delta.files)
            and delta.metadata is None
            and delta.toggles is None
            and (base is UNSEEN or (base.numbers is not None and 0 < base.newest <= base.revision))
        )

    def count_rows(self) -> int:
        """Return how many rows it writes or removes."""
        new = self.delta
        removed = len(new.removed_updates) + len(new.removed_models)
        return len(new.updates) + len(new.models) + len(new.files) + len(self.state) + removed

    def saved(self, head: ContextHead) -> Saved:
        """Return the answer, from the context's row as it is after the save."""
        created_at, revision, next_seq, next_model, next_position = head
        complete = revision - self.step == self.base.revision
        if complete or self.delta.is_blind:
            base = Base(created_at, revision, revision, (next_seq, next_model, next_position))
        else:
            base = Base(created_at, self.base.revision, revision)
        return Saved(
            revision=revision,
            first_seq=next_seq - len(self.updates),
            first_model=next_model - len(self.models),
            first_position=next_position - self.unplaced_files,
            base=base,
            complete=complete,
            created_at=created_at,
        )


class Removed(NamedTuple):
    """The seqs of rows to remove: of updates, of those that an optimize or truncate took out, and of model uses."""

    updates: Sequence[int]
    dropped: Sequence[int]
    models: Sequence[int]


def removed_by(delta: Delta) -> Removed:
    """Return what a delta removes."""
    if not delta.dropped:
        return Removed(delta.removed_updates, (), delta.removed_models)
    dropped = set(delta.dropped)
    others = [seq for seq in delta.removed_updates if seq not in dropped]
    return Removed(others, delta.dropped, delta.removed_models)
