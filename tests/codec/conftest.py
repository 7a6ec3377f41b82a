"""What the tests of values share."""

from __future__ import annotations

import pytest

from taskctx_sql.codec import encoder
from tests.conftest import ON_CITUS, wide


@pytest.fixture(autouse=True)
def warned_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_warned", set())


@pytest.fixture(params=("json", "sqlite", "postgres", *wide("psycopg", *ON_CITUS)))
def kind(request: pytest.FixtureRequest) -> str:
    """Each driver in turn: how it is connected makes no difference to a value."""
    return str(request.param)
