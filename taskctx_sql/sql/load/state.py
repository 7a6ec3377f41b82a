"""Reading the named values of a context: its state and its labels, as they are or as of a revision."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.errors import ContextNotFoundError, InvalidArgumentError
from taskctx_sql.limits import check_number
from taskctx_sql.model import ContextKey, StateEntry, StateKind
from taskctx_sql.sql import engines, incomplete, row_codec
from taskctx_sql.sql.load import as_of
from taskctx_sql.sql.plan import Plan, Statement, Step, number, opaque_text, text
from taskctx_sql.sql.schema import contexts, state

KINDS: Final[tuple[StateKind, ...]] = ("state", "label")
_SURROGATES: Final = range(0xD800, 0xE000)
# Above every name: no character is larger.
_LAST: Final = chr(sys.maxunicode)


@dataclass(frozen=True, slots=True)
class StateSelection:
    """The arguments of `Store.state`, checked."""

    names: tuple[str, ...] = ()
    prefix: str = ""
    after: str | None = None
    before: str | None = None
    limit: int | None = None
    newest_first: bool = False
    by_time: bool = False
    revision: int | None = None
    kind: StateKind = "state"

    def __post_init__(self) -> None:
        texts = {"prefix": self.prefix, "after": self.after or "", "before": self.before or ""}
        for argument, value in [*(("names", name) for name in self.names), *texts.items()]:
            if not row_codec.is_column_text(value):
                raise InvalidArgumentError(argument, value, "a string without NUL and lone surrogates")
        check_number("limit", self.limit, 0, optional=True)
        check_number("revision", self.revision, 1, optional=True)
        if self.kind not in KINDS:
            raise InvalidArgumentError("kind", self.kind, " or ".join(map(repr, KINDS)))


def read_state(engine: str, key: ContextKey, selection: StateSelection, at: float) -> Plan[list[StateEntry]]:
    """Return the plan that reads named values that have not expired at a time, ordered by the bytes of their names."""
    context_id = row_codec.context_id(key)
    newest = None
    if selection.revision is not None:
        newest, created_at = yield from as_of.current(key, "revision", "created_at")
        yield from as_of.counters(key, selection.revision, newest)
    given: dict[str, Any] = {"context": context_id, "at": at, "kind": selection.kind}
    bounds = _bounds(selection)
    given |= bounds
    if selection.names:
        given["names"] = engines.list_value(engine, selection.names)
    if selection.limit is not None:
        given["how_many"] = selection.limit
    if selection.revision is not None:
        given["revision"] = selection.revision
    select = _select(engine, frozenset(given), newest_first=selection.newest_first, by_time=selection.by_time)
    rows = (yield Step(select, given, reads=True)) or ()
    if selection.revision is not None and newest is not None:
        if not (yield from as_of.is_still_there(engine, context_id, created_at)):
            raise ContextNotFoundError(key)
        yield from as_of.check_not_pruned(key, selection.revision, newest)
    if not rows:
        return []
    names, texts, *others = zip(*rows, strict=True)
    return list(map(StateEntry, names, row_codec.read_all_json(key, selection.kind, names, texts), *others))


def is_named(engine: str) -> sa.ColumnElement[bool]:
    """Return the condition for values whose names are in the parameter "names"."""
    return engines.is_in_list(engine, state.c.name, "names")


def is_kept(at: float | None = None) -> sa.ColumnElement[bool]:
    """Return the condition for values that have not expired at a time, or at that of the parameter "at"."""
    then = sa.bindparam("at", at, type_=sa.Double, required=at is None)
    return sa.or_(state.c.expires_at.is_(None), state.c.expires_at > then)


def _bounds(selection: StateSelection) -> dict[str, str]:
    """Return the names that limit a range, by the comparison."""
    bounds = {"after": selection.after, "before": selection.before}
    if selection.prefix:
        bounds |= {"low": selection.prefix, "high": _following(selection.prefix)}
    return {name: value for name, value in bounds.items() if value is not None}


def _following(prefix: str) -> str | None:
    """Return the lowest text above all that begin with a prefix; None if there is none."""
    prefix = prefix.rstrip(_LAST)
    if not prefix:
        return None
    following = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)


@cache
def _select(engine: str, given: frozenset[str], *, newest_first: bool, by_time: bool) -> Statement:
    name = state.c.name
    comparisons = {
        "after": name > text("after"),
        "before": name < text("before"),
        "low": name >= text("low"),
        "high": name < text("high"),
        "names": is_named(engine),
    }
    then = as_of.in_revision(state) if "revision" in given else (_of_context(), state.c.removed_in.is_(None))
    of_kind = (*then, state.c.kind == opaque_text("kind"))
    columns = (name, state.c.value, state.c.added_in, state.c.saved_at, state.c.expires_at)
    bounds = (comparisons[one] for one in comparisons if one in given)
    selected = sa.select(*columns).where(*of_kind, is_kept(), *bounds)
    if "revision" not in given:
        whole = (contexts.c.context_id == text("context"), incomplete.is_there())
        selected = selected.where(sa.exists().where(*whole))
    first = state.c.saved_at if by_time else name
    order = (first.desc() if newest_first else first, *([name] if by_time else ()))
    selected = selected.order_by(*order)
    if "how_many" not in given:
        return selected
    selected = selected.limit(number("how_many"))
    # Postgres sorts without long values by itself, and would sort again for each row if it was asked like this.
    return _sorted_by_rowid(selected, order) if by_time and engine == "sqlite" else selected


def _sorted_by_rowid(selected: sa.Select[*tuple[Any, ...]], order: Sequence[sa.ColumnElement[Any]]) -> Statement:
    """Let SQLite sort the rows without the values, which takes a third of the time: no index has the order."""
    row: sa.ColumnElement[int] = sa.literal_column(f"{state.name}.rowid")
    chosen = selected.with_only_columns(row).correlate(None)
    return sa.select(*selected.selected_columns).where(row.in_(chosen)).order_by(*order)


def _of_context() -> sa.ColumnElement[bool]:
    return state.c.context_id == text("context")
