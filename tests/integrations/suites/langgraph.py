"""LangGraph's tests of its savers and stores on SQLite and Postgres, and those of its graphs that take a saver."""

from __future__ import annotations

from typing import Final

from tests.integrations.suites.suite import Known, Suite

_GRAPHS: Final = (
    "test_checkpoint_migration",
    "test_interruption",
    "test_large_cases",
    "test_large_cases_async",
    "test_pregel",
    "test_pregel_async",
    "test_pydantic",
    "test_subgraph_persistence",
    "test_subgraph_persistence_async",
    "test_time_travel",
    "test_time_travel_async",
)

SUITE: Final = Suite(
    package="langgraph",
    repository="https://github.com/langchain-ai/langgraph.git",
    tag="{version}",
    folders={
        "libs/checkpoint-sqlite": ("tests",),
        "libs/checkpoint-postgres": ("tests",),
        # In the graphs' tests, "sqlite" is the saver that is taken for ours.
        "libs/langgraph": (*(f"tests/{name}.py" for name in _GRAPHS), "-k", "sqlite"),
    },
    plugin="langgraph_stores",
    requires=("pytest-mock", "pytest-retry", "syrupy", "redis", "pycryptodome", "langgraph-checkpoint-conformance"),
    options=("-p", "no:cacheprovider"),
    known=(
        Known(
            r".*::test_delta_channel_conformance",
            "asks the conformance package for a capability that its released version 0.0.2 does not have; ours has it",
        ),
        Known(
            r".*::(test_nonnull_migrations|test_get_checkpoint_no_channel_values.*|test_abatch_uses_single_pool_checkout"
            r")|.*/test_store\.py::test_vector_store_initialization",
            "looks into the framework's own tables, connections or private methods",
        ),
        Known(
            r".*::test_omit_expired_(filters_read_paths|refresh_ttl_only_refreshes_live_rows|search_pagination).*",
            "lets items expire by an UPDATE of the framework's own table",
        ),
        Known(
            r".*::test_(checkpoint_search_sql_injection_prevention|sql_injection_vulnerability.*)",
            "expects an error for names in filters that would be SQL; here they are names that nothing has",
        ),
        Known(
            r".*::test_informative_async_errors", "expects that a saver of sync code refuses async code; ours serves it"
        ),
        Known(
            r".*::test_ttl_refresh",
            "counts items that are swept; ours counts rows, and reading an item in time leaves one",
        ),
        Known(
            r".*::test_ttl_override_default",
            "expects that reading an item does not extend its time unless told to; TTLConfig defines the contrary",
        ),
        Known(
            r".*::test_imp_nested.*",
            "expects a task's result within 10 ms of that of the task it waits for, which a busy machine does not give",
            may_pass=True,
        ),
        Known(
            r".*::test_inline_primitive_seed_is_found",
            "expects that None in a channel is no value; the walk of the framework's base class takes it for one",
        ),
    ),
)
