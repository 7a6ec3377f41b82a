"""Rows as a transfer reads and writes them: a context's own row, and the tables of what belongs to it."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.model import ContextKey
from taskctx_sql.sql.schema import files, models, revisions, runs, state, updates

Row = tuple[Any, ...]


class ContextRow(NamedTuple):
    """A context's row, as it was at one moment: its columns in their order."""

    context_id: str
    user_id: str
    chat_id: str
    metadata: str
    metadata_toggles: str
    # 0 while it is being copied for the first time.
    revision: int
    next_seq: int
    next_model: int
    next_position: int
    created_at: float
    updated_at: float
    pruned_until: int | None

    @property
    def key(self) -> ContextKey:
        """The user and the chat."""
        return ContextKey(self.user_id, self.chat_id)

    @property
    def numbers(self) -> int:
        """About how many rows it has, and possibly more."""
        return self.revision + self.next_seq + self.next_model + self.next_position

    @property
    def incomplete_until(self) -> int:
        """The revision before which its states are incomplete; 0 if all are complete."""
        return self.pruned_until or 0

    def is_same(self, other: ContextRow) -> bool:
        """Whether both are the same in all but what was pruned, which each database decides for itself."""
        return self._replace(pruned_until=None) == other._replace(pruned_until=None)

    def is_same_or_later(self, other: ContextRow) -> bool:
        """Whether it is the same, or differs only because a run ended here since."""
        return self.updated_at >= other.updated_at and self.is_same(other._replace(updated_at=self.updated_at))

    def can_continue(self, source: ContextRow) -> bool:
        """Whether a copy that broke off has nothing that the source does not have."""
        return self.revision > 0 or (self.created_at == source.created_at and not source.pruned_until)


class ContextTable(NamedTuple):
    """A table of rows that belong to contexts, and its key after ``context_id``."""

    table: sa.Table
    key: tuple[str, ...]

    @property
    def is_numbered(self) -> bool:
        """Whether its rows are numbered from 1, as updates and model uses are."""
        return self.key == ("seq",)

    @property
    def has_removals(self) -> bool:
        """Whether its rows are added and removed in revisions."""
        return "removed_in" in self.table.c

    def key_of(self, row: Row) -> Row:
        """Return a row's key."""
        return tuple(row[index] for index in _indexes(self.table, self.key))

    def value(self, row: Row, name: str) -> Any:
        """Return a column of a row."""
        return row[self.place(name)]

    def place(self, name: str) -> int:
        """Return the place of a column in a row."""
        return _indexes(self.table, (name,))[0]

    def key_columns(self) -> list[sa.Column[Any]]:
        """Return the columns of the key."""
        return [self.table.c[name] for name in self.key]


UPDATES: Final = ContextTable(updates, ("seq",))
MODELS: Final = ContextTable(models, ("seq",))
FILES: Final = ContextTable(files, ("path_id", "added_in"))
STATE: Final = ContextTable(state, ("kind", "name", "added_in"))
RUNS: Final = ContextTable(runs, ("run_id",))
REVISIONS: Final = ContextTable(revisions, ("revision",))
TABLES: Final = (UPDATES, MODELS, FILES, STATE, REVISIONS, RUNS)


@cache
def _indexes(table: sa.Table, names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(table.c.keys().index(name) for name in names)
