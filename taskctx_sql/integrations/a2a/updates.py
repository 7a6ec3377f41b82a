"""A task as updates: messages of its history, and the events that made the rest of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final, cast

from a2a.types.a2a_pb2 import (
    Artifact,
    Message,
    Role,
    StreamResponse,
    Task,
    TaskArtifactUpdateEvent,
    TaskStatusUpdateEvent,
)
from google.protobuf.json_format import MessageToDict, ParseDict

from taskctx_sql import Loaded, Run, Saved
from taskctx_sql.integrations import recording
from taskctx_sql.integrations.a2a.messages import parse_message

FRAMEWORK: Final = "a2a"
TYPES: Final = (recording.MESSAGE, recording.EVENT)

Event = Message | Task | TaskStatusUpdateEvent | TaskArtifactUpdateEvent

_ROLES: Final[dict[int, recording.Role]] = {Role.ROLE_USER: "user", Role.ROLE_AGENT: "assistant"}
# Which payload of a `StreamResponse` an event is.
_PAYLOADS: Final[dict[type, str]] = {
    Task: "task",
    Message: "message",
    TaskStatusUpdateEvent: "status_update",
    TaskArtifactUpdateEvent: "artifact_update",
}


@dataclass
class StoredTask:
    """A task as its context has it.

    Attributes:
        rest: The task without its history.
        history: The messages as `split` returns them: bytes are compared and copied much faster than messages.
        revision: The context's revision; 0 if there is none.
        messages: The seqs of the messages, in the order of the history.
        parts: The seqs of the updates that later ones may replace: of each artifact by its id, and of the whole task
            under None.
        base: What the store returned with it, by which it is recognized.
        run: The run of this process that last saved the task.
    """

    rest: Task
    history: bytes = b""
    revision: int = 0
    messages: list[int] = field(default_factory=list)
    parts: dict[str | None, list[int]] = field(default_factory=dict)
    base: Any = None
    run: Run | None = None

    @property
    def task(self) -> Task:
        """The task, made anew at each call."""
        task: Task = Task.FromString(self.history)
        task.MergeFrom(self.rest)
        return task

    def after(self, made: Changes, saved: Saved, run: Run) -> StoredTask:
        """Return what the context has after changes were written.

        Args:
            made: The changes.
            saved: What the store returned.
            run: The run that wrote them.
        """
        gone = set(made.removed)
        messages = [seq for seq in self.messages if seq not in gone]
        parts = {part: [seq for seq in seqs if seq not in gone] for part, seqs in self.parts.items()}
        left = {part: seqs for part, seqs in parts.items() if seqs}
        stored = StoredTask(made.rest, made.history, saved.revision, messages, left, saved.base, run)
        for seq, (update_type, data, _) in enumerate(made.updates, saved.first_seq):
            if update_type == recording.MESSAGE:
                stored.messages.append(seq)
            else:
                stored.note(seq, data)
        return stored

    def apply(self, seq: int, data: Any) -> None:
        """Change the task by an event that its context has."""
        response = ParseDict(data, StreamResponse())
        for part in _replaced(self.rest, self.parts, response):
            del self.parts[part]
        self.note(seq, data)
        _apply(self.rest, response)

    def note(self, seq: int, data: Any) -> None:
        """Remember under which seq an event is."""
        if "statusUpdate" not in data:
            part = data["artifactUpdate"]["artifact"].get("artifactId", "") if "artifactUpdate" in data else None
            self.parts.setdefault(part, []).append(seq)


@dataclass(frozen=True)
class Changes:
    """What makes one task out of another.

    Attributes:
        updates: The updates to append, in order.
        removed: The seqs of the updates that they replace.
        rest: The task that they make, without its history.
        history: Its messages, as `split` returns them.
    """

    updates: list[recording.Update]
    removed: list[int]
    rest: Task
    history: bytes


def stored_task(task_id: str, loaded: Loaded, *, revision: int | None = None) -> StoredTask:
    """Return the task that the updates of its context make up.

    Args:
        task_id: The task's id.
        loaded: The updates.
        revision: The revision that they are of; by default the context's.
    """
    stored = StoredTask(Task(id=task_id), revision=loaded.revision if revision is None else revision, base=loaded.base)
    only = Task()
    for seq, update in zip(loaded.seqs, loaded.history, strict=True):
        if update.update_type == recording.MESSAGE:
            parse_message(update.data, only.history)
            stored.messages.append(seq)
        else:
            stored.apply(seq, update.data)
    stored.history = only.SerializeToString(deterministic=True)
    return stored


def split(task: Task) -> tuple[Task, bytes]:
    """Return a copy of a task without its history, and its history as bytes.

    The bytes of a history begin with those of each history that it continues.
    """
    rest, only = without_history(task), Task()
    only.CopyFrom(task)
    for known, _ in rest.ListFields():
        only.ClearField(known.name)
    return rest, only.SerializeToString(deterministic=True)


def changes(stored: StoredTask, task: Task, event: Event | None) -> Changes:
    """Return what turns a stored task into another.

    Args:
        stored: The task as it is stored.
        task: The task as it shall be.
        event: The event that made it so; None: the events are found by comparing both.
    """
    wanted, history = split(task)
    same = len(stored.messages)
    if not history.startswith(stored.history):
        pairs = zip(stored.task.history, task.history, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    updates = [
        recording.update(FRAMEWORK, recording.MESSAGE, MessageToDict(message), role=_ROLES.get(message.role))
        for message in task.history[same:]
    ]
    removed = list(stored.messages[same:])
    current = without_history(stored.rest)
    parts = dict(stored.parts)
    for response, is_event in _responses(current, wanted, event, is_new=stored.revision == 0):
        for part in _replaced(current, parts, response):
            removed += parts.pop(part)
        _apply(current, response)
        updates.append(_event(response, is_event=is_event, revision=stored.revision + 1))
    return Changes(updates, sorted(removed), wanted, history)


def _responses(
    current: Task, wanted: Task, event: Event | None, *, is_new: bool
) -> Iterable[tuple[StreamResponse, bool]]:
    """Yield the events that turn one task into another, both without history, and whether each is one to deliver.

    The caller applies each to ``current`` before it takes the next one.
    """
    if event is not None:
        yield response_of(without_history(event) if isinstance(event, Task) else event), True
    elif not is_new:
        for update in _differences(current, wanted):
            yield response_of(update), True
    if (is_new and event is None) or current != wanted:
        # No event says it all. Where one is delivered, this is only what the task is read back from.
        yield response_of(wanted), event is None


def _differences(current: Task, wanted: Task) -> list[Event]:
    """Return the events that turn one task into another, as far as there are such events."""
    task_id, context_id = wanted.id, wanted.context_id
    known = {artifact.artifact_id: artifact for artifact in current.artifacts}
    found: list[Event] = []
    for artifact in wanted.artifacts:
        old = known.get(artifact.artifact_id)
        if old is None:
            found.append(TaskArtifactUpdateEvent(task_id=task_id, context_id=context_id, artifact=artifact))
        elif old != artifact:
            more = _appended(old, artifact)
            found.append(
                TaskArtifactUpdateEvent(
                    task_id=task_id, context_id=context_id, artifact=more or artifact, append=more is not None
                )
            )
    if current.status != wanted.status:
        found.append(TaskStatusUpdateEvent(task_id=task_id, context_id=context_id, status=wanted.status))
    return found


def _appended(old: Artifact, new: Artifact) -> Artifact | None:
    """Return what was appended to an artifact, or None if it has changed otherwise."""
    count = len(old.parts)
    if len(new.parts) <= count or any(a != b for a, b in zip(old.parts, new.parts, strict=False)):
        return None
    more = Artifact(artifact_id=new.artifact_id)
    more.parts.extend(new.parts[count:])
    whole = Artifact()
    whole.CopyFrom(old)
    whole.parts.extend(more.parts)
    return more if whole == new else None


def _apply(task: Task, response: StreamResponse) -> None:
    """Change a task without history by an event, as servers of the protocol do."""
    if response.HasField("task"):
        task.CopyFrom(response.task)
    elif response.HasField("status_update"):
        update = response.status_update
        task.status.CopyFrom(update.status)
        if update.HasField("metadata"):
            task.metadata.MergeFrom(update.metadata)
    elif response.HasField("artifact_update"):
        event = response.artifact_update
        known = [item for item in task.artifacts if item.artifact_id == event.artifact.artifact_id]
        if not known:
            task.artifacts.append(event.artifact)
        elif event.append:
            known[0].parts.extend(event.artifact.parts)
            known[0].metadata.update(dict(event.artifact.metadata.items()))
        else:
            known[0].CopyFrom(event.artifact)


def _replaced(task: Task, parts: Iterable[str | None], response: StreamResponse) -> list[str | None]:
    """Return those of a task's parts whose updates say nothing any more after an event."""
    if response.HasField("task"):
        return list(parts)
    if not response.HasField("artifact_update") or response.artifact_update.append:
        return []
    # Updates of another artifact than the last one stay, since they say where it is among the others.
    last = task.artifacts[-1].artifact_id if task.artifacts else None
    return [
        part for part in parts if part is not None and part == last == response.artifact_update.artifact.artifact_id
    ]


def response_of(event: Event) -> StreamResponse:
    """Return an event as the protocol sends it."""
    return StreamResponse(**{_PAYLOADS[type(event)]: event})


def event_of(data: Any) -> Event:
    """Return the event that an update's data is."""
    response = ParseDict(data, StreamResponse())
    return cast(Event, getattr(response, response.WhichOneof("payload") or "task"))


def _event(response: StreamResponse, *, is_event: bool, revision: int) -> recording.Update:
    update_type, data, metadata = recording.update(FRAMEWORK, recording.EVENT, MessageToDict(response))
    # The revision that this update comes with, which is the version that the event has made of the task.
    return update_type, data, metadata | ({"version": revision} if is_event else {})


def without_history(task: Task) -> Task:
    """Return a copy of a task without its history, which is not copied first."""
    return Task(**{known.name: value for known, value in task.ListFields() if known.name != "history"})
