"""A store over the original's JSON files: one file for each chat, with the history and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final, TypeVar
from weakref import WeakSet

from taskctx_sql import observing
from taskctx_sql.concurrency import after_fork, running_loop, shielded
from taskctx_sql.errors import StoreClosedError, StoreFailedError, StoreUnavailableError, UnsupportedByStoreError
from taskctx_sql.json_files import files, names
from taskctx_sql.json_files.chat_file import ChatFile
from taskctx_sql.json_files.file_state import FileBase, FileStates
from taskctx_sql.json_files.folder import histories
from taskctx_sql.json_files.history_format import trackers
from taskctx_sql.json_files.threads import lock_patience, run_in_thread
from taskctx_sql.limits import check_seconds
from taskctx_sql.locations import Patience, folders, json_address, plain_folder
from taskctx_sql.model import (
    ContextKey,
    ContextSummary,
    Delta,
    Listing,
    Loaded,
    Saved,
    Selection,
    StoredUpdate,
)
from taskctx_sql.stores import Feature, Store, answering, check_updates, choose_updates

T = TypeVar("T")


class JsonStore(Store):
    """A folder of JSON files, one for each chat's history.

    Saves of several writers, in one process or several, are all kept. Each save replaces the whole file, so it costs
    more the longer the history is; a database has no such cost.

    Args:
        folder: The folder of the files, created by the first save. A file may be a link to one in another folder.
        strict: Refuse values that would come back as their text.
        retry_seconds: How long a save waits for the lock of a folder that another process holds.
    """

    features: Final[frozenset[Feature]] = frozenset()

    def __init__(
        self, folder: str | Path, *, strict: bool = False, retry_seconds: float = folders.LOCK_SECONDS
    ) -> None:
        """Take the folder; nothing is read or created yet."""
        check_seconds("retry_seconds", retry_seconds)
        # The same files, even if the program changes its working directory.
        self.folder: Path = plain_folder(folder).absolute()
        self._strict = strict
        self._closed = False
        self._retry_seconds = retry_seconds
        self._lock = threading.Lock()
        _stores.add(self)
        # The loop of each call in progress, and a future that is done when the call has ended.
        self._in_progress: dict[Patience, tuple[asyncio.AbstractEventLoop, Future[None]]] = {}
        self._states = FileStates()
        observing.observer().store_opened(self, None, ("load_now",))

    @property
    def database_url(self) -> str:
        """The folder's URL."""
        return json_address(self.folder)

    @property
    def is_closed(self) -> bool:
        """Whether the store was closed."""
        return self._closed

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
            raise UnsupportedByStoreError("show earlier states", self.database_url, Feature.REVISIONS.value)
        return await self.run_in_thread("load", lambda _: self._load_now(key, selection), reads=True)

    async def save(self, delta: Delta, /) -> Saved:
        """See `Store.save`. Only the history is kept."""
        if delta.operation in ("restore", "undo") or delta.if_revision is not None:
            raise UnsupportedByStoreError("show earlier states", self.database_url, Feature.REVISIONS.value)
        if delta.state:
            raise UnsupportedByStoreError("keep values by name", self.database_url, Feature.STATE.value)
        return await self.run_in_thread("save", lambda patience: self._save_now(delta, patience))

    async def updates(
        self,
        key: ContextKey,
        /,
        *,
        after: int = 0,
        before: int | None = None,
        newest_first: bool = False,
        types: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[StoredUpdate]:
        """See `Store.updates`. The file is read once, at the beginning."""
        check_updates(types, limit)
        rows = (await self.load(key)).updates
        # In a file that somebody else reordered, seqs may not ascend: a bound is the position of its entry.
        seqs = [row.seq for row in rows]
        start = seqs.index(after) + 1 if after in seqs else 0
        end = len(seqs) if before is None else seqs.index(before) if before in seqs else bisect_left(seqs, before)
        chosen = [row for row in rows[start:end] if types is None or row.update.update_type in types]
        for row in (chosen[::-1] if newest_first else chosen)[:limit]:
            yield row

    async def contexts(
        self,
        user_id: str | None,
        /,
        *,
        after: ContextSummary | None = None,
        limit: int = 100,
        labels: Mapping[str, str] | None = None,
        title: str | None = None,
        updated_since: float | None = None,
        state: Sequence[str] | None = (),
    ) -> Sequence[ContextSummary]:
        """See `Store.contexts`. Files have no users: every user gets all chats."""
        listing = Listing(user_id, after, limit, labels, title, updated_since, state)
        if listing.needs_state:
            raise UnsupportedByStoreError("list by label or with values", self.database_url, Feature.STATE.value)
        return await self.run_in_thread("list", lambda _: self._contexts_now(listing), reads=True)

    async def ping(self, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109  # the protocol's name
        """See `Store.ping`. The folder, or the one that it would be made in, is looked at."""
        async with answering(timeout, self.database_url):
            await self.run_in_thread("ping", lambda _: self._ping_now(), reads=True)

    async def delete(self, key: ContextKey, /) -> bool:
        """See `Store.delete`."""
        return await self.run_in_thread("delete", lambda patience: self._delete_now(key, patience))

    async def close(self) -> None:
        """See `Store.close`. Writes in progress are finished; calls that wait for the folder's lock fail."""
        self._closed = True
        for patience in list(self._in_progress):
            patience.give_up()
        # Calls of a closed loop never end.
        pending = [ended for loop, ended in list(self._in_progress.values()) if not loop.is_closed()]
        if pending:
            await shielded(asyncio.wait(list(map(asyncio.wrap_future, pending))))

    async def run_in_thread(self, doing: str, work: Callable[[Patience], T], *, reads: bool = False) -> T:
        """Run work on a thread, with the store's patience for the folder's lock; see `threads.run_in_thread`."""
        if self._closed:
            raise StoreClosedError(self.database_url)
        patience, ended = lock_patience(self._retry_seconds), Future[None]()
        self._in_progress[patience] = running_loop(f"{doing} in {self.database_url}"), ended
        try:
            return await run_in_thread(doing, work, patience, reads=reads)
        except StoreUnavailableError as error:
            if self._closed:
                raise StoreClosedError(self.database_url) from error
            raise
        except OSError as error:
            raise StoreFailedError(doing, self.database_url, str(error)) from error
        finally:
            del self._in_progress[patience]
            ended.set_result(None)

    def load_now(self, key: ContextKey, selection: Selection) -> Loaded:
        """Load on the calling thread, for the constructor of a context, which cannot wait."""
        return self._load_now(key, selection)

    def _load_now(self, key: ContextKey, selection: Selection) -> Loaded:
        with self._errors_of("load", key) as path, self._lock:
            state = self._states.get(path.name)
            updates, existed, _ = ChatFile(path, state, self.database_url).read()
            tracked, models = trackers(updates)
            indexes, earlier = choose_updates(updates, selection)
            return Loaded(
                revision=state.version if existed else 0,
                base=FileBase(state, state.version, existed),
                history=[updates[index] for index in indexes],
                seqs=[state.seqs[index] for index in indexes],
                earlier=earlier,
                models=list(enumerate(models, 1)),
                files=[(position, path, entry) for position, (path, entry) in enumerate(tracked.items(), 1)],
                metadata=None,
                toggles=None,
            )

    def _save_now(self, delta: Delta, patience: Patience) -> Saved:
        with self._errors_of("save", delta.key) as path:
            folders.make_folder(self.folder)
            # The folder's lock first: others can load while this waits for it.
            with files.folder_lock(files.resolve(path).parent, patience), self._lock:
                base: FileBase | None = delta.base
                state = self._states.get(path.name) if base is None else base.state
                try:
                    return ChatFile(path, state, self.database_url).save(delta, strict=self._strict)
                finally:
                    self._states.keep(path.name, state)

    def _contexts_now(self, listing: Listing) -> list[ContextSummary]:
        user, since, after = listing.user_id, listing.updated_since, listing.after
        with self._errors_of("list", None):
            found = [
                ContextSummary("anonymous" if user is None else user, chat, None, None, changed)
                for _, chat, changed in histories(self.folder)
                if since is None or changed >= since
            ]
            if after is not None:
                found = [summary for summary in found if _newest_first(summary) > _newest_first(after)]
            return sorted(found, key=_newest_first)[: listing.limit]

    def _ping_now(self) -> None:
        with self._errors_of("ping", None) as folder:
            while not os.path.lexists(folder) and folder != folder.parent:
                folder = folder.parent
            with os.scandir(folder):
                pass

    def _delete_now(self, key: ContextKey, patience: Patience) -> bool:
        with self._errors_of("delete", key) as path:
            if not os.path.lexists(path):
                return False
            with files.folder_lock(self.folder, patience), self._lock:
                files.remove(path, patience)
                ChatFile(path, self._states.get(path.name), self.database_url).sync_folder()
            return True

    def release_locks(self) -> None:
        """Forget locks and calls in progress, in a forked child."""
        self._lock = threading.Lock()
        self._in_progress.clear()

    @contextlib.contextmanager
    def _errors_of(self, doing: str, key: ContextKey | None) -> Iterator[Path]:
        if self._closed:
            raise StoreClosedError(self.database_url)
        path = self.folder if key is None else self.folder / names.file_name(key)
        try:
            yield path
        except OSError as error:
            raise StoreFailedError(doing, self.database_url, str(error)) from error


_stores: Final[WeakSet[JsonStore]] = WeakSet()


@after_fork
def _release_locks() -> None:
    for store in _stores:
        store.release_locks()


def _newest_first(summary: ContextSummary) -> tuple[float, str]:
    return (-summary.updated_at, summary.chat_id)
