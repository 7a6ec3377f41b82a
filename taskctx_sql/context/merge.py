"""Merge the rows of a store with the unsaved changes in memory."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from taskctx_sql import codec
from taskctx_sql.context.observable import plain_entry
from taskctx_sql.context.tracked_list import ListDifference, TrackedList
from taskctx_sql.model import ContextUpdate


def seqs_now(
    here: TrackedList[Any],
    stored: TrackedList[Any],
    hidden: Mapping[int, Any],
    parts_of: Callable[[Any], list[Any]],
    *,
    is_past: bool,
    is_another: bool,
    was_set_back: bool,
) -> dict[int, int]:
    """Return the present seqs of rows with changes in memory, by their former seq, where the two differ.

    Restores, undos and edits by other writers rewrite rows to keep the order. A rewritten row is recognized by its time
    and type, the first of its ``parts_of``, if as many of these appeared as disappeared; a row that was removed here
    must be equal in all parts. A row that is not recognized gets a seq that no row has.

    If the context ``is_another``, created anew, all seqs mean other rows; if the database ``was_set_back`` to an
    earlier state, some may. The others are those of `merged`: in the past, an edited row has no earlier version.
    """
    if not (hidden or here.has_changes):
        return {}
    unsaved = here.difference()
    changed, there = hidden.keys() | unsaved.removed, stored.saved
    if is_another:
        return {seq: -seq for seq in changed}
    if not was_set_back and (is_past or changed <= there.keys()):
        return {}
    edits = {seq: item for seq, item in hidden.items() if item is not None}
    known = edits | here.saved

    def marks_of(item: Any) -> str:
        return codec.encode(parts_of(item)[:2], warn=False)

    same = known.keys() & there.keys()
    if was_set_back:
        same = {seq for seq in same if marks_of(known[seq]) == marks_of(there[seq])}
    gone, new = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    for rows, seqs in ((known, gone), (there, new)):
        for seq in sorted(rows.keys() - same):
            seqs[marks_of(rows[seq])].append(seq)
    present = {seq: -seq for seq in changed - same if seq in there}
    edited = {unsaved.again[item] for item in unsaved.edited} | edits.keys()
    for marks, old_seqs in gone.items():
        if len(old_seqs) == len(new[marks]) and not is_past:
            for old_seq, new_seq in zip(old_seqs, new[marks], strict=True):
                if old_seq in edited or _is_same(parts_of(known[old_seq]), parts_of(there[new_seq])):
                    present[old_seq] = new_seq
    return present


def _is_same(one: list[Any], other: list[Any]) -> bool:
    return codec.encode(one, warn=False) == codec.encode(other, warn=False)


def with_changed_rows(
    stored: TrackedList[Any], here: TrackedList[Any], hidden: Mapping[int, Any], seqs_now: Mapping[int, int]
) -> TrackedList[Any]:
    """Return the stored list with the rows that have changes in memory, which the selection left out."""
    if not (hidden or here.has_changes):
        return stored
    unsaved = here.difference()
    again = {seq for item, seq in unsaved.again.items() if item not in unsaved.edited}
    edits = {seq: item for seq, item in hidden.items() if item is not None}
    rows = stored.saved
    for seq, item in (edits | here.saved).items():
        is_changed = (seq in edits or seq in unsaved.removed) and seq not in again
        if is_changed and seq not in rows and seq not in seqs_now:
            # A row of its own: the item itself was edited.
            rows[seq] = copy.copy(item)
    if len(rows) == len(stored):
        return stored
    return stored.with_rows(dict(sorted(rows.items())))


def parts_of_update(update: ContextUpdate) -> list[Any]:
    """Return the parts of an update, for `seqs_now`."""
    return [update.timestamp, update.update_type, update.data, update.metadata]


def parts_of_use(entry: Any) -> list[Any]:
    """Return the parts of a model use, for `seqs_now`."""
    if not isinstance(entry, Mapping):
        return [None, None, entry]
    return [entry.get("timestamp"), entry.get("model_id"), plain_entry(entry)]


def merged(
    here: TrackedList[Any],
    stored: TrackedList[Any],
    hidden: Mapping[int, Any],
    seqs_now: Mapping[int, int],
    *,
    is_past: bool,
) -> tuple[TrackedList[Any], Mapping[int, Any]]:
    """Return the stored list with the unsaved changes on top, and the changes of rows that it does not have.

    Args:
        here: The list in memory.
        stored: The list in the store.
        hidden: Changes of rows that memory does not show, by seq: the edited item, or None for a removed one.
        seqs_now: The present seqs of rows, by their former seq, where the two differ.
        is_past: Whether the store's list is an earlier state, which may lack rows of the present.
    """
    unsaved = here.difference()
    here.unwatch(unsaved.appended)
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
                # It was to be rewritten only to keep the order.
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
        # An edit of a row that another writer removed is kept.
        stored.extend(item for item in changes.values() if item is not None)
        changes = {}
    stored.extend(new)
    return stored, changes


def _is_in_order(unsaved: ListDifference[Any]) -> bool:
    """Whether saved items that are appended again come first, and in the order of their seqs."""
    seqs = [unsaved.again.get(id(item)) for item in unsaved.appended]
    again = [seq for seq in seqs if seq is not None]
    return seqs[: len(again)] == sorted(again)
