"""The contract of stores, as a suite of tests to subclass."""

from __future__ import annotations

import pytest

from taskctx_sql.testing.calls import CallsOfTools
from taskctx_sql.testing.content import Content, Removing
from taskctx_sql.testing.contexts import Identity, Lifecycle, Listing
from taskctx_sql.testing.loading import Loading, Reading
from taskctx_sql.testing.programs import Choosing, EarlierStates, Programs
from taskctx_sql.testing.running import OpenStore
from taskctx_sql.testing.saving import SaveIdentity, Saving, Unchanged
from taskctx_sql.testing.state import NamedValues, TakingOut, Writers, Writing


class StoreContract(
    Loading, Reading, Choosing, Saving, SaveIdentity, Unchanged, Removing, Content, Identity, Listing, Lifecycle,
    EarlierStates, Writing, Writers, NamedValues, TakingOut, CallsOfTools, Programs,
):  # fmt: skip
    """What every store promises. Subclass it with a name that pytest collects, and override the fixture ``opener``.

        class TestMyStore(StoreContract):
            @pytest.fixture
            def opener(self, tmp_path: Path) -> OpenStore:
                return lambda: open_store(f"mystore://{tmp_path}")

    No test is left out: for what a store does not keep, by its ``features``, they expect what it must do instead. They
    are plain functions with an event loop each, and need no plugin. Each has users of its own, so that stores may share
    one database.
    """

    @pytest.fixture
    def opener(self) -> OpenStore:
        """Return a function that opens a store on the data of this test, each time that it is called."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `opener`, which returns a function")
