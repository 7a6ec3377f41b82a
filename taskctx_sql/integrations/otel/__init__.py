"""OpenTelemetry: spans of models, tools and agents become contexts, and contexts become spans.

`ContextSpanProcessor` records spans as they end, and `ContextSpanExporter` is the exporter that it runs;
`export_context` exports a context as spans.

Spans about the library's own store are another matter: see `taskctx_sql.telemetry`.
"""

from __future__ import annotations

from taskctx_sql.integrations.requirements import needs

with needs("opentelemetry-sdk", "otel"):
    from taskctx_sql.integrations.otel.exporter import ContextSpanExporter, ContextSpanProcessor
    from taskctx_sql.integrations.otel.replay import export_context, spans_of

__all__ = ["ContextSpanExporter", "ContextSpanProcessor", "export_context", "spans_of"]
