"""A context in memory: the reference's API, and what of it is unsaved. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, overload

from taskctx_sql import codec, limits, settings
from taskctx_sql.errors import InvalidContextError
from taskctx_sql.optimize import OptimizePlan, plan
from taskctx_sql.records import (
    ContextKey,
    ContextUpdate,
    Delta,
    FileChange,
    Loaded,
    MappingChange,
    Operation,
    Run,
    Saved,
)
from taskctx_sql.resources import Resources
from taskctx_sql.settings import DEFAULT_MAX_CONTEXT_SIZE, DEFAULT_TASK_DIR
from taskctx_sql.tracking import ListDifference, NotedDict, TrackedDict, TrackedList, noted_entry, plain
from taskctx_sql.unsaved import Contents, Handout, Saving

Clock = Callable[[], float]

_EMPTY = codec.encode({})


class MemoryContext:
    """What a task did so far.

    Attributes:
        user_id: Who; "anonymous" if not given.
        chat_id: Which chat; "none" if not given.
        metadata: What is known about the task. ``aiPreference`` of the data is merged into it.
        metadata_toggles: A key set to False here is left out of `get_active_metadata`.
        task_dir: The folder of JSON files.
        start_time: When the context was entered, seconds since the epoch, or None.
        resources: What will be closed when the context is left, by name.
        context_history: The updates, oldest first.
        file_tracker: The last operation on each file, by path.
        model_tracker: The model uses, oldest first.
        revision: The store's revision that this memory last saw; 0 if none.
        history_complete: Whether memory has the whole history, and not only the newest part of it.
        is_past: Whether memory shows an earlier revision, which cannot be saved.
    """

    def __init__(
        self, data: Mapping[str, Any], task_dir: str | Path = DEFAULT_TASK_DIR, *, clock: Clock | None = None
    ) -> None:
        """Make a context of ``data``: user_id, chat_id, metadata, metadata_toggles, aiPreference, all optional."""
        if not isinstance(data, Mapping):
            raise InvalidContextError("data", data, "a dict")
        self.user_id: Any = data.get("user_id", "anonymous")
        self.chat_id: Any = data.get("chat_id", "none")
        self.metadata: dict[str, Any] = _mapping("metadata", data.get("metadata"))
        if "aiPreference" in data:
            self.metadata["aiPreference"] = data["aiPreference"]
        self.metadata_toggles: dict[str, bool] = _mapping("metadata_toggles", data.get("metadata_toggles"))
        self.task_dir = Path(settings.task_dir() if task_dir is DEFAULT_TASK_DIR else task_dir)
        self.start_time: float | None = None
        self.revision = 0
        self.history_complete = True
        self.is_past = False
        self._clock = clock
        self._resources = Resources()
        self._history: TrackedList[ContextUpdate] = TrackedList(prepare=_own_update)
        self._models: TrackedList[Any] = TrackedList(prepare=noted_entry)
        self._files = TrackedDict()
        self._base: Any = None
        self._key_of_base: ContextKey | None = None
        self._ids_of_base: tuple[Any, Any] = (None, None)
        self._loaded_from: int | None = None
        # What optimize or truncate took out, by identity, and the last of the two.
        self._dropped: dict[int, ContextUpdate] = {}
        self._dropped_by: Operation = "optimize"
        # What the store has of both.
        self._metadata_text = self._toggles_text = _EMPTY
        self._saving = Saving()

    # The reference's API.

    @property
    def resources(self) -> dict[str, Any]:
        """What will be closed when the context is left, by name."""
        return self._resources.named

    @resources.setter
    def resources(self, resources: dict[str, Any]) -> None:
        self._resources.named = resources

    @property
    def context_history(self) -> list[ContextUpdate]:
        """The updates, oldest first."""
        return self._history

    @context_history.setter
    def context_history(self, updates: Iterable[ContextUpdate]) -> None:
        self._history = self._history.replaced_by(updates)

    @property
    def file_tracker(self) -> dict[Any, dict[str, Any]]:
        """The last operation on each file, by path."""
        return self._files

    @file_tracker.setter
    def file_tracker(self, entries: Mapping[Any, dict[str, Any]]) -> None:
        self._files = self._files.replaced_by(entries)

    @property
    def model_tracker(self) -> list[dict[str, Any]]:
        """The model uses, oldest first."""
        return self._models

    @model_tracker.setter
    def model_tracker(self, entries: Iterable[dict[str, Any]]) -> None:
        self._models = self._models.replaced_by(entries)

    def add_context_update(self, update_type: str, data: Any, metadata: dict[str, Any] | None = None) -> None:
        """Append an update to the history, made now."""
        self._history.append(ContextUpdate(self._now(), update_type, data, metadata or {}))

    def add_resource(self, name: str, resource: Any) -> None:
        """Take a resource that is closed when the context is left; one it replaces is closed then too."""
        self._resources.add(name, resource)
        self.add_context_update("resource", {"name": name}, {"type": type(resource).__name__})

    def track_file_operation(self, file_path: str, operation: str, source: str = "task") -> None:
        """Note the last operation on a file, and add an update of it."""
        self._files[file_path] = {
            "operation": operation,
            "source": source,
            "timestamp": self._now(),
            "state": "active",
        }
        self.add_context_update("file_operation", {"path": file_path, "operation": operation}, {"source": source})

    def track_model_usage(
        self,
        model_id: str,
        provider_id: str,
        mode: str,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cost: float | None = None,
        duration: float | None = None,
    ) -> None:
        """Note a use of a model, and add an update of it.

        Args:
            model_id: Which model.
            provider_id: Whose.
            mode: What for.
            input_tokens: How many it read.
            output_tokens: How many it wrote.
            cost: What it cost, in the currency of your choice.
            duration: How long it took, in seconds.
        """
        entry: dict[str, Any] = {
            "model_id": model_id,
            "provider_id": provider_id,
            "mode": mode,
            "timestamp": self._now(),
        }
        measured = {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cost": cost,
            "duration": duration,
        }
        entry.update((name, value) for name, value in measured.items() if value is not None)
        if not self._models or self._models[-1] != entry:
            self._models.append(NotedDict(entry))
            self.add_context_update("model_usage", entry)

    @overload
    def optimize_context(self, max_size: int = ..., *, dry_run: Literal[False] = ...) -> bool: ...

    @overload
    def optimize_context(self, max_size: int = ..., *, dry_run: Literal[True]) -> OptimizePlan: ...

    def optimize_context(
        self, max_size: int = DEFAULT_MAX_CONTEXT_SIZE, *, dry_run: bool = False
    ) -> bool | OptimizePlan:
        """Keep the newest of equal updates, as many as fit into ``max_size`` characters of their data.

        Without ``max_size``, ``AIECS_MAX_CONTEXT_SIZE`` decides. The record in a database keeps what leaves.

        Args:
            max_size: How many characters may stay.
            dry_run: Change nothing, and return what would go, and why.

        Returns:
            Whether anything was removed; with ``dry_run`` a plan, which is true if anything would be, and prints well.
        """
        size = settings.max_context_size() if max_size is DEFAULT_MAX_CONTEXT_SIZE else max_size
        planned = plan(self._own_history(), size)
        if dry_run:
            return planned
        if planned:
            self._drop([dropped.update for dropped in planned.dropped], planned.kept, "optimize")
        return bool(planned)

    def get_active_metadata(self) -> dict[str, Any]:
        """Return the metadata without the keys whose toggle is False."""
        return {key: value for key, value in self.metadata.items() if self.metadata_toggles.get(key) is not False}

    def to_dict(self) -> dict[str, Any]:
        """Return the context as a plain dictionary, in the reference's order."""
        return {
            "user_id": self.user_id,
            "chat_id": self.chat_id,
            "metadata": self.get_active_metadata(),
            "context_history": [update.to_dict() for update in self._own_history()],
            "file_tracker": {path: plain(entry) for path, entry in self._files.items()},
            "model_tracker": [plain(entry) for entry in self._models],
        }

    # What is unsaved.

    @property
    def key(self) -> ContextKey:
        """The identity of the context.

        Raises:
            InvalidIdError: An id cannot name a context.
        """
        return ContextKey(self.user_id, self.chat_id)

    @property
    def is_new(self) -> bool:
        """Whether no store is known to have the context."""
        return self.revision == 0

    @property
    def has_unsaved_changes(self) -> bool:
        """Whether a save would write something, or one is under way or in doubt."""
        return (
            self.is_new
            or ((handout := self._saving.handout) is not None and handout.delta.has_content)
            or self._history.has_changes
            or self._models.has_changes
            or self._files.has_changes
            or codec.encode(self.metadata, warn=False) != self._metadata_text
            or codec.encode(self.metadata_toggles, warn=False) != self._toggles_text
        )

    def _hand_out(self, run: Run, at: float, *, if_unchanged: bool) -> Handout:
        """Hand out what is unsaved. `_confirm` or `_abandon` must follow, with what is returned.

        Raises:
            SaveOrderError: What was handed out before is neither confirmed nor abandoned.
            InvalidContextError: An entry of the history is none.
        """
        self._saving.check_free()
        key = self._follow_key()
        limits.check_save(self._history.unsaved_count + self._models.unsaved_count, len(self._files))
        # Whatever may be refused comes before anything is handed out.
        metadata, metadata_text = _mapping_change(self.metadata, self._metadata_text)
        toggles, toggles_text = _mapping_change(self.metadata_toggles, self._toggles_text)
        history = self._history.hand_out()
        models, files = self._models.hand_out(), self._files.hand_out()
        dropped = _seqs_of(self._dropped, history)
        delta = Delta(
            key=key,
            run=run,
            base=self._base,
            at=at,
            updates=history.appended,
            removed_updates=history.removed,
            models=[plain(entry) for entry in models.appended],
            removed_models=models.removed,
            files=[FileChange(*change) for change in files.changes],
            metadata=metadata,
            toggles=toggles,
            operation=self._dropped_by if dropped else None,
            dropped=dropped,
            if_unchanged=if_unchanged,
        )
        contents = Contents(history, models, files, (metadata_text, toggles_text), self._dropped)
        self._dropped = {}
        return self._saving.hand_out(Handout(delta, contents))

    def _hand_out_operation(self, run: Run, at: float, operation: Operation, revision: int | None) -> Handout:
        """Hand out an operation of the store's own, with nothing of what is in memory."""
        self._saving.check_free()
        delta = Delta(self._follow_key(), run, self._base, at, operation=operation, source_revision=revision)
        return self._saving.hand_out(Handout(delta))

    def _drop(self, dropped: Iterable[ContextUpdate], kept: Iterable[ContextUpdate], operation: Operation) -> None:
        """Take updates out of the history; the record will say by what."""
        self._dropped |= {id(update): update for update in dropped}
        self._dropped_by = operation
        self.context_history = list(kept)

    def _confirm(self, handout: Handout, saved: Saved) -> None:
        """What was handed out is saved."""
        self._saving.check(handout)
        contents = handout.contents
        if contents is not None:
            self._history.confirm(contents.history, saved.first_seq)
            self._models.confirm(contents.models, saved.first_model)
            self._files.confirm(contents.files, saved.first_position)
            self._metadata_text, self._toggles_text = contents.texts
        self._base = saved.base
        if not self.is_past:
            self.revision = saved.revision
        if self._loaded_from is None and self._history.seqs:
            self._loaded_from = self._history.seqs[0]
        self._saving.settle(handout, written=True)

    def _abandon(self, handout: Handout) -> None:
        """What was handed out was not saved: all of it is unsaved still."""
        self._saving.check(handout)
        contents = handout.contents
        if contents is not None:
            self._history.abandon(contents.history)
            self._models.abandon(contents.models)
            self._files.abandon(contents.files)
            self._dropped = {**contents.dropped, **self._dropped}
        self._saving.settle(handout, written=False)

    def _forget_changes(self, *, mappings: bool) -> None:
        """Give up what is unsaved, before a store's state is adopted."""
        self._saving.check_free()
        self._history = TrackedList(prepare=_own_update)
        self._models, self._files = TrackedList(prepare=noted_entry), TrackedDict()
        self._dropped = {}
        if mappings:
            self.metadata = codec.decode(self._metadata_text)
            self.metadata_toggles = codec.decode(self._toggles_text)

    def _adopt(self, loaded: Loaded, *, is_past: bool = False, contiguous: bool = True) -> None:
        """Take what a store holds, and keep what is unsaved here on top of it.

        Args:
            loaded: What it holds.
            is_past: Whether it is an earlier revision.
            contiguous: Whether all that is missing is older than the first update.
        """
        self._saving.check_free()
        self._follow_key()
        dropped = set(_seqs_of(self._dropped, self._history.difference())) if self._dropped else set()
        # They are other objects now.
        self._dropped = {
            id(update): update for update, seq in zip(loaded.history, loaded.seqs, strict=True) if seq in dropped
        }
        stored = TrackedList(loaded.history, loaded.seqs, loaded.edits, prepare=_own_update)
        self._history = _merged(self._history, stored)
        entries = [noted_entry(place, entry) for place, (_, entry) in enumerate(loaded.models)]
        seqs = [seq for seq, _ in loaded.models]
        self._models = _merged(self._models, TrackedList(entries, seqs, prepare=noted_entry))
        files = TrackedDict(loaded.files)
        for path, entry, _, removed in self._files.difference().changes:
            if not removed:
                files[path] = entry
            elif path in files:
                del files[path]
        self._files = files
        self.metadata, self._metadata_text = _with_changes(loaded.metadata, self.metadata, self._metadata_text)
        self.metadata_toggles, self._toggles_text = _with_changes(
            loaded.toggles, self.metadata_toggles, self._toggles_text
        )
        self._base = loaded.base
        self.revision = loaded.revision
        self._loaded_from = loaded.seqs[0] if loaded.seqs and contiguous else None
        self.history_complete = not loaded.earlier
        self.is_past = is_past
        self._saving.reloaded()

    def _follow_key(self) -> ContextKey:
        """Return the key. With another id it is another context, and there all that is in memory is unsaved."""
        user_id, chat_id = self._ids_of_base
        if user_id is self.user_id and chat_id is self.chat_id and self._key_of_base is not None:
            return self._key_of_base
        key = self.key
        if self._key_of_base not in (None, key):
            self._history = TrackedList(self._history, prepare=_own_update)
            self._models = TrackedList(self._models, prepare=noted_entry)
            entries, self._files = self._files, TrackedDict()
            self._files.update(entries)
            self._metadata_text = self._toggles_text = _EMPTY
            self._base, self._loaded_from, self.revision = None, None, 0
        self._key_of_base, self._ids_of_base = key, (self.user_id, self.chat_id)
        return key

    def _own_history(self) -> list[ContextUpdate]:
        """Return the history, with updates of ours for entries that only look like some."""
        return [_own_update(place, update) for place, update in enumerate(self._history)]

    def _now(self) -> float:
        return time.time() if self._clock is None else self._clock()


