"""What a session refuses."""

from __future__ import annotations

from taskctx_sql import TaskContextError


class SessionClosedError(TaskContextError, RuntimeError):
    """A session is used after it was closed."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"the session {session_id!r} is closed: create another one with this id")
        self.session_id: str = session_id


class BranchError(TaskContextError, ValueError):
    """A branch cannot be created, switched to or deleted."""

    def __init__(self, session_id: str, branch_id: str, reason: str) -> None:
        super().__init__(f"{reason} (session {session_id!r})")
        self.session_id: str = session_id
        self.branch_id: str = branch_id
        self.reason: str = reason


class TurnNotFoundError(TaskContextError, ValueError):
    """There is no such turn in a branch."""

    def __init__(self, branch_id: str, turn: int | str, reason: str) -> None:
        super().__init__(f"{reason} in branch {branch_id!r}: get_conversation_turns() has the turns")
        self.branch_id: str = branch_id
        self.turn: int | str = turn
        self.reason: str = reason
