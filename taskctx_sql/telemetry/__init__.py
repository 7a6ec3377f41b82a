"""OpenTelemetry: a span for each call of a store, and metrics, by its semantic conventions for databases.

The page "Telemetry" of the docs lists the spans, the metrics and their attributes. It needs the extra
``opentelemetry``. Nothing of OpenTelemetry is imported, and nothing is measured, before `enable` is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskctx_sql import observing
from taskctx_sql.errors import MissingPackageError

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["disable", "enable"]


def enable(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    user_data: bool = False,
) -> None:
    """Trace and measure every store that is opened from now on, in this process.

    Call it when the program starts, before it opens a store. A second call replaces the first one.

    Args:
        tracer_provider: What gets the spans; the global provider by default, also if it is set later.
        meter_provider: What gets the metrics; the global provider by default, also if it is set later.
        user_data: Put the user's and the chat's id and the messages of errors on the spans, never on metrics. Without
            it, spans have neither.

    Raises:
        MissingPackageError: OpenTelemetry is not installed.
    """
    try:
        from taskctx_sql.telemetry.telemetry import Telemetry
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("opentelemetry"):
            raise
        raise MissingPackageError("opentelemetry-api", "opentelemetry") from error
    observing.notify(Telemetry(tracer_provider, meter_provider, user_data=user_data))


def disable() -> None:
    """Trace and measure no store that is opened from now on. Those that are open go on as they were opened."""
    observing.notify(observing.NOBODY)
