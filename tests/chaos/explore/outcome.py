"""What a run found, and the errors that end it or that its program goes on after."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from taskctx_sql.errors import (
    ContextNotFoundError,
    NothingToUndoError,
    RevisionNotFoundError,
    StoreFailedError,
    StoreUnavailableError,
)
from tests.chaos.explore.points import Where

AFTER_A_FAILURE: Final = (StoreFailedError, StoreUnavailableError)
NOT_THERE_ANY_MORE: Final = (ContextNotFoundError, NothingToUndoError, RevisionNotFoundError)


class WrongError(Exception):
    """The run cannot go on; its text says what is wrong."""


class HasEndedError(Exception):
    """The store was closed under a call: the program begins anew with what is stored."""


@dataclass
class Outcome:
    """What a run found.

    Attributes:
        counts: How many points there were.
        fired: Whether the injection's point was reached.
        problems: What is wrong; empty if all is well.
        longest: Seconds that the longest call took.
        late: Seconds beyond those allowed that a call took because of the machine.
        acknowledged: How many additions a save acknowledged.
    """

    counts: dict[Where, int] = field(default_factory=dict)
    fired: bool = False
    problems: list[str] = field(default_factory=list)
    longest: float = 0.0
    late: float = 0.0
    acknowledged: int = 0
    trace: list[str] = field(default_factory=list)
