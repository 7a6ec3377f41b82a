"""What moving contexts between databases does, statement by statement: rows as they are, page by page.

Rows never change once they are written, except that ``removed_in`` is set. So the state of a context in one of its
revisions can be read at any time later, whatever is saved meanwhile: that is what `as_of` stands for here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.model import ContextKey
from taskctx_sql.sql import engines, incomplete, row_codec
from taskctx_sql.sql.plan import Plan, Rows, Statement, Step, columns, insertion, number, parameters, text
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, updates

Row = tuple[Any, ...]

# Rows that go in one statement.
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Context:
    """A context's row, as it was at one moment."""

    row: Row

    @property
    def context_id(self) -> str:
        """The context_id."""
        return str(self._value("context_id"))

    @property
    def key(self) -> ContextKey:
        """Who and which chat."""
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
    def created_at(self) -> float:
        """When it was made."""
        return float(self._value("created_at"))

    @property
    def named(self) -> dict[str, Any]:
        """All columns by name."""
        return dict(zip(_names(contexts), self.row, strict=True))

    @property
    def updated_at(self) -> float:
        """When it was saved last."""
        return float(self._value("updated_at"))

    @property
    def pruned_until(self) -> int:
        """Before which revision its states are no longer whole; 0 if all are."""
        return int(self._value("pruned_until") or 0)

    def is_same(self, other: Context) -> bool:
        """Whether both are the same in all but what was pruned, which is each database's own matter."""
        return all(self._value(name) == other._value(name) for name in _names(contexts) if name != "pruned_until")

    def is_same_or_later(self, other: Context) -> bool:
        """Whether it is the same, or only a run ended here since."""
        return self.updated_at >= other.updated_at and all(
            self._value(name) == other._value(name)
            for name in _names(contexts)
            if name not in ("pruned_until", "updated_at")
        )

    def can_go_on_with(self, source: Context) -> bool:
        """Whether a copy that broke off has nothing that the source does not have."""
        return self.revision > 0 or (self.created_at == source.created_at and not source.pruned_until)

    def _value(self, name: str) -> Any:
        return self.row[_names(contexts).index(name)]


class Part(NamedTuple):
    """A table of rows that belong to contexts, and its key after ``context_id``."""

    table: sa.Table
    key: tuple[str, ...]

    @property
    def by_number(self) -> bool:
        """Whether its rows are numbered through."""
        return self.key == ("seq",)

    @property
    def has_revisions(self) -> bool:
        """Whether its rows come and go in revisions."""
        return "removed_in" in self.table.c

    def place(self, row: Row) -> Row:
        """Return a row's key."""
        return tuple(row[at] for at in _places(self))

    def value(self, row: Row, name: str) -> Any:
        """Return a column of a row."""
        return row[_names(self.table).index(name)]


UPDATES: Final = Part(updates, ("seq",))
MODELS: Final = Part(models, ("seq",))
FILES: Final = Part(files, ("path_id", "added_in"))
RUNS: Final = Part(runs, ("run_id",))
REVISIONS: Final = Part(revisions, ("revision",))
# In which revision a row of theirs was made.
_MADE_IN: Final = {FILES: "added_in", REVISIONS: "revision"}
PARTS: Final = (UPDATES, MODELS, FILES, REVISIONS, RUNS)


@cache
def _names(table: sa.Table) -> tuple[str, ...]:
    return tuple(table.c.keys())


@cache
def _places(part: Part) -> tuple[int, ...]:
    return tuple(_names(part.table).index(name) for name in part.key)


# Reading.


def contexts_page(after: str, limit: int, user_id: str | None, chat_id: str | None) -> Plan[list[Context]]:
    """Return the steps that read contexts in the order of their ids, after one of them; not those half there."""
    if user_id is not None and chat_id is not None:
        found = yield from context(ContextKey(user_id, chat_id))
        return [found] if found is not None and found.revision > 0 and found.context_id > after else []
    chosen = {} if user_id is None else {"user": ContextKey(user_id, "").user_id}
    statement = _select_contexts(of_user=user_id is not None)
    answer = yield Step(statement, {"after": after, "how_many": limit, **chosen}, reads=True)
    return [Context(tuple(row)) for row in answer or ()]


def context(key: ContextKey) -> Plan[Context | None]:
    """Return the steps that read a context's row, or None."""
    answer = yield Step(_select_context(lock=False), {"context": row_codec.context_id(key)}, reads=True)
    return Context(tuple(answer[0])) if answer else None


