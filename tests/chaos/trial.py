"""What all tests of the harness have in common."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.chaos.marks import Entries, Findings
from tests.support.connections import PLAIN, Connection, new_connection

MOST_COMPLAINTS: Final = 10
HOPELESS: Final = 100


@dataclass
class Setup:
    """What a test is run with.

    Attributes:
        cycles: How often the fault happens.
        folder: An empty folder of this test, which goes afterwards.
        tell: Takes a line about how far it is.
        postgres_url: Returns the URL of a Postgres server where databases can be made.
        breaks: What is broken on purpose; one of `writer.BREAKS`, or empty.
        citus_url: The URL of a Citus's coordinator, for the tests that need one.
        over: The kind of connection to Postgres.
    """

    cycles: int
    folder: Path
    tell: Callable[[str], None]
    postgres_url: Callable[[], str]
    breaks: str = ""
    citus_url: str = ""
    over: str = PLAIN

    def new_connection(self, *, upgraded: bool = True) -> AbstractAsyncContextManager[Connection]:
        """A new database, and the connection to it."""
        server = self.citus_url if self.over == "citus" else self.postgres_url()
        return new_connection(self.over, server, upgraded=upgraded)


@dataclass
class Result:
    """What a test found. ``longest`` is the longest outage in seconds, and ``limit`` how long it may be."""

    cycles: int = 0
    acknowledged: int = 0
    findings: Findings = field(default_factory=Findings)
    longest: float = 0.0
    limit: float | None = None
    problems: list[str] = field(default_factory=list)

    def take(self, entries: Entries, *, waits: bool = True) -> None:
        """Count what a journal holds; an error that reached a caller is a problem."""
        self.acknowledged += len(entries.saved)
        self.problems += entries.failed
        if waits:
            self.longest = max(self.longest, entries.longest)

    @property
    def is_hopeless(self) -> bool:
        """Whether so much went wrong that going on would show nothing more."""
        return len(self.problems) >= HOPELESS

    @property
    def complaints(self) -> list[str]:
        """Everything that is wrong; empty if the promise was kept."""
        found = [*self.findings.examples, *dict.fromkeys(self.problems)]
        if len(found) > MOST_COMPLAINTS:
            found = [*found[:MOST_COMPLAINTS], f"and {len(found) - MOST_COMPLAINTS} more"]
        if self.limit is not None and self.longest > self.limit:
            found.append(f"the longest outage was {self.longest:.2f} s, and {self.limit:g} s are allowed")
        if self.acknowledged == 0:
            found.append("nothing was acknowledged, so nothing was tested")
        return found


@dataclass(frozen=True)
class Trial:
    """A test of the harness.

    Attributes:
        name: What to call it on the command line; the beginning of it will do.
        what: What it does, in a sentence.
        cycles: How many cycles prove the promise.
        short: How many the wide tests run.
        run: Runs it.
        on_citus: Whether it needs a Citus, which is not there by itself.
        over: The kinds of connections over which it can run; none if it does not ask for any.
    """

    name: str
    what: str
    cycles: int
    short: int
    run: Callable[[Setup], Coroutine[Any, Any, Result]]
    on_citus: bool = False
    over: Sequence[str] = ()
