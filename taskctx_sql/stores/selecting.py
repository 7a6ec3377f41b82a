"""Selecting from a history that is in memory."""

from __future__ import annotations

from collections.abc import Sequence

from taskctx_sql import codec
from taskctx_sql.model import ContextUpdate, Selection, UpdateSize, choose_from


def choose_updates(history: Sequence[ContextUpdate], selection: Selection) -> tuple[Sequence[int], bool]:
    """Select from a whole history what `ContextStore.load` was asked for.

    Args:
        history: The updates, in order.
        selection: The arguments of the load. Which state they ask for does not matter here.

    Returns:
        The indexes of the selected updates, in order, and whether there are earlier ones.
    """
    if not selection.chooses:
        limit = selection.history_limit
        start = 0 if limit is None else max(0, len(history) - limit)
        return range(start, len(history)), start > 0
    sizes = [(_size_of(position, update), update.update_type) for position, update in enumerate(history, 1)]
    window = choose_from(selection, sizes)
    return [position - 1 for position in window.seqs], window.earlier


def _size_of(position: int, update: ContextUpdate) -> UpdateSize:
    group = update.metadata.get("group") if isinstance(update.metadata, dict) else None
    chars = len(codec.encode(update.data, warn=False))
    return UpdateSize(position, chars, None if group is None else codec.text_of(group))