def numbered_page(part: Part, context_id: str, low: int, high: int, as_of: int) -> Plan[list[Row]]:
    """Return the steps that read the rows with ``low <= seq < high``, as they were in a revision."""
    bounds = {"context": context_id, "low": low, "high": high, "as_of": as_of}
    answer = yield Step(_select_numbered(part), bounds, reads=True)
    return [tuple(row) for row in answer or ()]


def keyed_page(part: Part, context_id: str, after: Row | None, limit: int, since: int, as_of: int) -> Plan[list[Row]]:
    """Return the steps that read rows in the order of their keys, those of the revisions after ``since``."""
    bounds: dict[str, Any] = {"context": context_id, "how_many": limit}
    if part is not RUNS:
        bounds |= {"as_of": as_of, "since": since}
    if after is not None:
        bounds |= {f"after_{name}": value for name, value in zip(part.key, after, strict=True)}
    answer = yield Step(_select_keyed(part, goes_on=after is not None), bounds, reads=True)
    return [tuple(row) for row in answer or ()]


def keyed_page_between(part: Part, context_id: str, low: Any, high: Any, as_of: int) -> Plan[list[Row]]:
    """Return the steps that read the rows whose key begins with a value from ``low`` to ``high``, in order."""
    bounds: dict[str, Any] = {"context": context_id, "low": low, "high": high}
    if part is not RUNS:
        bounds |= {"as_of": as_of}
    answer = yield Step(_select_between(part), bounds, reads=True)
    return [tuple(row) for row in answer or ()]


def last_seq(part: Part, context_id: str) -> Plan[int]:
    """Return the steps that read the highest seq, or 0."""
    answer = yield Step(_select_last(part), {"context": context_id}, reads=True)
    return int(answer[0][0]) if answer else 0


def revision_identity(context_id: str, revision: int) -> Plan[Row | None]:
    """Return the steps that read which save made a revision; None if that is not on record."""
    answer = yield Step(_select_identity(), {"context": context_id, "revision": revision}, reads=True)
    return tuple(answer[0]) if answer else None


def removals_page(part: Part, context_id: str, since: int, as_of: int, after: Row, limit: int) -> Plan[list[Row]]:
    """Return the steps that read (key ..., removed_in) of rows that were there in ``since`` and left after it."""
    bounds: dict[str, Any] = {"context": context_id, "since": since, "as_of": as_of, "how_many": limit}
    bounds |= {f"after_{name}": value for name, value in zip(part.key, after, strict=True)}
    answer = yield Step(_select_removals(part), bounds, reads=True)
    return [tuple(row) for row in answer or ()]


# Writing. All of it may be done twice.


def begin(engine: str, source: Context) -> Plan[None]:
    """Return the steps that make a context's row with nothing in it yet, if it is not there.

    What came of another one goes first, and what has rows that were pruned in the source since.
    """
    found = yield Step(_select_context(lock=True), {"context": source.context_id}, reads=True)
    if found and not Context(tuple(found[0])).can_go_on_with(source):
        yield from incomplete.clear(source.context_id)
    empty = source.named | {"revision": 0, "next_seq": 1, "next_model": 1, "next_position": 1}
    empty |= {"metadata": "{}", "metadata_toggles": "{}"}
    values = dict(zip(columns(contexts), (empty[name] for name in _names(contexts)), strict=True))
    yield Step(_insert_context(engine), values)


def write_rows(part: Part, seen: Context, page: Sequence[Row]) -> Plan[int | None]:
    """Return the steps that add rows to a context that is still as it was seen.

    Returns:
        How many were not there yet, or None if somebody else saved meanwhile, and nothing was written.
    """
    if (yield from _moved(seen)):
        return None
    low, high = part.place(page[0]), part.place(page[-1])
    bounds: dict[str, Any] = {"context": seen.context_id, "low": low[0], "high": high[0]}
    known = {tuple(row) for row in (yield Step(_select_keys(part), bounds, reads=True)) or ()}
    new = [row for row in page if part.place(row) not in known] if known else list(page)
    if new:
        yield Step(insertion(part.table), Rows(columns(part.table), new, part.table))
    return len(new)


