"""The statements that look for words in the search index, and in what waits to be indexed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from taskctx_sql.model.report_filters import seconds
from taskctx_sql.model.search import Words, lower_ascii
from taskctx_sql.sql.reports.clauses import comes_after, in_period, is_readable, ordered
from taskctx_sql.sql.reports.report import Query
from taskctx_sql.sql.schema import contexts, search_index, updates
from taskctx_sql.sql.schema.search_index import BITS, INDEX, QUEUE, ROWS, TERMS, VOCABULARY, queue, rows
from taskctx_sql.sql.schema.searched import has_text, has_words
from taskctx_sql.sql.search.question import ORDER, Question, select_hits
from taskctx_sql.sql.search.terms import byte_terms, match_expression

# On Postgres, so many of the newest updates are compared one by one before the index is asked: a frequent word is found
# among them.
NEWEST: Final = 5_000

_index: Final = sa.Table(INDEX, sa.MetaData(), sa.Column("rowid", sa.BigInteger))
_vocabulary: Final = sa.Table(VOCABULARY, sa.MetaData(), sa.Column("term", sa.Text))


class IndexedHits:
    """The statements for a question, on an engine whose tables are in a schema."""

    def __init__(self, engine: str, schema: str | None, question: Question) -> None:
        self._engine = engine
        self._schema = schema
        self._question = question
        self.words: Words = question.words()
        # The trigrams that begin with shorter words, on SQLite.
        self.begun: dict[str, list[str]] = {}

    def is_usable(self) -> sa.Select[Any]:
        """Return the SELECT of whether there is an index that this account can read."""
        return is_readable(self._engine, self._schema, QUEUE, ROWS, whole=True)

    def size(self) -> sa.Select[Any] | None:
        """Return the SELECT of how many updates the user or the chat has, and how many contexts; None for everybody's.

        More contexts than a few are not counted.
        """
        filters = self._question.filters
        if filters.get("user_id") is None and filters.get("chat_id") is None:
            return None
        some = sa.select(contexts.c.next_seq).where(*self._question.of_owner()).limit(MOST_CONTEXTS + 1).subquery()
        total: sa.ColumnElement[Any] = sa.func.coalesce(sa.cast(sa.func.sum(some.c.next_seq), sa.BigInteger), 0)
        selected: sa.Select[Any] = sa.select(total, sa.func.count())
        return selected.select_from(some)

    def trigrams(self, word: str) -> sa.Select[Any]:
        """Return the SELECT of trigrams that begin with a word, on SQLite: more than `MOST_TRIGRAMS` are too many."""
        begins = (_vocabulary.c.term >= word, _vocabulary.c.term < f"{word}\U0010ffff")
        return sa.select(_vocabulary.c.term).where(*begins).limit(MOST_TRIGRAMS + 1)

    def waiting(self, after: Any) -> sa.Select[Any]:
        """Return the SELECT of the hits that wait to be indexed."""
        found = self._joined(queue)
        statement = select_hits(self._question, found).where(*has_words(updates.c.data, self.words))
        return self._after(statement, after)

    def on_sqlite(self, after: Any, *, first: int | None = None, below: int | None = None) -> sa.Select[Any]:
        """Return the SELECT of the hits in SQLite's index, with their numbers, in the order of these.

        Args:
            after: Only those that follow this hit.
            first: Only from this number on.
            below: Only before this number.
        """
        filters = self._question.filters
        match = match_expression(self.words.forms, self.begun)
        number: sa.ColumnElement[int] = rows.c.id
        found: sa.FromClause = rows
        if match is not None:
            number = _index.c.rowid
            found = InOrder(_index, rows, rows.c.id == number)
        statement = select_hits(self._question, self._joined(found)).add_columns(rows.c.id)
        if match is not None:
            asked = sa.literal_column(f"{INDEX}.{INDEX}", sa.Text).op("MATCH", is_comparison=True)(match)
            statement = statement.where(asked)
        # The numbers of a time follow each other, and the conditions for the time itself are checked as well.
        after_end = [moment.timestamp for moment in (after,) if moment is not None]
        if (until := filters.get("until")) is not None:
            after_end.append(seconds(until, end=True))
        bounds = [search_index.time_number(moment) + (1 << BITS) for moment in after_end]
        bounds += [] if below is None else [below]
        starts = [] if first is None else [first]
        if (since := filters.get("since")) is not None:
            starts.append(search_index.time_number(seconds(since)))
        statement = statement.where(*(number < bound for bound in bounds), *(number >= start for start in starts))
        statement = statement.where(*has_words(updates.c.data, self.words)).order_by(number.desc())
        return self._after(statement, after)

    def among_newest(self, after: Any) -> sa.Select[Any]:
        """Return the SELECT of the hits among the newest updates on Postgres, which are compared without the index."""
        newest = self._in_time(after)
        found = newest.order_by(*ordered(rows, ORDER)).limit(NEWEST).subquery(ROWS)
        joined = select_hits(self._question, self._joined(found)).where(*self._in_body(found), *self._exactly())
        return joined.order_by(*ordered(found, ORDER))

    def first_on_postgres(self, after: Any, most: int) -> sa.Select[Any] | None:
        """Return the SELECT of the hits among so many that Postgres's index finds first, before anything is joined.

        The last column is how many these are: fewer than ``most`` are all. None if no word is long enough for the
        index.
        """
        if not list(self._terms()):
            return None
        found = self._by_index(after)
        first = sa.select(found).order_by(*ordered(found, ORDER)).limit(most).cte(ROWS)
        joined = select_hits(self._question, self._joined(first)).where(*self._exactly())
        counted = sa.select(sa.func.count()).select_from(first.alias("counted")).scalar_subquery()
        return joined.add_columns(counted).order_by(*ordered(first, ORDER))

    def on_postgres(self, after: Any) -> sa.Select[Any]:
        """Return the SELECT of the hits in Postgres's index, in their order."""
        found = self._by_index(after)
        joined = select_hits(self._question, self._joined(found)).where(*self._exactly())
        return joined.order_by(*ordered(found, ORDER))

    @property
    def is_narrowed(self) -> bool:
        """Whether what Postgres's index finds need not be a hit, by the context, the type, or the case."""
        return bool(self._question.of_owner()) or self._question.update_type is not None or self.words.case_sensitive

    def _by_index(self, after: Any) -> sa.Subquery:
        """Return what Postgres's index finds, whatever else is joined or ordered.

        OFFSET is a border for the planner. Without it Postgres may compute the terms of each row that another way
        leads to, since it has no idea how rare words are.
        """
        found = self._in_time(after).where(*self._in_body(rows), *self._terms())
        return found.offset(sa.literal_column("0")).subquery(ROWS)

    def _in_time(self, after: Any) -> sa.Select[Any]:
        """Return the SELECT of the rows of Postgres's index that the period and the page leave."""
        statement = sa.select(rows.c.context_id, rows.c.seq, rows.c.timestamp, rows.c.body)
        conditions = in_period(rows, self._question.filters, "timestamp", "timestamp")
        return statement.where(*conditions, *([] if after is None else [comes_after(rows, ORDER, after)]))

    def _in_body(self, found: Any) -> Iterator[sa.ColumnElement[bool]]:
        """Yield the conditions for the words in the text of a row of Postgres's index, whatever their case."""
        for forms in self.words.forms:
            yield sa.or_(*(has_text(found.c.body, sa.literal(form, sa.Text)) for form in map(lower_ascii, forms)))

    def _exactly(self) -> Iterator[sa.ColumnElement[bool]]:
        """Yield the conditions for the words in the data, if the case matters, which the index does not have."""
        if self.words.case_sensitive:
            yield from has_words(updates.c.data, self.words)

    def _terms(self) -> Iterator[sa.ColumnElement[bool]]:
        """Yield the conditions by which Postgres's index is asked, for the words that are long enough."""
        functions: Any = sa.func if self._schema is None else getattr(sa.func, self._schema)
        kind = postgresql.ARRAY(sa.Integer)
        body = getattr(functions, TERMS)(rows.c.body, type_=kind)
        for forms in self.words.forms:
            terms = [byte_terms(lower_ascii(form)) for form in forms]
            if all(terms):
                yield sa.or_(*(body.contains(sa.literal(one, kind)) for one in terms))

    def _joined(self, found: Any) -> sa.FromClause:
        """Return rows with their updates and contexts, which are looked up for each of them."""
        keys = rows if isinstance(found, InOrder) else found
        same = sa.and_(updates.c.context_id == keys.c.context_id, updates.c.seq == keys.c.seq)
        join = InOrder if self._engine == "sqlite" else sa.join
        return join(join(found, updates, same), contexts, contexts.c.context_id == updates.c.context_id)

    def _after(self, statement: sa.Select[Any], after: Any) -> sa.Select[Any]:
        return statement if after is None else statement.where(comes_after(updates, ORDER, after))


MOST_TRIGRAMS: Final = 400
# The updates of a user with at most so many contexts and updates are compared one by one.
MOST_CONTEXTS: Final = 2_000
MOST_UPDATES: Final = 20_000


class InOrder(sa.Join):
    """A join whose left side SQLite reads first, whatever it estimates."""

    inherit_cache: bool = True


@compiles(InOrder)
def _in_order(element: InOrder, compiler: SQLCompiler, **options: Any) -> str:
    options["asfrom"] = True
    left, right = (compiler.process(side, **options) for side in (element.left, element.right))
    assert element.onclause is not None
    return f"{left} CROSS JOIN {right} ON {compiler.process(element.onclause, from_linter=options.get('from_linter'))}"


async def backlog(query: Query, engine: str, schema: str | None) -> int | None:
    """Return how many updates wait to be indexed; None without an index that this account can read."""
    if not (await query(is_readable(engine, schema, QUEUE, ROWS, whole=True), user_id=None))[0][0]:
        return None
    count = sa.select(sa.func.count()).select_from(queue).where(queue.c.is_long == 0)
    return int((await query(count, user_id=None))[0][0])
