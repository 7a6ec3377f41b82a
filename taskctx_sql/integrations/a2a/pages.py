"""The labels by which tasks are listed, and the pages of a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from a2a.types.a2a_pb2 import Task, TaskState
from a2a.utils.errors import InvalidParamsError
from a2a.utils.task import ListTasksCursor, decode_list_tasks_cursor, decode_page_token, encode_list_tasks_cursor

from taskctx_sql.integrations import identity
from taskctx_sql.integrations.a2a.updates import FRAMEWORK


@dataclass(frozen=True)
class Listed:
    """A task in a list: its id, and when it got its status, nanoseconds since the epoch, or None if it does not say."""

    task_id: str
    timestamp: int | None

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Listed:
        """Return the task that has these labels."""
        return cls(labels["task"], int(labels["status_time"]) if "status_time" in labels else None)

    @property
    def token(self) -> str:
        """What names this task as the last one of a page."""
        return encode_list_tasks_cursor(self._cursor)

    def sort_key(self) -> tuple[bool, int, str]:
        """What tasks are sorted by: without a time last, and of the same time by their ids."""
        return self._cursor.sort_key()

    @property
    def _cursor(self) -> ListTasksCursor:
        return ListTasksCursor(self.timestamp, self.task_id)


def labels_of(task: Task) -> dict[str, str | None]:
    """Return the labels of a task."""
    has_time = task.HasField("status") and task.status.HasField("timestamp")
    return {
        **identity.labels(FRAMEWORK, task=task.id, kind="task"),
        "conversation": identity.shorten(task.context_id) if task.context_id else None,
        "status": TaskState.Name(task.status.state),
        "status_time": str(task.status.timestamp.ToNanoseconds()) if has_time else None,
    }


def after_token(tasks: Sequence[Listed], token: str) -> Sequence[Listed]:
    """Return the tasks that follow a page, those of the first page if there is no token.

    Args:
        tasks: All tasks, sorted.
        token: What the page before returned.

    Raises:
        InvalidParamsError: No server of the SDK has returned such a token.
    """
    if not token:
        return tasks
    cursor = decode_list_tasks_cursor(token)
    if cursor is not None:
        return [task for task in tasks if task.sort_key() < cursor.sort_key()]
    # Before 1.3 the SDK's stores named the first task of the page.
    first = decode_page_token(token)
    for position, task in enumerate(tasks):
        if task.task_id == first:
            return tasks[position:]
    raise InvalidParamsError(f"Invalid page token: {token}")
