"""SQLite and Postgres: URLs, connections, SQL, and what errors mean."""

from taskctx_sql.sql.engines.addresses import is_file, is_plain_file, is_pooled, mask, parse_url
from taskctx_sql.sql.engines.connections import (
    begin_on_sqlite,
    check_pool,
    check_transactions,
    create_engine,
    set_isolation,
    transaction,
    turns,
    with_read_committed,
)
from taskctx_sql.sql.engines.dispose import dispose, track_threads
from taskctx_sql.sql.engines.drivers import Driver, driver_of
from taskctx_sql.sql.engines.error_classes import (
    ErrorClass,
    breaks_connection,
    classify,
    detail,
    is_denied,
    is_failover,
    is_in_doubt_alone,
    is_in_doubt_at_commit,
    is_lock_timeout,
    is_raised_by_writing,
    is_refusal,
    is_unknown_host,
    reason,
    sqlstate,
)
from taskctx_sql.sql.engines.postgres import can_listen, is_old, most_idle
from taskctx_sql.sql.engines.shown import day_of, size_of, utc_of
from taskctx_sql.sql.engines.sql import (
    as_utf8,
    contains,
    driver_dialect,
    group_of_update,
    insert,
    is_in_list,
    json_object,
    json_object_of_texts,
    list_value,
    lower_ascii,
    only_compared,
    string_of_json,
)
from taskctx_sql.sql.engines.sqlite import (
    SQLITE_BUSY_SECONDS,
    busy_seconds,
    connect_sqlite,
    connect_sqlite_to_poll,
    has_data_version,
    interrupt,
    is_sqlite,
    lock_seconds_of,
    set_busy_timeout,
    shorter_busy_timeout,
)
from taskctx_sql.sql.engines.sqlite_files import file_identity, is_missing, prepare_file
