"""What every store promises, one suite over all of them. A store that cannot do something says so in ``features``."""

from __future__ import annotations

from typing import Any

import pytest

from taskctx_sql import ContextKey, Store
from taskctx_sql.errors import InvalidIdError
from taskctx_sql.testing import OpenStore, StoreContract
from tests.conftest import DATABASES


@pytest.fixture(params=("json", *DATABASES))
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of store, and each way to one."""
    return str(request.param)


class TestEveryStore(StoreContract):
    """Each kind of store in turn."""

    @pytest.fixture
    def opener(self, reopened: OpenStore) -> OpenStore:
        return reopened


@pytest.mark.parametrize("bad", ["a\x00b", "\ud800", "x" * 256, None, 1.5, b"x", True])
def test_an_id_that_cannot_be_kept_is_refused_by_name(bad: Any) -> None:
    with pytest.raises(InvalidIdError, match="chat_id"):
        ContextKey("u", bad)


async def test_a_store_shows_where_it_is(store: Store) -> None:
    assert store.database_url in repr(store) or str(getattr(store, "folder", "")) in repr(store)
