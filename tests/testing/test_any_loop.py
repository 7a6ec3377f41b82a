"""A store that passes calls on to another one passes on all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import SqlStore, Store, open_store
from taskctx_sql.testing import AnyLoopStore, OpenStore, StoreContract
from tests.support.faults import FaultyStore


@pytest.mark.parametrize("kind", [AnyLoopStore, FaultyStore])
def test_no_call_is_left_to_the_protocol(kind: type[Store]) -> None:
    names = {name for one in Store.__mro__ for name in vars(one) if not name.startswith("_")}
    assert "close_calls" in names
    assert names - set(vars(kind)) == set()


@pytest.mark.wide
class TestAnyLoopStore(StoreContract):
    """The store that a program's tests are given, in the event loop of each test."""

    @pytest.fixture
    def opener(self, tmp_path: Path) -> OpenStore:
        @asynccontextmanager
        async def opened(**options: Any) -> AsyncIterator[Store]:
            opening = open_store(f"sqlite:///{tmp_path}/tasks.db", **options)
            # On a thread: it waits for the library's loop.
            store = await asyncio.to_thread(opening.__enter__)
            assert isinstance(store, SqlStore)
            try:
                yield await asyncio.to_thread(AnyLoopStore, store)
            finally:
                await asyncio.to_thread(opening.__exit__, None, None, None)

        return opened
