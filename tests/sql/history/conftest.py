"""What the tests of earlier states share."""

from __future__ import annotations

import pytest

from tests.conftest import DATABASES


@pytest.fixture(params=DATABASES)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of store that keeps earlier states; a folder of files has a test of its own."""
    return str(request.param)
