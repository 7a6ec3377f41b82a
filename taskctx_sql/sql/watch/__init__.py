"""Following a context while others write to it: subscriptions, and the notifier and listener between processes."""

from taskctx_sql.sql.watch.follow import NewUpdates, follow
from taskctx_sql.sql.watch.listener import listener_of
from taskctx_sql.sql.watch.notifier import Notifier, notify
from taskctx_sql.sql.watch.subscriptions import Listener, Subscriptions