def _merged(here: TrackedList[Any], stored: TrackedList[Any]) -> TrackedList[Any]:
    unsaved = here.difference()
    if unsaved.removed:
        gone = set(unsaved.removed)
        kept = [item for item, seq in zip(stored, stored.seqs, strict=True) if seq not in gone]
        stored = stored.replaced_by(kept)
    stored.extend(unsaved.appended)
    return stored


def _seqs_of(items: Mapping[int, Any], difference: ListDifference[Any]) -> list[int]:
    """Return the seqs of those that are gone, out of items by identity."""
    if not items:
        return []
    gone = zip(difference.removed, difference.removed_items, strict=True)
    return [seq for seq, item in gone if id(item) in items]


def _mapping(field: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidContextError(field, value, "a dict")
    return dict(value)


def _mapping_change(now: Any, saved_text: str) -> tuple[MappingChange | None, str]:
    """Return how a mapping differs from its saved text, if it does, and its text now."""
    if saved_text == _EMPTY and type(now) is dict and not now:
        return None, _EMPTY
    text = codec.encode(now, warn=False)
    if text == saved_text:
        return None, text
    saved = codec.decode(saved_text)
    if not isinstance(now, dict) or not isinstance(saved, dict):
        return MappingChange(now, {}, ()), text
    missing = object()
    changed = {
        key: value
        for key, value in now.items()
        if (old := saved.get(key, missing)) is missing or codec.encode(old) != codec.encode(value, warn=False)
    }
    return MappingChange(dict(now), changed, [key for key in saved if key not in now]), text


def _with_changes(stored: Any, here: Any, saved_text: str) -> tuple[Any, str]:
    """Return the stored mapping with this side's unsaved changes on top, and the stored one's text."""
    if stored is None:
        # A store that does not keep it.
        return here, saved_text
    change, _ = _mapping_change(here, saved_text)
    text = codec.encode(stored, warn=False)
    if change is None or not isinstance(stored, dict) or not isinstance(here, dict):
        return (stored if change is None else here), text
    merged = {key: value for key, value in stored.items() if key not in change.removed} | dict(change.changed)
    return merged, text


def _own_update(place: int, entry: Any) -> ContextUpdate:
    """Return an entry of a history as an update: any object will do that has the four fields.

    Raises:
        InvalidContextError: It has not.
    """
    if isinstance(entry, ContextUpdate):
        return entry
    try:
        return ContextUpdate(entry.timestamp, entry.update_type, entry.data, entry.metadata)
    except AttributeError:
        expected = "a ContextUpdate, or an object with its four fields"
        raise InvalidContextError(f"context_history[{place}]", entry, expected) from None
