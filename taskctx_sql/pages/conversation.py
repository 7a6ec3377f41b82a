"""A page of a task's history, now or as it was in a revision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from taskctx_sql.model import ContextKey
from taskctx_sql.pages.entries import MAX_TEXT, Entry, entries_of
from taskctx_sql.stores import Store

# How many updates a page has.
PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Conversation:
    """A page of a history.

    Attributes:
        entries: Its updates, the oldest first.
        last_seq: The seq of the newest update that the task has, or had in the revision; 0 without any.
        older: The seq at which the page before begins; None if this is the first one.
        newer: The seq at which the next page begins; None if this is the last one.
    """

    entries: Sequence[Entry]
    last_seq: int
    older: int | None
    newer: int | None


async def collect_conversation(
    store: Store, key: ContextKey, *, seq: int | None = None, revision: int | None = None, size: int = PAGE
) -> Conversation:
    """Return a page of the history, removed updates included unless a revision is asked for.

    Args:
        store: Where the task is.
        key: The task.
        seq: The page begins with this update; None for the newest page.
        revision: As it was in this revision.
        size: How many updates the page has at the most.
    """
    timeline = store.reports.timeline
    if seq is None:
        rows = await timeline(key, limit=size, revision=revision, max_characters=MAX_TEXT)
        last_seq = rows[-1].seq if rows else 0
        newer = None
    else:
        first = max(seq, 1) - 1
        rows = await timeline(key, limit=size + 1, after=first, oldest=True, revision=revision, max_characters=MAX_TEXT)
        newer = rows[size].seq if len(rows) > size else None
        rows = rows[:size]
        newest = await timeline(key, limit=1, revision=revision, max_characters=1)
        last_seq = newest[-1].seq if newest else 0
    older = None
    if rows and rows[0].seq > 1:
        before = await timeline(key, limit=size, before=rows[0].seq, revision=revision, max_characters=1)
        older = before[0].seq if before else None
    return Conversation(entries_of(rows, revision), last_seq, older, newer)


async def first_request(store: Store, key: ContextKey, revision: int | None = None) -> Entry | None:
    """Return what the task was asked: its first message of a user, or else its first update with a text."""
    first = entries_of(
        await store.reports.timeline(key, limit=20, oldest=True, revision=revision, max_characters=MAX_TEXT)
    )
    said = [entry for entry in first if entry.is_said and entry.text]
    asked = [entry for entry in said if entry.role == "user"]
    others = [entry for entry in first if entry.text]
    return next(iter([*asked, *said, *others]), None)


def last_answer(entries: Sequence[Entry]) -> Entry | None:
    """Return what was said last, of the newest page: a message of the model, or an error."""
    said = [entry for entry in entries if entry.text and entry.removed_in is None and entry.is_said]
    answers = [entry for entry in said if entry.role in ("assistant", "error")]
    return answers[-1] if answers else said[-1] if said else None
