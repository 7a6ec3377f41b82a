"""Following a context while others write to it."""

from taskctx_sql.sql.watch.follow import Look, look_after, watch
from taskctx_sql.sql.watch.listener import listening, notify
from taskctx_sql.sql.watch.notifications import Listening, Notifications, Notifier

__all__ = [
    "Listening",
    "Look",
    "Notifications",
    "Notifier",
    "listening",
    "look_after",
    "notify",
    "watch",
]
