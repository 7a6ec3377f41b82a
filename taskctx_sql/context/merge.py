"""How the rows that a store holds and changes that it has not become one list."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from taskctx_sql import codec
from taskctx_sql.context.tracking import ListDifference, TrackedList, plain
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
    """Return under which seqs rows that have changes here are stored now, where these are others.

    Restores and undos write rows anew for the sake of the order, and so do edits by other writers. A row is found again
    by its time and type, if as many of these came as went; one that was taken out here must be the same in all. What is
    not found gets a seq that no row has.

    Args:
        here: What is in memory.
        stored: What the store holds.
        hidden: As of `merged`.
        parts_of: Returns the time and the type of an item, and the rest.
        is_past: As of `merged`. What has changes is no earlier version of itself.
        is_another: Whether the context was made anew, so that no seq means the row that it meant.
        was_set_back: Whether the database was set back, so that some seqs may mean other rows.
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
    went, came = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    for rows, seqs in ((known, went), (there, came)):
        for seq in sorted(rows.keys() - same):
            seqs[marks_of(rows[seq])].append(seq)
    found = {seq: -seq for seq in changed - same if seq in there}
    edited = {unsaved.again[item] for item in unsaved.edited} | edits.keys()
    for marks, old_seqs in went.items():
        if len(old_seqs) == len(came[marks]) and not is_past:
            for old, new in zip(old_seqs, came[marks], strict=True):
                if old in edited or _is_same(parts_of(known[old]), parts_of(there[new])):
                    found[old] = new
    return found


def _is_same(one: list[Any], other: list[Any]) -> bool:
    return codec.encode(one, warn=False) == codec.encode(other, warn=False)


def with_changed_rows(
    stored: TrackedList[Any], here: TrackedList[Any], hidden: Mapping[int, Any], seqs_now: Mapping[int, int]
) -> TrackedList[Any]:
    """Return what a store holds with the rows that have changes here, where a choice of updates left these out.

    Args:
        stored: What was chosen.
        here: What is in memory.
        hidden: As of `merged`.
        seqs_now: As of `merged`.
    """
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
    seqs = sorted(rows)
    return stored.with_rows([rows[seq] for seq in seqs], seqs)


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
