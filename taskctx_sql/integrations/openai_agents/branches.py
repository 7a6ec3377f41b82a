"""Branches of a session: each is a fork of the context, and has its own items from then on."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from agents import TResponseInputItem

from taskctx_sql import ContextKey, ContextSummary
from taskctx_sql.errors import ContextExistsError
from taskctx_sql.integrations import identity, recording
from taskctx_sql.integrations.openai_agents.errors import BranchError, TurnNotFoundError
from taskctx_sql.integrations.openai_agents.history import USAGE, History
from taskctx_sql.integrations.openai_agents.items import FRAMEWORK, is_user_message

MAIN: Final = "main"
# A branch's context has this label as long as there is the branch, and then the other one.
_BRANCH, _ENDED = "branch", "ended_branch"


class Branches(History):
    """A conversation with branches. See `ContextSession`."""

    _branch_id: str = MAIN

    @property
    def current_branch(self) -> str:
        """The branch that items are read from and appended to: "main", unless the session was switched."""
        return self._branch_id

    async def get_items(self, limit: int | None = None, branch_id: str | None = None) -> list[TResponseInputItem]:
        """Return the newest items, the oldest of them first.

        Args:
            limit: How many; by default as the session's settings say, else all.
            branch_id: Of which branch; of the current one by default. One that is not there has none.

        Raises:
            StoreError: The store failed.
        """
        return await self._items(await self._branch_key(branch_id), limit)

    async def clear_session(self) -> None:
        """Take all items out of all branches, in one transaction for each, and switch to the main one.

        The record keeps them. The branches are not there any more, and their names cannot be used again.

        Raises:
            StoreError: The store failed.
        """
        for branch_id, _ in await self._branches():
            if branch_id != MAIN:
                await self._end_branch(self._key_of(branch_id), "cleared")
        self._branch_id = MAIN
        await super().clear_session()

    async def create_branch_from_turn(self, turn_number: int, branch_name: str | None = None) -> str:
        """Create a branch that has what came before a turn of the current branch, and switch to it.

        Args:
            turn_number: The turn that the branch begins instead of, from 1.
            branch_name: The branch's name, which was never used in this conversation; by default one is made.

        Returns:
            The branch's name.

        Raises:
            BranchError: The name is blank, or was used before.
            TurnNotFoundError: There is no such turn.
            StoreError: The store failed.
        """
        if branch_name is not None and not branch_name.strip():
            raise BranchError(self.session_id, branch_name, "Branch name cannot be empty")
        source, source_id = await self._current_key(), self._branch_id
        if await self._from_turn(source, turn_number) is None:
            reason = f"Turn {turn_number} does not contain a user message"
            raise TurnNotFoundError(source_id, turn_number, reason)
        store = await self._store()
        name = await self._fork(source, _names(turn_number) if branch_name is None else [branch_name])
        key = self._key_of(name)
        try:
            usage = [entry.name for entry in await store.state(key, prefix=USAGE)]
            labels = identity.labels(FRAMEWORK, session=self.session_id, **{_BRANCH: name})
            # As the fork has it: others may have written to the source meanwhile.
            rest = await self._from_turn(key, turn_number) or ()
            await store.write(key, remove_updates=rest, remove_state=usage, labels=labels, parent=source.chat_id)
        except BaseException:
            await store.delete(key)
            raise
        await self._switch(name)
        return name

    async def create_branch_from_content(self, search_term: str, branch_name: str | None = None) -> str:
        """Create a branch from the first turn whose message contains a text, and switch to it.

        Raises:
            BranchError: The name is blank, or was used before.
            TurnNotFoundError: There is no such turn.
            StoreError: The store failed.
        """
        matches = await self.find_turns_by_content(search_term)
        if not matches:
            reason = f"No user turns found containing '{search_term}'"
            raise TurnNotFoundError(self._branch_id, search_term, reason)
        return await self.create_branch_from_turn(matches[0]["turn"], branch_name)

    async def switch_to_branch(self, branch_id: str) -> None:
        """Read from and append to another branch from now on.

        Raises:
            BranchError: There is no such branch.
            StoreError: The store failed.
        """
        if branch_id != MAIN and _BRANCH not in await self._labels(self._key_of(branch_id)):
            raise self._unknown(branch_id)
        await self._switch(branch_id)

    async def delete_branch(self, branch_id: str, force: bool = False) -> None:
        """Take a branch and its items out of the conversation. The record keeps them; the name cannot be used again.

        Args:
            branch_id: The branch.
            force: Also if it is the current one: the session is switched to the main one then.

        Raises:
            BranchError: There is no such branch, or it is the main or the current one.
            StoreError: The store failed.
        """
        if not branch_id or not branch_id.strip():
            raise BranchError(self.session_id, branch_id, "Branch ID cannot be empty")
        if branch_id == MAIN:
            raise BranchError(self.session_id, branch_id, "Cannot delete the 'main' branch")
        if branch_id == self._branch_id and not force:
            reason = f"Cannot delete current branch '{branch_id}'. Use force=True or switch branches first"
            raise BranchError(self.session_id, branch_id, reason)
        key = self._key_of(branch_id)
        if _BRANCH not in await self._labels(key):
            raise self._unknown(branch_id)
        if branch_id == self._branch_id:
            await self._switch(MAIN)
        await self._end_branch(key, "deleted")

    async def list_branches(self) -> list[dict[str, Any]]:
        """Return the branches, the oldest first.

        Returns:
            For each its "branch_id", its "message_count" (of items), its "user_turns", whether it "is_current", and
            when it was "created_at", in UTC.

        Raises:
            StoreError: The store failed.
        """
        await self._current_key()
        found = []
        for branch_id, created_at in await self._branches():
            rows = await self._rows(self._key_of(branch_id))
            branch = {
                "branch_id": branch_id,
                "message_count": len(rows),
                "user_turns": sum(is_user_message(row.update.data) for row in rows),
                "is_current": branch_id == self._branch_id,
                "created_at": utc(created_at),
            }
            found.append(branch)
        return found

    async def find_turns_by_content(self, search_term: str, branch_id: str | None = None) -> list[dict[str, Any]]:
        """Return the turns whose message contains a text; see `ContextSession`."""
        raise NotImplementedError

    def _key_of(self, branch_id: str) -> ContextKey:
        return self.key if branch_id == MAIN else identity.child(self.key, branch_id)

    async def _current_key(self) -> ContextKey:
        if self._branch_id == MAIN:
            return self.key
        key, labels = self._key_of(self._branch_id), await self._labels(self._key_of(self._branch_id))
        if _BRANCH in labels:
            return key
        # Another session of this conversation has ended the branch.
        ended = self._unknown(self._branch_id)
        await self._switch(MAIN)
        if labels.get(_ENDED) != "cleared":
            raise ended
        return self.key

    async def _branch_key(self, branch_id: str | None) -> ContextKey:
        return await self._current_key() if branch_id is None else self._key_of(branch_id)

    async def _switch(self, branch_id: str) -> None:
        await self._end_turn()
        self._branch_id = branch_id

    async def _fork(self, source: ContextKey, names: Iterable[str]) -> str:
        """Fork under the first name that was not used before, and return it."""
        store = await self._store()
        for name in names:
            try:
                if name != MAIN:
                    await store.fork(source, self._key_of(name).chat_id)
                    return name
            except ContextExistsError:
                continue
        reason = f"Branch ID '{name}' has already been used. Choose a new branch ID"
        raise BranchError(self.session_id, name, reason)

    async def _from_turn(self, key: ContextKey, turn_number: int) -> list[int] | None:
        """Return the seqs of all updates from a turn on; None if there is no such turn."""
        store = await self._store()
        turn, found = 0, []
        async for row in store.updates(key):
            turn += row.update.update_type == recording.MESSAGE and is_user_message(row.update.data)
            if turn >= turn_number > 0:
                found.append(row.seq)
        return found or None

    async def _end_branch(self, key: ContextKey, how: str) -> None:
        store = await self._store()
        await store.write(key, labels={_BRANCH: None, _ENDED: how})
        await store.clear_updates(key)

    async def _labels(self, key: ContextKey) -> dict[str, str]:
        store = await self._store()
        return {entry.name: entry.value for entry in await store.state(key, kind="label")}

    async def _branches(self) -> list[tuple[str, float | None]]:
        """Return the branches and when they were created, the oldest first."""
        store, labels = await self._store(), identity.labels(FRAMEWORK, session=self.session_id)
        found: list[ContextSummary] = []
        while page := await store.contexts(self.key.user_id, labels=labels, after=found[-1] if found else None):
            found.extend(page)
        named = [(summary.labels.get(_BRANCH, MAIN), summary) for summary in reversed(found)]
        # A fork has the labels of its source until it gets its own.
        return [(name, summary.created_at) for name, summary in named if self._key_of(name).chat_id == summary.chat_id]

    def _unknown(self, branch_id: str) -> BranchError:
        return BranchError(self.session_id, branch_id, f"Branch '{branch_id}' does not exist")


def utc(at: float | None) -> str:
    """Return a time as text."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="milliseconds")


def _names(turn_number: int) -> Iterator[str]:
    name = f"branch_from_turn_{turn_number}_{int(time.time())}"
    yield name
    for number in itertools.count(2):
        yield f"{name}_{number}"
