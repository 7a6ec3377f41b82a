"""What of a context no store has yet: handed out, confirmed, given up, or merged with what a store has."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from taskctx_sql import codec, limits
from taskctx_sql.context import mappings, merge
from taskctx_sql.context.memory import Memory, own_update
from taskctx_sql.context.saving_state import Contents, Handout, Saving
from taskctx_sql.context.tracking import ListDifference, TrackedDict, TrackedList, noted_entry, plain
from taskctx_sql.model import ContextKey, Delta, FileChange, Loaded, MappingChange, Operation, Run, Saved


class Unsaved:
    """How memory differs from what a store holds.

    Attributes:
        base: What the store returned last, to be handed back to it.
        saving: What is on its way to the store, or in doubt.
        revision: The store's revision that memory last saw; 0 if none.
        is_past: Whether memory shows an earlier revision, which cannot be saved.
        history_complete: Whether memory has the whole history, and not only the newest part of it.
        loaded_from: The first seq in memory, or None if not all that is missing is older.
    """

    __slots__ = (
        *(
            "_hidden_models",
            "_hidden_updates",
            "_ids_of_base",
            "_key_of_base",
            "_memory",
            "_metadata_text",
            "_toggles_text",
        ),
        *("base", "history_complete", "is_past", "loaded_from", "revision", "saving"),
    )

    def __init__(self, memory: Memory) -> None:
        """Begin with all of it unsaved."""
        self._memory = memory
        self.saving = Saving()
        self.revision = 0
        self.is_past = False
        self.history_complete = True
        self.loaded_from: int | None = None
        self.base: Any = None
        self._key_of_base: ContextKey | None = None
        self._ids_of_base: tuple[Any, Any] = (None, None)
        # Changes of rows that memory does not show, since it shows an earlier state.
        self._hidden_updates: Mapping[int, Any] = {}
        self._hidden_models: Mapping[int, Any] = {}
        # What the store has of both.
        self._metadata_text = self._toggles_text = mappings.EMPTY

    @property
    def key(self) -> ContextKey:
        """The identity of the context.

        Raises:
            InvalidIdError: An id cannot name a context.
        """
        return ContextKey(self._memory.user_id, self._memory.chat_id)

    @property
    def is_new(self) -> bool:
        """Whether no store is known to have the context."""
        return self.revision == 0

    @property
    def has_changes(self) -> bool:
        """Whether a save would write something, or one is under way or in doubt."""
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
        """The lowest seq of an update that was edited or taken out here; None if none was."""
        history = self._memory.history
        removed = history.difference().removed if history.has_changes else ()
        return min((*self._hidden_updates, *removed), default=None)

    def hand_out(self, run: Run, at: float, *, if_unchanged: bool) -> Handout:
        """Hand out what is unsaved. `confirm` or `abandon` must follow, with what is returned.

        Raises:
            SaveOrderError: What was handed out before is neither confirmed nor abandoned.
            InvalidContextError: An entry of the history is none.
        """
        memory = self._memory
        self.saving.check_free()
        key = self._follow_key()
        limits.check_save(memory.history.unsaved_count + memory.models.unsaved_count, len(memory.files))
        # Whatever may be refused comes before anything is handed out.
        metadata, metadata_text = mappings.mapping_change(memory.metadata, self._metadata_text)
        toggles, toggles_text = mappings.mapping_change(memory.toggles, self._toggles_text)
        history = memory.history.hand_out()
        models, files = memory.models.hand_out(), memory.files.hand_out()
        dropped = _seqs_of(memory.dropped, history)
        delta = Delta(
            key=key,
            run=run,
            base=self.base,
            at=at,
            updates=history.appended,
            removed_updates=history.removed,
            models=[plain(entry) for entry in models.appended],
            removed_models=models.removed,
            files=[FileChange(*change) for change in files.changes],
            metadata=metadata,
            toggles=toggles,
            operation=memory.dropped_by if dropped else None,
            dropped=dropped,
            if_unchanged=if_unchanged,
            if_there=True,
            again_updates=list(history.again.values()),
            again_models=list(models.again.values()),
        )
        contents = Contents(history, models, files, (metadata_text, toggles_text), memory.dropped)
        memory.dropped = {}
        return self.saving.hand_out(Handout(delta, contents))

    def hand_out_operation(self, run: Run, at: float, operation: Operation, revision: int | None) -> Handout:
        """Hand out an operation of the store's own, with nothing of what is in memory."""
        self.saving.check_free()
        delta = Delta(self._follow_key(), run, self.base, at, operation=operation, source_revision=revision)
        return self.saving.hand_out(Handout(delta))

    def confirm(self, handout: Handout, saved: Saved) -> None:
        """What was handed out is saved."""
        memory = self._memory
        self.saving.check(handout)
        self._take_as_saved(handout.contents, saved.first_seq, saved.first_model, saved.first_position)
        self.base = saved.base
        if not self.is_past:
            self.revision = saved.revision
        if self.loaded_from is None and memory.history.seqs:
            self.loaded_from = memory.history.seqs[0]
        self.saving.settle(handout, written=True)

    def forgo(self, handout: Handout) -> None:
        """What was handed out has no content, and need not be saved: changes may have canceled each other out."""
        self.saving.check(handout)
        self._take_as_saved(handout.contents, 0, 0, 0)
        self.saving.settle(handout, written=False)

    def _take_as_saved(self, contents: Contents | None, seq: int, model: int, position: int) -> None:
        if contents is not None:
            self._memory.history.confirm(contents.history, seq)
            self._memory.models.confirm(contents.models, model)
            self._memory.files.confirm(contents.files, position)
            self._metadata_text, self._toggles_text = contents.texts

    def abandon(self, handout: Handout) -> None:
        """What was handed out was not saved: all of it is unsaved still."""
        memory = self._memory
        self.saving.check(handout)
        contents = handout.contents
        if contents is not None:
            memory.history.abandon(contents.history)
            memory.models.abandon(contents.models)
            memory.files.abandon(contents.files)
            memory.dropped = {**contents.dropped, **memory.dropped}
        self.saving.settle(handout, written=False)

    def discard(self, loaded: Loaded) -> None:
        """Take what a store holds, and give up what is unsaved.

        Metadata and toggles become what the context was made with where the store does not have it; where the store
        does not keep them, they stay.
        """
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
        """Return a change of the metadata that changes nothing of what the store has."""
        return MappingChange(codec.decode(self._metadata_text), {}, ())

    def adopt(self, loaded: Loaded, *, is_past: bool = False, contiguous: bool = True) -> None:
        """Take what a store holds, and keep what is unsaved here on top of it.

        Args:
            loaded: What it holds.
            is_past: Whether it is an earlier revision.
            contiguous: Whether all that is missing is older than the first update.
        """
        memory = self._memory
        self.saving.check_free()
        self._follow_key()
        is_another = self.base is not None and _made_at(self.base) != _made_at(loaded.base)
        was_set_back = loaded.revision < self.revision and not is_past
        seqs_now = partial(merge.seqs_now, is_past=is_past, is_another=is_another, was_set_back=was_set_back)
        stored = TrackedList(loaded.history, loaded.seqs, loaded.edits, prepare=own_update)
        seqs = seqs_now(memory.history, stored, self._hidden_updates, merge.parts_of_update)
        if not contiguous and not is_another:
            stored = merge.with_changed_rows(stored, memory.history, self._hidden_updates, seqs)
        if memory.dropped:
            dropped = {seqs.get(seq, seq) for seq in _seqs_of(memory.dropped, memory.history.difference())}
            # They are other objects now.
            memory.dropped = {id(update): update for seq, update in stored.saved.items() if seq in dropped}
        memory.history, self._hidden_updates = merge.merged(
            memory.history, stored, self._hidden_updates, seqs, is_past=is_past
        )
        entries = [noted_entry(place, entry) for place, (_, entry) in enumerate(loaded.models)]
        models = TrackedList(entries, [seq for seq, _ in loaded.models], prepare=noted_entry)
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
        """Return the key. With another id it is another context, and there all that is in memory is unsaved."""
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


def _made_at(base: Any) -> float | None:
    """Return when a context was made, if its store says so: one that was made anew under the same key is another."""
    return getattr(base, "created_at", None)


def _seqs_of(items: Mapping[int, Any], difference: ListDifference[Any]) -> list[int]:
    """Return the seqs of those that are gone, out of items by identity."""
    if not items:
        return []
    gone = zip(difference.removed, difference.removed_items, strict=True)
    return [seq for seq, item in gone if id(item) in items]
