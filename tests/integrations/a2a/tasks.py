"""Tasks, events and callers of the A2A SDK."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from a2a.auth.user import User
from a2a.server.context import ServerCallContext
from a2a.types.a2a_pb2 import (
    Artifact,
    Message,
    Part,
    Role,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)

SUBMITTED, WORKING, COMPLETED = (
    TaskState.TASK_STATE_SUBMITTED,
    TaskState.TASK_STATE_WORKING,
    TaskState.TASK_STATE_COMPLETED,
)
FAILED, CANCELED = TaskState.TASK_STATE_FAILED, TaskState.TASK_STATE_CANCELED


class Caller(User):
    """Whoever calls."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def user_name(self) -> str:
        return self._name


def called_by(name: str) -> ServerCallContext:
    return ServerCallContext(user=Caller(name))


def message(text: str, role: Any = Role.ROLE_USER) -> Message:
    return Message(message_id=f"m-{text}", role=role, parts=[Part(text=text)])


def status(state: Any, text: str | None = None, day: int | None = None) -> TaskStatus:
    found = TaskStatus(state=state)
    if text is not None:
        found.message.CopyFrom(message(text, Role.ROLE_AGENT))
    if day is not None:
        found.timestamp.FromDatetime(datetime(2026, 1, day, tzinfo=UTC))
    return found


def task(task_id: str = "t1", state: Any = SUBMITTED, *, day: int | None = None, context: str = "c1") -> Task:
    return Task(id=task_id, context_id=context, status=status(state, day=day))


def artifact(name: str, *texts: str) -> Artifact:
    return Artifact(artifact_id=name, name=name, parts=[Part(text=text) for text in texts])


def status_event(of: Task) -> TaskStatusUpdateEvent:
    return TaskStatusUpdateEvent(task_id=of.id, context_id=of.context_id, status=of.status)


def artifact_event(of: Task, made: Artifact, *, append: bool = False) -> TaskArtifactUpdateEvent:
    return TaskArtifactUpdateEvent(task_id=of.id, context_id=of.context_id, artifact=made, append=append)
