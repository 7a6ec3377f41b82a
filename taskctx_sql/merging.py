"""How the rows that a store holds and changes that it has not become one list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from taskctx_sql import codec
from taskctx_sql.records import ContextUpdate
from taskctx_sql.tracking import ListDifference, TrackedList, plain


def seqs_now(
    here: TrackedList[Any],
    stored: TrackedList[Any],
    hidden: Mapping[int, Any],
    parts_of: Callable[[Any], list[Any]],
    *,
    is_past: bool,
) -> dict[int, int]:
    """Return under which seqs rows that have changes here are stored now, if they were written anew.

    Restores and undos write rows anew for the sake of the order, and so do edits by other writers. A row is found again
    by its time and type, if as many of these came as went; one that was taken out here must be the same in all.

    Args:
        here: What is in memory.
        stored: What the store holds.
        hidden: As of `merged`.
        parts_of: Returns the time and the type of an item, and the rest.
        is_past: As of `merged`. What has changes is no earlier version of itself.
    """
    if is_past or not (hidden or here.has_changes):
        return {}
    unsaved = here.difference()
    if (hidden.keys() | unsaved.removed).issubset(stored.seqs):
        return {}
    edits = {seq: item for seq, item in hidden.items() if item is not None}
    known, there = edits | here.saved, stored.saved
    went, came = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    for rows, others, seqs in ((known, there, went), (there, known, came)):
        for seq in sorted(rows.keys() - others.keys()):
            seqs[codec.encode(parts_of(rows[seq])[:2], warn=False)].append(seq)
    found: list[tuple[int, int]] = []
    for marks, old in went.items():
        if len(old) == len(came[marks]):
            found += zip(old, came[marks], strict=True)

    def is_same(old: int, new: int) -> bool:
        first, second = (codec.encode(parts_of(item), warn=False) for item in (known[old], there[new]))
        return first == second

    edited = {unsaved.again[item] for item in unsaved.edited} | edits.keys()
    return {old: new for old, new in found if old in edited or is_same(old, new)}


def parts_of_update(update: ContextUpdate) -> list[Any]:
    """Return the parts of an update, for `seqs_now`."""
    return [update.timestamp, update.update_type, update.data, update.metadata]


def parts_of_use(entry: Any) -> list[Any]:
    """Return the parts of an entry of a model's use, for `seqs_now`."""
    if not isinstance(entry, Mapping):
        return [None, None, entry]
    return [entry.get("timestamp"), entry.get("model_id"), plain(entry)]


def merged(
    here: TrackedList[Any],
    stored: TrackedList[Any],
    hidden: Mapping[int, Any],
    seqs_now: Mapping[int, int],
    *,
    is_past: bool,
) -> tuple[TrackedList[Any], Mapping[int, Any]]:
    """Return what a store holds with what is unsaved here on top of it, and the changes that it has no rows for.

    Args:
        here: What is in memory.
        stored: What the store holds.
        hidden: Changes of rows that memory does not show, by seq: the edited item, or None for one that was taken out.
        seqs_now: Under which seqs rows are stored now, where these are others.
        is_past: Whether what the store holds is an earlier state. It may lack rows that the present has.
    """
    unsaved = here.difference()
    here.let_go(unsaved.appended)
    if not unsaved.removed and not unsaved.appended and not hidden:
        return stored, {}
    again = {item: seqs_now.get(seq, seq) for item, seq in unsaved.again.items()}
    changes = {**hidden, **dict.fromkeys(unsaved.removed)}
    changes = {seqs_now.get(seq, seq): item for seq, item in changes.items()}
    new = [item for item in unsaved.appended if id(item) not in again]
    if _is_in_order(unsaved):
        for item in unsaved.appended:
            if id(item) in unsaved.edited:
                changes[again[id(item)]] = item
            elif id(item) in again:
                # It was to be written anew for the sake of the order alone.
                del changes[again[id(item)]]
    else:
        there = {None, *stored.seqs}
        new = [item for item in unsaved.appended if again.get(id(item)) in there or id(item) in unsaved.edited]
    if changes:
        seqs = stored.seqs
        stand_ins = {id(changes[seq]): seq for seq in seqs if changes.get(seq) is not None}
        placed = [changes.pop(seq, item) for item, seq in zip(stored, seqs, strict=True)]
        stored = stored.replaced_by([item for item in placed if item is not None], stand_ins)
    if not is_past:
        # An edit of what somebody else took out is kept.
        stored.extend(item for item in changes.values() if item is not None)
        changes = {}
    stored.extend(new)
    return stored, changes


def _is_in_order(unsaved: ListDifference[Any]) -> bool:
    """Whether saved items that are appended again come first, and in the order of their seqs."""
    places = [unsaved.again.get(id(item)) for item in unsaved.appended]
    again = [seq for seq in places if seq is not None]
    return places[: len(again)] == sorted(again)
