"""What a program has when it hears that its context was deleted, or its database set back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.explore.model import Model, State, items_of, marks_of, ours

if TYPE_CHECKING:
    from tests.chaos.explore.running import Run


def is_gone(run: Run, left: State) -> None:
    """The program knows that the context was deleted: what it has now is all there is."""
    run.model.gone = False
    run.losses += 1
    run.model.present = ours(left)
    run.model.acknowledged.clear()
    # An edit that is unsaved stays, and its pair is gone.
    run.model.split |= marks_of(left)
    run.model.past.clear()
    run.model.operations.clear()
    run.model.others.clear()
    run.open_operation = None
    run.done.clear()


def is_set_back(run: Run, kept: Model) -> None:
    """The program knows that the database was set back: it has what was there then, and what is unsaved."""
    found = ours(items_of(run.context, run.model.features))
    lost = [item for item in kept.present if item not in found]
    # An edit of what is gone is kept.
    expected = kept.present.keys() | run.model.present.keys()
    back = [item for item in found if item not in expected and not (run.is_edited and item[0] == "update")]
    if lost or back:
        run.wrong(f"lost in what the database was set back to: {lost}, and strange: {back}")
    # An edit of what is gone stays, without what came with it.
    run.model.split |= marks_of(found) - marks_of(kept.present)
    run.model.present, run.model.acknowledged = found, dict(kept.present)
