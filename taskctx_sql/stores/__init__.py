"""What a place to keep contexts promises."""

from taskctx_sql.stores.protocol import Feature, Store, check_watch

__all__ = [
    "Feature",
    "Store",
    "check_watch",
]
