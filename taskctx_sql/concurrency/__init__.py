"""Event loops, threads and cancellation."""

from taskctx_sql.concurrency.cancellation import (
    CANCEL_SECONDS,
    finished,
    is_running,
    running_loop,
    shielded,
    wait_until_done,
)
from taskctx_sql.concurrency.daemon_threads import check_queues, on_thread, with_fresh_stack
from taskctx_sql.concurrency.fork import after_fork
from taskctx_sql.concurrency.portal import blocking
from taskctx_sql.concurrency.promise import Promise
