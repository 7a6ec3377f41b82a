"""The revisions of a context, and how two of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from taskctx_sql.model.loaded import StoredUpdate

# What creates a revision that is no ordinary save.
Operation = Literal["optimize", "truncate", "restore", "undo", "fork"]


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision of a context: what one save made of it.

    Attributes:
        revision: Its number, from 1.
        saved_at: When, seconds since the epoch, UTC, by the clock of who saved.
        run_id: The run that saved; a context that came by ``taskctx import`` has none, "".
        added: How many updates came.
        removed: How many left the history.
        changed_metadata: Whether metadata or toggles changed.
        changed_state: How many named values and labels were set or removed.
        operation: "optimize", "truncate", "restore", "undo", "fork", or None for an ordinary save.
        source_revision: The revision that was restored, taken back, or forked from.
        source_chat_id: The chat that was forked.
    """

    revision: int
    saved_at: float
    run_id: str
    added: int
    removed: int
    changed_metadata: bool
    changed_state: int
    operation: Operation | None = None
    source_revision: int | None = None
    source_chat_id: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """How two revisions of a context differ.

    Attributes:
        old: The one revision.
        new: The other one.
        added: The updates that only ``new`` has, in order.
        removed: The updates that only ``old`` has, in order.
        files: By path: the entry in ``old`` and in ``new``, None where it was not tracked.
        added_models: The model uses that only ``new`` has.
        removed_models: The model uses that only ``old`` has.
        metadata: By key: the value in ``old`` and in ``new``; `MISSING` where the key was not there.
        toggles: The same of the metadata toggles.
        state: The same of the named values, without those that have expired.
        labels: The same of the labels.
        counts: How many entries each of the four sequences would have, by its name, where a limit left some out.
    """

    old: int
    new: int
    added: Sequence[StoredUpdate]
    removed: Sequence[StoredUpdate]
    files: dict[Any, tuple[Any, Any]] = field(default_factory=dict)
    added_models: Sequence[dict[str, Any]] = ()
    removed_models: Sequence[dict[str, Any]] = ()
    metadata: dict[Any, tuple[Any, Any]] = field(default_factory=dict)
    toggles: dict[Any, tuple[Any, Any]] = field(default_factory=dict)
    state: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    labels: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether they differ at all."""
        lists = (self.added, self.removed, self.added_models, self.removed_models)
        mappings = (self.files, self.metadata, self.toggles, self.state, self.labels)
        return any(map(len, lists)) or any(map(len, mappings)) or bool(self.counts)


class Missing:
    """Stands for a key that is not there, where None is a value."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = Missing()
