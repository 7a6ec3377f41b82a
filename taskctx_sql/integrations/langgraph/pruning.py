"""Which entries of a thread can go when some of its checkpoints go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from taskctx_sql import StateChange, StateEntry
from taskctx_sql.integrations.langgraph import names
from taskctx_sql.integrations.langgraph.reading import Reader
from taskctx_sql.integrations.langgraph.row import Row

# A namespace and an id.
Checkpoints = set[tuple[str, str]]


async def latest(reader: Reader, rows: Sequence[Row]) -> Checkpoints:
    """Return the latest checkpoint of each namespace, and the ones before that it cannot be read without.

    These are the ancestors back to the one that has the whole value of each delta channel, and in a checkpoint of
    an old version the parent, which has what it was sent. A call of a subgraph, whose namespace ends with the id of its
    task, goes with the checkpoint of the root graph that it started from.
    """
    heads = {row.namespace: row for row in sorted(rows, key=lambda row: row.id)}
    saved = {row.id for row in rows if not row.namespace}
    root = heads.get("")
    kept: Checkpoints = set()
    for namespace, head in heads.items():
        started_from = head.metadata.get("parents", {}).get("")
        if ":" in namespace and started_from in saved and root is not None and started_from != root.id:
            continue
        kept.add((namespace, head.id))
        if head.sends_parent is not None and await reader.sends(head):
            kept.add((namespace, head.sends_parent))
        kept |= {(namespace, row.id) for row in await _needed(reader, head)}
    return kept


async def _needed(reader: Reader, head: Row) -> list[Row]:
    """Return the ancestors that the checkpoint's delta channels are put together from."""
    missing = set(head.metadata.get("counters_since_delta_snapshot", ())) - set(head.values)
    ancestors = []
    if missing:
        async for row in reader.ancestors(head):
            ancestors.append(row)
            missing -= set(row.values)
            if not missing:
                break
    return ancestors


def removals(kept: Checkpoints, entries: Sequence[StateEntry]) -> list[StateChange]:
    """Return the changes after which a thread has only these checkpoints, and what they refer to.

    Args:
        kept: The checkpoints to keep.
        entries: All entries of the thread. Writes whose checkpoint is not there yet stay.
    """
    rows = checkpoints(entries)
    remaining = [row for row in rows if (row.namespace, row.id) in kept]
    gone = {(row.namespace, row.id) for row in rows} - kept
    used = _used(remaining, entries)
    parents = {row.name: (row.namespace, row.parent) for row in remaining}
    used |= parents.keys()
    lost = tuple(names.writes(*checkpoint) for checkpoint in gone)
    changes = [
        StateChange(entry.name, removed=True)
        for entry in entries
        if (
            entry.name not in used
            if names.is_checkpoint(entry.name) or not entry.name.startswith("checkpoint/")
            else entry.name.startswith(lost)
        )
    ]
    for entry in entries:
        if entry.name in parents and parents[entry.name] in gone:
            changes.append(StateChange(entry.name, entry.value | {"parent": None}))
    return changes


def checkpoints(entries: Iterable[StateEntry]) -> list[Row]:
    """Return the checkpoints among a thread's entries."""
    return [Row.of(entry) for entry in entries if names.is_checkpoint(entry.name)]


def _used(rows: Iterable[Row], entries: Iterable[StateEntry]) -> set[str]:
    """Return the names of the entries that have these checkpoints' values."""
    of_lists = {}
    for entry in entries:
        if entry.name.startswith("list/"):
            growth, _, token = entry.name.rsplit("/", 2)
            of_lists[growth, token] = entry
    used = set()
    for row in rows:
        for channel, reference in row.values.items():
            if "version" in reference:
                used.add(names.channel(row.namespace, channel, reference["version"]))
            elif "list" in reference:
                growth = names.growths(row.namespace, channel) + reference["list"][0]
                found = of_lists.get((growth, reference["list"][2]))
                # Checkpoints share the entries before.
                while found is not None and found.name not in used:
                    used.add(found.name)
                    found = of_lists.get((growth, found.value["after"]))
    return used
