"""The tests of step persistence of Pydantic AI's harness."""

from __future__ import annotations

from typing import Final

from tests.integrations.suites.suite import Known, Suite

_SQLITE: Final = "tests/step_persistence/test_sqlite_and_media.py"
SUITE: Final = Suite(
    package="pydantic-ai-harness",
    repository="https://github.com/pydantic/pydantic-ai-harness",
    tests=("tests/step_persistence",),
    plugin="pydantic_ai_harness_stores",
    requires=("anyio",),
    # They run their own tasks with anyio.
    options=("-p", "no:asyncio", "-p", "no:cacheprovider"),
    has_baseline=True,
    known=(
        Known(
            rf"{_SQLITE}::(TestSqliteRowDefenses::.*|TestMediaStoreResolution::test_sqlite_.*"
            r"|TestSqliteStepStoreMedia::test_(large_binary_stored_in_same_db|dedup_across_snapshots)"
            r"|TestSqliteStepStoreProtocol::test_(shared_connection_default|rejects_both).*)",
            "asks for the tables, the connection or the attributes of the harness's own SqliteStepStore",
        ),
        Known(
            rf"{_SQLITE}::TestSqliteStepStoreProtocol::test_register_duplicate_run_raises",
            "asks for sqlite3's error; ours is a ValueError, as that of the harness's own PostgresStepStore",
        ),
        Known(
            r"tests/step_persistence/test_step_persistence.py::TestFromSpecBackendValidation::test_sqlite_backend",
            "asks for the class of the harness's own SqliteStepStore",
        ),
    ),
)