def write_runs(engine: str, seen: Context, page: Sequence[Row]) -> Plan[int | None]:
    """Return the steps that add runs, or bring those that are there up to date, as `write_rows`."""
    if (yield from _moved(seen)):
        return None
    yield Step(_upsert_runs(engine), Rows(columns(runs), page))
    return 0


def write_removals(part: Part, seen: Context, page: Sequence[Row]) -> Plan[int | None]:
    """Return the steps that mark rows as removed, as `write_rows`."""
    if (yield from _moved(seen)):
        return None
    names = (*(f"gone_{name}" for name in part.key), "now", "context")
    yield Step(_update_removed(part), Rows(names, [(*row, seen.context_id) for row in page]))
    return 0


def finish(seen: Context, source: Context) -> Plan[bool]:
    """Return the steps that show the context as it is in the source; False if somebody else saved meanwhile."""
    if (yield from _moved(seen)):
        return (yield from _is_done(seen, source))
    named = source.named
    # What only the source pruned of what the target had seen is still whole here.
    pruned = max(seen.pruned_until, source.pruned_until if source.pruned_until > seen.revision else 0)
    named["pruned_until"] = pruned or None
    fixed = {"context_id", "user_id", "chat_id", "created_at"}
    yield Step(
        _update_context(),
        {f"now_{name}": value for name, value in named.items() if name not in fixed} | {"context": seen.context_id},
    )
    return True


class Changes(NamedTuple):
    """What a part of a context has in the source, and not in the target.

    Attributes:
        part: Of which table.
        lost: The keys of rows that left, and were pruned before anybody saw in which revision.
        removed: The keys of rows that left, and in which revision.
        rows: The rows that came.
    """

    part: Part
    lost: Sequence[Row]
    removed: Sequence[Row]
    rows: Sequence[Row]


def extend(seen: Context, source: Context, changes: Sequence[Changes]) -> Plan[dict[str, int] | None]:
    """Return the steps that bring a context that is there up to date, all at once: whoever saves to it sees no half.

    Returns:
        How many rows of which table were not there yet, or None if somebody else saved meanwhile.
    """
    if (yield from _moved(seen)):
        return {} if (yield from _is_done(seen, source)) else None
    added = {}
    for part, lost, removed, new in changes:
        # What leaves goes first: a path has one version at a time.
        gone = [*((*key, source.pruned_until) for key in lost), *removed]
        if gone:
            yield from write_removals(part, seen, gone)
        count = 0
        for start in range(0, len(new), _AT_ONCE):
            count += (yield from write_rows(part, seen, new[start : start + _AT_ONCE])) or 0
        added[part.table.name] = count
    yield from finish(seen, source)
    return added


def keys_at(part: Part, context_id: str, revision: int, *, live: bool) -> Plan[set[Row]]:
    """Return the steps that read the keys of rows that had come by a revision; with ``live``, and never left."""
    answer = yield Step(_select_keys_at(part, live=live), {"context": context_id, "as_of": revision}, reads=True)
    return {tuple(row) for row in answer or ()}


def _is_done(seen: Context, source: Context) -> Plan[bool]:
    # It may have been done before, by a transaction whose outcome nobody knew.
    found = yield Step(_select_context(lock=False), {"context": seen.context_id}, reads=True)
    return bool(found and Context(tuple(found[0])).is_same(source))


def _moved(seen: Context) -> Plan[bool]:
    """Lock the context, and tell whether it is no longer as it was seen."""
    found = yield Step(_select_context(lock=True), {"context": seen.context_id}, reads=True)
    if not found:
        return True
    now = Context(tuple(found[0]))
    return (now.created_at, now.revision) != (seen.created_at, seen.revision)


# The statements.


def _whole(part: Part) -> Iterator[sa.ColumnElement[Any]]:
    for column in part.table.c:
        if column.name == "removed_in":
            yield sa.case((column <= number("as_of"), column)).label("removed_in")
        else:
            yield column


def _key(part: Part) -> list[sa.Column[Any]]:
    return [part.table.c[name] for name in part.key]


def _after(part: Part) -> sa.ColumnElement[bool]:
    bounds = [sa.bindparam(f"after_{column.name}", type_=column.type) for column in _key(part)]
    return sa.tuple_(*_key(part)) > sa.tuple_(*bounds) if len(bounds) > 1 else _key(part)[0] > bounds[0]


