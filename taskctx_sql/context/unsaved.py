"""The unsaved part of a context: hand it out, confirm, abandon or discard it, and merge it with what is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from taskctx_sql import codec, limits
from taskctx_sql.context import mappings, merge, tracked_dict, tracked_list
from taskctx_sql.context.memory import Memory, own_updates
from taskctx_sql.context.observable import observable_entries, plain_entry
from taskctx_sql.context.saving_state import Handout, Saving
from taskctx_sql.context.tracked_dict import TrackedDict
from taskctx_sql.context.tracked_list import ListDifference, TrackedList
from taskctx_sql.model import ContextKey, Delta, FileChange, Loaded, MappingChange, Operation, Run, Saved


class Unsaved:
    """How memory differs from the store.

    Attributes:
        saving: The state of the changes: being saved, or in doubt.
        revision: The store's revision that memory last saw; 0 if none.
        is_past: Whether memory shows an earlier revision, which cannot be saved.
        history_complete: Whether memory has the whole history.
        loaded_from: The first seq in memory, or None if updates after the first one are missing, too.
        base: What the store needs with the next delta.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.saving: Saving = Saving()
        self.revision: int = 0
        self.is_past: bool = False
        self.history_complete: bool = True
        self.loaded_from: int | None = None
        self.base: Any = None
        self._key_of_base: ContextKey | None = None
        self._ids_of_base: tuple[Any, Any] = (None, None)
        # Changes of rows that memory does not show because it shows an earlier state.
        self._hidden_updates: Mapping[int, Any] = {}
        self._hidden_models: Mapping[int, Any] = {}
        # As the store has them.
        self._metadata_text = self._toggles_text = mappings.EMPTY

    @property
    def key(self) -> ContextKey:
        """The identity of the context."""
        return ContextKey(self._memory.user_id, self._memory.chat_id)

    @property
    def is_new(self) -> bool:
        """Whether no store is known to have the context."""
        return self.revision == 0

    @property
    def has_changes(self) -> bool:
        """Whether a save would write something, is in progress, or is in doubt."""
        memory, handout = self._memory, self.saving.handout
        return (
            self.is_new
            or (handout is not None and handout.delta.has_content)
            or bool(self._hidden_updates or self._hidden_models)
            or memory.history.has_changes
            or memory.models.has_changes
            or memory.files.has_changes
            or codec.encode(memory.metadata, warn=False) != self._metadata_text
            or codec.encode(memory.toggles, warn=False) != self._toggles_text
        )

    @property
    def oldest_change(self) -> int | None:
        """The lowest seq of an update that was edited or removed in memory; None if none was."""
        history = self._memory.history
        removed = history.difference().removed if history.has_changes else ()
        return min((*self._hidden_updates, *removed), default=None)

    def hand_out(self, run: Run, at: float, *, if_unchanged: bool) -> Handout:
        """Hand out what is unsaved. `confirm`, `forgo` or `abandon` must follow, with the returned handout."""
        memory = self._memory
        self.saving.check_free()
        key = self._follow_key()
        limits.check_save(memory.history.unsaved_count + memory.models.unsaved_count, len(memory.files))
        # What may be refused comes before anything is handed out.
        metadata, metadata_text = mappings.mapping_change(memory.metadata, self._metadata_text)
        toggles, toggles_text = mappings.mapping_change(memory.toggles, self._toggles_text)
        history = memory.history.hand_out()
        models, files = memory.models.hand_out(), memory.files.hand_out()
        delta = Delta(key, run, self.base, at, history.appended, if_unchanged=if_unchanged, if_there=True)
        delta.metadata, delta.toggles = metadata, toggles
        # Most saves only append updates.
        if history.removed:
            delta.removed_updates, delta.again_updates = history.removed, list(history.again.values())
            if dropped := _seqs_of(memory.dropped, history):
                delta.dropped, delta.operation = dropped, memory.dropped_by
        if models is not tracked_list.UNCHANGED:
            delta.models = [plain_entry(entry) for entry in models.appended]
            delta.removed_models, delta.again_models = models.removed, list(models.again.values())
        if files is not tracked_dict.UNCHANGED:
            delta.files = [FileChange(*change) for change in files.changes]
        handout = self.saving.hand_out(Handout(delta, (metadata_text, toggles_text), memory.dropped))
        memory.dropped = {}
        return handout

    def hand_out_operation(self, run: Run, at: float, operation: Operation, revision: int | None) -> Handout:
        """Hand out an operation that the store executes, without content of memory."""
        self.saving.check_free()
        delta = Delta(self._follow_key(), run, self.base, at, operation=operation, source_revision=revision)
        return self.saving.hand_out(Handout(delta))

    def confirm(self, handout: Handout, saved: Saved) -> None:
        """Take a handout as saved."""
        memory = self._memory
        self.saving.check(handout)
        self._take_as_saved(handout, saved.first_seq, saved.first_model, saved.first_position)
        self.base = saved.base
        if not self.is_past:
            self.revision = saved.revision
        if self.loaded_from is None and memory.history.seqs:
            self.loaded_from = memory.history.seqs[0]
        self.saving.settle(handout, written=True)

    def forgo(self, handout: Handout) -> None:
        """Take a handout without content as saved: its changes canceled each other out."""
        self.saving.check(handout)
        self._take_as_saved(handout, 0, 0, 0)
        self.saving.settle(handout, written=False)

    def _take_as_saved(self, handout: Handout, first_seq: int, first_model: int, first_position: int) -> None:
        if handout.texts is not None:
            self._memory.history.confirm(first_seq)
            self._memory.models.confirm(first_model)
            self._memory.files.confirm(first_position)
            self._metadata_text, self._toggles_text = handout.texts

    def abandon(self, handout: Handout) -> None:
        """Take a handout as unsaved again."""
        memory = self._memory
        self.saving.check(handout)
        if handout.texts is not None:
            memory.history.abandon()
            memory.models.abandon()
            memory.files.abandon()
            memory.dropped = {**handout.dropped, **memory.dropped}
        self.saving.settle(handout, written=False)

    def discard(self, loaded: Loaded) -> None:
        """Take what a store has, and discard what is unsaved; see `StoredContext.discard`."""
        memory = self._memory
        self.saving.check_free()
        memory.forget()
        self._hidden_updates = self._hidden_models = {}
        if loaded.revision == 0:
            memory.metadata, memory.toggles = (dict(given) for given in memory.given)
            self._metadata_text = self._toggles_text = mappings.EMPTY
        elif loaded.metadata is not None:
            memory.metadata = codec.decode(self._metadata_text)
            memory.toggles = codec.decode(self._toggles_text)
        self.adopt(loaded)

    def unchanged_metadata(self) -> MappingChange:
        """Return a change of the metadata without effect."""
        return MappingChange(codec.decode(self._metadata_text), {}, ())

    def adopt(self, loaded: Loaded, *, is_past: bool = False, contiguous: bool = True) -> None:
        """Take what a store has, and keep what is unsaved on top of it.

        Args:
            loaded: What it has.
            is_past: Whether it is an earlier revision.
            contiguous: Whether all missing updates are older than the first one.
        """
        memory = self._memory
        self.saving.check_free()
        self._follow_key()
        is_another = self.base is not None and _created_at(self.base) != _created_at(loaded.base)
        was_set_back = loaded.revision < self.revision and not is_past
        seqs_now = partial(merge.seqs_now, is_past=is_past, is_another=is_another, was_set_back=was_set_back)
        stored = TrackedList(loaded.history, loaded.seqs, loaded.edits, prepare=own_updates)
        seqs = seqs_now(memory.history, stored, self._hidden_updates, merge.parts_of_update)
        if not contiguous and not is_another:
            stored = merge.with_changed_rows(stored, memory.history, self._hidden_updates, seqs)
        if memory.dropped:
            dropped = {seqs.get(seq, seq) for seq in _seqs_of(memory.dropped, memory.history.difference())}
            # The rows are other objects now.
            memory.dropped = {id(update): update for seq, update in stored.saved.items() if seq in dropped}
        memory.history, self._hidden_updates = merge.merged(
            memory.history, stored, self._hidden_updates, seqs, is_past=is_past
        )
        entries = observable_entries(0, [entry for _, entry in loaded.models])
        models = TrackedList(entries, [seq for seq, _ in loaded.models], prepare=observable_entries)
        seqs = seqs_now(memory.models, models, self._hidden_models, merge.parts_of_use)
        memory.models, self._hidden_models = merge.merged(
            memory.models, models, self._hidden_models, seqs, is_past=is_past
        )
        files = TrackedDict(loaded.files)
        for path, entry, _, removed in memory.files.difference().changes:
            if not removed:
                files[path] = entry
            elif path in files and not is_another:
                del files[path]
        memory.files = files
        with_changes = partial(mappings.with_changes, removes=not is_another)
        memory.metadata, self._metadata_text = with_changes(loaded.metadata, memory.metadata, self._metadata_text)
        memory.toggles, self._toggles_text = with_changes(loaded.toggles, memory.toggles, self._toggles_text)
        self.base = loaded.base
        self.revision = loaded.revision
        self.loaded_from = loaded.seqs[0] if loaded.seqs and contiguous else None
        self.history_complete = not loaded.earlier
        self.is_past = is_past
        self.saving.reloaded()

    def _follow_key(self) -> ContextKey:
        """Return the key. If an id changed, it is another context, and everything in memory is unsaved."""
        memory = self._memory
        user_id, chat_id = self._ids_of_base
        if user_id is memory.user_id and chat_id is memory.chat_id and self._key_of_base is not None:
            return self._key_of_base
        key = self.key
        if self._key_of_base not in (None, key):
            memory.take_as_unsaved()
            self._hidden_updates = self._hidden_models = {}
            self._metadata_text = self._toggles_text = mappings.EMPTY
            self.base, self.loaded_from, self.revision = None, None, 0
        self._key_of_base, self._ids_of_base = key, (memory.user_id, memory.chat_id)
        return key


def _created_at(base: Any) -> float | None:
    """Return when a context was created, if its store knows: after a deletion, its key is another context."""
    return getattr(base, "created_at", None)


def _seqs_of(items: Mapping[int, Any], difference: ListDifference[Any]) -> list[int]:
    """Return the seqs of the items that are removed."""
    if not items:
        return []
    gone = zip(difference.removed, difference.removed_items, strict=True)
    return [seq for seq, item in gone if id(item) in items]
