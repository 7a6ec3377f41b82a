"""Several contexts of one store, and what was acknowledged of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from taskctx_sql import TaskContextError
from tests.chaos.marks import Findings, examine, read_journal
from tests.chaos.trial import Result
from tests.support.connections import Connection


class Ledger:
    """The contexts of one store, with a journal each; compared as often as wanted, and counted at the end."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self.connection = connection
        self._folder = folder
        self.problems: list[str] = []
        self._found: dict[str, Findings] = {}

    def journal(self, chat: str) -> Path:
        self._found.setdefault(chat, Findings())
        return self._folder / f"{chat}.journal"

    async def check(self, chats: Sequence[str] | None = None) -> None:
        """Compare these contexts, or all, with what was acknowledged until now."""
        try:
            async with self.connection.store() as store:
                for chat in self._found if chats is None else chats:
                    entries = read_journal(self.journal(chat))
                    self._found[chat] = await examine(store, chat, entries.saved)
        except TaskContextError as error:
            self.problems.append(f"{type(error).__name__}: {error}")

    async def close(self, result: Result, *, waits: bool = True) -> None:
        """Compare all once more, since a later fault must not harm what an earlier one left, and count.

        Args:
            result: Where to count.
            waits: Whether the longest time that a save took is an outage.
        """
        await self.check()
        result.problems += self.problems
        for chat, findings in self._found.items():
            result.findings.add(findings)
            result.take(read_journal(self.journal(chat)), waits=waits)
            self.journal(chat).unlink(missing_ok=True)
