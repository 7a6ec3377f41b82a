"""What the SDK of OpenTelemetry got of a test."""

from __future__ import annotations

import json
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from taskctx_sql import telemetry

OUR_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


class Recorded:
    """What the SDK got of this test."""

    def __init__(self) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self._reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))

    def enable(self, *, user_data: bool = False) -> None:
        telemetry.enable(tracer_provider=self.tracers, meter_provider=self.meters, user_data=user_data)

    def spans(self, operation: str | None = None) -> list[ReadableSpan]:
        """Spans of the library, in the order of their ends."""
        return [
            span
            for span in self._exporter.get_finished_spans()
            if span.attributes is not None
            and "db.operation.name" in span.attributes
            and operation in (None, span.attributes["db.operation.name"])
        ]

    def metrics(self) -> set[str]:
        return {metric["name"] for metric in self._data()}

    def points(self, name: str, **attributes: Any) -> list[Any]:
        """The points of a metric that have these attributes, whose dots are written as underlines."""
        found = [point for metric in self._data() if metric["name"] == name for point in metric["data"]["data_points"]]
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return [point for point in found if wanted.items() <= point["attributes"].items()]

    def _data(self) -> list[Any]:
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        resources = json.loads(data.to_json())["resource_metrics"]
        return [metric for resource in resources for scope in resource["scope_metrics"] for metric in scope["metrics"]]

    def total(self, name: str, **attributes: Any) -> float:
        return float(sum(point["value"] for point in self.points(name, **attributes)))
