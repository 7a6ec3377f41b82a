"""The view of one task: what it was asked and how it ended, what happened in it, and what it has come to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from taskctx_sql.errors import ContextNotFoundError, InvalidArgumentError
from taskctx_sql.model import PARENT, ContextKey, ContextSummary, Revision
from taskctx_sql.model.context_rows import ContextMetadata, ContextTotals, LastRun, NamedValue, TrackedFile
from taskctx_sql.model.report_rows import ModelUsage
from taskctx_sql.pages.changes import revision_of
from taskctx_sql.pages.conversation import (
    PAGE,
    Conversation,
    collect_conversation,
    first_request,
    last_answer,
)
from taskctx_sql.pages.entries import MAX_TEXT, Entry, entries_of
from taskctx_sql.pages.family import Family, collect_family
from taskctx_sql.pages.parts import WHOLE, Parts
from taskctx_sql.pages.waterfall import FEW_STEPS, MAX_STEPS, Course, Waterfall, read_course, waterfall_of
from taskctx_sql.stores import Store

# How many rows the lists of a task have.
MAX_FILES: Final = 200
MAX_VALUES: Final = 100
MAX_REVISIONS: Final = 100
# Of a task with more updates than these, fewer steps are read.
LONG: Final = 10_000


@dataclass(frozen=True, slots=True)
class Head:
    """What stands above each part of the view of a task.

    Attributes:
        key: The task.
        context: Its title, labels and times.
        totals: How much it has.
        models: The usage of each model, those that cost most first; None while it is still being added up.
        error: Why its last run failed; None if it did not.
        run: Its newest run, or None.
        family: Its parents and sub-tasks, itself among them; None while they are still being read.
        newest: The number of its newest revision.
        shown: The revision that is looked at, or None for now.
    """

    key: ContextKey
    context: ContextSummary
    totals: ContextTotals
    models: Sequence[ModelUsage] | None
    error: str | None
    run: LastRun | None
    family: Family | None
    newest: int
    shown: Revision | None

    @property
    def is_pending(self) -> bool:
        """Whether a part is still being read."""
        return self.models is None or self.family is None

    @property
    def cost(self) -> float:
        """What it cost, as far as that is known."""
        return sum(use.cost for use in self.models or ())

    @property
    def calls(self) -> int:
        """How often it used models, as far as that is known."""
        return sum(use.calls for use in self.models or ())

    @property
    def tokens(self) -> int:
        """How many tokens models read and wrote for it, as far as that is known."""
        return sum(use.input_tokens + use.output_tokens for use in self.models or ())

    @property
    def cached_tokens(self) -> int:
        """How many of them came from a cache."""
        return sum(use.cached_read_tokens for use in self.models or ())

    @property
    def revision(self) -> int:
        """The number of the revision that is looked at."""
        return self.newest if self.shown is None else self.shown.revision

    @property
    def is_running(self) -> bool:
        """Whether its newest run has not ended."""
        return self.run is not None and self.run.outcome == "unfinished"


@dataclass(frozen=True, slots=True)
class TaskView:
    """The view of a task: what stands above, and the story."""

    head: Head
    asked: Entry | None
    ended: Entry | None
    waterfall: Waterfall
    conversation: Conversation


@dataclass(frozen=True, slots=True)
class Touches:
    """A file, and what was done to it, the newest first."""

    path: str
    versions: Sequence[TrackedFile]


@dataclass(frozen=True, slots=True)
class Details:
    """The part of the view with files, models and values.

    Attributes:
        head: What stands above.
        files: The files, the last touched first.
        metadata: Metadata and toggles.
        values: The named values, in the order of their names.
        next_value: The name after which the next page of them begins; None if this is the last one.
        are_files_cut: Whether older operations on files are left out.
    """

    head: Head
    files: Sequence[Touches]
    metadata: ContextMetadata
    values: Sequence[NamedValue]
    next_value: str | None
    are_files_cut: bool


@dataclass(frozen=True, slots=True)
class History:
    """The part of the view with the revisions, the newest first; ``older`` is where the next page begins, or None."""

    head: Head
    revisions: Sequence[Revision]
    older: int | None


@dataclass(frozen=True, slots=True)
class OneUpdate:
    """An update whole: its entry, and the JSON text of its data; ``before`` and ``after`` are its neighbors."""

    head: Head
    entry: Entry
    text: str
    before: int | None
    after: int | None


async def collect_head(
    store: Store,
    key: ContextKey,
    revision: int | None = None,
    *,
    models: bool = True,
    family: bool = True,
    parts: Parts = WHOLE,
) -> Head:
    """Return what stands above each part of the view of a task, looked at now or in a revision.

    A part that shows no models or no tree leaves them out: they are empty. For a long task they take long to add up,
    and are read by ``parts``.

    Raises:
        ContextNotFoundError: The store does not have the task.
        RevisionNotFoundError: It has no such revision.
    """
    return await _with_sums(store, await _read_head(store, key, revision), parts, models=models, family=family)


async def _read_head(store: Store, key: ContextKey, revision: int | None) -> Head:
    """Return a head without the sums. Raises as `collect_head` does."""
    reports = store.reports
    found = await reports.contexts(user_id=key.user_id, chat_id=key.chat_id, limit=1)
    totals = await reports.context_totals(key)
    if not found or totals is None:
        raise ContextNotFoundError(key)
    runs = await reports.last_runs(key, limit=1)
    run, newest = runs[0] if runs else None, found[0].revision or 0
    error = run.error if run is not None and run.outcome == "failed" else None
    shown = None if revision is None or revision == newest else await revision_of(store, key, revision)
    return Head(key, found[0], totals, None, error, run, None, newest, shown)


async def _with_sums(store: Store, head: Head, parts: Parts, *, models: bool = True, family: bool = True) -> Head:
    """Return a head with the sums, or without those that take long and are still being read.

    A view asks for them when it has read everything else, which would take longer beside them.
    """
    key, labels = head.key, head.context.labels
    # The sums of other tasks are there at once.
    is_long = head.totals.updates > LONG

    async def uses() -> Sequence[ModelUsage] | None:
        read = partial(store.reports.context_models, key)
        return await (parts if is_long else WHOLE).get(("models", key), read) if models else ()

    async def tree() -> Family | None:
        read = partial(collect_family, store, key, labels)
        # That of a sub-task may have a long task in it.
        return await (parts if is_long or PARENT in labels else WHOLE).get(("tree", key), read)

    added, relatives = await asyncio.gather(uses(), tree() if family else _alone(key))
    return replace(head, models=added, family=relatives)


async def _alone(key: ContextKey) -> Family:
    return Family(key, (), 1)


async def collect_task(
    store: Store,
    key: ContextKey,
    *,
    revision: int | None = None,
    seq: int | None = None,
    page: int | None = None,
    size: int = PAGE,
    parts: Parts = WHOLE,
) -> TaskView:
    """Return the view of a task.

    Args:
        store: Where the task is.
        key: The task.
        revision: As it was in this revision; None for now.
        seq: The page of its history that begins with this update; None for the newest one.
        page: The page of the waterfall; None for the newest one.
        size: How many updates a page of the history has at the most.
        parts: What reads the sums, which take long for a long task.

    Raises:
        ContextNotFoundError: The store does not have the task.
        RevisionNotFoundError: It has no such revision.
    """
    head = await _read_head(store, key, revision)
    shown = None if head.shown is None else head.shown.revision
    conversation = await collect_conversation(store, key, seq=seq, revision=shown, size=size)
    newest = conversation.entries
    if conversation.newer is not None:
        newest = (await collect_conversation(store, key, revision=shown, size=20)).entries
    asked, course = await first_request(store, key, shown), await collect_course(store, head)
    head = await _with_sums(store, head, parts)
    waterfall = waterfall_of_task(head, course, conversation.entries, page)
    return TaskView(head, asked, last_answer(newest), waterfall, conversation)


async def collect_course(store: Store, head: Head) -> Course:
    """Return what the waterfall of a task is drawn from."""
    return await read_course(store, head.key, most=FEW_STEPS if head.totals.updates > LONG else MAX_STEPS)


def waterfall_of_task(head: Head, course: Course, entries: Sequence[Entry], page: int | None = None) -> Waterfall:
    """Return the waterfall of a task, given some of its updates."""
    return waterfall_of(
        course,
        page=page,
        sub_tasks=() if head.family is None else head.family.sub_tasks(),
        moment=None if head.shown is None else head.shown.saved_at,
        until=head.context.updated_at,
        is_noted_after=any(entry.update_type == "model_usage" for entry in entries),
    )


async def collect_details(
    store: Store, key: ContextKey, *, revision: int | None = None, after: str = "", parts: Parts = WHOLE
) -> Details:
    """Return the files, models and values of a task; the named values are those after a name."""
    head = await _read_head(store, key, revision)
    shown = None if head.shown is None else head.shown.revision
    reports = store.reports
    versions = await reports.tracked_files(key, limit=MAX_FILES + 1, revision=shown)
    by_path: dict[str, list[TrackedFile]] = {}
    for version in versions[:MAX_FILES]:
        by_path.setdefault(version.path, []).append(version)
    values = await reports.named_values(key, limit=MAX_VALUES + 1, after=after, revision=shown, max_characters=MAX_TEXT)
    metadata = await reports.metadata(key, revision=shown)
    return Details(
        await _with_sums(store, head, parts, family=False),
        [Touches(path, touches) for path, touches in by_path.items()],
        metadata,
        values[:MAX_VALUES],
        values[MAX_VALUES - 1].name if len(values) > MAX_VALUES else None,
        len(versions) > MAX_FILES,
    )


async def collect_history(store: Store, key: ContextKey, *, before: int | None = None) -> History:
    """Return the revisions of a task, the newest first, those before a number."""
    found = await store.revisions(key, before=before, limit=MAX_REVISIONS + 1)
    older = found[MAX_REVISIONS - 1].revision if len(found) > MAX_REVISIONS else None
    return History(await collect_head(store, key, models=False, family=False), found[:MAX_REVISIONS], older)


async def collect_update(store: Store, key: ContextKey, seq: int, *, most: int | None = None) -> OneUpdate:
    """Return an update with its whole data, or so many characters of it.

    Raises:
        ContextNotFoundError: The store does not have the task.
        InvalidArgumentError: It has no such update.
    """
    head = await collect_head(store, key, models=False, family=False)
    timeline = store.reports.timeline
    rows = await timeline(key, after=max(seq, 1) - 1, before=seq + 1, max_characters=most)
    if not rows:
        raise InvalidArgumentError("seq", seq, "the number of an update of this task")
    before = await timeline(key, limit=1, before=seq, max_characters=1)
    after = await timeline(key, limit=1, after=seq, oldest=True, max_characters=1)
    return OneUpdate(
        head,
        entries_of(rows)[0],
        rows[0].data,
        before[0].seq if before else None,
        after[0].seq if after else None,
    )
