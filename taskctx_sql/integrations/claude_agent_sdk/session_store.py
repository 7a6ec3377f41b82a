"""The session store of the Claude Agent SDK: each transcript is a context."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import uuid4

from claude_agent_sdk import fold_session_summary

from taskctx_sql import ContextKey, ContextSummary, Store, Write
from taskctx_sql.errors import ContextNotFoundError, LostContextError, StaleContextError
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.claude_agent_sdk import turns
from taskctx_sql.integrations.claude_agent_sdk.entries import (
    ENTRY_TYPES,
    FRAMEWORK,
    model_uses,
    time_of,
    title_of,
    updates_of,
)
from taskctx_sql.integrations.claude_agent_sdk.known import Transcript, is_newer, new_entries, uuids_of

if TYPE_CHECKING:
    from claude_agent_sdk import (
        SessionKey,
        SessionListSubkeysKey,
        SessionStoreEntry,
        SessionStoreListEntry,
        SessionSummaryEntry,
    )

# How many ids of entries are remembered over all transcripts; some 100 bytes each.
_REMEMBERED: Final = 200_000
# How many ids of the newest messages a transcript keeps, so that the usage of each is counted once.
_COUNTED: Final = 50
_PROGRESS: Final = "progress"


class ContextSessionStore:
    """A `SessionStore` of the Claude Agent SDK: ``ClaudeAgentOptions(session_store=ContextSessionStore(store))``.

    A session is a context, and so is each transcript of a subagent, whose parent is its session. An entry that was
    appended before, known by its uuid, is not appended again, whichever process did it.

    Any number of processes may use a session at once. An append is one round trip; when this process has neither
    started nor loaded the session, or another one has appended to it, a few more. Only when an entry is then no newer
    than all that the session has, those that this process does not know are read.
    """

    def __init__(self, store: Store, *, user_id: str = identity.ANONYMOUS) -> None:
        """Keep sessions in a store.

        Args:
            store: An open store.
            user_id: Whose sessions they are, since the SDK has no users.
        """
        self._store = store
        self._user_id = user_id
        self._transcripts: OrderedDict[ContextKey, Transcript] = OrderedDict()

    def key(self, key: SessionKey | SessionListSubkeysKey) -> ContextKey:
        """Return the key of the context that is a session or a transcript of a subagent."""
        parts = [key["project_key"], key["session_id"]]
        if subpath := key.get("subpath"):
            parts.append(cast(str, subpath))
        return identity.key(FRAMEWORK, self._user_id, *parts)

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Append the entries that the transcript does not have, in one transaction for each turn.

        Raises:
            StoreError: The store failed. The SDK repeats the append, and reports it if that fails, too.
        """
        place = self.key(key)
        transcript, left = self._remembered(place), entries
        async with transcript.lock:
            while left:
                is_fresh = transcript.revision is None
                await self._catch_up(place, transcript, left)
                new, written = new_entries(left, transcript.uuids), set[int]()
                if not new and not is_fresh:
                    # All are known, but perhaps of a transcript that was deleted since.
                    transcript.revision = None
                    continue
                try:
                    for turn in turns.split(new):
                        await self._write(key, place, transcript, turn)
                        written |= set(map(id, turn))
                    return
                except StaleContextError:
                    # Another process appended meanwhile. What it wrote is read, and the rest is written after it.
                    transcript.revision = None
                except LostContextError:
                    transcript.revision = transcript.base = None
                except BaseException:
                    # It may have been written.
                    transcript.revision = transcript.base = transcript.run = None
                    raise
                left = [entry for entry in left if id(entry) not in written]

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """Return a transcript's entries in order, or None if the store does not have it."""
        place = self.key(key)
        # In this order: if it is deleted and made anew meanwhile, the next append finds another origin.
        progress = await self._progress(place)
        newest = [
            stored.seq async for stored in self._store.updates(place, types=ENTRY_TYPES, newest_first=True, limit=1)
        ]
        if not newest:
            return None
        entries = await self._store.data(place, types=ENTRY_TYPES)
        transcript = self._remembered(place)
        if not transcript.lock.locked():
            # Others may have appended since; the next append asks.
            transcript.revision, transcript.base, transcript.origin = None, None, progress.get("origin")
            transcript.seq, transcript.uuids = newest[0], uuids_of(entries)
        return entries or None

    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """Return the ids of a project's sessions, and when each was last appended to, in milliseconds."""
        found = [context async for context in self._contexts(project=project_key, transcript="session")]
        return [{"session_id": _last(context, "session"), "mtime": _milliseconds(context)} for context in found]

    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """Return what the SDK shows of each session of a project in a list."""
        found = self._contexts(_PROGRESS, project=project_key, transcript="session")
        return [
            {"session_id": _last(context, "session"), "mtime": _milliseconds(context), "data": summary}
            async for context in found
            if (summary := context.state.get(_PROGRESS, {}).get("summary")) is not None
        ]

    async def delete(self, key: SessionKey) -> None:
        """Erase a transcript, and with a session those of its subagents; the ones of these first."""
        place = self.key(key)
        if not key.get("subpath"):
            for context in [context async for context in self._contexts(parent=place.chat_id)]:
                await self._erase(ContextKey(context.user_id, context.chat_id))
        await self._erase(place)

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """Return the subpaths of a session's other transcripts."""
        found = self._contexts(parent=self.key(key).chat_id)
        return sorted([_last(context, "subpath") async for context in found])

    async def _contexts(self, *state: str, **labels: str) -> AsyncIterator[ContextSummary]:
        after: ContextSummary | None = None
        wanted = identity.labels(FRAMEWORK, **labels)
        while page := await self._store.contexts(self._user_id, after=after, labels=wanted, state=state):
            for context in page:
                yield context
            after = page[-1]

    def _labels(self, key: SessionKey) -> dict[str, str]:
        parts = {"project": key["project_key"], "session": key["session_id"]}
        if not (subpath := key.get("subpath")):
            return identity.labels(FRAMEWORK, **parts, transcript="session")
        session = self.key({"project_key": key["project_key"], "session_id": key["session_id"]})
        return identity.labels(FRAMEWORK, **parts, transcript="subagent", subpath=subpath, parent=session.chat_id)

    async def _progress(self, place: ContextKey) -> dict[str, Any]:
        state = await self._store.state(place, _PROGRESS)
        return state[0].value if state else {}

    async def _erase(self, place: ContextKey) -> None:
        self._transcripts.pop(place, None)
        await self._store.delete(place)

    async def _write(
        self, key: SessionKey, place: ContextKey, transcript: Transcript, entries: Sequence[SessionStoreEntry]
    ) -> None:
        """Append entries of one turn."""
        now = time.time()
        known = transcript.progress
        counted = known.get("messages", [])
        uses = model_uses(entries, counted, now)
        title, is_users = title_of(entries)
        if not transcript.revision:
            transcript.origin = uuid4().hex
        progress = {
            "origin": transcript.origin,
            "messages": [*counted, *uses][-_COUNTED:],
            "summary": _summary(known.get("summary"), key, entries),
            "titled": is_users or known.get("titled", False),
            "newest": max([known.get("newest", 0.0), *(time_of(entry) or 0.0 for entry in entries)]),
        }
        run = turns.run_of(entries, transcript.run, now)
        updates = [update for entry in entries for update in updates_of(entry, now)]
        write = Write(
            place,
            updates,
            list(uses.values()),
            state={_PROGRESS: progress},
            labels=None if transcript.revision else self._labels(key),
            # A title of Claude Code's does not replace the user's.
            title=title if is_users or not progress["titled"] else None,
            if_revision=transcript.revision,
            run=run,
        )
        saved = await self._store.save(write.delta(transcript.base))
        transcript.revision, transcript.base = saved.revision, saved.base
        transcript.progress, transcript.run = progress, run
        if transcript.is_read:
            transcript.seq = saved.first_seq + len(updates) - 1
        transcript.uuids |= uuids_of(entries)

    async def _catch_up(self, place: ContextKey, transcript: Transcript, entries: Sequence[SessionStoreEntry]) -> None:
        """Read what this process needs to know of a transcript to append these entries."""
        if transcript.revision is None:
            # First, so that what others append while the rest is read makes the write fail, and be repeated.
            try:
                (newest,) = await self._store.revisions(place, limit=1)
            except ContextNotFoundError:
                transcript.revision, transcript.seq, transcript.uuids = 0, 0, set()
                transcript.is_read, transcript.progress, transcript.run = True, {}, None
                return
            transcript.progress = await self._progress(place)
            if transcript.progress.get("origin") != transcript.origin:
                # It was deleted and made anew, or nothing is known of it.
                transcript.seq, transcript.uuids, transcript.run = 0, set(), None
                transcript.origin = transcript.progress.get("origin")
            transcript.revision, transcript.is_read = newest.revision, False
        if transcript.is_read or all(is_newer(entry, transcript) for entry in entries):
            return
        async for stored in self._store.updates(place, after=transcript.seq, types=ENTRY_TYPES):
            transcript.seq = stored.seq
            transcript.uuids |= uuids_of([stored.update.data])
        transcript.is_read = True

    def _remembered(self, place: ContextKey) -> Transcript:
        transcript = self._transcripts.setdefault(place, Transcript())
        self._transcripts.move_to_end(place)
        remembered = sum(len(other.uuids) for other in self._transcripts.values())
        while remembered > _REMEMBERED and len(self._transcripts) > 1:
            _, oldest = self._transcripts.popitem(last=False)
            remembered -= len(oldest.uuids)
        return transcript


def _summary(
    previous: dict[str, Any] | None, key: SessionKey, entries: Sequence[SessionStoreEntry]
) -> dict[str, Any] | None:
    """Return what the SDK shows of a session in a list, with these entries added."""
    if key.get("subpath"):
        return None
    before: SessionSummaryEntry | None = None
    if previous is not None:
        before = {"session_id": key["session_id"], "mtime": 0, "data": previous}
    return fold_session_summary(before, key, list(entries))["data"]


def _last(context: ContextSummary, label: str) -> str:
    return identity.last_part(context.chat_id, context.labels[label])


def _milliseconds(context: ContextSummary) -> int:
    return int(context.updated_at * 1000)
