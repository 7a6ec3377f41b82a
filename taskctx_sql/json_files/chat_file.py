"""One chat's history file: reading it and saving to it, while others may write to it too."""

from __future__ import annotations

import logging
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

from taskctx_sql import codec
from taskctx_sql.errors import LostContextError, StaleContextError, StoreFailedError, UnreadableFileError
from taskctx_sql.json_files import files, history_format
from taskctx_sql.json_files.file_state import ABSENT, EntrySeqs, FileBase, FileState, UncertainSave, fingerprint
from taskctx_sql.locations import UnknownMoveError, identity
from taskctx_sql.model import ContextUpdate, Delta, Saved

logger: logging.Logger = logging.getLogger(__name__)


class ChatFile:
    """A chat's history file, which may be missing. For a save, the caller holds the folder's lock."""

    def __init__(self, path: Path, state: FileState, database_url: str) -> None:
        self._path = path
        self._state = state
        self._database_url = database_url

    def read(self, *, skip_known: bool = False) -> tuple[list[ContextUpdate], bool, str]:
        """Return the file's updates, whether it exists, and its text, and bring the state up to date.

        With ``skip_known`` a file that nobody else changed is not parsed, and no updates are returned. A file that is
        not a history is set aside.
        """
        try:
            with files.open_file(self._path) as file:
                signature = identity(os.fstat(file.fileno()))
                text = history_format.decode_text(file.read())
            self._state.resolve_uncertain(signature, text)
            if skip_known and signature == self._state.signature:
                return [], True, text
            updates = history_format.parse(text)
        except FileNotFoundError:
            self._state.uncertain = None
            self._state.match_entries(ABSENT, ())
            return [], False, "[]"
        except (ValueError, RecursionError) as error:
            raise self._set_aside(error) from error
        self._state.match_entries(signature, updates)
        return updates, True, text

    def save(self, delta: Delta, *, strict: bool) -> Saved:
        """Write a delta; one that was written before is not written again. After an `OSError` the old file is there."""
        state = self._state
        base: FileBase | None = delta.base
        if (saved := state.result_of(delta.run)) is not None:
            self.sync_folder()
            return saved
        # An append needs the entries only if somebody else changed them.
        updates, exists, text = self.read(skip_known=not delta.removed_updates)
        if (saved := state.result_of(delta.run)) is not None:
            # It was uncertain, and turned out to be written.
            self.sync_folder()
            return saved
        if base is not None and base.existed and not exists:
            raise LostContextError(delta.key)
        seen = 0 if base is None else base.version
        complete = seen == state.version
        if delta.if_unchanged and not complete:
            raise StaleContextError(delta.key, seen, state.version)
        if delta.if_there and not complete:
            gone = set(delta.removed_updates).difference(state.seqs)
            # An entry that somebody else edited keeps its seq here, and the save would undo the edit.
            if delta.again_updates or state.may_have_again(gone):
                raise StaleContextError(delta.key, seen, state.version, rewritten=True)
        replaces = bool(delta.updates or delta.removed_updates or not exists)
        version = state.version + replaces
        saved = Saved(
            revision=version,
            first_seq=state.next_seq,
            first_model=1,
            first_position=1,
            base=FileBase(state, version if complete else seen, existed=True),
            complete=complete,
        )
        if replaces:
            self._replace(delta, saved, updates, text, strict=strict)
        state.add_save(delta.run, saved)
        self.sync_folder()
        return saved

    def sync_folder(self) -> None:
        """Make the file's name durable."""
        try:
            files.sync_folder(files.resolve(self._path).parent)
        except OSError as error:
            raise StoreFailedError("sync", self._database_url, str(error), outcome_unknown=True) from error

    def _replace(
        self, delta: Delta, saved: Saved, updates: Sequence[ContextUpdate], text: str, *, strict: bool
    ) -> None:
        state = self._state
        new = [
            history_format.entry_text(update, f"new update {index} ({codec.shown(update.update_type)})", strict=strict)
            for index, update in enumerate(delta.updates)
        ]
        removed = set(delta.removed_updates)
        kept = [index for index, seq in enumerate(state.seqs) if seq not in removed]
        replacement = history_format.with_appended(text, new) if len(kept) == len(state.seqs) else None
        if replacement is None:
            updates = updates or history_format.parse(text)
            old = [history_format.entry_text(updates[index], f"update {index}", strict=False) for index in kept]
            replacement = history_format.whole_text(old + new)
        entries = EntrySeqs(
            array("q", (state.seqs[index] for index in kept)),
            array("q", (state.fingerprints[index] for index in kept)),
            state.next_seq + len(new),
        )
        entries.seqs.extend(range(state.next_seq, entries.next_seq))
        entries.fingerprints.extend(fingerprint(update) for update in delta.updates)
        try:
            signature = files.replace_file(self._path, replacement)
        except UnknownMoveError as error:
            # The next read of the file shows which of the two it is.
            state.uncertain = UncertainSave(delta.run, replacement, entries, saved)
            raise StoreFailedError("save", self._database_url, str(error), outcome_unknown=True) from error
        state.set_entries(signature, entries)

    def _set_aside(self, error: Exception) -> UnreadableFileError:
        reason = f"{type(error).__name__}: {error}"
        try:
            kept = str(files.set_aside(self._path))
        except OSError as failure:
            kept = None
            reason = f"{reason}; setting it aside: {failure}"
        unreadable = UnreadableFileError(str(self._path), kept, reason)
        logger.error("%s", unreadable)
        return unreadable
