"""The stores that saving is tested over."""

from __future__ import annotations

import pytest

from tests.conftest import DRIVERS


@pytest.fixture(params=DRIVERS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each driver in turn: what is unsaved is known to the context, not to the way to the store."""
    return str(request.param)
