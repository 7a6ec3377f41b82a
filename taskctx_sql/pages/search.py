"""The search for a text in everything that was recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from taskctx_sql.model.search import SearchHit
from taskctx_sql.pages.lists import MAX_COUNT, ROWS
from taskctx_sql.pages.parts import Parts
from taskctx_sql.pages.scales import counted_up_to
from taskctx_sql.pages.selection import Selection
from taskctx_sql.stores import Store


@dataclass(frozen=True, slots=True)
class SearchView:
    """A page of hits.

    Attributes:
        selection: What is searched for, and where.
        hits: The hits of the page, the newest first; None if they are still being read.
        count: How many there are, `MAX_COUNT` if there are that many or more; None if they are still being counted.
    """

    selection: Selection
    hits: Sequence[SearchHit] | None
    count: int | None

    @property
    def first(self) -> int:
        """The number of the page's first hit."""
        return (self.selection.page - 1) * ROWS + 1

    @property
    def is_last(self) -> bool:
        """Whether no page follows."""
        return self.hits is not None and len(self.hits) < ROWS

    @property
    def is_pending(self) -> bool:
        """Whether some of it is still being read."""
        return self.hits is None or self.count is None

    @property
    def count_text(self) -> str:
        """The number of hits."""
        return counted_up_to(self.count, MAX_COUNT)


async def collect_search(store: Store, selection: Selection, at: datetime, parts: Parts) -> SearchView:
    """Return a page of what is found; without a text nothing is.

    Raises:
        InvalidArgumentError: The text has no word.
        UnsupportedByStoreError: The store is not a database.
    """
    if not selection.q:
        return SearchView(selection, (), 0)
    since, until = selection.bounds(at)
    found = store.search(selection.q, user_id=selection.user, update_type=selection.kind, since=since, until=until)

    async def hits() -> Sequence[SearchHit]:
        return await found.read_page(selection.page, ROWS)

    async def count() -> int:
        return await found.count(at_most=MAX_COUNT)

    read, counted = await asyncio.gather(
        parts.get(("hits", selection), hits), parts.get(("hit count", selection.but()), count)
    )
    return SearchView(selection, read, counted)


def marked(hit: SearchHit) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a hit's text, and whether each is a match."""
    at = 0
    for begin, end in hit.matches:
        yield hit.snippet[at:begin], False
        yield hit.snippet[begin:end], True
        at = end
    yield hit.snippet[at:], False
