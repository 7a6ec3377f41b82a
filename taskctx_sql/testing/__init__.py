"""For tests: the contract of stores as a suite, and what its tests save. Needs pytest.

    class TestMyStore(StoreContract):
        @pytest.fixture
        def opener(self, tmp_path: Path) -> OpenStore:
            return lambda: open_store(f"mystore://{tmp_path}")

Fixtures for the tests of programs are in a pytest plugin, which is there without an import.
"""

from __future__ import annotations

from importlib.util import find_spec

from taskctx_sql.errors import MissingPackageError

if find_spec("pytest") is None:
    raise MissingPackageError("pytest", "testing")

from taskctx_sql.testing.any_loop import AnyLoopStore
from taskctx_sql.testing.clocks import Clock
from taskctx_sql.testing.contract import StoreContract
from taskctx_sql.testing.deltas import all_rows, delta_of, new_delta, new_run, stored
from taskctx_sql.testing.running import OpenStore

__all__ = [
    "AnyLoopStore",
    "Clock",
    "OpenStore",
    "StoreContract",
    "all_rows",
    "delta_of",
    "new_delta",
    "new_run",
    "stored",
]
