"""Recording spans as they end: an exporter, and the processor that runs it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from taskctx_sql import Store, UnopenedStore, blocking, open_store
from taskctx_sql.errors import TaskContextError
from taskctx_sql.integrations.otel.conventions import CONVERSATIONS, USERS, operation_of
from taskctx_sql.integrations.otel.recorder import Recorder

logger: logging.Logger = logging.getLogger(__name__)


class ContextSpanExporter(SpanExporter):
    """A ``SpanExporter`` that records the spans of models, tools and agents in a store; it ignores others.

    A conversation is a context, or a trace where no span names a conversation. A store failure makes an export fail,
    and is logged.
    """

    def __init__(self, database_url: str, *, user_id: str | None = None, **options: Any) -> None:
        """Record in the store at an address, which is opened at the first export.

        Args:
            database_url: The address, as `open_store` takes it.
            user_id: Whose contexts they are, where a span does not say by ``user.id``.
            options: Other arguments of `open_store`.
        """
        self._opening: UnopenedStore = open_store(database_url, **options)
        self._user_id = user_id
        self._recorder: Recorder | None = None
        self._store: Store | None = None
        self._lock = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Record spans that have ended."""
        operations = [operation for span in spans if (operation := operation_of(span)) is not None]
        if not operations:
            return SpanExportResult.SUCCESS
        with self._lock:
            try:
                if self._recorder is None:
                    self._store = self._opening.__enter__()
                    self._recorder = Recorder(self._store, self._user_id)
                blocking(self._recorder.record(operations))
            except TaskContextError:
                logger.exception("%d spans were not recorded", len(operations))
                return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Return True: nothing waits between two exports."""
        return True

    def shutdown(self) -> None:
        """Close the store."""
        with self._lock:
            if self._store is not None:
                self._store = self._recorder = None
                self._opening.__exit__(None, None, None)


class ContextSpanProcessor(BatchSpanProcessor):
    """A span processor that records spans in the background, and hands conversations down.

    ``provider.add_span_processor(ContextSpanProcessor("sqlite:///tasks.db"))``

    A span gets the conversation and the user of the span that it is in, as ``gen_ai.conversation.id`` and ``user.id``,
    if it has none; so what an instrumentation writes belongs to the conversation that the application names.
    """

    def __init__(
        self,
        database_url: str,
        *,
        user_id: str | None = None,
        schedule_delay_millis: float | None = None,
        **options: Any,
    ) -> None:
        """Record in the store at an address.

        Args:
            database_url: The address, as `open_store` takes it.
            user_id: Whose contexts they are, where a span does not say by ``user.id``.
            schedule_delay_millis: How long spans wait to be recorded together; as the SDK's default, 5 seconds, or
                ``OTEL_BSP_SCHEDULE_DELAY``.
            options: Other arguments of `open_store`.
        """
        exporter = ContextSpanExporter(database_url, user_id=user_id, **options)
        super().__init__(exporter, schedule_delay_millis=schedule_delay_millis)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Hand the conversation and the user down."""
        parent = trace.get_current_span(parent_context)
        known = getattr(parent, "attributes", None) or {}
        own = span.attributes or {}
        for names in (CONVERSATIONS, USERS):
            value = next((known[name] for name in names if name in known), None)
            if value is not None and not any(name in own for name in names):
                span.set_attribute(names[0], value)
        super().on_start(span, parent_context)
