"""What changed between two revisions of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from taskctx_sql import codec
from taskctx_sql.errors import RevisionNotFoundError
from taskctx_sql.model import MISSING, ContextKey, Revision, StoredUpdate
from taskctx_sql.pages import reading
from taskctx_sql.pages.entries import MAX_TEXT, Entry, entry_of_update, texts_of
from taskctx_sql.stores import Store

# How many updates and uses of models are shown of each kind.
MAX_CHANGES: Final = 100


@dataclass(frozen=True, slots=True)
class Change:
    """Something with a name that changed: its value before and after as text, None where it was not there."""

    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed from one revision to another.

    Attributes:
        key: The task.
        old: The one revision.
        new: The other one.
        added: Updates that only the new one has.
        removed: Updates that only the old one has.
        edited: Updates before and after an edit.
        counts: How many updates and uses there are, by "added", "removed", "added_models" and "removed_models".
        sections: Changes of files, metadata, toggles, named values and labels, by a heading.
        added_models: Uses of models that only the new one has, on a line each.
        removed_models: Uses of models that only the old one has.
    """

    key: ContextKey
    old: Revision
    new: Revision
    added: Sequence[Entry]
    removed: Sequence[Entry]
    edited: Sequence[tuple[Entry, Entry]]
    counts: Mapping[str, int]
    sections: Mapping[str, Sequence[Change]]
    added_models: Sequence[str]
    removed_models: Sequence[str]

    @property
    def is_empty(self) -> bool:
        """Whether nothing changed."""
        return not (self.edited or any(self.counts.values()) or any(self.sections.values()))


async def collect_changes(store: Store, key: ContextKey, old: int, new: int) -> Changes:
    """Return what changed from one revision to another.

    Raises:
        ContextNotFoundError: The store does not have the task.
        RevisionNotFoundError: It has no such revision, or no longer all of it.
    """
    one, other = [await revision_of(store, key, number) for number in (old, new)]
    found = await store.difference(key, old, new, limit=MAX_CHANGES)
    added, removed, edited, paired = _paired(found.added, found.removed)
    lists = {name: getattr(found, name) for name in ("added", "removed", "added_models", "removed_models")}
    mappings: Mapping[str, Mapping[Any, tuple[Any, Any]]] = {
        # A file that was not tracked is None there.
        "Files": {
            path: (MISSING if before is None else before, MISSING if after is None else after)
            for path, (before, after) in found.files.items()
        },
        "Metadata": found.metadata,
        "Toggles": found.toggles,
        "Named values": found.state,
        "Labels": found.labels,
    }
    return Changes(
        key,
        one,
        other,
        added,
        removed,
        edited,
        {
            name: found.counts.get(name, len(rows)) - (paired if name in ("added", "removed") else 0)
            for name, rows in lists.items()
        },
        {heading: _changes(mapping) for heading, mapping in mappings.items()},
        list(map(_use, found.added_models)),
        list(map(_use, found.removed_models)),
    )


async def revision_of(store: Store, key: ContextKey, number: int) -> Revision:
    """Return a revision of a task.

    Raises:
        ContextNotFoundError: The store does not have the task.
        RevisionNotFoundError: It has no such revision.
    """
    found = await store.revisions(key, before=number + 1, limit=1)
    if not found or found[0].revision != number:
        newest = await store.revisions(key, limit=1)
        raise RevisionNotFoundError(key, number, newest[0].revision if newest else 0)
    return found[0]


def _paired(
    added: Sequence[StoredUpdate], removed: Sequence[StoredUpdate]
) -> tuple[list[Entry], list[Entry], list[tuple[Entry, Entry]], int]:
    """Return the entries of updates that came, that left, and that were edited: these have kept time and type.

    What follows an edited update is written again, too: the last number says how many were, edited or not.
    """
    left = {_identity(stored): stored for stored in removed}
    edited: list[tuple[Entry, Entry]] = []
    came: list[Entry] = []
    paired = 0
    for stored in added:
        before = left.pop(_identity(stored), None)
        if before is None:
            came.append(entry_of_update(stored))
        else:
            paired += 1
            if texts_of(before) != texts_of(stored):
                edited.append((entry_of_update(before), entry_of_update(stored)))
    return came, [entry_of_update(stored) for stored in left.values()], edited, paired


def _identity(stored: StoredUpdate) -> tuple[str, str]:
    return repr(stored.update.timestamp), repr(stored.update.update_type)


def _changes(mapping: Mapping[Any, tuple[Any, Any]]) -> list[Change]:
    return [
        Change("everything" if name is None else str(name), *map(_text, both))
        for name, both in list(mapping.items())[:MAX_CHANGES]
    ]


def _text(value: Any) -> str | None:
    if value is MISSING:
        return None
    if isinstance(value, str):
        return value[:MAX_TEXT]
    text = codec.encode(value, warn=False)
    if len(text) > MAX_TEXT:
        return f"{text[:MAX_TEXT]} ... ({len(text):,} characters)"
    return reading.pretty_text(text)


def _use(entry: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in entry.items() if value is not None and name != "timestamp")
