"""ADK's tests of session services."""

from __future__ import annotations

from typing import Final

from tests.integrations.suites.suite import Known, Suite

FILE: Final = "tests/unittests/sessions/test_session_service.py"
SUITE: Final = Suite(
    package="google-adk",
    repository="https://github.com/google/adk-python",
    tests=(FILE,),
    plugin="adk_services",
    requires=("pytest-asyncio", "aiosqlite"),
    known=(
        Known(
            rf"{FILE}::test_(database|sqlite)_session_service_"
            r"(enables|uses_naive|keeps|respects|creates|accepts|preserves|requires|engine_error|malformed).*",
            "asks for the engine that ADK's own service makes, or for its addresses",
        ),
        Known(
            rf"{FILE}::test_(database_session_service_(get|list)_session.*_uses_read_only_factory"
            r"|database_session_service_(list_sessions_orders|sqlite_file_timestamp).*"
            r"|append_event_raises_if_(app|user)_state_row_missing"
            r"|(create_session|append_event|delete_session)_calls_rollback.*"
            r"|(create_session|append_event)_reads_storage_revision.*"
            r"|service_recovers_after_multiple_failures|get_or_create_state.*"
            r"|.*prepare_tables.*)",
            "asks for the tables of ADK's own service, or for its SQLAlchemy sessions",
        ),
        Known(
            rf"{FILE}::test_get_session_orders_tied_timestamps_by_id\[True-.*",
            "events come back in the order of their appends, not in that of their random ids; so do those of ADK's own "
            "SqliteSessionService",
        ),
    ),
)
