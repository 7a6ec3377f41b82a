"""How often a call waits for an answer of Postgres, over each kind of connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.round_trips import count
from tests.conftest import wide
from tests.support.connections import ON_POSTGRES

# The page on speed has the same figures.
EXPECTED = {
    "postgres": (1, 1, 5, 5, 7, 24, 1, 1, 1, 2),
    "postgres engine": (1, 1, 5, 5, 7, 24, 1, 1, 1, 2),
    "psycopg": (1, 1, 5, 5, 7, 24, 1, 1, 1, 2),
    "psycopg engine": (1, 1, 5, 5, 7, 24, 1, 1, 1, 2),
    "schema": (1, 1, 5, 5, 7, 24, 1, 1, 1, 2),
    "pgbouncer": (1, 1, 5, 5, 7, 24, 1, 1, 1, 2),
    "pgbouncer asyncpg": (4, 4, 12, 12, 20, 48, 4, 4, 4, 8),
    "row-level security": (1, 1, 8, 8, 13, 28, 1, 4, 1, 5),
}


@pytest.mark.parametrize("over", wide(*ON_POSTGRES))
async def test_each_call_waits_as_often_as_it_must(over: str, postgres_server: str) -> None:
    assert tuple((await count(over, postgres_server)).values()) == EXPECTED[over]


def test_the_docs_have_these_figures() -> None:
    page = (Path(__file__).parents[2] / "docs/pages/explanation/speed.md").read_text()
    for kind, counts in EXPECTED.items():
        assert f"| {kind} | {' | '.join(map(str, counts))} |" in page
