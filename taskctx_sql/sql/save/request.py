"""What is to be saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from taskctx_sql.model import Delta, Saved
from taskctx_sql.sql.context_row import UNSEEN, Base, ContextHead
from taskctx_sql.sql.row_codec import Encoded


class SaveRequest:
    """A save to be done.

    Attributes:
        delta: What to write.
        encoded: The same, as it goes into columns.
        strict: Refuse values that would come back as their text.
        base: What the context has seen of its row.
        makes_revision: Whether it makes one of what changed; what its operation does is another one, after it.
        step: How many revisions it makes: none if it only tells of its run.
        rls_user: The user that its transaction names, if it has to.
    """

    __slots__ = ("base", "delta", "encoded", "makes_revision", "rls_user", "step", "strict")

    def __init__(self, delta: Delta, encoded: Encoded, *, strict: bool, rls_user: str | None = None) -> None:
        """Take what is to be saved."""
        self.delta = delta
        self.encoded = encoded
        self.strict = strict
        self.rls_user = rls_user
        self.base: Base = delta.base or UNSEEN
        self.makes_revision = delta.has_changes or (self.base.revision == 0 and not delta.is_operation)
        self.step = self.makes_revision + delta.is_operation

    def saved(self, head: ContextHead) -> Saved:
        """Return the answer, from the context's row as it is after the save."""
        complete = head.revision - self.step == self.base.revision
        return Saved(
            revision=head.revision,
            first_seq=head.next_seq - len(self.encoded.updates),
            first_model=head.next_model - len(self.encoded.models),
            first_position=head.next_position - self.encoded.unplaced_files,
            base=Base(head.created_at, head.revision if complete else self.base.revision, head.revision),
            complete=complete,
        )


class Removed(NamedTuple):
    """The seqs of rows that leave: of updates, of those that an optimize or truncate took out, and of model uses."""

    updates: Sequence[int] = ()
    dropped: Sequence[int] = ()
    models: Sequence[int] = ()


def removed_by(delta: Delta) -> Removed:
    """Return what a delta takes out."""
    if not delta.dropped:
        return Removed(delta.removed_updates, (), delta.removed_models)
    dropped = set(delta.dropped)
    others = [seq for seq in delta.removed_updates if seq not in dropped]
    return Removed(others, delta.dropped, delta.removed_models)
