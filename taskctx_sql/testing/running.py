"""How the contract's tests run: as plain functions, whatever plugin for async tests is installed, or none."""

from __future__ import annotations

import asyncio
import functools
import inspect
import uuid
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from taskctx_sql.model import ContextKey
from taskctx_sql.stores import ContextStore

# Opens a store on the data of one test, each time that it is called; leaving it closes the store.
OpenStore = Callable[[], AbstractAsyncContextManager[ContextStore]]


class ContractPart:
    """Tests that are written as coroutines of an open store; each runs in an event loop of its own."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, test in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(test):
                setattr(cls, name, _plain(test))

    @pytest.fixture
    def user(self) -> str:
        """Return a user that no other test has, for stores that tests share."""
        return f"user-{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def key(self, user: str) -> ContextKey:
        """Return a context of that user, which is in no store."""
        return ContextKey(user, "c1")


def _plain(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Return a test that runs a coroutine; its fixture ``opener`` opens what the coroutine takes as ``store``."""
    names = list(inspect.signature(test).parameters)

    async def with_store(self: Any, opener: OpenStore, fixtures: dict[str, Any]) -> None:
        async with opener() as store:
            await test(self, store=store, **fixtures)

    @functools.wraps(test)
    def run(self: Any, **fixtures: Any) -> None:
        if "store" in names:
            asyncio.run(with_store(self, fixtures.pop("opener"), fixtures))
        else:
            asyncio.run(test(self, **fixtures))

    # What pytest reads a test's fixtures from.
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("opener" if name == "store" else name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for name in names
        ]
    )
    return run
