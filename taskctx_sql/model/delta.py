"""What a save writes, and what the store returns for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from taskctx_sql.model.key import ContextKey
from taskctx_sql.model.revision import Operation
from taskctx_sql.model.run import Run
from taskctx_sql.model.state import StateChange
from taskctx_sql.model.update import ContextUpdate


@dataclass(frozen=True, slots=True)
class FileChange:
    """A tracked file that is new, changed, or no longer tracked.

    ``position`` is its position in the tracker as the store returned it, or None for a file that goes to the end.
    """

    path: Any
    entry: Any
    position: int | None
    removed: bool = False


@dataclass(frozen=True, slots=True)
class MappingChange:
    """A mapping as it is now, and how it differs from what this writer last saw in the store."""

    whole: Any
    changed: Mapping[Any, Any]
    removed: Sequence[Any]


# Not frozen: setting twenty fields past a frozen class's guard would cost each save some microseconds.
@dataclass(slots=True)
class Delta:
    """What a save writes: everything that changed since the last one, and nothing else.

    Attributes:
        key: The context.
        run: The run that saves, and the number of this save in it.
        base: What the store returned as ``base`` from the last load or save, or None if there was none.
        at: When the save was created, seconds since the epoch, UTC.
        updates: New updates, in order.
        removed_updates: The seqs of updates that left the history.
        models: New model uses, in order.
        removed_models: The seqs of model uses that left the tracker.
        files: Changed files, in the tracker's order.
        state: Named values that are set or removed; of two with one name, the later one counts.
        metadata: The metadata, if it changed.
        toggles: The metadata toggles, if they changed.
        operation: The operation that creates the revision; None for an ordinary save. A restore or an undo has no
            other content.
        dropped: Those of ``removed_updates`` that an optimize or truncate removed. They are a revision of their own.
        source_revision: The revision that a restore makes current.
        if_unchanged: Refuse when another writer saved since this context was last loaded.
        if_revision: Refuse unless the context is at this revision; 0: unless it is not there.
        is_blind: Whether the writer has nothing of the context in memory. What others saved since is not news to it
            then, and the base that it gets is always the newest revision.
        if_there: Refuse when another writer rewrote rows that this delta removes, or removed rows that it rewrites.
        again_updates: Those of ``removed_updates`` that are among ``updates`` again, because they were edited or
            follow a change.
        again_models: The same for model uses.
        sent: What the store prepared to write, so that a delta saved again is written unchanged.
    """

    key: ContextKey
    run: Run
    base: Any
    at: float
    updates: Sequence[ContextUpdate] = ()
    removed_updates: Sequence[int] = ()
    models: Sequence[Mapping[str, Any]] = ()
    removed_models: Sequence[int] = ()
    files: Sequence[FileChange] = ()
    state: Sequence[StateChange] = ()
    metadata: MappingChange | None = None
    toggles: MappingChange | None = None
    operation: Operation | None = None
    dropped: Sequence[int] = ()
    source_revision: int | None = None
    if_unchanged: bool = False
    if_revision: int | None = None
    is_blind: bool = False
    if_there: bool = False
    again_updates: Collection[int] = ()
    again_models: Collection[int] = ()
    sent: Any = field(default=None, compare=False, repr=False)

    @property
    def has_content(self) -> bool:
        """Whether it changes the context itself, and not only its run."""
        return self.has_changes or self.is_operation

    @property
    def is_operation(self) -> bool:
        """Whether its operation creates a revision."""
        return bool(self.dropped) or self.operation in ("restore", "undo")

    @property
    def has_changes(self) -> bool:
        """Whether it changes anything beside what its operation does."""
        return bool(
            self.updates
            or len(self.removed_updates) > len(self.dropped)
            or self.models
            or self.removed_models
            or self.files
            or self.state
            or self.metadata
            or self.toggles
        )


# A tuple, since setting the fields of a frozen class would cost each save more than a microsecond.
class Saved(NamedTuple):
    """What a store returns for a delta.

    Attributes:
        revision: The context's revision that this save created, counted from 1.
        first_seq: The seq of the delta's first update; the others follow without a gap.
        first_model: The seq of its first model use, likewise.
        first_position: The position of its first file that is new to the store, likewise.
        base: What the store needs with the next delta.
        complete: Whether nobody else saved since the base, so that memory and store agree.
        created_at: When the context was created, seconds since the epoch, UTC. Another time than in an earlier answer
            says that it was deleted and created anew. None if the store does not say.
    """

    revision: int
    first_seq: int
    first_model: int
    first_position: int
    base: Any
    complete: bool
    created_at: float | None = None
