"""What a store returns from a load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from taskctx_sql.model.update import ContextUpdate


@dataclass(frozen=True, slots=True)
class StoredUpdate:
    """An update with its position in the history: seqs rise, and start at 1."""

    seq: int
    update: ContextUpdate


@dataclass(frozen=True, slots=True)
class Loaded:
    """A context as a store holds it.

    Attributes:
        revision: The context's revision; 0 if the store does not have it.
        base: What the store needs with the next delta.
        history: The updates, in order.
        seqs: Their seqs.
        edits: Where edits of the updates are noted already, or None.
        earlier: Whether the store has older updates that ``history_limit`` left out.
        models: (seq, entry) of each model use, in order.
        files: (position, path, entry) of each tracked file, in order.
        metadata: The metadata, or None if the store does not keep it.
        toggles: The metadata toggles, or None likewise.
        created_at: When the context was created, seconds since the epoch, UTC; another time than in an earlier answer
            says that it was deleted and created anew. None if the store does not have it, or does not say.
    """

    revision: int
    base: Any
    history: Sequence[ContextUpdate] = ()
    seqs: Sequence[int] = ()
    edits: dict[int, Any] | None = None
    earlier: bool = False
    models: Sequence[tuple[int, dict[str, Any]]] = ()
    files: Sequence[tuple[int, Any, Any]] = ()
    metadata: Any = field(default_factory=dict)
    toggles: Any = field(default_factory=dict)
    created_at: float | None = None

    @property
    def updates(self) -> list[StoredUpdate]:
        """The history with its seqs."""
        return list(map(StoredUpdate, self.seqs, self.history))
