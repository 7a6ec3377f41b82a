"""Rows as a transfer reads and writes them: a context's own row, and the tables of what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.model import ContextKey
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, updates

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ContextRow:
    """A context's row, as it was at one moment."""

    row: Row

    @property
    def context_id(self) -> str:
        """The context_id."""
        return str(self._value("context_id"))

    @property
    def key(self) -> ContextKey:
        """The user and the chat."""
        return ContextKey(self._value("user_id"), self._value("chat_id"))

    @property
    def revision(self) -> int:
        """The revision; 0 while it is being copied for the first time."""
        return int(self._value("revision"))

    @property
    def next_seq(self) -> int:
        """The seq of the next update."""
        return int(self._value("next_seq"))

    @property
    def next_model(self) -> int:
        """The seq of the next model use."""
        return int(self._value("next_model"))

    @property
    def created_at(self) -> float:
        """When it was created."""
        return float(self._value("created_at"))

    @property
    def updated_at(self) -> float:
        """When it was saved last."""
        return float(self._value("updated_at"))

    @property
    def pruned_until(self) -> int:
        """The revision before which its states are incomplete; 0 if all are complete."""
        return int(self._value("pruned_until") or 0)

    def as_dict(self) -> dict[str, Any]:
        """Return all columns by name."""
        return dict(zip(column_names(contexts), self.row, strict=True))

    def is_same(self, other: ContextRow) -> bool:
        """Whether both are the same in all but what was pruned, which each database decides for itself."""
        return self._without("pruned_until") == other._without("pruned_until")

    def is_same_or_later(self, other: ContextRow) -> bool:
        """Whether it is the same, or differs only because a run ended here since."""
        ignored = ("pruned_until", "updated_at")
        return self.updated_at >= other.updated_at and self._without(*ignored) == other._without(*ignored)

    def can_continue(self, source: ContextRow) -> bool:
        """Whether a copy that broke off has nothing that the source does not have."""
        return self.revision > 0 or (self.created_at == source.created_at and not source.pruned_until)

    def _without(self, *names: str) -> Row:
        return tuple(value for name, value in self.as_dict().items() if name not in names)

    def _value(self, name: str) -> Any:
        return self.row[column_names(contexts).index(name)]


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
        return tuple(row[index] for index in _key_indexes(self))

    def value(self, row: Row, name: str) -> Any:
        """Return a column of a row."""
        return row[column_names(self.table).index(name)]

    def key_columns(self) -> list[sa.Column[Any]]:
        """Return the columns of the key."""
        return [self.table.c[name] for name in self.key]


UPDATES: Final = ContextTable(updates, ("seq",))
MODELS: Final = ContextTable(models, ("seq",))
FILES: Final = ContextTable(files, ("path_id", "added_in"))
RUNS: Final = ContextTable(runs, ("run_id",))
REVISIONS: Final = ContextTable(revisions, ("revision",))
TABLES: Final = (UPDATES, MODELS, FILES, REVISIONS, RUNS)


@cache
def column_names(table: sa.Table) -> tuple[str, ...]:
    """Return the names of a table's columns, in their order."""
    return tuple(table.c.keys())


@cache
def _key_indexes(table: ContextTable) -> tuple[int, ...]:
    return tuple(column_names(table.table).index(name) for name in table.key)
