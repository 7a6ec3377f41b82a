"""Spans and metrics: the one module that imports OpenTelemetry."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from types import new_class
from typing import Any, Final
from weakref import WeakSet

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation

import taskctx_sql
from taskctx_sql.model import Delta, Write
from taskctx_sql.observing import Observer, Queue
from taskctx_sql.telemetry import attributes

# The version of the semantic conventions that the names below follow.
_SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.40.0"
# What the conventions advise for these two histograms.
_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
_ROWS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
# The calls of `Store`. One of `watch` ends when its caller stops, so it has no span; `write` and `label` are a save.
_CALLS: Final = (
    *("load", "save", "write_together", "state", "updates", "data", "contexts", "delete"),
    *("pop_update", "clear_updates", "open_calls", "close_calls"),
    *("revisions", "difference", "fork", "ping"),
)
# What calls return, as a number of rows.
_RETURNED: Final[Mapping[str, Callable[[Any], int]]] = {
    "load": lambda loaded: len(loaded.history),
    "contexts": len,
    "revisions": len,
    "state": len,
    "data": len,
    "open_calls": len,
    "close_calls": len,
    "query": len,
}

# The call that is under way in this task.
_current: ContextVar[Call | None] = ContextVar("taskctx_call", default=None)


class Telemetry(Observer):
    """Gives each store that is opened a subclass of its class, whose calls are traced and measured."""

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None,
        meter_provider: metrics.MeterProvider | None,
        *,
        user_data: bool,
    ) -> None:
        scope = ("taskctx_sql", taskctx_sql.__version__)
        self.user_data = user_data
        self.tracer: trace.Tracer = trace.get_tracer(*scope, tracer_provider, _SCHEMA_URL)
        meter = metrics.get_meter(*scope, meter_provider, _SCHEMA_URL)
        self.duration: metrics.Histogram = meter.create_histogram(
            "db.client.operation.duration",
            "s",
            "Duration of the calls of a store.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.returned_rows: metrics.Histogram = meter.create_histogram(
            "db.client.response.returned_rows",
            "{row}",
            "Rows that a call of a store returned.",
            explicit_bucket_boundaries_advisory=_ROWS,
        )
        self.saves: metrics.Counter = meter.create_counter("taskctx.client.saves", "{save}", "Saves that ended.")
        self.saved_rows: metrics.Counter = meter.create_counter(
            "taskctx.client.saved_rows", "{row}", "Updates, model uses, files and named values that were saved."
        )
        self._retries = meter.create_counter("taskctx.client.retries", "{retry}", "Attempts that were repeated.")
        self._outages = meter.create_counter("taskctx.client.outages", "{outage}", "Outages that began.")
        self._outage_duration = meter.create_histogram(
            "taskctx.client.outage.duration", "s", "Time from the first attempt that failed to the next that succeeded."
        )
        self._queues: WeakSet[Queue] = WeakSet()
        meter.create_observable_up_down_counter(
            "taskctx.client.pending_saves", [self._count_waiting], "{save}", "Saves that wait for a transaction."
        )
        self._classes: dict[tuple[type, str | None], type] = {}

    def store_opened(self, store: Any, schema: str | None, others: Sequence[str]) -> None:
        """See `Observer`. The store stays an instance of its class."""
        kind = type(store)
        traced = self._classes.get((kind, schema))
        if traced is None:
            names = [name for name in (*_CALLS, *others) if hasattr(kind, name)]
            members = {name: self._traced(kind, name, schema) for name in names}
            # It adds no attributes, so that an object of the one class can become one of the other.
            body = {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__, **members}
            traced = self._classes[kind, schema] = new_class(kind.__name__, (kind,), exec_body=partial(_fill, body))
        store.__class__ = traced

    def queue_created(self, queue: Queue) -> None:
        """See `Observer`."""
        self._queues.add(queue)

    def attempt_failed(self, database_url: str, schema: str | None, error: BaseException) -> None:
        """See `Observer`."""
        if (call := _current.get()) is not None:
            call.retries += 1
        self._retries.add(1, {**attributes.of_database(database_url, schema), **attributes.of_error(error)})

    def outage_began(self, database_url: str, schema: str | None) -> None:
        """See `Observer`."""
        self._outages.add(1, attributes.of_database(database_url, schema))

    def outage_ended(self, database_url: str, schema: str | None, seconds: float) -> None:
        """See `Observer`."""
        self._outage_duration.record(seconds, attributes.of_database(database_url, schema))

    def _count_waiting(self, _: CallbackOptions) -> Iterable[Observation]:
        waiting = Counter[tuple[str, str | None]]()
        for queue in list(self._queues):
            waiting[queue.database_url, queue.schema] += queue.waiting
        return [Observation(count, attributes.of_database(*database)) for database, count in waiting.items()]

    def _traced(self, kind: type, name: str, schema: str | None) -> Callable[..., Any]:
        """Return a method that calls that of the class, in a span."""

        def call_of_class(store: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
            # Found at each call, since a test may have replaced it.
            return getattr(kind, name)(store, *arguments, **keywords)

        def begin(store: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Call:
            # The plans of maintenance and transfer say what they do.
            operation = arguments[0] if name in ("read", "write_plan") else name.removesuffix("_now")
            return Call(self, store.database_url, schema, operation, arguments, keywords)

        async def run(store: Any, /, *arguments: Any, **keywords: Any) -> Any:
            with begin(store, arguments, keywords) as call, call.entered():
                return call.note(await call_of_class(store, arguments, keywords))

        async def iterate(store: Any, /, *arguments: Any, **keywords: Any) -> AsyncIterator[Any]:
            with begin(store, arguments, keywords) as call:
                rows = call_of_class(store, arguments, keywords)
                try:
                    while True:
                        # Not while the caller uses the row: it is the caller's own time and context.
                        with call.entered():
                            try:
                                row = await anext(rows)
                            except StopAsyncIteration:
                                return
                        call.rows = (call.rows or 0) + 1
                        yield row
                finally:
                    if hasattr(rows, "aclose"):
                        await rows.aclose()

        def run_now(store: Any, /, *arguments: Any, **keywords: Any) -> Any:
            with begin(store, arguments, keywords) as call, call.entered():
                return call.note(call_of_class(store, arguments, keywords))

        unlike: dict[str, Callable[..., Any]] = {"updates": iterate, "load_now": run_now}
        return wraps(getattr(kind, name))(unlike.get(name, run))


class Call:
    """A call of a store that is under way, as a context manager: one span, and what is measured at its end."""

    def __init__(
        self,
        telemetry: Telemetry,
        database_url: str,
        schema: str | None,
        operation: str,
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
    ) -> None:
        self.retries = 0
        # How many rows it returned, if that is what it does.
        self.rows: int | None = None
        self._telemetry = telemetry
        self._operation = operation
        self._attributes = {**attributes.of_database(database_url, schema), "db.operation.name": operation}
        self._saves = _saves(operation, arguments)
        self._began, self._counter = time.time_ns(), time.perf_counter_ns()
        known = attributes.of_context(arguments, keywords) if telemetry.user_data else {}
        target = self._attributes.get("db.namespace")
        self._span = telemetry.tracer.start_span(
            operation if target is None else f"{operation} {target}",
            kind=trace.SpanKind.CLIENT,
            attributes={**self._attributes, **known},
            start_time=self._began,
        )
        self._context = trace.set_span_in_context(self._span)

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # The span and the metric have the same duration, whatever happens to the clock meanwhile.
        taken = time.perf_counter_ns() - self._counter
        failed = error is not None and not isinstance(error, GeneratorExit)
        if error is not None and failed:
            found = attributes.of_error(error)
            self._attributes |= found
            self._span.set_attributes(found)
            message = str(error) if self._telemetry.user_data else None
            self._span.set_status(trace.StatusCode.ERROR, message)
        if self.retries:
            self._span.set_attribute("taskctx.retry_count", self.retries)
        self._span.end(self._began + taken)
        # Their exemplars are of this span.
        self._telemetry.duration.record(taken / 1e9, self._attributes, self._context)
        if not failed and self.rows is not None:
            self._telemetry.returned_rows.record(self.rows, self._attributes, self._context)
        if self._saves:
            self._telemetry.saves.add(len(self._saves), self._attributes, self._context)
            if not failed:
                rows = sum(
                    len(save.updates) + len(save.models) + len(save.files) + len(save.state) for save in self._saves
                )
                self._telemetry.saved_rows.add(rows, self._attributes, self._context)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make the span the current one, which others become children of, in the block."""
        token, call = otel_context.attach(self._context), _current.set(self)
        try:
            yield
        finally:
            _current.reset(call)
            otel_context.detach(token)

    def note(self, result: Any) -> Any:
        """Count the rows of what the call returns, and return it."""
        count = _RETURNED.get(self._operation)
        if count is not None:
            self.rows = count(result)
        return result


def _saves(operation: str, arguments: Sequence[Any]) -> Sequence[Delta | Write]:
    """Return what a call saves; both kinds have their rows under the same names."""
    if operation not in ("save", "write_together") or not arguments:
        return ()
    saved = [arguments[0]] if operation == "save" else list(arguments[0])
    return [save for save in saved if isinstance(save, Delta | Write)]


def _fill(members: Mapping[str, Any], namespace: dict[str, Any]) -> None:
    namespace.update(members)
