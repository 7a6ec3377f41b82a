"""The states that unsaved changes go through on their way to a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from taskctx_sql.context.tracking import DictDifference, ListDifference
from taskctx_sql.errors import SaveOrderError
from taskctx_sql.model import ContextUpdate, Delta


class State(Enum):
    """Where a context stands between memory and store."""

    CLEAN = "memory is what the store held when it was last asked"
    UNSAVED = "memory has changes that no store was given"
    SAVING = "a store was given changes, and has not answered yet"
    IN_DOUBT = "a store was given changes, and it is not known whether they were written"
    TO_BE_RELOADED = "a restore or an undo was written, and memory does not show it yet"


@dataclass(slots=True, eq=False)
class Handout:
    """What a context handed out to be saved. Confirming and abandoning it require this very object.

    ``delta`` is what the store is given. The rest says what of memory is in it: nothing, for a restore or an undo.
    """

    delta: Delta
    contents: Contents | None = None


@dataclass(slots=True, eq=False)
class Contents:
    """The differences that a handout was made of.

    ``texts`` are those of metadata and toggles; ``dropped`` is what an optimize or truncate took out, by identity.
    """

    history: ListDifference[ContextUpdate]
    models: ListDifference[Any]
    files: DictDifference
    texts: tuple[str, str]
    dropped: Mapping[int, ContextUpdate]


class Saving:
    """The one place that knows the state of a context's changes.

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

    Every other step raises `SaveOrderError`, and changes nothing. What is added or changed in memory while a handout
    is on its way or in doubt belongs to the next one.
    """

    __slots__ = ("_handout", "_is_in_doubt", "must_reload")

    def __init__(self) -> None:
        """Begin with nothing on its way."""
        self._handout: Handout | None = None
        self._is_in_doubt = False
        self.must_reload = False

    @property
    def handout(self) -> Handout | None:
        """What is on its way or in doubt."""
        return self._handout

    @property
    def in_doubt(self) -> Handout | None:
        """What is in doubt."""
        return self._handout if self._is_in_doubt else None

    def state(self, *, has_changes: bool) -> State:
        """Return the state, given whether memory has changes that were not handed out."""
        if self._handout is not None:
            return State.IN_DOUBT if self._is_in_doubt else State.SAVING
        if self.must_reload:
            return State.TO_BE_RELOADED
        return State.UNSAVED if has_changes else State.CLEAN

    def check_free(self) -> None:
        """See that nothing is on its way."""
        if self._handout is not None:
            raise SaveOrderError()

    def hand_out(self, handout: Handout) -> Handout:
        """Something is on its way to the store."""
        self.check_free()
        self._handout = handout
        return handout

    def send_again(self, handout: Handout) -> None:
        """What was in doubt is on its way once more, as it was."""
        if handout is not self.in_doubt:
            raise SaveOrderError()
        self._is_in_doubt = False

    def doubt(self, handout: Handout) -> None:
        """Nobody knows whether it was written."""
        self.check(handout)
        self._is_in_doubt = True

    def settle(self, handout: Handout, *, written: bool) -> None:
        """It is known whether it was written."""
        self.check(handout)
        self._handout, self._is_in_doubt = None, False
        if written and handout.contents is None:
            self.must_reload = True

    def reloaded(self) -> None:
        """Memory shows what the store holds."""
        self.check_free()
        self.must_reload = False

    def check(self, handout: Handout) -> None:
        """See that it is what was handed out last, and is not settled yet."""
        if handout is not self._handout:
            raise SaveOrderError()
