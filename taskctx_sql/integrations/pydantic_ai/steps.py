"""The step store of Pydantic AI's harness: each run is a context."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic_ai.messages import ModelMessage
from pydantic_ai_harness.media import MediaStore, externalize_media, restore_media
from pydantic_ai_harness.step_persistence import ContinuableSnapshot, RunRecord, StepEvent, ToolEffectRecord

from taskctx_sql import ContextKey, ContextSummary, ContextUpdate, RunOutcome, Saved, Store
from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.integrations import identity, recording
from taskctx_sql.integrations.pydantic_ai.messages import FRAMEWORK, data_of, model_use_of, updates_of
from taskctx_sql.integrations.pydantic_ai.runs import (
    PLACE,
    RECORD,
    SNAPSHOT_KEYS,
    Runs,
    Snapshot,
    StoredRun,
    digest,
    ranges,
)

_RUN: Final = TypeAdapter(RunRecord)
_EVENT: Final = TypeAdapter(StepEvent)
_ALL_EVENTS: Final = TypeAdapter(list[StepEvent])
_EFFECT: Final = TypeAdapter(ToolEffectRecord)
_SNAPSHOT: Final = TypeAdapter(ContinuableSnapshot)
_EFFECTS: Final = "tool_effect/"  # the beginning of their names
_EVENTS: Final = (recording.EVENT, recording.TOOL_CALL, recording.TOOL_RESULT, recording.ERROR)
# What an event is, unless it is none of these.
_TYPES: Final = {
    "tool_call_started": recording.TOOL_CALL,
    "tool_call_completed": recording.TOOL_RESULT,
    "tool_call_failed": recording.TOOL_RESULT,
    "model_request_failed": recording.ERROR,
}
_OUTCOMES: Final[dict[str, RunOutcome]] = {"run_completed": "completed", "run_failed": "failed"}


class ContextStepStore:
    """Keeps the runs of ``StepPersistence`` in the tables of taskctx_sql.

        agent = Agent("openai:gpt-5", capabilities=[StepPersistence(store=ContextStepStore(store))])

    A message is written once, however many snapshots have it. What is written twice with the same idempotency key is
    written once.
    """

    def __init__(
        self,
        store: Store,
        *,
        user_id: str | None = None,
        media_store: MediaStore | None = None,
        media_threshold_bytes: int = 65_536,
        max_snapshots_per_run: int | None = None,
    ) -> None:
        """Keep runs in a store.

        Args:
            store: An open store.
            user_id: Whose the runs are.
            media_store: Where large files and texts are kept instead; None to keep them with their messages.
            media_threshold_bytes: From how many bytes on.
            max_snapshots_per_run: How many snapshots of a run are kept: the newest, and the newest complete one in
                any case. None for all.

        Raises:
            InvalidArgumentError: ``max_snapshots_per_run`` is no number above 0.
        """
        most = max_snapshots_per_run
        if most is not None and not (isinstance(most, int) and most >= 1):
            raise InvalidArgumentError("max_snapshots_per_run", most, "a number above 0, or None")
        self._store, self._user_id = store, user_id
        self._media, self._threshold = media_store, media_threshold_bytes
        self._max_snapshots = max_snapshots_per_run
        self._runs = Runs(store)

    def key(self, run_id: str) -> ContextKey:
        """Return the context of a run."""
        return identity.key(FRAMEWORK, self._user_id, "run", run_id)

    async def register_run(self, record: RunRecord) -> None:
        """Record a run's place among others.

        Raises:
            ValueError: There is a run of this id.
            StoreError: The store failed.
        """
        labels = {"run": record.run_id}
        if record.conversation_id is not None:
            labels["conversation"] = record.conversation_id
        parent = None if record.parent_run_id is None else self.key(record.parent_run_id).chat_id

        def content(run: StoredRun) -> dict[str, Any]:
            if run.is_registered:
                raise ValueError(f"run_id {record.run_id!r} is already in the store")
            data = _RUN.dump_python(record, mode="json")
            return {"state": {RECORD: data}, "labels": identity.labels(FRAMEWORK, **labels), "parent": parent}

        def note(run: StoredRun, saved: Saved) -> None:
            run.is_registered, run.started_at = True, record.started_at.timestamp()

        await self._runs.write(self.key(record.run_id), content, note)

    async def get_run(self, *, run_id: str) -> RunRecord | None:
        """Return a run, or None."""
        entries = await self._store.state(self.key(run_id), RECORD)
        return _RUN.validate_python(entries[0].value) if entries else None

    async def list_runs(
        self, *, parent_run_id: str | None = None, conversation_id: str | None = None
    ) -> list[RunRecord]:
        """Return the runs of a parent, of a conversation, or all, by when they started."""
        labels = {"framework": FRAMEWORK}
        if parent_run_id is not None:
            labels["parent"] = self.key(parent_run_id).chat_id
        if conversation_id is not None:
            labels["conversation"] = identity.shorten(conversation_id)
        user = self.key("").user_id
        records: list[RunRecord] = []
        after: ContextSummary | None = None
        while page := await self._store.contexts(user, labels=labels, after=after, state=[RECORD]):
            after = page[-1]
            # Others that have the label "framework" are no runs.
            records += (_RUN.validate_python(found.state[RECORD]) for found in page if RECORD in found.state)
        return sorted(records, key=lambda record: record.started_at)

    async def append_event(self, event: StepEvent) -> None:
        """Append an event, unless there is one with its idempotency key.

        Raises:
            StoreError: The store failed.
        """

        def content(run: StoredRun) -> dict[str, Any] | None:
            if event.idempotency_key is not None and event.idempotency_key in run.event_keys:
                return None
            ending = {"outcome": _OUTCOMES.get(event.kind), "error": event.error if event.kind in _OUTCOMES else None}
            return {"updates": [_update_of(event)], **ending, **self._labeled(run, event.run_id)}

        def note(run: StoredRun, saved: Saved) -> None:
            if event.idempotency_key is not None:
                run.event_keys.add(event.idempotency_key)

        await self._runs.write(self.key(event.run_id), content, note)

    async def list_events(self, *, run_id: str) -> list[StepEvent]:
        """Return a run's events, in order."""
        return _ALL_EVENTS.validate_python(await recording.items(self._store, self.key(run_id), _EVENTS))

    async def save_snapshot(self, snapshot: ContinuableSnapshot) -> None:
        """Save a snapshot, unless one was saved with its idempotency key. Of its messages, only new ones are written.

        Raises:
            StoreError: The store failed.
        """
        data: Any = data_of(snapshot.messages)
        if self._media is not None:
            data = await externalize_media(data, media_store=self._media, threshold_bytes=self._threshold)
        order = list(map(digest, data))
        messages = dict(zip(order, zip(snapshot.messages, data, strict=True), strict=True))
        key = snapshot.idempotency_key

        def content(run: StoredRun) -> dict[str, Any] | None:
            if key is not None and key in run.snapshot_keys:
                return None
            new = run.new_places(messages)
            places = run.places | new
            removed = self._outdated(run, snapshot)
            mode = snapshot.agent_name or "agent"
            uses = [model_use_of(messages[found][0], mode) for found in new]
            return {
                "updates": [
                    *(_message_update(*messages[found], places[found]) for found in new),
                    _snapshot_update(snapshot, ranges(places[found] for found in order)),
                ],
                # What came with the history of another run was counted there.
                "models": [use for use in uses if use is not None and use["timestamp"] >= run.started_at],
                "remove_updates": [known.seq for known in removed],
                "state": {SNAPSHOT_KEYS + known.key: True for known in removed if known.key is not None},
                **self._labeled(run, snapshot.run_id),
            }

        def note(run: StoredRun, saved: Saved) -> None:
            new = run.new_places(messages)
            removed = self._outdated(run, snapshot)
            run.snapshots = [known for known in run.snapshots if known not in removed]
            run.snapshots.append(Snapshot(saved.first_seq + len(new), snapshot.state, key))
            run.places |= new
            if key is not None:
                run.snapshot_keys.add(key)

        await self._runs.write(self.key(snapshot.run_id), content, note)

    async def latest_snapshot(self, *, run_id: str, include_interrupted: bool = False) -> ContinuableSnapshot | None:
        """Return the newest snapshot whose tools are settled, or the newest of all, or None."""
        key = self.key(run_id)
        # Most often the newest one will do.
        for limit in (1, None):
            newest = self._store.updates(key, newest_first=True, types=(recording.CHECKPOINT,), limit=limit)
            async for stored in newest:
                if include_interrupted or stored.update.data["state"] == "complete":
                    return (await self._snapshots(key, [stored.update.data]))[0]
        return None

    async def list_snapshots(self, *, run_id: str, include_interrupted: bool = False) -> list[ContinuableSnapshot]:
        """Return the snapshots that are kept, in the order in which they were saved."""
        key = self.key(run_id)
        saved = await self._store.data(key, types=(recording.CHECKPOINT,))
        return await self._snapshots(
            key, [data for data in saved if include_interrupted or data["state"] == "complete"]
        )

    async def record_tool_effect(self, record: ToolEffectRecord) -> None:
        """Record what is known of a tool call's effect, instead of what was known before.

        Raises:
            StoreError: The store failed.
        """
        state = {_EFFECTS + record.tool_call_id: _EFFECT.dump_python(record, mode="json", exclude_none=True)}
        await self._runs.write(
            self.key(record.run_id), lambda run: {"state": state, **self._labeled(run, record.run_id)}
        )

    async def get_tool_effect(self, *, run_id: str, tool_call_id: str) -> ToolEffectRecord | None:
        """Return what is known of a tool call's effect, or None."""
        entries = await self._store.state(self.key(run_id), _EFFECTS + tool_call_id)
        return _EFFECT.validate_python(entries[0].value) if entries else None

    async def list_unresolved_tool_effects(self, *, run_id: str) -> list[ToolEffectRecord]:
        """Return the tool calls that began and have no end, in the order in which they began."""
        entries = await self._store.state(self.key(run_id), prefix=_EFFECTS)
        records = [_EFFECT.validate_python(entry.value) for entry in entries if entry.value["status"] == "started"]
        return sorted(records, key=lambda record: record.started_at)

    async def _snapshots(self, key: ContextKey, saved: Sequence[dict[str, Any]]) -> list[ContinuableSnapshot]:
        """Return snapshots with their messages."""
        stored = [found.update async for found in self._store.updates(key, types=(recording.MESSAGE,))]
        messages = {update.metadata[PLACE]: update.data for update in stored}
        found = []
        for snapshot in saved:
            places = [place for first, last in snapshot["messages"] for place in range(first, last + 1)]
            data: Any = [messages[place] for place in places]
            if self._media is not None:
                data = await restore_media(data, media_store=self._media)
            found.append(_SNAPSHOT.validate_python(snapshot | {"messages": data}))
        return found

    def _outdated(self, run: StoredRun, snapshot: ContinuableSnapshot) -> list[Snapshot]:
        """Return the snapshots that are not kept when another one is saved."""
        if self._max_snapshots is None:
            return []
        outdated = run.snapshots[: len(run.snapshots) + 1 - self._max_snapshots]
        complete = [known for known in run.snapshots if known.state == "complete"]
        if snapshot.state != "complete" and complete and complete[-1] in outdated:
            outdated.remove(complete[-1])
        return outdated

    @staticmethod
    def _labeled(run: StoredRun, run_id: str) -> dict[str, Any]:
        """Return the labels for the first write to a run."""
        return {} if run.revision else {"labels": identity.labels(FRAMEWORK, run=run_id)}


def _update_of(event: StepEvent) -> ContextUpdate:
    failed = event.kind == "tool_call_failed"
    update = recording.update(
        FRAMEWORK,
        _TYPES.get(event.kind, recording.EVENT),
        _EVENT.dump_python(event, mode="json", exclude_none=True),
        call_id=event.tool_call_id,
        name=event.tool_name if event.kind == "tool_call_started" else None,
        error=(event.error or "failed") if failed else None,
    )
    return ContextUpdate(event.timestamp.timestamp(), *update)


def _message_update(message: ModelMessage, data: dict[str, Any], place: int) -> ContextUpdate:
    # Calls of tools and their results are events here.
    update = updates_of(message, data, time.time())[0]
    update.metadata[PLACE] = place
    return update


def _snapshot_update(snapshot: ContinuableSnapshot, places: list[list[int]]) -> ContextUpdate:
    without = dataclasses.replace(snapshot, messages=[])
    data = _SNAPSHOT.dump_python(without, mode="json") | {"messages": places}
    return ContextUpdate(snapshot.timestamp.timestamp(), *recording.update(FRAMEWORK, recording.CHECKPOINT, data))
