"""Following a context while others write to it."""

from taskctx_sql.sql.watch.follow import Look, look_after, watch
from taskctx_sql.sql.watch.listener import listening, notify
from taskctx_sql.sql.watch.notifications import Hints, Telling

__all__ = [
    "Hints",
    "Look",
    "Telling",
    "listening",
    "look_after",
    "notify",
    "watch",
]
