"""Event loops, threads and cancellation."""

from taskctx_sql.concurrency.answer import Answer
from taskctx_sql.concurrency.daemon_threads import check_queues, on_thread
from taskctx_sql.concurrency.fork import after_fork
from taskctx_sql.concurrency.portal import blocking
from taskctx_sql.concurrency.shielding import end_at_once, running_loop, shielded, wait_until_done
