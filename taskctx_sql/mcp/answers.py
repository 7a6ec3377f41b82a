"""What the tools answer: objects for JSON, of a bounded size."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any, Final

from taskctx_sql import codec
from taskctx_sql.errors import ContextNotFoundError, InvalidArgumentError
from taskctx_sql.model import MISSING, ContextKey, StoredUpdate
from taskctx_sql.model.cost_rows import CostBy
from taskctx_sql.model.moments import read_moment
from taskctx_sql.model.report_filters import Filters, Moment
from taskctx_sql.stores import Store

# The longest value that is shown whole, in characters of JSON.
MAX_VALUE: Final = 2_000
# The most updates that a comparison shows on either side.
MAX_CHANGES: Final = 50
# The most of a task's runs and files that are shown, the newest.
MAX_RUNS: Final = 10


class Answers:
    """Answers questions about a store.

    Args:
        store: An open database.
        user_id: Whose tasks may be asked for; None for everybody's.
    """

    def __init__(self, store: Store, user_id: str | None) -> None:
        self._store = store
        self._user_id = user_id

    async def search(
        self,
        text: str,
        user: str | None,
        chat: str | None,
        update_type: str | None,
        since: str | None,
        until: str | None,
        limit: int,
    ) -> dict[str, Any]:
        """Return the newest hits."""
        found = self._store.search(
            text,
            user_id=self._user(user),
            chat_id=chat,
            update_type=update_type,
            since=_moment("since", since),
            until=_moment("until", until),
            limit=limit,
        )
        hits = [
            {
                "user": hit.user_id,
                "chat": hit.chat_id,
                "title": hit.title,
                "seq": hit.seq,
                "time": _time(hit.timestamp),
                "type": hit.update_type,
                "removed": hit.removed,
                "snippet": hit.snippet,
            }
            for hit in await found
        ]
        # Counting goes over every hit; a page that is not full says as much.
        return {"hits": hits, "more": len(hits) == limit}

    async def list(
        self,
        user: str | None,
        labels: Mapping[str, str] | None,
        title: str | None,
        since: str | None,
        until: str | None,
        limit: int,
    ) -> dict[str, Any]:
        """Return the newest tasks, and how many there are."""
        filters = self._filters(user, None, since, until, limit)
        found = self._store.reports.contexts(labels=labels, title=title, **filters)
        tasks = [
            {
                "user": context.user_id,
                "chat": context.chat_id,
                "labels": dict(context.labels),
                "revision": context.revision,
                "created": _time(context.created_at),
                "saved": _time(context.updated_at),
            }
            for context in await found
        ]
        return {"tasks": tasks, "of": await found.count()}

    async def show(self, user: str, chat: str, limit: int, before: int | None) -> dict[str, Any]:
        """Return a task, and a page of its updates."""
        key, reports = self._key(user, chat), self._store.reports
        one: Filters = {"user_id": user, "chat_id": chat, "limit": MAX_RUNS}
        tasks = await reports.tasks(**one)
        if not tasks:
            raise ContextNotFoundError(key)
        newest = self._store.updates(key, before=before, newest_first=True, limit=limit)
        updates = [_update(row) async for row in newest][::-1]
        labels = await self._store.state(key, kind="label")
        return {
            "task": _row(tasks[0]),
            "labels": {label.name: label.value for label in labels},
            "runs": [_row(run) for run in await reports.runs(**one)],
            "files": [_row(file) for file in await reports.files(**one)],
            "updates": updates,
            "earlier": updates[0]["seq"] if len(updates) == limit else None,
        }

    async def cost(
        self,
        by: CostBy,
        label: str | None,
        user: str | None,
        chat: str | None,
        since: str | None,
        until: str | None,
        limit: int,
    ) -> dict[str, Any]:
        """Return sums of the period, and the sums over all of them."""
        found = self._store.reports.costs(by, label=label, **self._filters(user, chat, since, until, limit))
        return {"rows": [_row(row) for row in await found], "totals": await found.totals()}

    async def diff(self, user: str, chat: str, old: int, new: int) -> dict[str, Any]:
        """Return how two revisions differ."""
        found = await self._store.difference(self._key(user, chat), old, new)
        return {
            "old": found.old,
            "new": found.new,
            "added": _first([_update(row) for row in found.added[:MAX_CHANGES]], found.added),
            "removed": _first([_update(row) for row in found.removed[:MAX_CHANGES]], found.removed),
            "added_models": _first([_value(use) for use in found.added_models[:MAX_CHANGES]], found.added_models),
            "removed_models": _first([_value(use) for use in found.removed_models[:MAX_CHANGES]], found.removed_models),
            **{name: _pairs(getattr(found, name)) for name in ("files", "metadata", "toggles", "state", "labels")},
        }

    def _key(self, user: str, chat: str) -> ContextKey:
        return ContextKey(str(self._user(user)), chat)

    def _user(self, user: str | None) -> str | None:
        if self._user_id is None or user in (None, self._user_id):
            return user if self._user_id is None else self._user_id
        raise InvalidArgumentError("user", user, f"{self._user_id!r}, the only one whose tasks are shown here")

    def _filters(self, user: str | None, chat: str | None, since: str | None, until: str | None, limit: int) -> Filters:
        return {
            "user_id": self._user(user),
            "chat_id": chat,
            "since": _moment("since", since),
            "until": _moment("until", until),
            "limit": limit,
        }


def _moment(name: str, text: str | None) -> Moment | None:
    return None if text is None else read_moment(name, text)


def _time(at: float | None) -> str | None:
    try:
        return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(at)


def _row(row: Any) -> dict[str, Any]:
    """Return a row of a report, with days as text."""
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    return {name: str(value) if isinstance(value, date) else value for name, value in values.items()}


def _update(row: StoredUpdate) -> dict[str, Any]:
    update = row.update
    return {
        "seq": row.seq,
        "time": _time(update.timestamp) if isinstance(update.timestamp, int | float) else str(update.timestamp),
        "type": str(update.update_type),
        "data": _value(update.data),
        "metadata": _value(update.metadata),
    }


def _value(value: Any) -> Any:
    """Return a stored value as JSON has it; one that is long as the beginning of its text."""
    text = codec.encode(value, warn=False)
    if len(text) > MAX_VALUE:
        return {"beginning": text[:MAX_VALUE], "characters": len(text)}
    return codec.with_fresh_stack(lambda: json.loads(text))


def _pairs(changes: Mapping[Any, tuple[Any, Any]]) -> dict[str, Any]:
    """Return the values by key and side; a missing key has no value there, unlike one that is null."""
    shown = {
        str(key): {side: _value(one) for side, one in zip(("old", "new"), pair, strict=True) if one is not MISSING}
        for key, pair in islice(changes.items(), MAX_CHANGES)
    }
    return {"shown": shown, "of": len(changes)}


def _first(shown: Sequence[Any], of: Sequence[Any]) -> dict[str, Any]:
    return {"shown": shown, "of": len(of)}
