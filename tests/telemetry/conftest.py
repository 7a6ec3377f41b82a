"""Telemetry of a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskctx_sql import telemetry
from tests.telemetry.recorded import Recorded


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """Telemetry of this test, enabled without users' data."""
    found = Recorded()
    found.enable()
    yield found
    telemetry.disable()
    found.meters.shutdown()
    found.tracers.shutdown()
