"""A search: its hits as a list or one by one, how many there are, and the text around the matches."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_number
from taskctx_sql.model import TITLE
from taskctx_sql.model.search import RANKED, SearchHit, Words, snippet_of
from taskctx_sql.sql.reports import Report
from taskctx_sql.sql.reports.clauses import ordered, typed
from taskctx_sql.sql.reports.report import Query, Source
from taskctx_sql.sql.row_codec import AnyRow
from taskctx_sql.sql.schema import updates, views
from taskctx_sql.sql.schema.search_index import BITS
from taskctx_sql.sql.schema.searched import has_words
from taskctx_sql.sql.search.indexed import MOST_CONTEXTS, MOST_TRIGRAMS, MOST_UPDATES, IndexedHits
from taskctx_sql.sql.search.question import ORDER, Question, select_hits
from taskctx_sql.sql.search.terms import prefixes

# How many times as many as are asked for Postgres's index is asked for if not each is a hit, and the fewest.
_CANDIDATES: Final = 20
_FEWEST: Final = 1_000
# How many titles are read at once.
_AT_ONCE: Final = 500


class Search(Report[SearchHit]):
    """What ``store.search`` returns: a `Report` of hits.

    Without an index all updates of the user, the chat or the period are compared, by one statement. With one, what
    waits to be indexed is read first, so that an update which is indexed meanwhile is not missed.
    """

    def __init__(self, query: Query, question: Question, engine: str, schema: str | None) -> None:
        super().__init__(query, SearchHit, self._all_hits, question.filters)
        self._question = question
        self._engine = engine
        self._schema = schema

    async def __aiter__(self) -> AsyncGenerator[SearchHit, None]:
        if self._question.order == "newest":
            async for hit in super().__aiter__():
                yield hit
        else:
            for hit in await self:
                yield hit

    async def count(self, *, at_most: int | None = None) -> int:
        """See `Report.count`."""
        check_number("at_most", at_most, 0, optional=True)
        indexed = await self._usable_index()
        if indexed is None:
            return await super().count(at_most=at_most)
        found = indexed.on_sqlite(None) if self._engine == "sqlite" else indexed.on_postgres(None)
        total = 0
        for statement in (indexed.waiting(None), found):
            left = None if at_most is None else at_most - total
            some = statement.order_by(None).limit(left).subquery()
            total += int((await self._select(sa.select(sa.func.count()).select_from(some)))[0][0])
        return total

    async def totals(self) -> dict[str, int | float]:
        """See `Report.totals`: there is nothing to add up."""
        return {"rows": await self.count()}

    async def _page(
        self, source: Source[SearchHit], after: Any, limit: int | None, offset: int | None = None
    ) -> list[SearchHit]:
        if after is not None and not isinstance(after, SearchHit):
            raise InvalidArgumentError("after", after, "the last hit of the previous page")
        words = self._question.words()
        if self._question.order == "newest":
            return await self._shown(await self._newest(source, after, limit, offset), words)
        newest = await self._newest(source, None, RANKED)
        ranked = sorted((replace(hit, rank=words.rank(hit.data)) for hit in newest), key=_by_rank)
        if after is not None:
            ranked = ranked[_place_of(after, ranked) :]
        first = offset or 0
        return await self._shown(ranked[first : None if limit is None else first + limit], words)

    async def _newest(
        self, source: Source[SearchHit], after: Any, limit: int | None, offset: int | None = None
    ) -> list[SearchHit]:
        indexed = await self._usable_index()
        if indexed is None:
            return await super()._page(source, after, limit, offset)
        first = offset or 0
        limit = None if limit is None else first + limit
        waiting = await self._hits(indexed.waiting(after).order_by(*ordered(updates, ORDER)).limit(limit))
        if self._engine == "sqlite":
            found = await self._from_sqlite(indexed, after, limit)
        else:
            found = await self._from_postgres(indexed, after, limit)
        hits = {(hit.context_id, hit.seq): hit for hit in (*waiting, *found)}
        return sorted(hits.values(), key=_newest_first)[first:limit]

    async def _from_sqlite(self, indexed: IndexedHits, after: Any, limit: int | None) -> list[SearchHit]:
        """Return the first hits, perhaps with others of the same time, whose order their numbers do not have."""
        found = await self._select(indexed.on_sqlite(after).limit(limit))
        hits = _typed(found)
        if found and len(found) == limit:
            last = found[-1][-1]
            same_time = indexed.on_sqlite(after, first=last >> BITS << BITS, below=last)
            hits += _typed(await self._select(same_time))
        return hits

    async def _from_postgres(self, indexed: IndexedHits, after: Any, limit: int | None) -> list[SearchHit]:
        if limit is not None:
            found = await self._hits(indexed.among_newest(after).limit(limit))
            if len(found) == limit:
                return found
            # They need not all be joined if they are many.
            most = max(limit * _CANDIDATES, _FEWEST) if indexed.is_narrowed else limit
            if (first := indexed.first_on_postgres(after, most)) is not None:
                counted = await self._select(first)
                if len(counted) >= limit or (counted and counted[0][-1] < most):
                    return _typed(counted)[:limit]
        return await self._hits(indexed.on_postgres(after).limit(limit))

    async def _usable_index(self) -> IndexedHits | None:
        """Return how the index is asked; None if there is none, or if comparing each update takes less time."""
        indexed = IndexedHits(self._engine, self._schema, self._question)
        if not (await self._select(indexed.is_usable()))[0][0]:
            return None
        if (size := indexed.size()) is not None:
            updates_of_owner, contexts_of_owner = (await self._select(size))[0]
            if updates_of_owner <= MOST_UPDATES and contexts_of_owner <= MOST_CONTEXTS:
                return None
        if self._engine == "sqlite":
            for word in prefixes(indexed.words.forms):
                found = [row[0] for row in await self._select(indexed.trigrams(word))]
                if len(found) <= MOST_TRIGRAMS:
                    indexed.begun[word] = found
        return indexed

    async def _hits(self, statement: sa.Select[Any]) -> list[SearchHit]:
        return typed(SearchHit, await self._select(statement))

    async def _shown(self, hits: Sequence[SearchHit], words: Words) -> list[SearchHit]:
        """Return hits with their titles and snippets."""
        titles: dict[str, str] = {}
        ids = sorted({hit.context_id for hit in hits})
        for at in range(0, len(ids), _AT_ONCE):
            labels = views.labels.c
            named = sa.select(labels.context_id, labels.value).where(labels.name == TITLE)
            rows = await self._select(named.where(labels.context_id.in_(ids[at : at + _AT_ONCE])))
            titles |= {row[0]: row[1] for row in rows}
        return [_shown(hit, words, titles.get(hit.context_id)) for hit in hits]

    def _all_hits(self) -> Source[SearchHit]:
        words = self._question.words()
        rows = select_hits(self._question).where(*has_words(updates.c.data, words))
        return Source(SearchHit, rows, ORDER, self._question.after)


def _shown(hit: SearchHit, words: Words, title: str | None) -> SearchHit:
    snippet, matches = snippet_of(hit.data, words)
    return replace(hit, title=title, snippet=snippet, matches=matches)


def _typed(numbered: Sequence[AnyRow]) -> list[SearchHit]:
    # The number of the row in the index comes last, or of the rows.
    return typed(SearchHit, [row[:-1] for row in numbered])


def _newest_first(hit: SearchHit) -> tuple[bool, float, str, int]:
    """Return what hits are ordered by, as `ORDER` says."""
    return hit.timestamp is None, -(hit.timestamp or 0.0), hit.context_id, -hit.seq


def _by_rank(hit: SearchHit) -> float:
    # Those with the same rank stay in their order.
    return -(hit.rank or 0.0)


def _place_of(after: SearchHit, ranked: Sequence[SearchHit]) -> int:
    """Return where the page after a hit begins."""
    places = (at + 1 for at, hit in enumerate(ranked) if (hit.context_id, hit.seq) == (after.context_id, after.seq))
    return next(places, 0)
