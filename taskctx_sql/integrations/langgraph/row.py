"""A checkpoint's entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from taskctx_sql import StateEntry
from taskctx_sql.integrations import recording
from taskctx_sql.integrations.langgraph import names
from taskctx_sql.random_ids import new_token

FRAMEWORK: Final = "langgraph"
# From this version of checkpoints on, what one sends to the next is among the next one's values.
_SENDS_AMONG_VALUES: Final = 4


@dataclass(frozen=True, slots=True)
class Row:
    """A checkpoint as it is stored.

    Attributes:
        namespace: The namespace of its graph.
        parent: The id of the one before, or None.
        metadata: What the framework says of it.
        checkpoint: The framework's checkpoint without its values.
        values: How each channel's value is stored: as ``{"value": encoded}``, or as ``{"version": version}`` or
            ``{"list": [growth, length, token]}``, which are entries of their own.
        tasks: The entries of the writes that await the checkpoint after, if they were read.
        saved_at: When the entry was saved, seconds since the epoch; 0 if it was not read.
    """

    namespace: str
    parent: str | None
    metadata: dict[str, Any]
    checkpoint: dict[str, Any]
    values: dict[str, dict[str, Any]]
    tasks: Sequence[StateEntry] = ()
    saved_at: float = 0.0

    @classmethod
    def of(cls, entry: StateEntry, tasks: Sequence[StateEntry] = ()) -> Row:
        """Read an entry."""
        return cls(**entry.value, tasks=tasks, saved_at=entry.saved_at)

    @property
    def id(self) -> str:
        """The checkpoint's id, which sorts by time."""
        return str(self.checkpoint["id"])

    @property
    def name(self) -> str:
        """The entry's name."""
        return names.checkpoint(self.namespace, self.id)

    @property
    def value(self) -> dict[str, Any]:
        """The entry's value."""
        return {name: getattr(self, name) for name in ("namespace", "parent", "metadata", "checkpoint", "values")}

    @property
    def sends_parent(self) -> str | None:
        """The checkpoint whose writes have what this one received, if that is not among its own values."""
        return self.parent if self.checkpoint.get("v", _SENDS_AMONG_VALUES) < _SENDS_AMONG_VALUES else None

    def update(self) -> recording.Update:
        """Return the update that records the checkpoint in the history."""
        step = {
            "checkpoint_id": self.id,
            "parent_id": self.parent,
            "namespace": self.namespace,
            "source": self.metadata.get("source"),
            "step": self.metadata.get("step"),
        }
        return recording.update(FRAMEWORK, recording.CHECKPOINT, step)


def next_version(current: str | int | None) -> str:
    """Return a version of a channel that sorts after this one. It is random besides, so that forks have others.

    It is shorter than those of the framework's own savers, since a checkpoint's entry has many.
    """
    number = "0" if current is None else str(current).partition(".")[0]
    return f"{int(number) + 1:0{max(len(number), 10)}}.{new_token(12)}"
