"""A store that is observed keeps what every store promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from taskctx_sql import telemetry
from taskctx_sql.testing import OpenStore, StoreContract


@pytest.mark.wide
class TestObservedStore(StoreContract):
    """A database, traced and measured; what observes it is the same for the others."""

    @pytest.fixture
    def kind(self) -> str:
        return "sqlite"

    @pytest.fixture
    def opener(self, reopened: OpenStore, observed: None) -> OpenStore:
        return reopened

    @pytest.fixture
    def observed(self) -> Iterator[None]:
        tracers, meters = TracerProvider(), MeterProvider([InMemoryMetricReader()])
        telemetry.enable(tracer_provider=tracers, meter_provider=meters)
        yield
        telemetry.disable()
        meters.shutdown()
        tracers.shutdown()
