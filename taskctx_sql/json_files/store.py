"""Contexts in the original's JSON files: one file a chat, holding the history and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from array import array
from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final, TypeVar
from weakref import WeakSet, WeakValueDictionary

from taskctx_sql import codec
from taskctx_sql.concurrency import running_loop, shielded
from taskctx_sql.errors import (
    LostContextError,
    StaleContextError,
    StoreClosedError,
    StoreFailedError,
    StoreUnavailableError,
    UnreadableFileError,
    UnsupportedByStoreError,
)
from taskctx_sql.json_files import files
from taskctx_sql.json_files.folder import histories
from taskctx_sql.json_files.numbering import ABSENT, Base, Doubt, Entries, Numbering, mark_of
from taskctx_sql.json_files.threads import in_thread, patience_of
from taskctx_sql.limits import check_number, check_seconds
from taskctx_sql.locations import Patience, folders, json_address, plain_folder
from taskctx_sql.model import (
    ContextKey,
    ContextSummary,
    ContextUpdate,
    Delta,
    Difference,
    Loaded,
    Revision,
    Saved,
    Selection,
    StoredUpdate,
    UpdateSize,
    choose_from,
)
from taskctx_sql.stores import Feature

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Of how many files, whoever has them in memory.
FILES_REMEMBERED: Final = 1_000


class JsonStore:
    """A folder of the original's history files.

    Writers of this library, in one process or several, append to each other's work. The file is replaced as a
    whole, so the cost of a save grows with the history; a database does not have that.

    Args:
        folder: Where the files are; made at the first save. A file may be a link to one in another folder.
        strict: Refuse values that would come back as their text.
        retry_seconds: How long a save waits for a folder that another process holds.
    """

    features: Final[frozenset[Feature]] = frozenset()

    def __init__(
        self, folder: str | Path, *, strict: bool = False, retry_seconds: float = folders.LOCK_SECONDS
    ) -> None:
        """Take the folder; nothing is read or made yet."""
        check_seconds("retry_seconds", retry_seconds)
        # A program that changes its folder still means the same files.
        self.folder = plain_folder(folder).absolute()
        self._strict = strict
        self._closed = False
        self._retry_seconds = retry_seconds
        self._lock = threading.Lock()
        _stores.add(self)
        # Each call with the loop that it is of, and what tells that it has ended.
        self._under_way: dict[Patience, tuple[asyncio.AbstractEventLoop, Future[None]]] = {}
        self._numberings: WeakValueDictionary[str, Numbering] = WeakValueDictionary()
        # Held for those who do not hold them yet: a first save may have been cancelled, and come again.
        self._saved_last: dict[str, Numbering] = {}

    @property
    def database_url(self) -> str:
        """The store's address."""
        return json_address(self.folder)

    def __repr__(self) -> str:
        return f"JsonStore({str(self.folder)!r})"

    async def load(
        self,
        key: ContextKey,
        /,
        *,
        history_limit: int | None = None,
        revision: int | None = None,
        at: float | None = None,
        max_chars: int | None = None,
        types: Sequence[str] | None = None,
        keep_types: Sequence[str] = (),
    ) -> Loaded:
        """See `Store.load`. Both trackers are rebuilt from the history."""
        selection = Selection(history_limit, revision, at, max_chars, types, keep_types)
        if selection.is_past:
            raise self._no_revisions()
        return await self.in_thread("load", lambda _: self.load_now(key, selection), reads=True)

    async def save(self, delta: Delta, /) -> Saved:
        """See `Store.save`. Only the history is kept."""
        if delta.operation in ("restore", "undo"):
            raise self._no_revisions()
        return await self.in_thread("save", lambda patience: self._save_now(delta, patience))

    async def updates(
        self, key: ContextKey, /, *, after: int = 0, before: int | None = None, newest_first: bool = False
    ) -> AsyncIterator[StoredUpdate]:
        """See `Store.updates`. The file is read once, at the beginning."""
        rows = (await self.load(key)).updates
        # The numbers need not rise in a file that somebody else rearranged: a bound is the place of its entry.
        seqs = [row.seq for row in rows]
        start = seqs.index(after) + 1 if after in seqs else 0
        end = len(seqs) if before is None else seqs.index(before) if before in seqs else bisect_left(seqs, before)
        chosen = rows[start:end]
        for row in reversed(chosen) if newest_first else chosen:
            yield row

    async def revisions(self, key: ContextKey, /, *, before: int | None = None, limit: int = 100) -> Sequence[Revision]:
        """See `Store.revisions`: a file has none."""
        raise self._no_revisions()

    async def difference(self, key: ContextKey, old: int, new: int, /) -> Difference:
        """See `Store.difference`: a file has no revisions."""
        raise self._no_revisions()

    async def fork(self, key: ContextKey, chat_id: str, /, *, revision: int | None = None) -> ContextKey:
        """See `Store.fork`: a file has no revisions."""
        raise self._no_revisions()

    def _no_revisions(self) -> UnsupportedByStoreError:
        return UnsupportedByStoreError("show earlier states", self.database_url, Feature.REVISIONS.value)

    def watch(
        self, key: ContextKey, /, *, after: int = 0, poll_interval: float = 1.0
    ) -> AsyncGenerator[StoredUpdate, None]:
        """See `Store.watch`. A file has no seqs of its own, so it cannot be told what is new."""
        raise UnsupportedByStoreError("watch a context", self.database_url, Feature.REVISIONS.value)

    async def contexts(
        self, user_id: str, /, *, after: ContextSummary | None = None, limit: int = 100
    ) -> Sequence[ContextSummary]:
        """See `Store.contexts`. The files do not know their users: each chat is listed for whoever asks."""
        check_number("limit", limit, 0)
        return await self.in_thread("list", lambda _: self._contexts_now(user_id, after, limit), reads=True)

    async def delete(self, key: ContextKey, /) -> bool:
        """See `Store.delete`."""
        return await self.in_thread("delete", lambda patience: self._delete_now(key, patience))

    async def close(self) -> None:
        """See `Store.close`. What writes is finished; what still waits for the folder's lock is given up."""
        self._closed = True
        for patience in list(self._under_way):
            patience.give_up()
        # A loop that is closed ends nothing any more.
        left = [ended for loop, ended in list(self._under_way.values()) if not loop.is_closed()]
        if left:
            await shielded(asyncio.wait(list(map(asyncio.wrap_future, left))))

    async def in_thread(self, doing: str, work: Callable[[Patience], T], *, reads: bool = False) -> T:
        """Do something on a thread, which waits for the folder's lock as long as the store does; see `file_threads`.

        Raises:
            StoreClosedError: The store was closed before the work was begun.
        """
        if self._closed:
            raise StoreClosedError(self.database_url)
        doing = f"{doing} in {self.database_url}"
        patience, ended = patience_of(self._retry_seconds), Future[None]()
        self._under_way[patience] = running_loop(doing), ended
        try:
            return await in_thread(doing, work, patience, reads=reads)
        except StoreUnavailableError as error:
            if self._closed:
                raise StoreClosedError(self.database_url) from error
            raise
        finally:
            del self._under_way[patience]
            ended.set_result(None)

    def load_now(self, key: ContextKey, selection: Selection) -> Loaded:
        """Do what `load` does, on the calling thread: for the constructor of a context, which cannot wait."""
        with self._at_work("load", key) as path, self._lock:
            numbering = self._numbering(path)
            updates, existed, _ = self._read(path, numbering)
            tracked, models = files.trackers(updates)
            places, earlier = _chosen(updates, selection)
            return Loaded(
                revision=numbering.version if existed else 0,
                base=Base(numbering, numbering.version, existed),
                history=[updates[place] for place in places],
                seqs=[numbering.seqs[place] for place in places],
                earlier=earlier,
                models=list(enumerate(models, 1)),
                files=[(place, path, entry) for place, (path, entry) in enumerate(tracked.items(), 1)],
                metadata=None,
                toggles=None,
            )

    def _save_now(self, delta: Delta, patience: Patience) -> Saved:
        with self._at_work("save", delta.key) as path:
            folders.make_folder(self.folder)
            # The folder first: while it is waited for, others can load.
            with files.folder_lock(files.place_of(path).parent, patience), self._lock:
                return self._write(delta, path)

    def _write(self, delta: Delta, path: Path) -> Saved:
        base: Base | None = delta.base
        numbering = self._numbering(path) if base is None else base.numbering
        if (saved := numbering.answer_to(delta.run)) is not None:
            self._sync_folder(path)
            return saved
        # An append needs the entries only if somebody else changed them.
        updates, exists, text = self._read(path, numbering, skip_known=not delta.removed_updates)
        if (saved := numbering.answer_to(delta.run)) is not None:
            # It was in doubt, and is there.
            self._sync_folder(path)
            return saved
        if base is not None and base.existed and not exists:
            raise LostContextError(delta.key)
        seen = 0 if base is None else base.version
        if delta.if_unchanged and seen != numbering.version:
            raise StaleContextError(delta.key, seen, numbering.version)
        complete = seen == numbering.version
        if delta.if_there and not complete:
            gone = set(delta.removed_updates).difference(numbering.seqs)
            # An entry that somebody else edited keeps its number here, and would be as it was before.
            rewritten = bool(delta.again_updates) or numbering.were_written_anew(gone)
        else:
            rewritten = False
        if rewritten:
            raise StaleContextError(delta.key, seen, numbering.version, rewritten=True)
        replaces = bool(delta.updates or delta.removed_updates or not exists)
        version = numbering.version + replaces
        saved = Saved(
            revision=version,
            first_seq=numbering.next_seq,
            first_model=1,
            first_position=1,
            base=Base(numbering, version if complete else seen, existed=True),
            complete=complete,
        )
        if replaces:
            self._replace(path, delta, saved, numbering, updates, text)
        numbering.note(delta.run, saved)
        self._saved_last.pop(path.name, None)
        self._saved_last[path.name] = numbering
        if len(self._saved_last) > FILES_REMEMBERED:
            del self._saved_last[next(iter(self._saved_last))]
        self._sync_folder(path)
        return saved

    def _replace(
        self,
        path: Path,
        delta: Delta,
        saved: Saved,
        numbering: Numbering,
        updates: Sequence[ContextUpdate],
        text: str,
    ) -> None:
        new = [
            files.entry_text(update, f"new update {place} ({codec.shown(update.update_type)})", strict=self._strict)
            for place, update in enumerate(delta.updates)
        ]
        removed = set(delta.removed_updates)
        kept = [place for place, seq in enumerate(numbering.seqs) if seq not in removed]
        after = files.with_appended(text, new) if len(kept) == len(numbering.seqs) else None
        if after is None:
            updates = updates or files.parse(text)
            old = [files.entry_text(updates[place], f"update {place}", strict=False) for place in kept]
            after = files.whole_text(old + new)
        entries = Entries(
            array("q", (numbering.seqs[place] for place in kept)),
            array("q", (numbering.marks[place] for place in kept)),
            numbering.next_seq + len(new),
        )
        entries.seqs.extend(range(numbering.next_seq, entries.next_seq))
        entries.marks.extend(mark_of(update) for update in delta.updates)
        try:
            signature = files.replace_file(path, after)
        except folders.UnknownMoveError as error:
            # The next one who reads the file sees which of the two it is.
            numbering.doubt = Doubt(delta.run, after, entries, saved)
            self._saved_last[path.name] = numbering
            raise StoreFailedError("save", self.database_url, str(error), outcome_unknown=True) from error
        numbering.take(signature, entries)

    def _read(
        self, path: Path, numbering: Numbering, *, skip_known: bool = False
    ) -> tuple[list[ContextUpdate], bool, str]:
        """Return the file's updates, whether it is there, and its text; bring the numbering up to it.

        With ``skip_known`` a file that nobody else changed is not parsed, and no updates are returned.
        """
        try:
            with files.open_file(path) as file:
                signature = folders.identity(os.fstat(file.fileno()))
                text = files.text_of_bytes(file.read())
            numbering.settle(signature, text)
            if skip_known and signature == numbering.signature:
                return [], True, text
            updates = files.parse(text)
        except FileNotFoundError:
            numbering.doubt = None
            numbering.follow(ABSENT, ())
            return [], False, "[]"
        except (ValueError, RecursionError) as error:
            raise self._set_aside(path, error) from error
        numbering.follow(signature, updates)
        return updates, True, text

    def _set_aside(self, path: Path, error: Exception) -> UnreadableFileError:
        reason = f"{type(error).__name__}: {error}"
        try:
            kept = str(files.set_aside(path))
        except OSError as failure:
            kept = None
            reason = f"{reason}; setting it aside: {failure}"
        unreadable = UnreadableFileError(str(path), kept, reason)
        logger.error("%s", unreadable)
        return unreadable

    def _contexts_now(self, user_id: str, after: ContextSummary | None, limit: int) -> list[ContextSummary]:
        with self._at_work("list", None):
            found = [
                ContextSummary(user_id, history.chat_id, None, None, history.changed_at)
                for history in histories(self.folder)
            ]
            found.sort(key=_newest_first)
            if after is not None:
                found = [summary for summary in found if _newest_first(summary) > _newest_first(after)]
            return found[:limit]

    def _delete_now(self, key: ContextKey, patience: Patience) -> bool:
        with self._at_work("delete", key) as path:
            if not os.path.lexists(path):
                return False
            with files.folder_lock(self.folder, patience), self._lock:
                files.remove(path, patience)
                self._sync_folder(path)
            return True

    def _numbering(self, path: Path) -> Numbering:
        return self._numberings.setdefault(path.name, Numbering())

    def _sync_folder(self, path: Path) -> None:
        try:
            files.sync_folder(files.place_of(path).parent)
        except OSError as error:
            raise StoreFailedError("sync", self.database_url, str(error), outcome_unknown=True) from error

    @contextlib.contextmanager
    def _at_work(self, doing: str, key: ContextKey | None) -> Iterator[Path]:
        if self._closed:
            raise StoreClosedError(self.database_url)
        path = self.folder if key is None else self.folder / files.file_name(key)
        try:
            yield path
        except OSError as error:
            raise StoreFailedError(doing, self.database_url, str(error)) from error


# In a forked child nobody gives back what another thread of the parent had.
_stores: Final[WeakSet[JsonStore]] = WeakSet()


def _free_locks() -> None:
    for store in _stores:
        store._lock = threading.Lock()
        store._under_way.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_locks)


def _chosen(updates: Sequence[ContextUpdate], selection: Selection) -> tuple[Sequence[int], bool]:
    """Return the places of the updates that are asked for, and whether there are earlier ones."""
    if not selection.chooses:
        limit = selection.history_limit
        start = 0 if limit is None else max(0, len(updates) - limit)
        return range(start, len(updates)), start > 0
    heads = [(_head(place, update), update.update_type) for place, update in enumerate(updates, 1)]
    chosen = choose_from(selection, heads)
    return [place - 1 for place in chosen.seqs], chosen.earlier


def _head(place: int, update: ContextUpdate) -> UpdateSize:
    group = update.metadata.get("group") if isinstance(update.metadata, dict) else None
    chars = len(codec.encode(update.data, warn=False))
    return UpdateSize(place, chars, None if group is None else codec.text_of(group))


def _newest_first(summary: ContextSummary) -> tuple[float, str]:
    return (-summary.updated_at, summary.chat_id)
