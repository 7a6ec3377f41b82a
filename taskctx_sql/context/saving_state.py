"""The states of unsaved changes on their way to a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from taskctx_sql.errors import SaveOrderError
from taskctx_sql.model import ContextUpdate, Delta


class State(Enum):
    """Where a context stands between memory and store."""

    CLEAN = "memory equals what the store had when it was last read or written"
    UNSAVED = "memory has changes that were not sent to a store"
    SAVING = "changes were sent to a store that has not answered yet"
    IN_DOUBT = "changes were sent to a store, and it is unknown whether they were written"
    TO_BE_RELOADED = "a restore or an undo was written, and memory does not show it yet"


@dataclass(slots=True, eq=False)
class Handout:
    """What a context handed out to be saved. `confirm` and `abandon` require this very object.

    Attributes:
        delta: What the store writes.
        texts: The JSON texts of metadata and toggles; None for a restore or an undo, which has no content of memory.
        dropped: The updates that an optimize or truncate removed, by identity.
    """

    delta: Delta
    texts: tuple[str, str] | None = None
    dropped: Mapping[int, ContextUpdate] = field(default_factory=dict)


class Saving:
    """The state machine of a context's changes.

    ===============  ==========================  ==========================================================
    from             by                          to
    ===============  ==========================  ==========================================================
    CLEAN, UNSAVED   `hand_out`                  SAVING
    SAVING           `settle`, saved or refused  CLEAN or UNSAVED, as memory has other changes or not;
                                                 TO_BE_RELOADED after a restore or an undo that was written
    SAVING           `doubt`                     IN_DOUBT
    IN_DOUBT         `send_again`                SAVING, with the same handout
    TO_BE_RELOADED   `reloaded`                  CLEAN or UNSAVED
    ===============  ==========================  ==========================================================

    Any other transition raises `SaveOrderError` and changes nothing. Changes in memory while a handout is being saved
    or in doubt belong to the next one.

    Attributes:
        handout: The handout that is being saved or in doubt.
        must_reload: Whether a restore or an undo was written that memory does not show yet.
    """

    def __init__(self) -> None:
        self.handout: Handout | None = None
        self.must_reload: bool = False
        self._is_in_doubt = False

    @property
    def in_doubt(self) -> Handout | None:
        """The handout that is in doubt."""
        return self.handout if self._is_in_doubt else None

    def state(self, *, has_changes: bool) -> State:
        """Return the state, given whether memory has changes that were not handed out."""
        if self.handout is not None:
            return State.IN_DOUBT if self._is_in_doubt else State.SAVING
        if self.must_reload:
            return State.TO_BE_RELOADED
        return State.UNSAVED if has_changes else State.CLEAN

    def check_free(self) -> None:
        """Check that nothing is handed out."""
        if self.handout is not None:
            raise SaveOrderError()

    def check(self, handout: Handout) -> None:
        """Check that the handout is the last one, and not settled yet."""
        if handout is not self.handout:
            raise SaveOrderError()

    def hand_out(self, handout: Handout) -> Handout:
        """Start saving a handout."""
        self.check_free()
        self.handout = handout
        return handout

    def doubt(self, handout: Handout) -> None:
        """Record that it is unknown whether the handout was written."""
        self.check(handout)
        self._is_in_doubt = True

    def send_again(self, handout: Handout) -> None:
        """Start saving the handout in doubt again, unchanged."""
        if handout is not self.in_doubt:
            raise SaveOrderError()
        self._is_in_doubt = False

    def settle(self, handout: Handout, *, written: bool) -> None:
        """Record whether the handout was written."""
        self.check(handout)
        self.handout, self._is_in_doubt = None, False
        if written and handout.texts is None:
            self.must_reload = True

    def reloaded(self) -> None:
        """Record that memory shows what the store has."""
        self.check_free()
        self.must_reload = False
