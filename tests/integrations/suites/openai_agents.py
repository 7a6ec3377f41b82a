"""openai-agents' tests of its sessions, over ours: what they ask of the session's behavior passes."""

from __future__ import annotations

from collections.abc import Sequence

from tests.integrations.suites.suite import Known, Suite

# They write rows of the SDK's own, corrupt or old, or count rows, columns and owners of its tables.
_TABLES = (
    "sqlite_session_pop_item_skips_corrupt_most_recent",
    "sqlite_session_pop_item_returns_none_after_dropping_only_corrupt_rows",
    "sqlite_session_get_items_limit_skips_corrupt_newest_rows",
    "sqlite_session_get_items_session_settings_limit_skips_corrupt_rows",
    "sqlalchemy_session_defaults_to_escaped_non_ascii_storage",
    "sqlalchemy_session_can_store_non_ascii_without_escaping",
    "pop_item_skips_corrupt_most_recent",
    "get_items_limit_skips_corrupt_newest_rows",
    "pop_item_returns_none_after_dropping_only_corrupt_rows",
    "get_items_same_timestamp_consistent_order",
    "pop_item_same_timestamp_returns_latest",
    "get_items_orders_by_id_for_ties",
    "advanced_session_respects_custom_table_names",
    "tool_usage_reads_legacy_shell_and_patch_names",
    "branch_reservations_migrate_existing_populated_branches",
    "legacy_branch_ids_are_backfilled_before_destructive_operations",
    "delete_branch_removes_branch_only_messages",
    "delete_branch_keeps_messages_still_referenced_by_another_branch",
    "orphan_cleanup_uses_set_based_delete_for_many_messages",
    "get_items_limit_skips_corrupt_newest_rows",
    "concurrent_add_items_preserves_message_structure_for_file_db",
    "clear_session_removes_structure_and_usage_metadata",
    "pop_item_removes_its_structure_row",
    "pop_item_removes_turn_usage_only_when_turn_emptied",
    "pop_item_respects_current_branch_and_keeps_shared_messages",
    "pop_item_deletes_shared_copied_message_only_when_unreferenced",
    "store_run_usage_skips_when_current_branch_has_no_turn",
    "clear_session_resets_current_branch_to_main",
    "default_read_does_not_initialize_clear_generation_table",
    "structure_tables_reject_a_second_base_table_pair",
    "structure_tables_reject_changed_sessions_with_shared_messages",
    "structure_tables_reject_changed_messages_with_shared_sessions",
    "structure_tables_reject_distinct_non_ascii_identifiers",
    "no_create_session_rejects_a_database_without_an_owner",
    "no_create_session_rejects_owner_metadata_without_base_tables",
    "structure_tables_reject_an_ownerless_layout",
    "structure_tables_reject_malformed_owner_layouts",
)
# They stop, break or inspect the connections, locks, transactions and threads of the SDK's own store.
_ENGINE = (
    "sqlite_session_close_closes_worker_thread_connections",
    "sqlite_session_reaps_connections_from_exited_worker_threads",
    "sqlite_session_closes_retired_connections_before_the_next_allocation",
    "sqlite_session_keeps_connections_of_live_worker_threads",
    "sqlite_session_close_retries_quarantined_connection",
    "sqlite_fallback_reserves_writer_before_tail_claim",
    "pop_item_supports_unknown_delete_rowcount",
    "pop_item_retries_returning_claim_lost_to_concurrent_delete",
    "mutation_cancellation_waits_for_transaction_exit",
    "add_items_cancelled_waiter_does_not_strand_table_init_lock",
    "create_tables_false_does_not_allocate_shared_init_lock",
    "sqlite_configuration_registry_releases_collected_engines",
    "sqlite_configuration_registry_does_not_grow_unbounded",
    "add_items_rolls_back_messages_when_structure_metadata_fails",
    "add_items_can_retry_after_structure_metadata_failure",
    "add_items_failure_preserves_existing_history",
    "add_items_rolls_back_partial_structure_metadata_write",
    "add_items_rollback_failure_invalidates_connection",
    "structure_initialization_failure_invalidates_connection",
    "post_commit_cancellation_propagates_after_known_mutation_outcome",
    "auxiliary_mutation_cancellation_waits_for_commit",
    "failed_branch_reservation_rolls_back_and_allows_retry",
    "legacy_destructive_noops_leave_database_unlocked",
    "failed_usage_write_rolls_back_cached_connection",
    "store_run_usage_waits_for_database_lock_off_event_loop",
    "add_captures_coherent_branch_after_clear_publication",
    "switch_validation_cancellation_waits_for_generation_commit",
    "pop_item_rolls_back_on_failure_after_earlier_delete",
    "clear_session_rolls_back_on_failure_after_earlier_delete",
    "identifier_resolution_leaves_connection_authorized",
    "sqlite_session_file_lock_is_shared_across_instances",
    "sqlite_session_failed_clear_session_rolls_back",
    "sqlite_session_failed_pop_item_releases_write_lock",
    "sqlite_session_rollback_failure_evicts_connection",
    "sqlite_session_post_commit_cancellation_propagates_after_known_outcome",
)
# They hold back a function of the SDK's own worker thread.
_WORKERS = (
    "pop_item_uses_branch_snapshot_when_branch_switches_concurrently",
    "stale_switch_after_clear_does_not_repoint_to_deleted_branch",
    "stale_create_branch_after_clear_does_not_repoint",
    "clear_before_branch_transaction_prevents_stale_reservation",
    "store_run_usage_cancellation_during_capture_waits_for_commit",
    "store_run_usage_keeps_target_while_capture_is_waiting",
    "store_run_usage_keeps_turn_when_history_changes_during_capture",
    "queued_add_keeps_selected_branch",
    "queued_append_cannot_resurrect_deleted_branch",
    "queued_turn_mutation_releases_later_usage_capture",
    "turn_ordering_survives_reuse_on_another_event_loop",
    "stale_store_run_usage_skipped_when_turn_removed_by_pop",
    "stale_store_run_usage_not_recorded_against_reused_turn_number",
    "store_run_usage_survives_unrelated_branch_deletion",
)
# They start processes, which open a file with the SDK's own store.
_PROCESSES = (
    "branch_allocation_is_serialized_across_processes",
    "pop_item_claim_is_unique_across_processes",
    "concurrent_structure_table_claims_leave_one_coherent_owner",
)


