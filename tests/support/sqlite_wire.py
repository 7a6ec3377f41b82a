"""What the thread that writes to SQLite says to it."""

from __future__ import annotations

from collections.abc import Callable


class Wire:
    """What the writer's thread says to SQLite, in order; a commit can be made to fail before or after it happens."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.faults: list[str] = []
        # Called on the writer's thread before each transaction and after each commit.
        self.before_begin: Callable[[], object] = lambda: None
        self.after_commit: Callable[[], object] = lambda: None

    def hear(self, statement: str) -> None:
        # SQLite reports a statement once more for each time that one of its triggers runs.
        if self.said[-1:] != [statement]:
            self.said.append(statement)

    def take(self) -> list[str]:
        taken, self.said = self.said, []
        return taken

    def count_commits(self) -> int:
        return sum(map(commits, self.said))


def commits(statement: str) -> bool:
    """Whether it is a COMMIT, or a statement that is a transaction of its own."""
    return statement.startswith(("COMMIT", "INSERT INTO taskctx_appends"))