@cache
def _select_contexts(*, of_user: bool) -> Statement:
    statement = sa.select(contexts).where(contexts.c.context_id > text("after"), incomplete.is_there())
    if of_user:
        statement = statement.where(contexts.c.user_id == text("user"))
    return statement.order_by(contexts.c.context_id).limit(number("how_many"))


@cache
def _select_context(*, lock: bool) -> Statement:
    statement = sa.select(contexts).where(contexts.c.context_id == text("context"))
    return statement.with_for_update() if lock else statement


@cache
def _select_numbered(part: Part) -> Statement:
    # Between two seqs, and not with a LIMIT: a planner that knows too little of a table would sort the whole history.
    table = part.table
    between = (table.c.seq >= number("low"), table.c.seq < number("high"), table.c.added_in <= number("as_of"))
    return sa.select(*_whole(part)).where(table.c.context_id == text("context"), *between).order_by(table.c.seq)


@cache
def _select_keyed(part: Part, *, goes_on: bool) -> Statement:
    table = part.table
    statement = sa.select(*_whole(part)).where(table.c.context_id == text("context"))
    if part in _MADE_IN:
        made_in = table.c[_MADE_IN[part]]
        statement = statement.where(made_in > number("since"), made_in <= number("as_of"))
    if goes_on:
        statement = statement.where(_after(part))
    return statement.order_by(*_key(part)).limit(number("how_many"))


@cache
def _select_between(part: Part) -> Statement:
    first = _key(part)[0]
    bounds = (sa.bindparam("low", type_=first.type), sa.bindparam("high", type_=first.type))
    statement = sa.select(*_whole(part)).where(part.table.c.context_id == text("context"), first.between(*bounds))
    if part in _MADE_IN:
        statement = statement.where(part.table.c[_MADE_IN[part]] <= number("as_of"))
    return statement.order_by(*_key(part))


@cache
def _select_last(part: Part) -> Statement:
    seq = part.table.c.seq
    return sa.select(seq).where(part.table.c.context_id == text("context")).order_by(seq.desc()).limit(1)


@cache
def _select_identity() -> Statement:
    made = (revisions.c.run_id, revisions.c.save_number, revisions.c.saved_at)
    return sa.select(*made).where(revisions.c.context_id == text("context"), revisions.c.revision == number("revision"))


@cache
def _select_removals(part: Part) -> Statement:
    table = part.table
    left = (
        table.c.added_in <= number("as_of"),
        table.c.removed_in > number("since"),
        table.c.removed_in <= number("as_of"),
    )
    statement = sa.select(*_key(part), table.c.removed_in).where(
        table.c.context_id == text("context"), *left, _after(part)
    )
    return statement.order_by(*_key(part)).limit(number("how_many"))


@cache
def _select_keys_at(part: Part, *, live: bool) -> Statement:
    table = part.table
    statement = sa.select(*_key(part)).where(table.c.context_id == text("context"), table.c.added_in <= number("as_of"))
    return statement.where(table.c.removed_in.is_(None)) if live else statement


@cache
def _select_keys(part: Part) -> Statement:
    first = _key(part)[0]
    bounds = (sa.bindparam("low", type_=first.type), sa.bindparam("high", type_=first.type))
    return sa.select(*_key(part)).where(part.table.c.context_id == text("context"), first.between(*bounds))


@cache
def _insert_context(engine: str) -> Statement:
    return engines.insert(engine, contexts).values(parameters(contexts)).on_conflict_do_nothing()


@cache
def _upsert_runs(engine: str) -> Statement:
    statement = engines.insert(engine, runs).values(parameters(runs))
    mutable = ("ended_at", "outcome", "error", "saves")
    return statement.on_conflict_do_update(
        index_elements=[runs.c.context_id, runs.c.run_id],
        set_={name: statement.excluded[name] for name in mutable},
        # The run may have gone on there.
        where=statement.excluded.saves >= runs.c.saves,
    )


@cache
def _update_removed(part: Part) -> Statement:
    key = [column == sa.bindparam(f"gone_{column.name}", type_=column.type) for column in _key(part)]
    table = part.table
    return sa.update(table).where(table.c.context_id == text("context"), *key).values(removed_in=number("now"))


@cache
def _update_context() -> Statement:
    fixed = ("context_id", "user_id", "chat_id", "created_at")
    values = {c.name: sa.bindparam(f"now_{c.name}", type_=c.type) for c in contexts.c if c.name not in fixed}
    return sa.update(contexts).where(contexts.c.context_id == text("context")).values(values)