def _known(tests: Sequence[str], reason: str, *, waits: bool = False) -> Known:
    return Known(rf".*::test_({'|'.join(tests)})(\[.*)?", reason, waits=waits)


SUITE = Suite(
    package="openai-agents",
    repository="https://github.com/openai/openai-agents-python",
    sdist=True,
    plugin="openai_agents_store",
    tests=(
        "tests/memory/test_session.py",
        "tests/memory/test_session_limit.py",
        "tests/memory/test_session_context_wrapper.py",
        "tests/memory/test_session_persistence_sanitize.py",
        "tests/extensions/memory/test_sqlalchemy_session.py",
        "tests/extensions/memory/test_advanced_sqlite_session.py",
    ),
    known=(
        _known(_TABLES, "reads or writes the tables of the SDK's own store"),
        _known(_ENGINE, "reaches into the connections, locks, transactions and threads of the SDK's own store"),
        _known(_WORKERS, "holds back a function of the SDK's own worker thread", waits=True),
        _known(_PROCESSES, "starts processes that open a file with the SDK's own store", waits=True),
        _known(
            ["failed_force_delete_keeps_current_branch"],
            "expects that a branch without items cannot be deleted; ours can",
        ),
        _known(
            ["error_handling_in_usage_tracking", "usage_tracking_failure_identity_follows_model_data_policy"],
            "expects that a failure to store usage is logged and not raised; ours is raised",
        ),
        Known(
            r".*::test_create_branch_logging_respects_model_data_policy\[False\]",
            "expects that what the user said is logged; ours never is",
        ),
        _known(
            ["sqlite_session_failed_add_items_releases_write_lock"],
            "expects the TypeError of the module json for an item that is not JSON; ours is an UnstorableValueError",
        ),
    ),
)
